"""What a model makes of texts that doesn't write: embeddings, rerank and score; and tokens of both kinds of models."""

from __future__ import annotations

import math
from typing import Any

import httpx
import openai
import pytest

from tests.appliance_under_test import Appliance
from tests.models import MINILM, MINILM_DIMENSIONS

TWIN = "twin"
TEXTS = ["A cat sleeps.", "A kitten naps.", "The stock market fell."]


def asked(site: Appliance, path: str, **body: Any) -> httpx.Response:
    with site.http() as client:
        return client.post(path, json=body)


def answered(site: Appliance, path: str, **body: Any) -> Any:
    return asked(site, path, **body).raise_for_status().json()


def embedded(client: openai.OpenAI, texts: list[str], **more: Any) -> list[list[float]]:
    answer = client.embeddings.create(model=MINILM, input=texts, **more)
    return [one.embedding for one in answer.data]


def likeness(one: list[float], other: list[float]) -> float:
    return sum(left * right for left, right in zip(one, other, strict=True))


def test_texts_become_vectors(site_client: openai.OpenAI) -> None:
    cat, kitten, market = embedded(site_client, TEXTS, encoding_format="float")

    assert {len(cat), len(kitten), len(market)} == {MINILM_DIMENSIONS}
    assert math.isclose(likeness(cat, cat), 1, abs_tol=0.01)
    assert likeness(cat, kitten) > likeness(cat, market) + 0.2


def test_the_sdks_packed_vectors_are_the_same(site_client: openai.OpenAI) -> None:
    """Left to itself the SDK asks for base64, which is shorter."""
    plain = embedded(site_client, TEXTS[:1], encoding_format="float")
    packed = embedded(site_client, TEXTS[:1])

    assert packed[0] == pytest.approx(plain[0], abs=0.01)


def test_token_ids_are_taken_as_well(site: Appliance, site_client: openai.OpenAI) -> None:
    tokens: list[int] = answered(site, "/tokenize", model=MINILM, prompt=TEXTS[0])["tokens"]

    answer = site_client.embeddings.create(model=MINILM, input=tokens, encoding_format="float")

    (of_text,) = embedded(site_client, TEXTS[:1], encoding_format="float")
    assert answer.data[0].embedding == pytest.approx(of_text, abs=0.02)


def test_dimensions_that_the_model_does_not_have_are_refused(site_client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        site_client.embeddings.create(model=MINILM, input="one", dimensions=64)

    assert refused.value.code == "invalid_request"


def test_a_text_longer_than_the_context_is_refused(site_client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        site_client.embeddings.create(model=MINILM, input="long " * 400)

    assert refused.value.code == "context_length_exceeded"


def test_a_long_text_is_cut_if_asked_for(site_client: openai.OpenAI) -> None:
    answer = site_client.embeddings.create(
        model=MINILM, input="long " * 400, extra_body={"truncate_prompt_tokens": 32}
    )

    assert answer.usage.prompt_tokens == 32


def test_documents_are_sorted_by_a_query(site: Appliance) -> None:
    answer = answered(site, "/v1/rerank", model=MINILM, query="A cat rests.", documents=TEXTS[::-1])

    found = [(result["index"], result["document"]["text"]) for result in answer["results"]]
    assert found[-1] == (0, TEXTS[2])
    assert sorted(text for _, text in found) == sorted(TEXTS)
    scores = [result["relevance_score"] for result in answer["results"]]
    assert scores == sorted(scores, reverse=True)


def test_only_the_best_documents_are_wanted(site: Appliance) -> None:
    documents: list[Any] = [{"text": text} for text in TEXTS]

    answer = answered(site, "/v1/rerank", model=MINILM, query=TEXTS[0], documents=documents, top_n=1)

    assert [result["index"] for result in answer["results"]] == [0]


@pytest.mark.parametrize("names", [("text_1", "text_2"), ("queries", "documents")])
def test_pairs_are_scored(site: Appliance, names: tuple[str, str]) -> None:
    pair: dict[str, Any] = {names[0]: TEXTS[0], names[1]: TEXTS[1:]}

    answer = answered(site, "/v1/score", model=MINILM, **pair)

    kitten, market = (one["score"] for one in answer["data"])
    assert kitten > market


@pytest.mark.parametrize("model", [MINILM, TWIN])
def test_tokens_go_there_and_back(site: Appliance, model: str) -> None:
    there = answered(site, "/tokenize", model=model, prompt="one two three", add_special_tokens=False)
    back = answered(site, "/detokenize", model=model, tokens=there["tokens"])

    assert there["count"] == len(there["tokens"]) > 2
    assert back["prompt"] == "one two three"


def test_the_tokens_of_a_chat_are_those_of_its_prompt(site: Appliance, site_client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "one two three"}]
    answer = site_client.chat.completions.create(model=TWIN, messages=messages, max_tokens=1)

    counted = answered(site, "/tokenize", model=TWIN, messages=messages)

    assert answer.usage is not None
    assert counted["count"] == answer.usage.prompt_tokens


def test_a_model_that_writes_gives_no_vectors(site_client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        site_client.embeddings.create(model=TWIN, input="one")

    assert refused.value.code == "endpoint_not_served"


def test_a_model_that_gives_vectors_does_not_write(site_client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        site_client.chat.completions.create(model=MINILM, messages=[{"role": "user", "content": "one"}])

    assert refused.value.code == "endpoint_not_served"
