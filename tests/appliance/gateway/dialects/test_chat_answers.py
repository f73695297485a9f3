from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from appliance.gateway.dialects import chat_answers
from appliance.gateway.dialects.chat_answers import (
    Choice,
    Chunk,
    Said,
    StreamChoice,
    Usage,
    read_answer,
    read_arguments,
    read_count,
    read_event,
)

CANARY = "CANARY5d1fcanary"
CHUNK: dict[str, Any] = {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": "Hi"}}]}
ANSWER: dict[str, Any] = {
    "model": "m",
    "choices": [{"message": {"content": "Hi", "refusal": None}, "finish_reason": "stop", "stop_reason": 5}],
    "usage": {"prompt_tokens": 3, "completion_tokens": None, "prompt_tokens_details": None},
}


def event(data: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % json.dumps(data).encode()


def answer(**fields: Any) -> bytes:
    return json.dumps(ANSWER | fields).encode()


def test_an_event_is_read_as_far_as_it_is_told_of() -> None:
    assert read_event(event(CHUNK)) == Chunk(model="m", choices=[StreamChoice(delta=Said(content="Hi"))])


def test_an_answer_is_read_as_far_as_it_is_told_of() -> None:
    assert read_answer(answer()) == chat_answers.Answer(
        model="m",
        choices=[Choice(message=Said(content="Hi"), finish_reason="stop", stop_reason=5)],
        usage=Usage(prompt_tokens=3),
    )


@pytest.mark.parametrize("arguments", [None, "", "{}"], ids=["none", "no text", "an empty object"])
def test_a_call_may_have_no_arguments(arguments: str | None) -> None:
    assert read_arguments(arguments) == {}


def test_arguments_are_an_object() -> None:
    assert read_arguments('{"a":[1,{"b":null}]}') == {"a": [1, {"b": None}]}


def test_a_count_is_read() -> None:
    assert read_count(b'{"count":12,"max_model_len":4096,"tokens":[1,2,3],"token_strs":null}') == 12


STRANGE: dict[str, tuple[Callable[[bytes], Any], bytes]] = {
    "an event without data": (read_event, b": ping\n\n"),
    "an event that is no JSON": (read_event, f"data: {CANARY}\n\n".encode()),
    "an event that is a list": (read_event, b"data: []\n\n"),
    "an event that is an error": (read_event, event({"error": {"message": CANARY}})),
    "an event of no model": (read_event, event({"choices": []})),
    "an event of a number": (read_event, event(CHUNK | {"choices": [{"delta": {"content": 5}}]})),
    "an event that is no UTF-8": (read_event, event(CHUNK).replace(b"Hi", b"\xff")),
    "an answer that is no JSON": (read_answer, CANARY.encode()),
    "an answer of no choice": (read_answer, answer(choices=[])),
    "an answer of two": (read_answer, answer(choices=ANSWER["choices"] * 2)),
    "an answer of no usage": (read_answer, answer(usage=None)),
    "a count of nothing": (read_count, b'{"detail":"CANARY5d1fcanary"}'),
}


@pytest.mark.parametrize(("read", "data"), STRANGE.values(), ids=STRANGE.keys())
def test_what_is_strange_is_an_error_without_a_word_of_it(read: Callable[[bytes], Any], data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^the engine's [a-z ]+$") as caught:
        read(data)

    assert CANARY not in repr(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "arguments",
    [CANARY, f'["{CANARY}"]', "null", '{"a":' * 100_000, '{"a":1'],
    ids=["words", "a list", "null", "too deep", "cut"],
)
def test_strange_arguments_are_an_error_without_a_word_of_them(arguments: str) -> None:
    with pytest.raises(ValueError, match=r"^the engine's [a-z ]+$") as caught:
        read_arguments(arguments)

    assert CANARY not in repr(caught.value)
