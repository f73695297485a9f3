"""The `input` of POST /v1/responses: items of a conversation, turned into messages of a chat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec
from msgspec import Struct

from appliance.errors import BadRequest
from appliance.gateway.schema.chat import (
    Assistant,
    Developer,
    ImagePart,
    ImageUrl,
    Message,
    System,
    TextPart,
    ToolResult,
    User,
)
from appliance.gateway.schema.fields import DROPPED, Id, Name, Part, Text
from appliance.gateway.schema.images import IMAGES_MAX, check_image
from appliance.gateway.schema.refusals import decoder
from appliance.gateway.schema.tools import CalledFunction, ToolCall


class InputText(Part, tag="input_text", tag_field="type"):
    text: Text
    prompt_cache_breakpoint: msgspec.Raw = DROPPED


class OutputText(Part, tag="output_text", tag_field="type"):
    text: Text
    annotations: msgspec.Raw = DROPPED
    logprobs: msgspec.Raw = DROPPED
    parsed: msgspec.Raw = DROPPED
    """OpenAI's Python SDK adds this to an answer, and applications send answers back as they are."""


class Refusal(Part, tag="refusal", tag_field="type"):
    refusal: Text


class InputImage(Part, tag="input_image", tag_field="type"):
    image_url: Text
    detail: Literal["low", "high", "auto", "original"] | None = None
    file_id: None = None
    prompt_cache_breakpoint: msgspec.Raw = DROPPED


class MessageItem(Part, tag="message", tag_field="type"):
    role: Literal["user", "assistant", "system", "developer"]
    content: Text | list[InputText | InputImage | OutputText | Refusal]
    id: msgspec.Raw = DROPPED
    status: msgspec.Raw = DROPPED
    phase: msgspec.Raw = DROPPED


class FunctionCallItem(Part, tag="function_call", tag_field="type"):
    call_id: Id
    name: Name
    arguments: Text
    id: msgspec.Raw = DROPPED
    status: msgspec.Raw = DROPPED
    caller: msgspec.Raw = DROPPED
    namespace: None = None
    parsed_arguments: msgspec.Raw = DROPPED
    background: msgspec.Raw = msgspec.field(default=DROPPED, name="async")
    async_: msgspec.Raw = DROPPED
    """As OpenAI's Python SDK writes `async` where it dumps an item; so with `parsed_arguments`."""


class FunctionCallOutputItem(Part, tag="function_call_output", tag_field="type"):
    call_id: Id
    output: Text | list[InputText]
    name: Name | None = None
    id: msgspec.Raw = DROPPED
    status: msgspec.Raw = DROPPED
    caller: msgspec.Raw = DROPPED
    namespace: None = None


Item = MessageItem | FunctionCallItem | FunctionCallOutputItem


def messages_of(instructions: str | None, items: str | list[msgspec.Raw]) -> tuple[list[Message], int]:
    """The messages, and how many images are in them. Raises BadRequest that quotes nothing of them."""
    messages: list[Message] = [System(content=instructions)] if instructions else []
    images = 0
    if isinstance(items, str):
        messages.append(User(content=items))
        return messages, images
    for at, raw in enumerate(items):
        item = _read(raw, at)
        if isinstance(item, MessageItem):
            images += _add_message(messages, item, at)
        elif isinstance(item, FunctionCallItem):
            _add_call(messages, item)
        elif item is not None:
            output = item.output
            content = output if isinstance(output, str) else [TextPart(text=part.text) for part in output]
            messages.append(ToolResult(content=content, tool_call_id=item.call_id))
    if images > IMAGES_MAX:
        raise BadRequest(
            f"`input` holds more than {IMAGES_MAX} images. Send fewer.", param="input", code="too_many_images"
        )
    if not messages:
        raise BadRequest("`input` holds no message. Send at least one.", param="input", code="invalid_value")
    return messages, images


def _add_message(messages: list[Message], item: MessageItem, at: int) -> int:
    """Returns the number of images."""
    if item.role == "user":
        content, images = _user_content(item, at)
        messages.append(User(content=content))
        return images
    texts = _texts(item, at)
    match item.role:
        case "assistant":
            messages.append(Assistant(content=texts if isinstance(texts, str) else [*texts]))
        case "system":
            messages.append(System(content=texts))
        case "developer":
            messages.append(Developer(content=texts))
    return 0


def _add_call(messages: list[Message], item: FunctionCallItem) -> None:
    """Calls of one turn stand in one message, with the words said before them: so templates know them."""
    call = ToolCall(id=item.call_id, function=CalledFunction(name=item.name, arguments=item.arguments))
    last = messages[-1] if messages else None
    if not isinstance(last, Assistant):
        messages.append(Assistant(tool_calls=[call]))
    elif last.tool_calls is None:
        last.tool_calls = [call]
    else:
        last.tool_calls.append(call)


def _user_content(item: MessageItem, at: int) -> tuple[str | list[TextPart | ImagePart], int]:
    """What a user said, and how many images are in it."""
    if isinstance(item.content, str):
        return item.content, 0
    parts = [_image(part, at) if isinstance(part, InputImage) else _text(part) for part in item.content]
    return parts, sum(isinstance(part, ImagePart) for part in parts)


def _texts(item: MessageItem, at: int) -> str | list[TextPart]:
    """What anybody else said."""
    if isinstance(item.content, str):
        return item.content
    texts: list[TextPart] = []
    for part in item.content:
        if isinstance(part, InputImage):
            raise BadRequest(
                "Pictures are taken from users only.", param=f"input[{at}]", code="unsupported_image"
            )
        texts.append(_text(part))
    return texts


def _text(part: InputText | OutputText | Refusal) -> TextPart:
    return TextPart(text=part.refusal if isinstance(part, Refusal) else part.text)


def _image(part: InputImage, at: int) -> ImagePart:
    check_image(part.image_url, f"input[{at}]")
    return ImagePart(image_url=ImageUrl(url=part.image_url))


class _Kind(Struct):
    type: str | None = "message"


_kind_of = decoder(_Kind)
_READERS: dict[str | None, Callable[[bytes], Item]] = {
    "message": decoder(MessageItem),
    "function_call": decoder(FunctionCallItem),
    "function_call_output": decoder(FunctionCallOutputItem),
}
_REFERENCE = (
    "Items are not stored here, so none can be referred to by its id. Send the items themselves in `input`."
)
_ITEM = "`input` has an item of a type that is not served here: only messages, function calls and their outputs are."
_PART = (
    "`input` has content of a type that is not taken there. "
    "Messages take input_text, output_text and input_image with a data: URL; outputs of functions take text."
)


def _read(raw: bytes, at: int) -> Item | None:
    """One item; None for what a model thought earlier, which no template wants back."""
    try:
        kind = _kind_of(raw).type
        if kind == "reasoning":
            return None
        read = _READERS.get(kind)
        if read is not None:
            return read(raw)
    except BadRequest as error:
        param = f"input[{at}].{error.param}" if error.param else f"input[{at}]"
        if param.endswith("].type"):
            raise BadRequest(_PART, param=f"input[{at}]", code="unsupported_content") from None
        raise BadRequest(
            f"In `input[{at}]`: {error}".replace("The body", "the item", 1),
            param=param,
            code=error.reason,
        ) from None
    text = _REFERENCE if kind in (None, "item_reference") else _ITEM
    raise BadRequest(text, param=f"input[{at}]", code="unsupported_item")
