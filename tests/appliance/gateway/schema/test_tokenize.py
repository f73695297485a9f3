from __future__ import annotations

from typing import Any

import pytest

from appliance.domain import Call
from appliance.gateway.schema.tokenize import parse_detokenize, parse_tokenize
from tests.bodies import CANARY, CHAT, COMPLETION, DANGEROUS, TOOL, body, refusal, sent_on

TOKENS: dict[str, Any] = {"model": "m", "tokens": [1, 2, 3]}

GOOD: dict[str, dict[str, Any]] = {
    "a prompt": COMPLETION,
    "a prompt without marks": COMPLETION | {"add_special_tokens": False},
    "with their texts": COMPLETION | {"return_token_strs": True},
    "a chat": CHAT,
    "a chat with tools": CHAT | {"tools": [TOOL]},
}


@pytest.mark.parametrize("fields", GOOD.values(), ids=GOOD.keys())
def test_a_text_is_sent_on_as_it_came_without_a_salt(fields: dict[str, Any]) -> None:
    call, content = parse_tokenize(body(fields))

    assert call == Call("tokenize", "m", output_tokens_max=0)
    assert sent_on((call, content)) == fields


def test_a_chat_is_counted_as_it_would_be_sent() -> None:
    messages = [
        {"role": "developer", "content": "a"},
        {"role": "assistant", "content": "b", "reasoning_content": "c"},
    ]

    call, content = parse_tokenize(body(CHAT, messages=messages, chat_template_kwargs={"x": 1}))

    assert call.switches == ("x",)
    assert sent_on((call, content))["messages"] == [
        {"role": "system", "content": "a"},
        {"role": "assistant", "content": "b", "reasoning": "c"},
    ]


def test_token_ids_are_sent_on_as_they_came_without_a_salt() -> None:
    call, content = parse_detokenize(body(TOKENS))

    assert call == Call("tokenize", "m", output_tokens_max=0)
    assert sent_on((call, content)) == TOKENS


WRONG: dict[str, dict[str, Any]] = {
    "nothing": {"model": "m"},
    "both": CHAT | COMPLETION,
    "several prompts": {"model": "m", "prompt": ["a"]},
    "tools of a prompt": COMPLETION | {"tools": [TOOL]},
    "variables of a prompt": COMPLETION | {"chat_template_kwargs": {"x": 1}},
    "a picture elsewhere": CHAT
    | {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": CANARY}}]}]},
    **{name: CHAT | {name: value} for name, value in DANGEROUS.items()},
}


@pytest.mark.parametrize("fields", WRONG.values(), ids=WRONG.keys())
def test_anything_else_is_no_text(fields: dict[str, Any]) -> None:
    assert refusal(body(fields), parse_tokenize).reason in (
        "invalid_value",
        "unknown_field",
        "unsupported_field",
        "unsupported_image",
    )


NO_TOKENS: dict[str, dict[str, Any]] = {
    "nothing": {"tokens": None},
    "words": {"tokens": CANARY},
    "below nought": {"tokens": [-1]},
    "a half": {"tokens": [1.5]},
    "too many": {"tokens": [1] * 100_001},
    **{name: {name: value} for name, value in DANGEROUS.items()},
}


@pytest.mark.parametrize("fields", NO_TOKENS.values(), ids=NO_TOKENS.keys())
def test_anything_else_is_no_list_of_token_ids(fields: dict[str, Any]) -> None:
    assert refusal(body(TOKENS, **fields), parse_detokenize).reason in (
        "invalid_value",
        "unknown_field",
        "unsupported_field",
    )
