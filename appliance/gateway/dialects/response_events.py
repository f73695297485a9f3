"""The events of a streamed response, as OpenAI's Responses API names them."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from appliance.gateway.dialects.response_items import Item, Logprob, OutputText, ReasoningText


class Event(Struct, tag_field="type", kw_only=True):
    sequence_number: int = 0


class Created(Event, tag="response.created"):
    response: msgspec.Raw


class InProgress(Event, tag="response.in_progress"):
    response: msgspec.Raw


class Completed(Event, tag="response.completed"):
    response: msgspec.Raw


class Incomplete(Event, tag="response.incomplete"):
    response: msgspec.Raw


class Failed(Event, tag="response.failed"):
    response: msgspec.Raw


class Error(Event, tag="error"):
    """The protocol has code, message and param beside the type; OpenAI's SDKs raise only where `error` is an object."""

    code: str
    message: str
    param: str | None
    error: dict[str, str | None]


class ItemAdded(Event, tag="response.output_item.added"):
    output_index: int
    item: Item


class ItemDone(Event, tag="response.output_item.done"):
    output_index: int
    item: Item


class PartEvent(Event, kw_only=True):
    item_id: str
    output_index: int
    content_index: int = 0
    """Every item of ours has one part."""


class PartAdded(PartEvent, tag="response.content_part.added"):
    part: OutputText | ReasoningText


class PartDone(PartEvent, tag="response.content_part.done"):
    part: OutputText | ReasoningText


class TextDelta(PartEvent, tag="response.output_text.delta"):
    delta: str
    logprobs: list[Logprob]


class TextDone(PartEvent, tag="response.output_text.done"):
    text: str
    logprobs: list[Logprob]


class ReasoningDelta(PartEvent, tag="response.reasoning_text.delta"):
    delta: str


class ReasoningDone(PartEvent, tag="response.reasoning_text.done"):
    text: str


class ArgumentsDelta(Event, tag="response.function_call_arguments.delta"):
    item_id: str
    output_index: int
    delta: str


class ArgumentsDone(Event, tag="response.function_call_arguments.done"):
    item_id: str
    output_index: int
    name: str
    arguments: str


_encode = msgspec.json.Encoder().encode
_LINES = {
    kind: b"event: %b\ndata: " % str(kind.__struct_config__.tag).encode()
    for base in (Event, PartEvent)
    for kind in base.__subclasses__()
}


class EventWriter:
    """Numbers the events of one stream and gathers them until they are taken."""

    __slots__ = ("_pieces", "_sequence")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._sequence = 0

    def put(self, event: Event) -> None:
        event.sequence_number = self._sequence
        self._sequence += 1
        self._pieces += (_LINES[type(event)], _encode(event), b"\n\n")

    def take(self) -> bytes:
        """What was put since the last time."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)
