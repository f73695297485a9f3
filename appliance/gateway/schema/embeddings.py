"""POST /v1/embeddings: every field a caller may send."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from appliance.domain import Call
from appliance.gateway.schema.fields import INPUTS_MAX, Body, Text, TokenId, Truncation, count_prompts
from appliance.gateway.schema.refusals import decoder
from appliance.privacy.content import Content


class EmbeddingsBody(Body, kw_only=True):
    """POST /v1/embeddings. Fields of the last block are vLLM's."""

    input: Text | Annotated[list[Text | TokenId | list[TokenId]], Meta(min_length=1)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=65_536)] | None = None

    truncate_prompt_tokens: Truncation | None = None
    truncation_side: Literal["left", "right"] | None = None


_decode = decoder(EmbeddingsBody)


def parse(body: bytes) -> tuple[Call, Content]:
    """Its shape and its words. Raises BadRequest that quotes nothing of it."""
    request = _decode(body)
    count_prompts(request.input, "input", INPUTS_MAX)
    return Call("embeddings", request.model), Content(request)
