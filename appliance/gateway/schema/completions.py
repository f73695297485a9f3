"""POST /v1/completions: every field a caller may send."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from appliance.domain import Call
from appliance.gateway.schema.fields import CHOICES_MAX, Count, Sampling, Text
from appliance.gateway.schema.refusals import decoder
from appliance.privacy.content import Content


class CompletionBody(Sampling, kw_only=True):
    """POST /v1/completions."""

    prompt: Text | Annotated[list[Text], Meta(min_length=1, max_length=CHOICES_MAX)]
    max_tokens: Count | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    suffix: None = None
    best_of: Annotated[int, Meta(ge=1, le=1)] | None = None

    def encode(self, cache_salt: str) -> bytes:
        self.best_of = None
        return super().encode(cache_salt)


_decode = decoder(CompletionBody)


def parse(body: bytes) -> tuple[Call, Content]:
    """Its shape and its words. Raises BadRequest that quotes nothing of it."""
    request = _decode(body)
    return request.call("completions"), Content(request)
