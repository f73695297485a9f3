from __future__ import annotations

from typing import Any

import pytest

from appliance.domain import Call
from appliance.gateway.schema.embeddings import parse
from tests.bodies import CANARY, DANGEROUS, SALT, body, refusal, sent_on

EMBEDDING: dict[str, Any] = {"model": "m", "input": "Hello"}

GOOD: dict[str, dict[str, Any]] = {
    "a text": {},
    "texts": {"input": ["a", "b"]},
    "the most texts": {"input": ["a"] * 2048},
    "token ids": {"input": [1, 2]},
    "lists of token ids": {"input": [[1], [2, 3]]},
    "many token ids": {"input": list(range(5000))},
    "numbers": {"encoding_format": "float"},
    "bytes": {"encoding_format": "base64"},
    "fewer dimensions": {"dimensions": 256},
    "the end cut off": {"truncate_prompt_tokens": -1, "truncation_side": "right"},
}


@pytest.mark.parametrize("fields", GOOD.values(), ids=GOOD.keys())
def test_it_is_sent_on_as_it_came(fields: dict[str, Any]) -> None:
    call, content = parse(body(EMBEDDING, **fields))

    assert call == Call("embeddings", "m", output_tokens_max=0)
    assert sent_on((call, content)) == EMBEDDING | fields | {"cache_salt": SALT}


def test_who_asks_is_dropped() -> None:
    assert sent_on(parse(body(EMBEDDING, user=CANARY))) == EMBEDDING | {"cache_salt": SALT}


WRONG: dict[str, dict[str, Any]] = {
    "nothing": {"input": []},
    "an empty list of tokens": {"input": [[]]},
    "a mix": {"input": ["a", 1]},
    "too many texts": {"input": ["a"] * 2049},
    "messages": {"input": [{"role": "user", "content": CANARY}]},
    "another format": {"encoding_format": CANARY},
    "raw bytes": {"encoding_format": "bytes"},
    "no dimensions": {"dimensions": 0},
    "another side": {"truncation_side": CANARY},
    "a stream": {"stream": True},
    **{name: {name: value} for name, value in DANGEROUS.items()},
}


@pytest.mark.parametrize("fields", WRONG.values(), ids=WRONG.keys())
def test_anything_else_is_refused(fields: dict[str, Any]) -> None:
    assert refusal(body(EMBEDDING, **fields), parse).reason in (
        "invalid_value",
        "unknown_field",
        "unsupported_field",
    )
