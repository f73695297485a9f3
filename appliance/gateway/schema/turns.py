"""The turns of a conversation in Anthropic's words, and the chat messages they become."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from appliance.errors import BadRequest
from appliance.gateway.schema import chat
from appliance.gateway.schema.fields import DROPPED, Id, Part, Text
from appliance.gateway.schema.images import IMAGES_MAX, check_image
from appliance.gateway.schema.tools import CalledFunction, ToolCall

ToolName = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_-]*\Z")]
"""Anthropic's limit: twice OpenAI's, and names of MCP tools use it."""


class TextBlock(Part, tag="text", tag_field="type"):
    text: Text
    cache_control: msgspec.Raw = DROPPED
    citations: msgspec.Raw = DROPPED


class Base64Source(Part, tag="base64", tag_field="type"):
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: Text


class UrlSource(Part, tag="url", tag_field="type", forbid_unknown_fields=False):
    """Known only to be refused with a reason."""


class FileSource(Part, tag="file", tag_field="type", forbid_unknown_fields=False):
    """Known only to be refused with a reason."""


class ImageBlock(Part, tag="image", tag_field="type"):
    source: Base64Source | UrlSource | FileSource
    cache_control: msgspec.Raw = DROPPED
    transformations: msgspec.Raw = DROPPED


class DocumentBlock(Part, tag="document", tag_field="type", forbid_unknown_fields=False):
    """Known only to be refused with a reason."""


class ToolResultBlock(Part, tag="tool_result", tag_field="type"):
    tool_use_id: Id
    content: Text | list[TextBlock | ImageBlock | DocumentBlock] | None = None
    is_error: bool | None = None
    cache_control: msgspec.Raw = DROPPED
    toolset_name: msgspec.Raw = DROPPED


class ToolUseBlock(Part, tag="tool_use", tag_field="type"):
    id: Id
    name: ToolName
    input: dict[str, Any]
    cache_control: msgspec.Raw = DROPPED
    caller: msgspec.Raw = DROPPED
    toolset_name: msgspec.Raw = DROPPED


class ThinkingBlock(Part, tag="thinking", tag_field="type"):
    """Dropped: templates take no earlier thoughts."""

    thinking: msgspec.Raw = DROPPED
    signature: msgspec.Raw = DROPPED


class RedactedThinkingBlock(Part, tag="redacted_thinking", tag_field="type"):
    """Dropped: only Anthropic can read it."""

    data: msgspec.Raw = DROPPED


class UserTurn(Part, tag="user", tag_field="role"):
    content: (
        Text | Annotated[list[TextBlock | ImageBlock | DocumentBlock | ToolResultBlock], Meta(min_length=1)]
    )


class AssistantTurn(Part, tag="assistant", tag_field="role"):
    content: Text | list[TextBlock | ToolUseBlock | ThinkingBlock | RedactedThinkingBlock]


class SystemTurn(Part, tag="system", tag_field="role"):
    content: Text | list[TextBlock]


Turn = UserTurn | AssistantTurn | SystemTurn


_Parts = list[chat.TextPart | chat.ImagePart]

_BILLING = "x-anthropic-billing-header"
"""Begins a block that Claude Code puts first, with a hash of each request: it would make every prompt a new one."""


def translate(system: Text | list[TextBlock] | None, turns: list[Turn]) -> tuple[list[chat.Message], int]:
    """The chat messages that say the same, and how many images are in them.

    Turns of the same side that follow each other become one, as Anthropic says they do. System turns join the
    system prompt: many templates take one only at the start. Raises BadRequest.
    """
    system_texts = _system_texts(system)
    conversation = _Conversation()
    for turn in turns:
        if isinstance(turn, UserTurn):
            conversation.user(turn)
        elif isinstance(turn, AssistantTurn):
            conversation.assistant(turn)
        else:
            system_texts += _system_texts(turn.content)
    messages = conversation.end()
    if system_texts:
        messages.insert(0, chat.System(content="\n".join(system_texts)))
    return messages, conversation.images


class _Conversation:
    """The messages so far, and what the side that speaks has said since the other one did."""

    def __init__(self) -> None:
        self.images = 0
        self._messages: list[chat.Message] = []
        self._parts: _Parts = []
        self._texts: list[str] = []
        self._calls: list[ToolCall] = []
        self._assistant_speaks = False

    def user(self, turn: UserTurn) -> None:
        if self._assistant_speaks:
            self._end_assistant()
        content = turn.content
        if isinstance(content, str):
            self._parts.append(chat.TextPart(text=content))
            return
        for block in content:
            if isinstance(block, ToolResultBlock):
                self._tool_result(block)
            else:
                self._parts.append(self._part(block))

    def assistant(self, turn: AssistantTurn) -> None:
        self._end_user()
        self._assistant_speaks = True
        content = turn.content
        if isinstance(content, str):
            self._texts.append(content)
            return
        for block in content:
            if isinstance(block, TextBlock):
                self._texts.append(block.text)
            elif isinstance(block, ToolUseBlock):
                arguments = msgspec.json.encode(block.input).decode()
                function = CalledFunction(name=block.name, arguments=arguments)
                self._calls.append(ToolCall(id=block.id, function=function))

    def end(self) -> list[chat.Message]:
        self._end_user()
        if self._assistant_speaks:
            self._end_assistant()
        return self._messages

    def _end_assistant(self) -> None:
        content = "\n".join(self._texts)
        self._messages.append(
            chat.Assistant(content=content, tool_calls=self._calls)
            if self._calls
            else chat.Assistant(content=content)
        )
        self._texts, self._calls, self._assistant_speaks = [], [], False

    def _end_user(self) -> None:
        if self._parts:
            self._messages.append(chat.User(content=_joined(self._parts)))
            self._parts = []

    def _tool_result(self, block: ToolResultBlock) -> None:
        """A message of its own, ahead of the user's words. A chat's tool says only text: its images go to the user."""
        content = block.content or ""
        if not isinstance(content, str):
            parts = [self._part(inner) for inner in content]
            content = "\n".join(part.text for part in parts if isinstance(part, chat.TextPart))
            self._parts += [part for part in parts if isinstance(part, chat.ImagePart)]
        if block.is_error:
            content = f"Error: {content}"
        self._messages.append(chat.ToolResult(content=content, tool_call_id=block.tool_use_id))

    def _part(self, block: TextBlock | ImageBlock | DocumentBlock) -> chat.TextPart | chat.ImagePart:
        if isinstance(block, TextBlock):
            return chat.TextPart(text=block.text)
        if isinstance(block, DocumentBlock):
            raise BadRequest(
                "Documents are not supported here. Send their text.",
                param="messages",
                code="unsupported_value",
            )
        source = block.source
        if not isinstance(source, Base64Source):
            raise BadRequest(
                "Images are taken only as a base64 source: this appliance fetches nothing. Send the image itself.",
                param="messages",
                code="unsupported_value",
            )
        self.images += 1
        if self.images > IMAGES_MAX:
            raise BadRequest(
                f"There are more than {IMAGES_MAX} images. Send fewer.",
                param="messages",
                code="too_many_images",
            )
        url = f"data:{source.media_type};base64,{source.data}"
        check_image(url, "messages")
        return chat.ImagePart(image_url=chat.ImageUrl(url=url))


def _system_texts(content: Text | list[TextBlock] | None) -> list[str]:
    if isinstance(content, str):
        content = [TextBlock(text=content)]
    return [block.text for block in content or () if block.text and not block.text.startswith(_BILLING)]


def _joined(parts: _Parts) -> Text | _Parts:
    """One text where there are only texts: templates differ in what they make of a list."""
    texts = [part.text for part in parts if isinstance(part, chat.TextPart)]
    return "\n".join(texts) if len(texts) == len(parts) else parts
