"""The typed allow-list: every field a caller may send, and the body rebuilt from it for the engine.

Field names and ranges are OpenAI's (API reference, chat and completions); `_Sampling` adds vLLM's.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from appliance.domain import Call
from appliance.errors import BadRequest
from appliance.privacy.content import Content

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

_DROPPED = msgspec.Raw()
"""What is accepted and not sent on: any JSON, of which nothing is built."""


class _Part(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Base of everything nested: what is None or left out isn't sent on."""


class TextPart(_Part, tag="text", tag_field="type"):
    text: Text


class CalledFunction(_Part):
    name: Name
    arguments: Text


class ToolCall(_Part, tag="function", tag_field="type"):
    id: Id
    function: CalledFunction


class System(_Part, tag="system", tag_field="role"):
    content: Text | list[TextPart]
    name: Name | None = None


class Developer(_Part, tag="developer", tag_field="role"):
    content: Text | list[TextPart]
    name: Name | None = None


class User(_Part, tag="user", tag_field="role"):
    content: Text | list[TextPart]
    name: Name | None = None


class Assistant(_Part, tag="assistant", tag_field="role"):
    content: Text | list[TextPart] | None = None
    name: Name | None = None
    tool_calls: list[ToolCall] | None = None
    refusal: Text | None = None
    annotations: msgspec.Raw = _DROPPED
    audio: None = None
    function_call: None = None
    reasoning: msgspec.Raw = _DROPPED
    reasoning_content: msgspec.Raw = _DROPPED


class ToolResult(_Part, tag="tool", tag_field="role"):
    content: Text | list[TextPart]
    tool_call_id: Id


Message = System | Developer | User | Assistant | ToolResult


class FunctionSchema(_Part):
    name: Name
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(_Part, tag="function", tag_field="type"):
    function: FunctionSchema


class NamedFunction(_Part):
    name: Name


class NamedToolChoice(_Part, tag="function", tag_field="type"):
    function: NamedFunction


class JsonSchema(_Part):
    name: Name
    description: Text | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class TextFormat(_Part, tag="text", tag_field="type"):
    pass


class JsonObjectFormat(_Part, tag="json_object", tag_field="type"):
    pass


class JsonSchemaFormat(_Part, tag="json_schema", tag_field="type"):
    json_schema: JsonSchema


class StreamOptions(_Part):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    include_obfuscation: bool | None = None


class _Sampling(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
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

    user: msgspec.Raw = _DROPPED
    metadata: msgspec.Raw = _DROPPED
    service_tier: msgspec.Raw = _DROPPED
    store: msgspec.Raw = _DROPPED
    safety_identifier: msgspec.Raw = _DROPPED
    prompt_cache_key: msgspec.Raw = _DROPPED
    prompt_cache_retention: msgspec.Raw = _DROPPED

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
        self.user = self.metadata = self.service_tier = self.store = _DROPPED
        self.safety_identifier = self.prompt_cache_key = self.prompt_cache_retention = _DROPPED
        self.stream_options = _ALL_USAGE if self.stream else None
        try:
            body = _encoder.encode(self)
        except RecursionError:
            raise BadRequest("The body is nested too deeply.", code="invalid_json") from None
        return b'%b,"cache_salt":"%b"}' % (body[:-1], cache_salt.encode())


class ChatBody(_Sampling, kw_only=True):
    """POST /v1/chat/completions."""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=10_000)]
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: Annotated[list[Tool], Meta(max_length=TOOLS_MAX)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: TextFormat | JsonObjectFormat | JsonSchemaFormat | None = None

    modalities: msgspec.Raw = _DROPPED
    prediction: msgspec.Raw = _DROPPED
    reasoning_effort: msgspec.Raw = _DROPPED
    verbosity: msgspec.Raw = _DROPPED

    def encode(self, cache_salt: str) -> bytes:
        self.modalities = self.prediction = self.reasoning_effort = self.verbosity = _DROPPED
        self.messages = [_for_engine(message) for message in self.messages]
        return super().encode(cache_salt)


class CompletionBody(_Sampling, kw_only=True):
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


_ALL_USAGE = StreamOptions(include_usage=True, continuous_usage_stats=True)
_encoder = msgspec.json.Encoder()
_decode_chat = msgspec.json.Decoder(ChatBody).decode
_decode_completion = msgspec.json.Decoder(CompletionBody).decode


def parse_chat(body: bytes) -> tuple[Call, Content]:
    """Body of /v1/chat/completions -> its shape and its words. Raises BadRequest that quotes nothing of it."""
    try:
        request = _decode_chat(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise _refusal(error) from None
    return request.call("chat"), Content(request)


def parse_completion(body: bytes) -> tuple[Call, Content]:
    """Body of /v1/completions -> its shape and its words. Raises BadRequest that quotes nothing of it."""
    try:
        request = _decode_completion(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise _refusal(error) from None
    return request.call("completions"), Content(request)


def _for_engine(message: Message) -> Message:
    """The message with OpenAI's bookkeeping dropped; `developer` is what templates call `system`."""
    if type(message) is Developer:
        return System(content=message.content, name=message.name)
    if type(message) is Assistant:
        message.annotations = message.reasoning = message.reasoning_content = _DROPPED
    return message


_PATH = re.compile(r" - at `\$((?:\.[a-z_]+|\[(?:\.\.\.|\d{1,9})\])*)`$")
_TYPES = re.compile(r"^Expected `[a-z| ]+`(?:, got `[a-z]+`| (?:of length )?[<>]=? [0-9.e+-]+)?(?= - at |$)")
_MISSING = re.compile(r"^Object missing required field `[a-z_]+`(?= - at |$)")
_NULL_KEYS = frozenset({"cache_salt", "suffix", "audio", "function_call"})


def _refusal(error: Exception) -> BadRequest:
    """msgspec's complaint in words that hold type names, limits and field names of ours, and nothing of the body."""
    text = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return BadRequest("The body is not valid JSON.", code="invalid_json")
    found = _PATH.search(text)
    param = found[1].removeprefix(".").replace("[...]", "[]") if found else None
    where = f"`{param}`" if param else "The body"
    if text.startswith("Object contains unknown field"):
        return BadRequest(
            f"{where} has a field that this API does not have. Remove it.", param=param, code="unknown_field"
        )
    if param and param.rpartition(".")[2] in _NULL_KEYS:
        return BadRequest(f"{where} is not supported here. Remove it.", param=param, code="unsupported_field")
    for shape in (_TYPES, _MISSING):
        if kept := shape.match(text):
            return BadRequest(
                f"{where}: {kept[0][0].lower()}{kept[0][1:]}.", param=param, code="invalid_value"
            )
    return BadRequest(f"{where} has a value that is not allowed.", param=param, code="invalid_value")
