from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance import errors
from appliance.errors import RequestError
from appliance.gateway.dialects.messages import (
    CountTranslator,
    MessagesTranslator,
    error_body,
    error_event,
)

CANARY = "CANARY5d1fcanary"
USAGE = {"prompt_tokens": 5, "total_tokens": 8, "completion_tokens": 3}
WORDS = {"content": "Hi"}
THOUGHT = {"reasoning": "Hm"}


def call(index: int = 0, **function: str) -> dict[str, Any]:
    return {"index": index, "function": function}


def first(index: int = 0, **function: str) -> dict[str, Any]:
    """How vLLM begins a tool call."""
    return call(index, name="f", **function) | {"id": f"call_{index}", "type": "function"}


def chunk(delta: dict[str, Any] | None = None, **more: Any) -> bytes:
    """One event as vLLM writes it (chat_completion/serving.py); without a delta, the last one."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "logprobs": None} | more]
    chunk = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": choices,
        "usage": USAGE if delta is None else USAGE | {"completion_tokens": 0},
    }
    return b"data: %b\n\n" % json.dumps(chunk, separators=(",", ":")).encode()


def stream(*deltas: dict[str, Any], finish: str = "stop", stop: int | str | None = None) -> list[bytes]:
    *before, last = deltas or ({},)
    return [
        chunk({"role": "assistant", "content": ""}),
        *map(chunk, before),
        chunk(last, finish_reason=finish, stop_reason=stop),
        chunk(),
    ]


def told(events: list[bytes], *, show_thinking: bool = True) -> bytes:
    translator = MessagesTranslator("R", show_thinking=show_thinking)
    return b"".join([translator.event(event) for event in events]) + translator.end()


def parsed(told: bytes) -> list[dict[str, Any]]:
    """The data of each event, which names its event."""
    events = [event.split("\n") for event in told.decode().split("\n\n")[:-1]]
    data = [json.loads(data.removeprefix("data: ")) for _, data in events]
    assert [f"event: {event['type']}" for event in data] == [name for name, _ in events]
    return data


def blocks(told: bytes) -> list[dict[str, Any]]:
    """The content blocks as an SDK puts them together."""
    built: list[dict[str, Any]] = []
    for event in parsed(told):
        match event:
            case {"type": "content_block_start", "content_block": block}:
                built.append(block)
            case {"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": text}}:
                built[-1]["arguments"] = built[-1].get("arguments", "") + text
            case {"type": "content_block_delta", "delta": {"type": kind, **piece}}:
                name = kind.removesuffix("_delta")
                built[-1][name] += piece[name]
            case _:
                pass
    return built


START = (
    b"event: message_start\n"
    b'data: {"type":"message_start","message":{"id":"msg_R","type":"message","role":"assistant","model":"m",'
    b'"content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":5,"output_tokens":0,'
    b'"cache_creation_input_tokens":0,"cache_read_input_tokens":0}}}\n\n'
    b'event: ping\ndata: {"type":"ping"}\n\n'
)


def test_a_stream_of_words() -> None:
    assert told(stream({"content": "Hé"}, {"content": '"\n'}, {})) == START + (
        b"event: content_block_start\n"
        b'data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n'
        b"event: content_block_delta\n"
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"H\xc3\xa9"}}\n\n'
        b"event: content_block_delta\n"
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\\"\\n"}}\n\n'
        b"event: content_block_stop\n"
        b'data: {"type":"content_block_stop","index":0}\n\n'
        b"event: message_delta\n"
        b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},'
        b'"usage":{"input_tokens":5,"output_tokens":3,'
        b'"cache_creation_input_tokens":0,"cache_read_input_tokens":0}}\n\n'
        b"event: message_stop\n"
        b'data: {"type":"message_stop"}\n\n'
    )


def test_a_stream_of_a_thought_words_and_a_call() -> None:
    events = parsed(
        told(stream(THOUGHT, WORDS, {"tool_calls": [first()]}, {"tool_calls": [call(arguments="{}")]}))
    )

    assert events[2:-2] == [
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "thinking", "thinking": "", "signature": ""},
        },
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "thinking_delta", "thinking": "Hm"},
        },
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "signature_delta", "signature": "unsigned"},
        },
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Hi"}},
        {"type": "content_block_stop", "index": 1},
        {
            "type": "content_block_start",
            "index": 2,
            "content_block": {"type": "tool_use", "id": "call_0", "name": "f", "input": {}},
        },
        {
            "type": "content_block_delta",
            "index": 2,
            "delta": {"type": "input_json_delta", "partial_json": "{}"},
        },
        {"type": "content_block_stop", "index": 2},
    ]


def test_each_call_has_a_block_of_its_own() -> None:
    """Also where one event ends a call and begins the next."""
    events = stream(
        {"tool_calls": [first(0, arguments='{"a"')]},
        {"tool_calls": [call(0, arguments=":1}"), first(1)]},
        {"tool_calls": [call(1, arguments="{}")]},
    )

    assert blocks(told(events)) == [
        {"type": "tool_use", "id": "call_0", "name": "f", "input": {}, "arguments": '{"a":1}'},
        {"type": "tool_use", "id": "call_1", "name": "f", "input": {}, "arguments": "{}"},
    ]


def test_words_inside_a_call_wait_for_its_end() -> None:
    """Some of vLLM's tool parsers send them there, and Anthropic's blocks don't nest."""
    events = stream(
        {"tool_calls": [first(0, arguments="{")]},
        {"content": "Wait"},
        {"content": " for it"},
        {"tool_calls": [call(0, arguments="}")]},
        {"tool_calls": [first(1, arguments="{}")]},
    )

    assert [block.get("text") or block["arguments"] for block in blocks(told(events))] == [
        "{}",
        "Wait for it",
        "{}",
    ]


