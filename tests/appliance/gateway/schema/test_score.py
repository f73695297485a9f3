from __future__ import annotations

from typing import Any

import pytest

from appliance.domain import Call
from appliance.gateway.schema.score import parse
from tests.bodies import CANARY, DANGEROUS, SALT, body, refusal, sent_on

MODEL: dict[str, Any] = {"model": "m"}

GOOD: dict[str, dict[str, Any]] = {
    "one and one": {"text_1": "a", "text_2": "b"},
    "one and several": {"text_1": "a", "text_2": ["b", "c"]},
    "one in a list": {"text_1": ["a"], "text_2": ["b", "c"]},
    "pairs": {"text_1": ["a", "b"], "text_2": ["c", "d"]},
    "by other names": {"queries": "a", "documents": ["b", "c"]},
    "the other names left out": {"queries": "a", "documents": "b", "truncate_prompt_tokens": 5},
}


@pytest.mark.parametrize("fields", GOOD.values(), ids=GOOD.keys())
def test_it_is_sent_on_as_it_came(fields: dict[str, Any]) -> None:
    call, content = parse(body(MODEL, **fields))

    assert call == Call("score", "m", output_tokens_max=0)
    assert sent_on((call, content)) == MODEL | fields | {"cache_salt": SALT}


PAIR = {"text_1": "a", "text_2": "b"}
WRONG: dict[str, dict[str, Any]] = {
    "nothing": {},
    "half": {"text_1": "a"},
    "the other half": {"documents": ["a"]},
    "a half of each": {"text_1": "a", "documents": "b"},
    "both forms": PAIR | {"queries": "a", "documents": "b"},
    "both forms, one half": PAIR | {"queries": "a"},
    "several and one": {"text_1": ["a", "b"], "text_2": "c"},
    "too few": {"text_1": ["a", "b"], "text_2": ["c", "d", "e"]},
    "an empty list": {"text_1": "a", "text_2": []},
    "too many": {"text_1": "a", "text_2": ["b"] * 2049},
    "a picture": {"text_1": "a", "text_2": {"content": [CANARY]}},
    **{name: PAIR | {name: value} for name, value in DANGEROUS.items()},
}


@pytest.mark.parametrize("fields", WRONG.values(), ids=WRONG.keys())
def test_anything_else_is_refused(fields: dict[str, Any]) -> None:
    assert refusal(body(MODEL, **fields), parse).reason in (
        "invalid_value",
        "unknown_field",
        "unsupported_field",
    )
