from __future__ import annotations

from typing import Any

import pytest

from appliance.gateway.schema.chat import parse
from tests.bodies import CANARY, CHAT, body, refusal, sent_on

SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}}


def json_schema(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}


BOUND: dict[str, dict[str, Any]] = {
    "text": {"response_format": {"type": "text"}},
    "any JSON": {"response_format": {"type": "json_object"}},
    "a schema": {"response_format": json_schema(SCHEMA)},
    "vLLM's schema": {"structured_outputs": {"json": SCHEMA}},
    "an expression": {"structured_outputs": {"regex": r"[a-z]{1,100}(x{2}){5,10}"}},
    "choices": {"structured_outputs": {"choice": ["yes", "no"]}},
    "choices as text": {"response_format": {"type": "text"}, "structured_outputs": {"choice": ["yes"]}},
}


@pytest.mark.parametrize("fields", BOUND.values(), ids=BOUND.keys())
def test_what_binds_the_answer_is_sent_on_as_it_came(fields: dict[str, Any]) -> None:
    sent = sent_on(parse(body(CHAT, **fields)))

    assert {name: sent[name] for name in fields} == fields


WRONG: dict[str, dict[str, Any]] = {
    "another format": {"response_format": {"type": CANARY}},
    "a grammar as format": {"response_format": {"type": "structural_tag", "structures": [CANARY]}},
    "no schema": {"response_format": {"type": "json_schema"}},
    "a schema in words": {"response_format": {"type": "json_schema", "json_schema": {"name": f"{CANARY} x"}}},
    "a schema too large": {"response_format": json_schema({"x": CANARY * 4100})},
    "nothing": {"structured_outputs": {}},
    "two ways": {"structured_outputs": {"regex": "a", "choice": ["a"]}},
    "twice": {"response_format": json_schema(SCHEMA), "structured_outputs": {"json": SCHEMA}},
    "a grammar": {"structured_outputs": {"grammar": CANARY}},
    "a tag": {"structured_outputs": {"structural_tag": CANARY}},
    "a pattern of blanks": {"structured_outputs": {"json": SCHEMA, "whitespace_pattern": CANARY}},
    "a large schema of vLLM": {"structured_outputs": {"json": {"x": CANARY * 4100}}},
    "an empty expression": {"structured_outputs": {"regex": ""}},
    "a long expression": {"structured_outputs": {"regex": "x" * 1025}},
    "a NUL": {"structured_outputs": {"regex": "a\0"}},
    "an endless expression": {"structured_outputs": {"regex": "((x{100}){100}){2}"}},
    "an endless expression, open": {"structured_outputs": {"regex": "x{10001,}"}},
    "no choices": {"structured_outputs": {"choice": []}},
    "too many choices": {"structured_outputs": {"choice": ["a"] * 65}},
    "a long choice": {"structured_outputs": {"choice": ["a" * 257]}},
}


@pytest.mark.parametrize("fields", WRONG.values(), ids=WRONG.keys())
def test_what_can_not_bind_an_answer_is_refused(fields: dict[str, Any]) -> None:
    assert refusal(body(CHAT, **fields), parse).reason in ("invalid_value", "unknown_field")
