"""OpenAI's SDK for Node, as it comes, over TLS."""

from __future__ import annotations

from typing import Any

import pytest

from tests import node_sdk
from tests.appliance_under_test import Appliance
from tests.certificates import Authority
from tests.journeys.test_openai_chat import WORDS
from tests.models import MINILM

TWIN = "twin"


@pytest.fixture
def node(site: Appliance, authority: Authority) -> Any:
    """Runs one of its journeys."""

    def run(journey: str, model: str = TWIN) -> Any:
        return node_sdk.run(journey, model, base_url=site.base_url, key=site.key, root=authority.root)

    return run


@pytest.mark.parametrize("journey", ["chat", "chatStream"])
def test_a_chat_is_answered_and_its_row_is_its_usage(site: Appliance, node: Any, journey: str) -> None:
    answer = node(journey)

    row = site.row(answer["id"])
    assert WORDS.startswith(answer["text"])
    assert answer["text"]
    assert answer["finish"] in {"length", "stop"}
    assert (row.token_counts, row.http_status) == ("exact", 200)
    assert (row.prompt_tokens, row.completion_tokens) == (
        answer["usage"]["prompt_tokens"],
        answer["usage"]["completion_tokens"],
    )


def test_its_helpers_put_streams_together(node: Any) -> None:
    chat, response = node("chatHelper"), node("responsesHelper")

    assert WORDS.startswith(chat["text"])
    assert (response["text"], response["status"]) == (f'"{WORDS}"', "completed")


def test_vectors_come_plain_and_packed(node: Any) -> None:
    answer = node("embeddings", MINILM)

    assert len(answer["plain"]) == 2
    assert answer["packed"][0] == pytest.approx(answer["plain"][0], abs=0.01)
    assert answer["packed"][1] == pytest.approx(answer["plain"][1], abs=0.01)


def test_a_response_streams(node: Any) -> None:
    told = node("responsesStream")

    assert told["types"][0] == "response.created"
    assert told["types"][-1] == "response.completed"
    assert told["text"] == told["whole"] == f'"{WORDS}"'
    assert told["usage"]["output_tokens"] > 4


def test_models_are_listed_and_found(node: Any) -> None:
    assert node("models") == {"listed": [MINILM, TWIN], "one": TWIN}


def test_refusals_have_their_class(node: Any) -> None:
    assert node("refused") == [
        {"name": "NotFoundError", "status": 404, "code": "model_not_found"},
        {"name": "BadRequestError", "status": 400, "code": "invalid_value"},
        {"name": "AuthenticationError", "status": 401, "code": "invalid_api_key"},
    ]
