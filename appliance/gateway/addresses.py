"""The public API for its reference: every address, what it takes and what it answers."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from msgspec import Struct

from appliance.domain import Endpoint
from appliance.errors import RequestError, UnknownModel
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

Schema = dict[str, Any]


class Route(NamedTuple):
    """One address of the public API."""

    method: str
    path: str
    summary: str
    family: Endpoint | None = None
    """What models.yaml and a key's scope call it; None: no model answers."""
    body: type[Struct] | None = None
    answer: Schema | None = None
    streams: bool = False
    keyless: bool = False
    anthropic: bool = False
    """Whether it speaks Anthropic's protocol instead of OpenAI's."""
    beside: tuple[type[RequestError], ...] = ()
    """What may be refused of an address without a body, besides a bad key."""


TEXT: Final[Schema] = {"type": "string"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}


def answer(**fields: Schema) -> Schema:
    """An object with at least these fields."""
    return {"type": "object", "properties": fields, "required": list(fields)}


def several(item: Schema) -> Schema:
    return {"type": "array", "items": item}


_IN_OUT = answer(input_tokens=COUNT, output_tokens=COUNT)
_USAGE = answer(prompt_tokens=COUNT, total_tokens=COUNT)
_MODEL = answer(
    id=TEXT, object=TEXT, created=COUNT, owned_by=TEXT, max_model_len=COUNT, endpoints=several(TEXT)
)
_HEAD: dict[str, Schema] = {"id": TEXT, "object": TEXT, "model": TEXT}
_CHOICE: dict[str, Schema] = {"index": COUNT, "finish_reason": {"type": ["string", "null"]}}

ROUTES: Final = (
    Route(
        "POST",
        "/v1/chat/completions",
        "The next turn of a conversation",
        "chat",
        chat.ChatBody,
        answer(**_HEAD, choices=several(answer(**_CHOICE, message={"type": "object"})), usage=_USAGE),
        streams=True,
    ),
    Route(
        "POST",
        "/v1/completions",
        "A text, continued",
        "completions",
        completions.CompletionBody,
        answer(**_HEAD, choices=several(answer(**_CHOICE, text=TEXT)), usage=_USAGE),
        streams=True,
    ),
    Route(
        "POST",
        "/v1/responses",
        "The next turn of a conversation, in the protocol of OpenAI's Responses API",
        "responses",
        responses.ResponsesBody,
        answer(
            id=TEXT, object=TEXT, model=TEXT, status=TEXT, output=several({"type": "object"}), usage=_IN_OUT
        ),
        streams=True,
    ),
    Route(
        "POST",
        "/v1/messages",
        "The next turn of a conversation, in Anthropic's protocol",
        "messages",
        messages.MessagesBody,
        answer(
            id=TEXT,
            type=TEXT,
            role=TEXT,
            model=TEXT,
            content=several({"type": "object"}),
            stop_reason={"type": ["string", "null"]},
            usage=_IN_OUT,
        ),
        streams=True,
        anthropic=True,
    ),
    Route(
        "POST",
        "/v1/messages/count_tokens",
        "The number of tokens of a conversation",
        "messages",
        messages.CountTokensBody,
        answer(input_tokens=COUNT),
        anthropic=True,
    ),
    Route(
        "POST",
        "/v1/embeddings",
        "A vector for each text",
        "embeddings",
        embeddings.EmbeddingsBody,
        answer(
            object=TEXT,
            data=several(answer(index=COUNT, embedding={"type": ["array", "string"]})),
            usage=_USAGE,
        ),
    ),
    Route(
        "POST",
        "/v1/rerank",
        "Documents, sorted by how well they answer a query",
        "rerank",
        rerank.RerankBody,
        answer(results=several(answer(index=COUNT, relevance_score={"type": "number"})), usage=_USAGE),
    ),
    Route(
        "POST",
        "/v1/score",
        "How well pairs of texts fit each other",
        "score",
        score.ScoreBody,
        answer(data=several(answer(index=COUNT, score={"type": "number"})), usage=_USAGE),
    ),
    Route(
        "POST",
        "/tokenize",
        "The token ids of a text or a conversation",
        "tokenize",
        tokenize.TokenizeBody,
        answer(count=COUNT, max_model_len=COUNT, tokens=several(COUNT)),
    ),
    Route(
        "POST",
        "/detokenize",
        "The text of token ids",
        "tokenize",
        tokenize.DetokenizeBody,
        answer(prompt=TEXT),
    ),
    Route(
        "GET",
        "/v1/models",
        "The models of this box",
        answer=answer(object=TEXT, data=several(_MODEL)),
    ),
    Route("GET", "/v1/models/{name}", "One of them", answer=_MODEL, beside=(UnknownModel,)),
    Route("GET", "/healthz", "Whether the gateway runs", answer=answer(status=TEXT), keyless=True),
    Route(
        "GET",
        "/readyz",
        "Whether every model has an engine; 503 if not",
        answer=answer(ready={"type": "boolean"}),
        keyless=True,
    ),
)
"""The public API, in the order of the reference."""
