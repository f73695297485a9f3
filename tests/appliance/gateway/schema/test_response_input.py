from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.domain import Call
from appliance.errors import BadRequest
from appliance.gateway.schema.responses import parse
from appliance.privacy.content import Content
from tests.bodies import PIXEL

CANARY = "CANARY5d1fcanary"


def body(items: list[Any]) -> bytes:
    return json.dumps({"model": "m", "input": items}).encode()


def messages_of(items: list[Any]) -> list[dict[str, Any]]:
    """What the engine gets."""
    return json.loads(parse(body(items))[1].for_engine("s" * 43))["messages"]


def refusal(items: list[Any]) -> BadRequest:
    """Why it was refused, without a word of it."""
    with pytest.raises(BadRequest) as caught:
        parse(body(items))
    assert CANARY not in str(caught.value) + str(caught.value.param) + caught.value.reason
    return caught.value


def message(role: str, *parts: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"role": role, "content": list(parts)} | fields


def words(text: str, kind: str = "input_text", **fields: Any) -> dict[str, Any]:
    return {"type": kind, "text": text} | fields


def called(number: int, **fields: Any) -> dict[str, Any]:
    return {"type": "function_call", "call_id": f"call_{number}", "name": "f", "arguments": "{}"} | fields


def chat_call(number: int) -> dict[str, Any]:
    return {"id": f"call_{number}", "type": "function", "function": {"name": "f", "arguments": "{}"}}


IMAGE = {
    "type": "input_image",
    "image_url": f"data:image/png;base64,{PIXEL}",
    "detail": "auto",
    "file_id": None,
}
TEXT = {"type": "text", "text": "a"}
SAID = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "phase": "final_answer",
    "content": [words("a", "output_text", annotations=[], logprobs=[])],
}

ITEMS: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
    "short messages": (
        [{"role": role, "content": "a"} for role in ("system", "developer", "user", "assistant")],
        [{"role": role, "content": "a"} for role in ("system", "system", "user", "assistant")],
    ),
    "parts": (
        [
            message(
                "user", words("a"), words("b", prompt_cache_breakpoint={}), type="message", status="completed"
            )
        ],
        [{"role": "user", "content": [TEXT, {"type": "text", "text": "b"}]}],
    ),
    "a picture": (
        [message("user", words("a"), IMAGE)],
        [
            {
                "role": "user",
                "content": [TEXT, {"type": "image_url", "image_url": {"url": IMAGE["image_url"]}}],
            }
        ],
    ),
    "an earlier answer": ([SAID], [{"role": "assistant", "content": [TEXT]}]),
    "an earlier refusal": (
        [message("assistant", {"type": "refusal", "refusal": "a"})],
        [{"role": "assistant", "content": [TEXT]}],
    ),
    "calls and their outputs": (
        [
            called(1, id="fc_1", status="completed", caller={"type": "direct"}, namespace=None),
            called(2),
            {
                "type": "function_call_output",
                "call_id": "call_1",
                "output": "x",
                "id": "o",
                "status": "completed",
            },
            {"type": "function_call_output", "call_id": "call_2", "output": [words("a")], "name": "f"},
        ],
        [
            {"role": "assistant", "tool_calls": [chat_call(1), chat_call(2)]},
            {"role": "tool", "tool_call_id": "call_1", "content": "x"},
            {"role": "tool", "tool_call_id": "call_2", "content": [TEXT]},
        ],
    ),
    "words, thoughts and calls of one turn": (
        [
            SAID,
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": CANARY},
            called(1),
            called(2),
        ],
        [{"role": "assistant", "content": [TEXT], "tool_calls": [chat_call(1), chat_call(2)]}],
    ),
    "calls of two turns": (
        [called(1), {"role": "user", "content": "a"}, called(2)],
        [
            {"role": "assistant", "tool_calls": [chat_call(1)]},
            {"role": "user", "content": "a"},
            {"role": "assistant", "tool_calls": [chat_call(2)]},
        ],
    ),
}


