from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from appliance.errors import BadRequest
from appliance.gateway import openapi
from appliance.gateway.addresses import ROUTES
from appliance.gateway.schema import (
    chat,
    completions,
    embeddings,
    messages,
    rerank,
    responses,
    score,
    tokenize,
)
from appliance.gateway.schema.words import CODES
from tests.bodies import CHAT, COMPLETION, SAMPLING, TOOL, Parse
from tests.tidy.tree import ROOT

DOCUMENT = openapi.document(ROUTES)
PARSERS: dict[str, Parse] = {
    "/v1/chat/completions": chat.parse,
    "/v1/completions": completions.parse,
    "/v1/responses": responses.parse,
    "/v1/messages": messages.parse,
    "/v1/messages/count_tokens": messages.parse_count_tokens,
    "/v1/embeddings": embeddings.parse,
    "/v1/rerank": rerank.parse,
    "/v1/score": score.parse,
    "/tokenize": tokenize.parse_tokenize,
    "/detokenize": tokenize.parse_detokenize,
}

RESPONSE: dict[str, Any] = {"model": "m", "input": "Hello"}
MESSAGE: dict[str, Any] = CHAT | {"max_tokens": 5}
LEFT_TO_REFUSE = {
    "",
    "invalid_value",
    "unsupported_image",
    "invalid_image",
    "image_too_large",
    "too_many_images",
}
"""What several fields say together, and pictures."""
LAST_TURN = LEFT_TO_REFUSE | {"unsupported_value"}
"""The last turn has to be the user's."""


def valid(name: str, body: dict[str, Any]) -> bool:
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    return jsonschema_rs.is_valid(schema, body)


GOOD: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("chat.ChatBody", CHAT | SAMPLING | {"tools": [TOOL], "tool_choice": "auto"}),
    "a chat of all roles": (
        "chat.ChatBody",
        CHAT
        | {
            "messages": [
                {"role": "developer", "content": "x"},
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
                {"role": "assistant", "content": None},
                {"role": "tool", "content": "x", "tool_call_id": "x"},
            ]
        },
    ),
    "completion": ("completions.CompletionBody", COMPLETION | SAMPLING),
    "what is dropped": ("chat.ChatBody", CHAT | {"user": {"any": [1]}, "store": True}),
    "items of a conversation": (
        "responses.ResponsesBody",
        RESPONSE
        | {
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "x"}]},
                {"type": "reasoning", "id": "rs_1", "anything": 1},
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "async": None},
                {"type": "function_call_output", "call_id": "c", "output": "x"},
            ]
        },
    ),
    "only false": ("responses.ResponsesBody", RESPONSE | {"background": False}),
    "turns": (
        "messages.MessagesBody",
        MESSAGE | {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
    ),
    "null for what is refused": ("chat.ChatBody", CHAT | {"functions": None}),
}
WRONG: dict[str, tuple[str, dict[str, Any]]] = {
    "an unknown field": ("chat.ChatBody", CHAT | {"x": 1}),
    "a refused field": ("chat.ChatBody", CHAT | {"functions": []}),
    "a limit": ("chat.ChatBody", CHAT | {"n": 5}),
    "an open limit": ("chat.ChatBody", CHAT | {"top_p": 0}),
    "a missing field": ("chat.ChatBody", {"model": "m"}),
    "another role": ("chat.ChatBody", CHAT | {"messages": [{"role": "x", "content": "x"}]}),
    "a key that is no token": ("chat.ChatBody", CHAT | {"logit_bias": {"x": 1}}),
    "an item of no known type": ("responses.ResponsesBody", RESPONSE | {"input": [{"type": "x"}]}),
    "work in the background": ("responses.ResponsesBody", RESPONSE | {"background": True}),
    "a document": (
        "messages.MessagesBody",
        MESSAGE | {"messages": [{"role": "user", "content": [{"type": "document"}]}]},
    ),
    "a picture elsewhere": (
        "messages.MessagesBody",
        MESSAGE | {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url"}}]}]},
    ),
    "a name with a blank": ("chat.ChatBody", CHAT | {"chat_template_kwargs": {"a b": 1}}),
}


@pytest.mark.parametrize(("name", "body"), GOOD.values(), ids=GOOD.keys())
def test_what_the_gateway_takes_is_valid(name: str, body: dict[str, Any]) -> None:
    assert valid(name, body)


@pytest.mark.parametrize(("name", "body"), WRONG.values(), ids=WRONG.keys())
def test_what_the_gateway_refuses_is_not_valid(name: str, body: dict[str, Any]) -> None:
    assert not valid(name, body)


@pytest.mark.parametrize("path", PARSERS)
def test_every_request_made_from_the_document_fits_its_type(path: str) -> None:
    schema: Any = schemathesis.openapi.from_dict(DOCUMENT)

    @given(schema[path]["POST"].as_strategy())
    @settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def ask(case: Any) -> None:
        assert outcome(PARSERS[path], case.body) in (LAST_TURN if path == "/v1/messages" else LEFT_TO_REFUSE)

    ask()


def outcome(parse: Parse, body: object) -> str:
    try:
        parse(json.dumps(body).encode())
    except BadRequest as error:
        return error.reason
    return ""


def test_every_address_says_how_it_refuses() -> None:
    operations = [each for path in DOCUMENT["paths"].values() for each in path.values()]

    assert [sorted(each["responses"]) for each in operations if "requestBody" in each] == [
        ["200", "400", "401", "403", "404", "408", "413", "414", "415", "429", "431", "500", "502", "503"]
    ] * len(PARSERS)


def test_health_is_told_without_a_key() -> None:
    assert DOCUMENT["paths"]["/healthz"]["get"]["security"] == []
    assert list(DOCUMENT["paths"]["/healthz"]["get"]["responses"]) == ["200"]


def test_anthropics_addresses_fail_in_anthropics_words() -> None:
    refused = {path: DOCUMENT["paths"][path]["post"]["responses"]["401"] for path in PARSERS}
    shapes = {path: one["content"]["application/json"]["schema"]["$ref"] for path, one in refused.items()}

    assert {path for path, shape in shapes.items() if shape.endswith("/AnthropicError")} == {
        "/v1/messages",
        "/v1/messages/count_tokens",
    }


def test_only_anthropics_answers_have_anthropics_header() -> None:
    answers = {path: DOCUMENT["paths"][path]["post"]["responses"]["200"]["headers"] for path in PARSERS}

    assert ["request-id" in headers for headers in answers.values()] == [
        path.startswith("/v1/messages") for path in PARSERS
    ]


def test_the_name_of_a_model_is_part_of_its_address() -> None:
    operation = DOCUMENT["paths"]["/v1/models/{name}"]["get"]

    assert [parameter["name"] for parameter in operation["parameters"]] == ["name"]
    assert list(operation["responses"]) == ["200", "401", "404"]


def test_every_code_that_the_gateway_gives_is_explained() -> None:
    sources = [path.read_text() for path in Path(ROOT, "appliance", "gateway").rglob("*.py")]
    of_classes = {kind.code for kind in openapi.refusals()}

    assert set(re.findall(r'code="([a-z_]+)"', "".join(sources))) - of_classes == set(CODES)
