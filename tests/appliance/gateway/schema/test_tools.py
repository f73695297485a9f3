from __future__ import annotations

from typing import Any

import pytest

from appliance.gateway.schema.chat import parse
from tests.bodies import CANARY, CHAT, TOOL, body, refusal, sent_on


def tool(name: str, **fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name} | fields}


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def allowed(mode: str, *names: str) -> dict[str, Any]:
    return {
        "type": "allowed_tools",
        "allowed_tools": {"mode": mode, "tools": [named(name) for name in names]},
    }


LOOSE, STRICT = [tool("a"), tool("b", strict=False)], [tool("a", strict=True), tool("b", strict=True)]

CHOICES: dict[str, tuple[Any, Any, Any]] = {
    "left out": (None, LOOSE, None),
    "auto": ("auto", LOOSE, "auto"),
    "none": ("none", LOOSE, "none"),
    "required": ("required", STRICT, "required"),
    "named": (named("b"), STRICT, named("b")),
    "some allowed": (allowed("auto", "b"), LOOSE[1:], "auto"),
    "one of some": (allowed("required", "a"), STRICT[:1], "required"),
}


@pytest.mark.parametrize(("choice", "tools", "as_sent"), CHOICES.values(), ids=CHOICES.keys())
def test_a_call_that_has_to_come_is_held_to_its_schema(choice: Any, tools: Any, as_sent: Any) -> None:
    """vLLM binds the arguments of a required call only where the tool is strict."""
    sent = sent_on(parse(body(CHAT, tools=LOOSE, tool_choice=choice)))

    assert (sent["tools"], sent.get("tool_choice")) == (tools, as_sent)


def test_no_tools_are_needed_to_ask_for_none() -> None:
    assert "tool_choice" not in sent_on(parse(body(CHAT, tool_choice="none")))


WRONG: dict[str, dict[str, Any]] = {
    "another name": {"tools": LOOSE, "tool_choice": named(CANARY)},
    "another name among some": {"tools": LOOSE, "tool_choice": allowed("auto", "a", CANARY)},
    "no tools": {"tool_choice": "auto"},
    "none of them": {"tools": LOOSE, "tool_choice": allowed("auto")},
    "another mode": {"tools": LOOSE, "tool_choice": allowed(CANARY, "a")},
    "a tool of words": {"tools": [{"type": "custom", "custom": {"name": CANARY}}]},
    "too many": {"tools": [TOOL] * 65},
    "a schema that is a list": {"tools": [tool("f", parameters=[CANARY])]},
    "a schema too large": {"tools": [tool("f", parameters={"x": CANARY * 4100})]},
}


@pytest.mark.parametrize("fields", WRONG.values(), ids=WRONG.keys())
def test_a_choice_or_a_tool_that_can_not_be_is_refused(fields: dict[str, Any]) -> None:
    assert refusal(body(CHAT, **fields), parse).reason == "invalid_value"


def test_a_large_schema_is_sent_on() -> None:
    large = [tool("f", parameters={"x": "y" * 65_000})]

    assert sent_on(parse(body(CHAT, tools=large)))["tools"] == large