@pytest.mark.parametrize(("items", "messages"), ITEMS.values(), ids=ITEMS.keys())
def test_items_become_messages(items: list[dict[str, Any]], messages: list[dict[str, Any]]) -> None:
    assert messages_of(items) == messages


def test_images_are_counted() -> None:
    call, _ = parse(body([message("user", IMAGE, IMAGE), message("user", words("a"), IMAGE)]))

    assert call.images == 3


NOT_SERVED: dict[str, tuple[dict[str, Any], str]] = {
    "a reference": ({"type": "item_reference", "id": CANARY}, "unsupported_item"),
    "a bare reference": ({"type": None, "id": CANARY}, "unsupported_item"),
    "an item of another tool": ({"type": CANARY}, "unsupported_item"),
    "a file": (message("user", {"type": "input_file", "file_url": CANARY}), "unsupported_content"),
    "a picture from a tool": (
        {"type": "function_call_output", "call_id": "c", "output": [IMAGE]},
        "unsupported_content",
    ),
    "a picture elsewhere": (
        message("user", IMAGE | {"image_url": f"https://{CANARY}/x.png"}),
        "unsupported_image",
    ),
    "a page as a picture": (
        message("user", IMAGE | {"image_url": f"data:text/html;base64,{CANARY}"}),
        "unsupported_image",
    ),
    "a picture from the system": (message("system", IMAGE), "unsupported_image"),
}


@pytest.mark.parametrize(("item", "code"), NOT_SERVED.values(), ids=NOT_SERVED.keys())
def test_an_item_that_is_not_served_is_refused_by_name(item: dict[str, Any], code: str) -> None:
    error = refusal([{"role": "user", "content": "a"}, item])

    assert (error.param, error.reason) == ("input[1]", code)


WRONG: dict[str, list[Any]] = {
    "nothing": [],
    "an empty input": [],
    "only thoughts": [{"type": "reasoning", "summary": CANARY}],
    "an item in words": [CANARY],
    "an item of a number": [{"type": 5}],
    "another role": [message(CANARY, words("a"))],
    "no role": [{"content": CANARY}],
    "a field of a message": [message("user", words("a"), **{CANARY: 1})],
    "a field of a part": [message("user", words("a") | {CANARY: 1})],
    "a file's id as a picture": [message("user", IMAGE | {"file_id": CANARY})],
    "a call without its id": [{"type": "function_call", "name": "f", "arguments": CANARY}],
    "a call's name in words": [called(1, name=f"{CANARY} x")],
    "a call's namespace": [called(1, namespace=CANARY)],
    "an output without its id": [{"type": "function_call_output", "output": CANARY}],
}


@pytest.mark.parametrize("items", WRONG.values(), ids=WRONG.keys())
def test_wrong_items_are_refused_without_a_word_of_them(items: list[Any]) -> None:
    assert refusal(items).status == 400


def test_a_fault_in_an_item_is_named_by_its_place() -> None:
    missing = refusal([{"content": CANARY}])
    wrong = refusal([message("user", {"type": "input_text", "text": 5})])

    assert str(missing) == "In `input[0]`: the item: object missing required field `role`."
    assert wrong.param == "input[0].content[0].text"


JSON = st.sampled_from([None, 5, "x", [], {}, [{}], [{"type": "input_text", "text": "a"}], {"type": "x"}])
ITEM = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["message", "function_call", "function_call_output", "reasoning"]) | JSON,
        "role": st.sampled_from(["user", "assistant", "system", "developer"]) | JSON,
        "content": JSON,
        "call_id": JSON,
        "name": st.just("f") | JSON,
        "arguments": JSON,
        "output": JSON,
    },
)


def outcome(raw: bytes) -> tuple[Call, Content] | BadRequest:
    try:
        return parse(raw)
    except BadRequest as error:
        return error


@given(st.lists(ITEM, max_size=4))
def test_any_items_are_either_taken_or_refused(items: list[dict[str, Any]]) -> None:
    assert isinstance(outcome(body(items)), tuple | BadRequest)
