from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import BadRequest
from appliance.gateway.schema.images import IMAGES_MAX
from appliance.gateway.schema.turns import TextBlock, Turn, translate
from tests.bodies import PIXEL

CANARY = "CANARY5d1fcanary"
HELLO: dict[str, Any] = {"role": "user", "content": "Hello"}
CACHE = {"type": "ephemeral", "ttl": "1h"}
WORDS: dict[str, Any] = {"type": "text", "text": "Words"}
IMAGE: dict[str, Any] = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
}
IMAGE_PART = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
CALL: dict[str, Any] = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": [1]}}
CHAT_CALL = {"id": "toolu_1", "type": "function", "function": {"name": "f", "arguments": '{"a":[1]}'}}
RESULT: dict[str, Any] = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "4"}


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(content)}


def assistant(*content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(content)}


def translated(
    turns: list[Any], system: str | list[TextBlock] | None = None
) -> tuple[list[dict[str, Any]], int]:
    """The messages as an engine reads them, and how many images they hold."""
    decoded = msgspec.json.decode(json.dumps(turns), type=list[Turn])
    messages, images = translate(system, decoded)
    return json.loads(msgspec.json.encode(messages)), images


TURNS: dict[str, tuple[list[Any], list[Any]]] = {
    "words in a block": ([user(WORDS | {"cache_control": CACHE})], [{"role": "user", "content": "Words"}]),
    "words in two blocks": ([user(WORDS, WORDS)], [{"role": "user", "content": "Words\nWords"}]),
    "an image": (
        [user(WORDS, IMAGE | {"cache_control": CACHE, "transformations": {"oversized_image": "error"}})],
        [{"role": "user", "content": [WORDS, IMAGE_PART]}],
    ),
    "turns of one side become one": (
        [HELLO, user(WORDS), {"role": "assistant", "content": "A"}, assistant(WORDS), HELLO],
        [
            {"role": "user", "content": "Hello\nWords"},
            {"role": "assistant", "content": "A\nWords"},
            HELLO,
        ],
    ),
    "a system turn joins the system prompt": (
        [HELLO, {"role": "assistant", "content": "A"}, {"role": "system", "content": [WORDS]}, HELLO],
        [{"role": "system", "content": "Words"}, HELLO, {"role": "assistant", "content": "A"}, HELLO],
    ),
    "thoughts are left out": (
        [
            HELLO,
            assistant(
                {"type": "thinking", "thinking": CANARY, "signature": CANARY},
                {"type": "redacted_thinking", "data": CANARY},
                WORDS,
            ),
            HELLO,
        ],
        [HELLO, {"role": "assistant", "content": "Words"}, HELLO],
    ),
    "thoughts alone": (
        [HELLO, assistant({"type": "thinking", "thinking": CANARY, "signature": ""}), HELLO],
        [HELLO, {"role": "assistant", "content": ""}, HELLO],
    ),
    "a call and its result, then words": (
        [
            HELLO,
            assistant(WORDS, CALL | {"caller": {"type": "direct"}, "toolset_name": None}),
            user(WORDS, RESULT | {"cache_control": CACHE}),
        ],
        [
            HELLO,
            {"role": "assistant", "content": "Words", "tool_calls": [CHAT_CALL]},
            {"role": "tool", "content": "4", "tool_call_id": "toolu_1"},
            {"role": "user", "content": "Words"},
        ],
    ),
    "a call and its result alone": (
        [HELLO, assistant(CALL), user(RESULT)],
        [
            HELLO,
            {"role": "assistant", "content": "", "tool_calls": [CHAT_CALL]},
            {"role": "tool", "content": "4", "tool_call_id": "toolu_1"},
        ],
    ),
    "a result in blocks, with an image": (
        [HELLO, assistant(CALL), user(RESULT | {"content": [WORDS, IMAGE, WORDS]}, WORDS)],
        [
            HELLO,
            {"role": "assistant", "content": "", "tool_calls": [CHAT_CALL]},
            {"role": "tool", "content": "Words\nWords", "tool_call_id": "toolu_1"},
            {"role": "user", "content": [IMAGE_PART, WORDS]},
        ],
    ),
    "a result that is an error": (
        [HELLO, assistant(CALL), user(RESULT | {"is_error": True})],
        [
            HELLO,
            {"role": "assistant", "content": "", "tool_calls": [CHAT_CALL]},
            {"role": "tool", "content": "Error: 4", "tool_call_id": "toolu_1"},
        ],
    ),
    "a result without words": (
        [HELLO, assistant(CALL), user({"type": "tool_result", "tool_use_id": "toolu_1"})],
        [
            HELLO,
            {"role": "assistant", "content": "", "tool_calls": [CHAT_CALL]},
            {"role": "tool", "content": "", "tool_call_id": "toolu_1"},
        ],
    ),
}


@pytest.mark.parametrize(("turns", "written"), TURNS.values(), ids=TURNS.keys())
def test_turns_become_the_messages_of_a_chat(turns: list[Any], written: list[Any]) -> None:
    assert translated(turns)[0] == written


def test_a_system_turn_follows_the_system_prompt() -> None:
    messages, _ = translated([HELLO, {"role": "system", "content": "Later"}], [TextBlock(text="First")])

    assert messages == [{"role": "system", "content": "First\nLater"}, HELLO]


def test_images_are_counted_also_in_results() -> None:
    assert (
        translated([user(IMAGE, IMAGE, WORDS), assistant(CALL), user(RESULT | {"content": [IMAGE]})])[1] == 3
    )


def test_what_has_to_be_fetched_is_refused_without_a_word_of_it() -> None:
    with pytest.raises(BadRequest, match=r"^Images are taken only as a base64 source") as caught:
        translated([user({"type": "image", "source": {"type": "url", "url": CANARY}})])

    assert CANARY not in repr(caught.value)


said = st.lists(st.sampled_from([WORDS, IMAGE, RESULT]), min_size=1, max_size=4)
answered_with = st.lists(st.sampled_from([WORDS, CALL]), max_size=4)
turn = st.fixed_dictionaries({"role": st.just("user"), "content": said}) | st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": answered_with}
)


def has_few_images(turns: list[Any]) -> bool:
    return json.dumps(turns).count('"image"') <= IMAGES_MAX


@given(st.lists(turn, max_size=8).filter(has_few_images))
@settings(max_examples=150, deadline=None)
def test_no_two_messages_of_one_side_follow_each_other(turns: list[Any]) -> None:
    """Templates that want the sides in turn refuse anything else."""
    messages, _ = translated(turns)

    sides = " ".join(message["role"] for message in messages)
    assert "user user" not in sides
    assert "assistant assistant" not in sides
