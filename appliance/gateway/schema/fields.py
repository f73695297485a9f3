"""What the request bodies of several endpoints share: field types, sampling, and how a body is written for an engine.

Field names and ranges are OpenAI's (API reference, chat and completions); the second block of `Sampling` adds vLLM's.
"""

from __future__ import annotations

import functools
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from appliance.domain import Call
from appliance.errors import BadRequest

STOP_STRINGS_MAX = 4
CHOICES_MAX = 4
INPUTS_MAX = 2048
TOOLS_MAX = 64

Text = str
Stop = Annotated[str, Meta(min_length=1, max_length=64)]
Name = Annotated[str, Meta(max_length=64, pattern=r"^[A-Za-z0-9_-]*\Z")]
Id = Annotated[str, Meta(max_length=128)]
ModelName = Annotated[str, Meta(max_length=128)]
Count = Annotated[int, Meta(ge=1, le=10_000_000)]
TokenId = Annotated[int, Meta(ge=0, le=10_000_000)]
Truncation = Annotated[int, Meta(ge=-1, le=10_000_000)]
"""Tokens of a text that count; -1: as many as the model takes."""
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Bias = Annotated[float, Meta(ge=-100, le=100)]

DROPPED = msgspec.Raw()
"""What is accepted and not sent on: any JSON, of which nothing is built."""


class Part(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Base of everything nested: what is None or left out isn't sent on."""


class Body(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Base of the bodies that engines take: what is None, left out or dropped isn't sent on."""

    model: ModelName
    cache_salt: None = None
    user: msgspec.Raw = DROPPED

    def translator(self, request_id: str) -> None:  # noqa: ARG002  # the engine's answer is the caller's
        return None

    def encode(self, cache_salt: str) -> bytes:
        """JSON for the engine, with our salt: as a field, so that a large body is not copied to put it in."""
        msgspec.structs.force_setattr(self, "cache_salt", cache_salt)
        return self.write()

    def write(self) -> bytes:
        for name in dropped_fields(type(self)):
            setattr(self, name, DROPPED)
        try:
            return _encoder.encode(self)
        except RecursionError:
            raise BadRequest("The body is nested too deeply.", code="invalid_json") from None


class StreamOptions(Part):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    include_obfuscation: bool | None = None


class Sampling(Body, kw_only=True):
    """What chat and completions share. Fields of the last block are accepted and dropped."""

    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    n: Annotated[int, Meta(ge=1, le=CHOICES_MAX)] | None = None
    stop: Stop | Annotated[list[Stop], Meta(max_length=STOP_STRINGS_MAX)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Annotated[dict[TokenId, Bias], Meta(max_length=1024)] | None = None

    top_k: Annotated[int, Meta(ge=-1, le=1_000_000)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=2)] | None = None
    min_tokens: Annotated[int, Meta(ge=0, le=10_000_000)] | None = None
    ignore_eos: bool | None = None
    stop_token_ids: Annotated[list[TokenId], Meta(max_length=64)] | None = None
    bad_words: Annotated[list[Stop], Meta(max_length=16)] | None = None
    skip_special_tokens: bool | None = None
    include_stop_str_in_output: bool | None = None

    metadata: msgspec.Raw = DROPPED
    service_tier: msgspec.Raw = DROPPED
    store: msgspec.Raw = DROPPED
    safety_identifier: msgspec.Raw = DROPPED
    prompt_cache_key: msgspec.Raw = DROPPED
    prompt_cache_retention: msgspec.Raw = DROPPED

    def call(
        self,
        endpoint: Literal["chat", "completions"],
        *,
        tokens_max: int | None,
        prompts: int = 1,
        images: int = 0,
        switches: tuple[str, ...] = (),
    ) -> Call:
        """Its shape. `tokens_max` bounds one answer; None: the context does."""
        options = self.stream_options
        return Call(
            endpoint=endpoint,
            model=self.model,
            stream=bool(self.stream),
            include_usage=bool(options and options.include_usage),
            continuous_usage=bool(options and options.include_usage and options.continuous_usage_stats),
            choices=prompts * (self.n or 1),
            output_tokens_max=tokens_max,
            images=images,
            switches=switches,
        )

    def write(self) -> bytes:
        """As any body, with running usage always asked for."""
        self.stream_options = _ALL_USAGE if self.stream else None
        return super().write()


@functools.cache
def dropped_fields(kind: type[Struct]) -> tuple[str, ...]:
    """Names of those that may hold anything and are not sent on."""
    return tuple(field.name for field in msgspec.structs.fields(kind) if field.default is DROPPED)


def count_prompts(prompt: Text | list[Text | TokenId | list[TokenId]], param: str, prompts_max: int) -> int:
    """How many prompts there are in a text, several texts, token ids, or several lists of these.

    Raises BadRequest for too many, and where a list mixes them or has no tokens.
    """
    if isinstance(prompt, str):
        return 1
    kinds = set(map(type, prompt))
    if len(kinds) > 1 or [] in prompt:
        raise BadRequest(
            f"`{param}`: a list holds either texts, or token ids, or lists of token ids, none of them empty.",
            param=param,
            code="invalid_value",
        )
    prompts = 1 if int in kinds else len(prompt)
    if prompts > prompts_max:
        raise BadRequest(
            f"`{param}`: there are more than {prompts_max}. Send fewer at once.",
            param=param,
            code="invalid_value",
        )
    return prompts


_ALL_USAGE = StreamOptions(include_usage=True, continuous_usage_stats=True)
_encoder = msgspec.json.Encoder()
