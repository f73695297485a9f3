from __future__ import annotations

from typing import Any

import pytest

from appliance.domain import Call
from appliance.gateway.schema.rerank import parse
from tests.bodies import CANARY, DANGEROUS, SALT, body, refusal, sent_on

RERANK: dict[str, Any] = {"model": "m", "query": "q", "documents": ["a", "b"]}


@pytest.mark.parametrize(
    "fields",
    [{}, {"top_n": 1}, {"max_tokens_per_doc": 5}, {"truncate_prompt_tokens": 5}],
    ids=["no more", "the best", "short documents", "short pairs"],
)
def test_it_is_sent_on_as_it_came(fields: dict[str, Any]) -> None:
    call, content = parse(body(RERANK, **fields))

    assert call == Call("rerank", "m", output_tokens_max=0)
    assert sent_on((call, content)) == RERANK | fields | {"cache_salt": SALT}


def test_a_document_may_be_an_object_with_a_text() -> None:
    assert sent_on(parse(body(RERANK, documents=["a", {"text": "b"}])))["documents"] == ["a", "b"]


@pytest.mark.parametrize("name", ["user", "return_documents"])
def test_what_engines_do_not_know_is_dropped(name: str) -> None:
    assert sent_on(parse(body(RERANK, **{name: True}))) == RERANK | {"cache_salt": SALT}


WRONG: dict[str, dict[str, Any]] = {
    "no query": {"query": None},
    "no documents": {"documents": []},
    "a document alone": {"documents": CANARY},
    "too many documents": {"documents": ["a"] * 2049},
    "a picture": {"documents": [{"content": [{"type": "image_url", "image_url": {"url": CANARY}}]}]},
    "none of them": {"top_n": 0},
    **{name: {name: value} for name, value in DANGEROUS.items() if name != "documents"},
}


@pytest.mark.parametrize("fields", WRONG.values(), ids=WRONG.keys())
def test_anything_else_is_refused(fields: dict[str, Any]) -> None:
    assert refusal(body(RERANK, **fields), parse).reason in (
        "invalid_value",
        "unknown_field",
        "unsupported_field",
    )
