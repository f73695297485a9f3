"""Output items while they are being told: each opens with its events, takes deltas, and closes with the whole."""

from __future__ import annotations

from appliance.gateway.dialects import response_events as events
from appliance.gateway.dialects.response_items import (
    FunctionCall,
    ItemStatus,
    Logprob,
    Message,
    OutputText,
    Reasoning,
    ReasoningText,
)


class OpenText:
    """A message with one part of text."""

    __slots__ = ("_at", "_item", "_logprobs", "_pieces")

    def __init__(self, stream: events.EventWriter, item: Message, at: int) -> None:
        """`at` is the item's place in the output."""
        self._item = item
        self._at = at
        self._pieces: list[str] = []
        self._logprobs: list[Logprob] = []
        stream.put(events.ItemAdded(output_index=at, item=item))
        stream.put(events.PartAdded(item_id=item.id, output_index=at, part=OutputText("", [])))

    def add(self, stream: events.EventWriter, text: str, logprobs: list[Logprob]) -> None:
        self._pieces.append(text)
        self._logprobs += logprobs
        stream.put(
            events.TextDelta(item_id=self._item.id, output_index=self._at, delta=text, logprobs=logprobs)
        )

    def settle(self, status: ItemStatus) -> OutputText:
        """Write what was said into the item."""
        part = OutputText("".join(self._pieces), self._logprobs)
        self._item.content = [part]
        self._item.status = status
        return part

    def close(self, stream: events.EventWriter, status: ItemStatus) -> None:
        part = self.settle(status)
        item_id, at = self._item.id, self._at
        stream.put(events.TextDone(item_id=item_id, output_index=at, text=part.text, logprobs=part.logprobs))
        stream.put(events.PartDone(item_id=item_id, output_index=at, part=part))
        stream.put(events.ItemDone(output_index=at, item=self._item))


class OpenReasoning:
    """What a model thinks before it answers, as one part."""

    __slots__ = ("_at", "_item", "_pieces")

    def __init__(self, stream: events.EventWriter, item: Reasoning, at: int) -> None:
        self._item = item
        self._at = at
        self._pieces: list[str] = []
        stream.put(events.ItemAdded(output_index=at, item=item))
        stream.put(events.PartAdded(item_id=item.id, output_index=at, part=ReasoningText("")))

    def add(self, stream: events.EventWriter, text: str) -> None:
        self._pieces.append(text)
        stream.put(events.ReasoningDelta(item_id=self._item.id, output_index=self._at, delta=text))

    def settle(self, status: ItemStatus) -> ReasoningText:
        part = ReasoningText("".join(self._pieces))
        self._item.content = [part]
        self._item.status = status
        return part

    def close(self, stream: events.EventWriter, status: ItemStatus) -> None:
        part = self.settle(status)
        item_id, at = self._item.id, self._at
        stream.put(events.ReasoningDone(item_id=item_id, output_index=at, text=part.text))
        stream.put(events.PartDone(item_id=item_id, output_index=at, part=part))
        stream.put(events.ItemDone(output_index=at, item=self._item))


class OpenCall:
    """A call of one of the caller's functions."""

    __slots__ = ("_at", "_item", "_pieces", "number")

    def __init__(self, stream: events.EventWriter, item: FunctionCall, at: int, number: int) -> None:
        """`number` is the engine's: its deltas name the call by it."""
        self._item = item
        self._at = at
        self._pieces: list[str] = []
        self.number = number
        stream.put(events.ItemAdded(output_index=at, item=item))

    def add(self, stream: events.EventWriter, arguments: str) -> None:
        self._pieces.append(arguments)
        stream.put(events.ArgumentsDelta(item_id=self._item.id, output_index=self._at, delta=arguments))

    def settle(self, status: ItemStatus) -> str:
        self._item.arguments = "".join(self._pieces)
        self._item.status = status
        return self._item.arguments

    def close(self, stream: events.EventWriter, status: ItemStatus) -> None:
        arguments = self.settle(status)
        item = self._item
        stream.put(
            events.ArgumentsDone(item_id=item.id, output_index=self._at, name=item.name, arguments=arguments)
        )
        stream.put(events.ItemDone(output_index=self._at, item=item))
