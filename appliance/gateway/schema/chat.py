"""POST /v1/chat/completions: every field a caller may send, and the body rebuilt from it for the engine."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from appliance.domain import Call
from appliance.gateway.schema.fields import DROPPED, TOOLS_MAX, Count, Id, Name, Part, Sampling, Text
from appliance.gateway.schema.refusals import decoder
from appliance.privacy.content import Content


class TextPart(Part, tag="text", tag_field="type"):
    text: Text


class CalledFunction(Part):
    name: Name
    arguments: Text


class ToolCall(Part, tag="function", tag_field="type"):
    id: Id
    function: CalledFunction


class System(Part, tag="system", tag_field="role"):
    content: Text | list[TextPart]
    name: Name | None = None


class Developer(Part, tag="developer", tag_field="role"):
    content: Text | list[TextPart]
    name: Name | None = None


class User(Part, tag="user", tag_field="role"):
    content: Text | list[TextPart]
    name: Name | None = None


class Assistant(Part, tag="assistant", tag_field="role"):
    content: Text | list[TextPart] | None = None
    name: Name | None = None
    tool_calls: list[ToolCall] | None = None
    refusal: Text | None = None
    annotations: msgspec.Raw = DROPPED
    audio: None = None
    function_call: None = None
    reasoning: msgspec.Raw = DROPPED
    reasoning_content: msgspec.Raw = DROPPED


class ToolResult(Part, tag="tool", tag_field="role"):
    content: Text | list[TextPart]
    tool_call_id: Id


Message = System | Developer | User | Assistant | ToolResult


class FunctionSchema(Part):
    name: Name
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Part, tag="function", tag_field="type"):
    function: FunctionSchema


class NamedFunction(Part):
    name: Name


class NamedToolChoice(Part, tag="function", tag_field="type"):
    function: NamedFunction


class JsonSchema(Part):
    name: Name
    description: Text | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class TextFormat(Part, tag="text", tag_field="type"):
    pass


class JsonObjectFormat(Part, tag="json_object", tag_field="type"):
    pass


class JsonSchemaFormat(Part, tag="json_schema", tag_field="type"):
    json_schema: JsonSchema


class ChatBody(Sampling, kw_only=True):
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

    modalities: msgspec.Raw = DROPPED
    prediction: msgspec.Raw = DROPPED
    reasoning_effort: msgspec.Raw = DROPPED
    verbosity: msgspec.Raw = DROPPED

    def encode(self, cache_salt: str) -> bytes:
        self.modalities = self.prediction = self.reasoning_effort = self.verbosity = DROPPED
        self.messages = [_for_engine(message) for message in self.messages]
        return super().encode(cache_salt)


_decode = decoder(ChatBody)


def parse(body: bytes) -> tuple[Call, Content]:
    """Its shape and its words. Raises BadRequest that quotes nothing of it."""
    request = _decode(body)
    return request.call("chat"), Content(request)


def _for_engine(message: Message) -> Message:
    """The message with OpenAI's bookkeeping dropped; `developer` is what templates call `system`."""
    if type(message) is Developer:
        return System(content=message.content, name=message.name)
    if type(message) is Assistant:
        message.annotations = message.reasoning = message.reasoning_content = DROPPED
    return message
