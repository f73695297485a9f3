"""POST /v1/completions: every field a caller may send."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from appliance.domain import Call
from appliance.gateway.schema.fields import (
    CHOICES_MAX,
    Count,
    Sampling,
    Text,
    TokenId,
    count_prompts,
)
from appliance.gateway.schema.formats import StructuredOutputs, check_format
from appliance.gateway.schema.refusals import decoder
from appliance.privacy.content import Content

TOKENS_LEFT_OUT = 16
"""OpenAI's default of `max_tokens` here, and vLLM's."""


class CompletionBody(Sampling, kw_only=True):
    """POST /v1/completions."""

    prompt: Text | Annotated[list[Text | TokenId | list[TokenId]], Meta(min_length=1)]
    max_tokens: Count | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    structured_outputs: StructuredOutputs | None = None
    suffix: None = None
    best_of: Annotated[int, Meta(ge=1, le=1)] | None = None

    def write(self) -> bytes:
        self.best_of = None
        return super().write()


_decode = decoder(CompletionBody)


def parse(body: bytes) -> tuple[Call, Content]:
    """Its shape and its words. Raises BadRequest that quotes nothing of it."""
    request = _decode(body)
    check_format(None, request.structured_outputs)
    call = request.call(
        "completions",
        prompts=count_prompts(request.prompt, "prompt", CHOICES_MAX),
        tokens_max=request.max_tokens or TOKENS_LEFT_OUT,
    )
    return call, Content(request)