def test_thoughts_are_not_told_to_who_did_not_ask() -> None:
    assert blocks(told(stream(THOUGHT, THOUGHT, WORDS), show_thinking=False)) == [
        {"type": "text", "text": "Hi"}
    ]


@pytest.mark.parametrize("delta", [{}, {"content": ""}, THOUGHT], ids=["nothing", "no words", "a thought"])
def test_an_answer_of_no_words_has_an_empty_block(delta: dict[str, Any]) -> None:
    """Applications read the first block's text without a look at how many there are."""
    translator = MessagesTranslator("R", show_thinking=False)

    assert blocks(told(stream(delta), show_thinking=False)) == [{"type": "text", "text": ""}]
    assert json.loads(translator.whole(whole(delta)))["content"] == [{"type": "text", "text": ""}]


def whole(message: dict[str, Any], finish: str | None = "stop", stop: int | str | None = None) -> bytes:
    """A whole answer as vLLM writes it."""
    answer = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": None, "refusal": None} | message,
                "logprobs": None,
                "finish_reason": finish,
                "stop_reason": stop,
            }
        ],
        "usage": USAGE | {"prompt_tokens_details": {"cached_tokens": 4}},
        "prompt_logprobs": None,
    }
    return json.dumps(answer).encode()


def made(arguments: str | None = "{}") -> dict[str, Any]:
    """A whole tool call."""
    return {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": arguments}}


def test_a_whole_answer() -> None:
    message = {"reasoning": "Hm", "content": "Hi", "tool_calls": [made('{"a":[1,{"b":null}]}')]}

    told = MessagesTranslator("R", show_thinking=True).whole(whole(message, "tool_calls"))

    assert json.loads(told) == {
        "id": "msg_R",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [
            {"type": "thinking", "thinking": "Hm", "signature": "unsigned"},
            {"type": "text", "text": "Hi"},
            {"type": "tool_use", "id": "call_0", "name": "f", "input": {"a": [1, {"b": None}]}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 5,
            "output_tokens": 3,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
        },
    }


STOPS: dict[str, tuple[str, int | str | None, str | None, str, str | None]] = {
    "its own end": ("stop", None, None, "end_turn", None),
    "a token": ("stop", 151645, None, "end_turn", None),
    "a stop sequence": ("stop", "END", None, "stop_sequence", "END"),
    "the limit": ("length", None, None, "max_tokens", None),
    "a call": ("tool_calls", None, "{}", "tool_use", None),
    "a call that had to be": ("stop", None, "{}", "tool_use", None),
    "a call without arguments": ("tool_calls", None, "", "tool_use", None),
    "a stop sequence after a call": ("tool_calls", "END", "{}", "tool_use", None),
    "a stop sequence in a call": ("tool_calls", "END", '{"a":', "stop_sequence", "END"),
    "a stop sequence before a call's arguments": ("tool_calls", "END", "", "stop_sequence", "END"),
    "the limit in a call": ("length", None, '{"a":', "max_tokens", None),
}


@pytest.mark.parametrize(
    ("finish", "stop", "arguments", "reason", "sequence"), STOPS.values(), ids=STOPS.keys()
)
def test_the_reason_of_an_end(
    finish: str, stop: int | str | None, arguments: str | None, reason: str, sequence: str | None
) -> None:
    delta = {"tool_calls": [first(arguments=arguments)]} if arguments is not None else WORDS
    message = {"tool_calls": [made(arguments)]} if arguments is not None else WORDS

    streamed = parsed(told(stream(delta, finish=finish, stop=stop)))[-2]["delta"]
    at_once = json.loads(MessagesTranslator("R", show_thinking=True).whole(whole(message, finish, stop)))

    assert streamed == {"stop_reason": reason, "stop_sequence": sequence}
    assert (at_once["stop_reason"], at_once["stop_sequence"]) == (reason, sequence)


@pytest.mark.parametrize("arguments", ["", None, '{"a":'], ids=["empty", "none", "cut by the limit"])
def test_a_call_without_whole_arguments_has_none(arguments: str | None) -> None:
    answer = whole({"tool_calls": [made(arguments)]}, "length")

    content = json.loads(MessagesTranslator("R", show_thinking=True).whole(answer))["content"]

    assert content == [{"type": "tool_use", "id": "call_0", "name": "f", "input": {}}]


def test_what_the_cache_held_is_not_told() -> None:
    hit, miss = (
        chunk(),
        chunk().replace(b'"usage":{', b'"usage":{"prompt_tokens_details":{"cached_tokens":4},'),
    )

    assert told([*stream(WORDS)[:-1], hit]) == told([*stream(WORDS)[:-1], miss])


def test_an_event_without_usage_changes_no_count() -> None:
    silent = chunk(WORDS).replace(b'"usage":', b'"x":')

    assert parsed(told([*stream(WORDS)[:1], silent, *stream({})[1:]]))[-2]["usage"]["input_tokens"] == 5


STRANGE_EVENTS = {
    "another dialect": CANARY.encode(),
    "a call without a name": chunk({"tool_calls": [call(arguments=CANARY)]}),
    "a call without an id": chunk({"tool_calls": [call(name=CANARY)]}),
    "the arguments of a call that is over": chunk(
        {"tool_calls": [first(0), first(1), call(0, arguments=CANARY)]}
    ),
}


@pytest.mark.parametrize("event", STRANGE_EVENTS.values(), ids=STRANGE_EVENTS.keys())
def test_a_strange_event_is_an_error_without_a_word_of_it(event: bytes) -> None:
    with pytest.raises(ValueError, match=r"^the engine's [a-z ]+$") as caught:
        MessagesTranslator("R", show_thinking=True).event(event)

    assert CANARY not in repr(caught.value)


STRANGE_ANSWERS = {
    "another dialect": CANARY.encode(),
    "no end": whole(WORDS, None),
    "an end of another kind": whole(WORDS, "abort"),
    "a call without a name": whole({"tool_calls": [{"id": CANARY}]}, "tool_calls"),
    "a call without an id": whole({"tool_calls": [made() | {"id": None}]}, "tool_calls"),
    "arguments that are no JSON": whole({"tool_calls": [made(CANARY)]}, "tool_calls"),
}


@pytest.mark.parametrize("answer", STRANGE_ANSWERS.values(), ids=STRANGE_ANSWERS.keys())
def test_a_strange_answer_is_an_error_without_a_word_of_it(answer: bytes) -> None:
    with pytest.raises(ValueError, match=r"^the engine[a-z' ]+$") as caught:
        MessagesTranslator("R", show_thinking=True).whole(answer)

    assert CANARY not in repr(caught.value)


CUT = {
    "at once": [],
    "in the middle": stream(WORDS, {})[:2],
    "for another reason": stream(WORDS, finish="abort"),
}


@pytest.mark.parametrize("events", CUT.values(), ids=CUT.keys())
def test_a_stream_without_a_good_end_is_an_error(events: list[bytes]) -> None:
    with pytest.raises(ValueError, match=r"^the engine[a-z' ]+$"):
        told(events)


TYPES: dict[type[RequestError], str] = {
    errors.BadRequest: "invalid_request_error",
    errors.WrongMethod: "invalid_request_error",
    errors.BodyTooSlow: "invalid_request_error",
    errors.InvalidKey: "authentication_error",
    errors.UnknownModel: "not_found_error",
    errors.BodyTooLarge: "request_too_large",
    errors.TooManyRequests: "rate_limit_error",
    errors.RequestError: "api_error",
    errors.EngineFault: "api_error",
    errors.Overloaded: "overloaded_error",
}


@pytest.mark.parametrize(("error", "kind"), TYPES.items(), ids=[error.__name__ for error in TYPES])
def test_an_error_has_anthropics_type(error: type[RequestError], kind: str) -> None:
    assert json.loads(error_body(error(), "R")) == {
        "type": "error",
        "error": {"type": kind, "message": error.message},
        "request_id": "R",
    }


@pytest.mark.parametrize("translator", [MessagesTranslator("R", show_thinking=True), CountTranslator("R")])
def test_a_stream_fails_with_an_error_event(translator: MessagesTranslator | CountTranslator) -> None:
    error = errors.EngineLost()

    assert translator.fail(error) == error_event(error, "R")
    assert error_event(error, "R") == b"event: error\ndata: %b\n\n" % error_body(error, "R")


def test_an_error_before_a_request_has_an_id() -> None:
    assert json.loads(error_body(errors.InvalidKey(), None))["request_id"] is None


def test_a_count_is_the_engines() -> None:
    body = b'{"count":12,"max_model_len":4096,"tokens":[1,2,3],"token_strs":null}'

    assert CountTranslator("R").whole(body) == b'{"input_tokens":12}'


def test_a_count_that_is_none_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"^the engine's answer is not of the shape it should have$"):
        CountTranslator("R").whole(b'{"detail":"CANARY"}')


def test_a_count_has_no_stream() -> None:
    translator = CountTranslator("R")

    with pytest.raises(ValueError, match=r"^a count is not streamed$"):
        translator.event(chunk(WORDS))
    with pytest.raises(ValueError, match=r"^a count is not streamed$"):
        translator.end()


texts = st.lists(st.text(), max_size=6)


@given(texts, texts, texts)
@settings(max_examples=200, deadline=None)
def test_however_an_answer_is_split_it_says_the_same(
    thoughts: list[str], words: list[str], arguments: list[str]
) -> None:
    events = stream(
        *({"reasoning": thought} for thought in thoughts),
        *({"content": word} for word in words),
        {"tool_calls": [first()]},
        *({"tool_calls": [call(arguments=piece)]} for piece in arguments),
    )

    built = {block["type"]: block for block in blocks(told(events))}

    assert built.get("thinking", {"thinking": ""})["thinking"] == "".join(thoughts)
    assert built.get("text", {"text": ""})["text"] == "".join(words)
    assert built["tool_use"].get("arguments", "") == "".join(arguments)


deltas = st.sampled_from(
    [WORDS, THOUGHT, {"tool_calls": [first(0)]}, {"tool_calls": [first(1)]}, {"content": ""}, {}]
)


@given(st.lists(deltas, max_size=12))
@settings(max_examples=200, deadline=None)
def test_blocks_open_and_close_in_turn(said: list[dict[str, Any]]) -> None:
    steps = [
        (event["index"], event["type"].removeprefix("content_block_"))
        for event in parsed(told(stream(*said)))
        if "index" in event and event["type"] != "content_block_delta"
    ]

    assert steps == [(index, step) for index in range(len(steps) // 2) for step in ("start", "stop")]
