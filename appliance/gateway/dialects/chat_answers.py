"""An engine's chat answer, as far as other protocols tell of it (vLLM, entrypoints/openai/chat_completion)."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import Struct, field


class Function(Struct):
    name: str | None = None
    arguments: str | None = None


class ToolCall(Struct):
    """A whole call, or a piece of one: then only its first piece has an id and a name."""

    id: str | None = None
    index: int = 0
    function: Function = field(default_factory=Function)


class Said(Struct):
    """What vLLM calls a delta in a stream, and a message in a whole answer."""

    content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCall] = []


class _Choice(Struct, kw_only=True):
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    """The stop string that ended it; a number is a token's."""


class StreamChoice(_Choice, kw_only=True):
    delta: Said


class Choice(_Choice, kw_only=True):
    message: Said


class Usage(Struct):
    prompt_tokens: int
    completion_tokens: int | None = None


class Chunk(Struct):
    """An event of a stream. The last one has no choices."""

    model: str
    choices: list[StreamChoice]
    usage: Usage | None = None


class Answer(Struct):
    model: str
    choices: list[Choice]
    usage: Usage


class Count(Struct):
    """The answer of /tokenize."""

    count: int


def read_event(event: bytes) -> Chunk:
    """The chunk of one whole server-sent event."""
    if not event.startswith(_DATA):
        raise ValueError("the engine's event has no data")
    return _read(_decode_chunk, event[len(_DATA) :])


def read_answer(body: bytes) -> Answer:
    answer = _read(_decode_answer, body)
    if len(answer.choices) != 1:
        raise ValueError("the engine's answer has not one choice")
    return answer


def read_count(body: bytes) -> int:
    return _read(_decode_count, body).count


def read_arguments(arguments: str | None) -> dict[str, Any]:
    """What a tool is called with. None or no text is a call without arguments."""
    return _read(_decode_arguments, (arguments or "{}").encode())


_DATA = b"data: "
_decode_chunk = msgspec.json.Decoder(Chunk)
_decode_answer = msgspec.json.Decoder(Answer)
_decode_count = msgspec.json.Decoder(Count)
_decode_arguments = msgspec.json.Decoder(dict[str, Any])
_Shape = TypeVar("_Shape")


def _read(decoder: msgspec.json.Decoder[_Shape], data: bytes) -> _Shape:
    """Raises ValueError that quotes nothing, where msgspec's own would."""
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise ValueError("the engine's answer is not of the shape it should have") from None
