"""POST /v1/chat/completions: every field a caller may send, and the body rebuilt from it for the engine."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from appliance.domain import Call
from appliance.errors import BadRequest
from appliance.gateway.schema.fields import DROPPED, Count, Id, Name, Part, Sampling, Text
from appliance.gateway.schema.formats import ResponseFormat, StructuredOutputs, check_format
from appliance.gateway.schema.images import IMAGES_MAX, check_image
from appliance.gateway.schema.refusals import decoder
from appliance.gateway.schema.tools import ToolCall, ToolChoice, Tools, check_tools, for_engine
from appliance.privacy.content import Content

SWITCHES_MAX = 16

SwitchName = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-z_]*\Z")]
SwitchWord = Annotated[str, Meta(max_length=64, pattern=r"^[A-Za-z0-9_.-]*\Z")]
SwitchNumber = Annotated[int, Meta(ge=-1_000_000_000, le=1_000_000_000)]
Switches = Annotated[dict[SwitchName, bool | SwitchNumber | SwitchWord], Meta(max_length=SWITCHES_MAX)]
"""Variables of the model's chat template. Which of them a model has is its own list's to say."""


class TextPart(Part, tag="text", tag_field="type"):
    text: Text


class RefusalPart(Part, tag="refusal", tag_field="type"):
    refusal: Text


class ImageUrl(Part):
    url: str
    detail: msgspec.Raw = DROPPED


class ImagePart(Part, tag="image_url", tag_field="type"):
    image_url: ImageUrl


class System(Part, tag="system", tag_field="role"):
    content: Text | list[TextPart]
    name: Name | None = None


class Developer(Part, tag="developer", tag_field="role"):
    content: Text | list[TextPart]
    name: Name | None = None


class User(Part, tag="user", tag_field="role"):
    content: Text | list[TextPart | ImagePart]
    name: Name | None = None


class Assistant(Part, tag="assistant", tag_field="role"):
    content: Text | list[TextPart | RefusalPart] | None = None
    name: Name | None = None
    tool_calls: list[ToolCall] | None = None
    refusal: Text | None = None
    reasoning: Text | None = None
    reasoning_content: Text | None = None
    annotations: msgspec.Raw = DROPPED
    audio: None = None
    function_call: None = None


class ToolResult(Part, tag="tool", tag_field="role"):
    content: Text | list[TextPart]
    tool_call_id: Id


Message = System | Developer | User | Assistant | ToolResult
Messages = Annotated[list[Message], Meta(min_length=1, max_length=10_000)]


class ChatBody(Sampling, kw_only=True):
    """POST /v1/chat/completions."""

    messages: Messages
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None

    structured_outputs: StructuredOutputs | None = None
    chat_template_kwargs: Switches | None = None
    include_reasoning: bool | None = None
    thinking_token_budget: Annotated[int, Meta(ge=-1, le=10_000_000)] | None = None

    modalities: list[Literal["text"]] | None = None
    prediction: msgspec.Raw = DROPPED
    verbosity: msgspec.Raw = DROPPED

    audio: None = None
    functions: None = None
    function_call: None = None
    web_search_options: None = None

    def write(self) -> bytes:
        self.modalities = None
        self.messages = messages_for_engine(self.messages)
        if self.tools or self.tool_choice:
            self.tools, self.tool_choice = for_engine(self.tools, self.tool_choice)
        return super().write()

    def check(self) -> None:
        """Raise BadRequest for what no single field shows."""
        if self.top_logprobs and not self.logprobs:
            raise BadRequest(
                "`top_logprobs` needs `logprobs` to be true.", param="top_logprobs", code="invalid_value"
            )
        if self.tools or self.tool_choice:
            check_tools(self.tools, self.tool_choice)
        if self.response_format or self.structured_outputs:
            check_format(self.response_format, self.structured_outputs)


_decode = decoder(ChatBody)


def parse(body: bytes) -> tuple[Call, Content]:
    """Its shape and its words. Raises BadRequest that quotes nothing of it."""
    request = _decode(body)
    request.check()
    call = request.call(
        "chat",
        tokens_max=request.max_completion_tokens or request.max_tokens,
        images=check_images(request.messages),
        switches=tuple(request.chat_template_kwargs or ()),
    )
    return call, Content(request)


def check_images(messages: list[Message]) -> int:
    """How many pictures there are. Raises BadRequest for too many, or one that is not acceptable."""
    images = [
        part.image_url
        for message in messages
        if isinstance(message, User) and isinstance(message.content, list)
        for part in message.content
        if isinstance(part, ImagePart)
    ]
    if len(images) > IMAGES_MAX:
        raise BadRequest(
            f"There are more than {IMAGES_MAX} pictures. Send fewer.",
            param="messages",
            code="too_many_images",
        )
    for image in images:
        check_image(image.url, "messages[].content[].image_url.url")
        image.detail = DROPPED
    return len(images)


def messages_for_engine(messages: list[Message]) -> list[Message]:
    """OpenAI's bookkeeping is dropped, `developer` is what templates call `system`, reasoning has vLLM's one name."""
    return [_for_engine(message) for message in messages]


def _for_engine(message: Message) -> Message:
    if isinstance(message, Developer):
        return System(content=message.content, name=message.name)
    if isinstance(message, Assistant):
        message.annotations = DROPPED
        message.reasoning = message.reasoning or message.reasoning_content
        message.reasoning_content = None
    return message
