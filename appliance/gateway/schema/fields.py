"""What the request bodies of several endpoints share: field types, sampling, and how a body is written for an engine.

Field names and ranges are OpenAI's (API reference, chat and completions); the second block of `Sampling` adds vLLM's.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from appliance.domain import Call
from appliance.errors import BadRequest

STOP_STRINGS_MAX = 4
CHOICES_MAX = 4
TOOLS_MAX = 64

Text = str
Stop = Annotated[str, Meta(min_length=1, max_length=64)]
Name = Annotated[str, Meta(max_length=64, pattern=r"^[A-Za-z0-9_-]*$")]
Id = Annotated[str, Meta(max_length=128)]
ModelName = Annotated[str, Meta(max_length=128)]
Count = Annotated[int, Meta(ge=1, le=10_000_000)]
TokenId = Annotated[int, Meta(ge=0, le=10_000_000)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]

DROPPED = msgspec.Raw()
"""What is accepted and not sent on: any JSON, of which nothing is built."""


class Part(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Base of everything nested: what is None or left out isn't sent on."""


class StreamOptions(Part):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    include_obfuscation: bool | None = None


class Sampling(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What chat and completions share. Fields of the last block are accepted and dropped."""

    model: ModelName
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    n: Annotated[int, Meta(ge=1, le=CHOICES_MAX)] | None = None
    stop: Stop | Annotated[list[Stop], Meta(max_length=STOP_STRINGS_MAX)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[TokenId, Annotated[float, Meta(ge=-100, le=100)]] | None = None

    top_k: Annotated[int, Meta(ge=-1, le=1_000_000)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=2)] | None = None
    min_tokens: Annotated[int, Meta(ge=0, le=10_000_000)] | None = None
    ignore_eos: bool | None = None
    stop_token_ids: Annotated[list[TokenId], Meta(max_length=64)] | None = None
    skip_special_tokens: bool | None = None
    include_stop_str_in_output: bool | None = None

    cache_salt: None = None

    user: msgspec.Raw = DROPPED
    metadata: msgspec.Raw = DROPPED
    service_tier: msgspec.Raw = DROPPED
    store: msgspec.Raw = DROPPED
    safety_identifier: msgspec.Raw = DROPPED
    prompt_cache_key: msgspec.Raw = DROPPED
    prompt_cache_retention: msgspec.Raw = DROPPED

    def translator(self, request_id: str) -> None:  # noqa: ARG002  # the engine's answer is the caller's
        return None

    def call(self, endpoint: Literal["chat", "completions"]) -> Call:
        options = self.stream_options
        return Call(
            endpoint=endpoint,
            model=self.model,
            stream=bool(self.stream),
            include_usage=bool(options and options.include_usage),
            continuous_usage=bool(options and options.include_usage and options.continuous_usage_stats),
        )

    def encode(self, cache_salt: str) -> bytes:
        """JSON for the engine: what means nothing there is dropped, running usage is always asked for."""
        self.user = self.metadata = self.service_tier = self.store = DROPPED
        self.safety_identifier = self.prompt_cache_key = self.prompt_cache_retention = DROPPED
        self.stream_options = _ALL_USAGE if self.stream else None
        try:
            body = _encoder.encode(self)
        except RecursionError:
            raise BadRequest("The body is nested too deeply.", code="invalid_json") from None
        return b'%b,"cache_salt":"%b"}' % (body[:-1], cache_salt.encode())


_ALL_USAGE = StreamOptions(include_usage=True, continuous_usage_stats=True)
_encoder = msgspec.json.Encoder()
