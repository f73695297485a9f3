"""An engine's chat answer as OpenAI's Responses API tells it, streamed and whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar

import msgspec
from msgspec import Struct

from appliance.errors import RequestError
from appliance.gateway import answers
from appliance.gateway.dialects import response_events as events
from appliance.gateway.dialects.response_items import (
    Echo,
    Failure,
    FunctionCall,
    Item,
    ItemStatus,
    Logprob,
    Message,
    OutputDetails,
    OutputText,
    Reasoning,
    ReasoningText,
    ResponseWriter,
    Usage,
)
from appliance.gateway.dialects.response_runs import OpenCall, OpenReasoning, OpenText


class ResponsesTranslator:
    """One request's answer. Text or reasoning is open one at a time, and beside it one function call."""

    __slots__ = (
        "_call",
        "_engine_usage",
        "_events",
        "_output",
        "_request_id",
        "_response",
        "_status",
        "_text",
    )

    def __init__(self, request_id: str, echo: Echo) -> None:
        self._request_id = request_id
        self._response = ResponseWriter(request_id, echo)
        self._events: events.EventWriter | None = None
        self._output: list[Item] = []
        self._text: OpenText | OpenReasoning | None = None
        self._call: OpenCall | None = None
        self._engine_usage: _EngineUsage | None = None
        self._status: _End | None = None

    def event(self, event: bytes) -> bytes:
        chunk = _read(_decode_chunk, event[_DATA_BYTES:])
        stream = self._begin()
        if chunk.usage is not None:
            self._engine_usage = chunk.usage
        for choice in chunk.choices:
            self._tell(stream, choice)
        return stream.take()

    def end(self) -> bytes:
        stream = self._begin()
        if self._status is None or self._engine_usage is None:
            raise ValueError("The engine's stream ended without a reason or without usage.")
        if not self._output:
            self._open_text(stream)
        self._close_text(stream, self._status)
        self._close_call(stream, self._status)
        response = msgspec.Raw(
            self._response.write(self._status, self._output, _usage_of(self._engine_usage))
        )
        kind = events.Completed if self._status == "completed" else events.Incomplete
        stream.put(kind(response=response))
        return stream.take()

    def fail(self, error: RequestError) -> bytes:
        """What the protocol says of a failed response, then an event that OpenAI's SDKs raise as an APIError."""
        stream = self._begin()
        for part in (self._text, self._call):
            if part is not None:
                part.settle("incomplete")
        usage = None if self._engine_usage is None else _usage_of(self._engine_usage)
        response = self._response.write("failed", self._output, usage, Failure.of(error))
        stream.put(events.Failed(response=msgspec.Raw(response)))
        told = answers.error_object(error)
        stream.put(events.Error(code=error.reason, message=str(error), param=error.param, error=told))
        return stream.take()

    def whole(self, body: bytes) -> bytes:
        completion = _read(_decode_completion, body)
        if len(completion.choices) != 1:
            raise ValueError("The engine's answer does not have one choice.")
        choice = completion.choices[0]
        said = choice.message
        status = _end_of(choice.finish_reason)
        if thought := said.reasoning or said.reasoning_content:
            self._output.append(Reasoning(self._new_id("rs"), "completed", content=[ReasoningText(thought)]))
        if said.content or not (self._output or said.tool_calls):
            # vLLM's list covers every token of the answer; beside anything but text it would not fit the text.
            alone = not (self._output or said.tool_calls)
            part = OutputText(said.content or "", _logprobs_of(choice.logprobs) if alone else [])
            self._output.append(Message(self._new_id("msg"), "completed", content=[part]))
        for number, call in enumerate(said.tool_calls or ()):
            self._output.append(self._new_call(call, number, "completed"))
        if status == "incomplete":
            self._output[-1].status = "incomplete"
        return self._response.write(status, self._output, _usage_of(completion.usage))

    def _begin(self) -> events.EventWriter:
        """The writer of this stream's events; the first time, with what every stream begins with."""
        if self._events is None:
            self._events = events.EventWriter()
            response = msgspec.Raw(self._response.write("in_progress", [], None))
            self._events.put(events.Created(response=response))
            self._events.put(events.InProgress(response=response))
        return self._events

    def _tell(self, stream: events.EventWriter, choice: _StreamChoice) -> None:
        delta = choice.delta
        if thought := delta.reasoning or delta.reasoning_content:
            run = self._text if isinstance(self._text, OpenReasoning) else self._open_reasoning(stream)
            run.add(stream, thought)
        if delta.content or (delta.content is not None and choice.logprobs is not None):
            run = self._text if isinstance(self._text, OpenText) else self._open_text(stream)
            run.add(stream, delta.content, _logprobs_of(choice.logprobs))
        for call in delta.tool_calls or ():
            self._tell_call(stream, call)
        if choice.finish_reason is not None:
            self._status = _end_of(choice.finish_reason)

    def _tell_call(self, stream: events.EventWriter, call: _ToolCall) -> None:
        run = self._call
        if run is None or call.index > run.number:
            self._close_text(stream)
            self._close_call(stream)
            item = self._new_call(call, call.index, "in_progress")
            self._call = run = OpenCall(stream, item, self._add(item), call.index)
        elif call.index < run.number:
            raise ValueError("The engine went back to a function call that it had left.")
        if call.function is not None and call.function.arguments:
            run.add(stream, call.function.arguments)

    def _open_text(self, stream: events.EventWriter) -> OpenText:
        self._close_text(stream)
        item = Message(self._new_id("msg"))
        self._text = run = OpenText(stream, item, self._add(item))
        return run

    def _open_reasoning(self, stream: events.EventWriter) -> OpenReasoning:
        self._close_text(stream)
        item = Reasoning(self._new_id("rs"))
        self._text = run = OpenReasoning(stream, item, self._add(item))
        return run

    def _close_text(self, stream: events.EventWriter, status: ItemStatus = "completed") -> None:
        if self._text is not None:
            self._text.close(stream, status)
            self._text = None

    def _close_call(self, stream: events.EventWriter, status: ItemStatus = "completed") -> None:
        if self._call is not None:
            self._call.close(stream, status)
            self._call = None

    def _add(self, item: Item) -> int:
        """Its place in the output."""
        self._output.append(item)
        return len(self._output) - 1

    def _new_id(self, kind: Literal["msg", "rs", "fc"]) -> str:
        return f"{kind}_{self._request_id}_{len(self._output)}"

    def _new_call(self, call: _ToolCall, number: int, status: ItemStatus) -> FunctionCall:
        function = call.function
        if function is None or not function.name:
            raise ValueError("The engine called a function without its name.")
        arguments = "" if status == "in_progress" else function.arguments or ""
        call_id = call.id or f"call_{self._request_id}_{number}"
        return FunctionCall(self._new_id("fc"), call_id, function.name, arguments, status)


_End = Literal["completed", "incomplete"]
_ENDS: dict[str, _End] = {"stop": "completed", "tool_calls": "completed", "length": "incomplete"}
"""vLLM's finish reasons that end an answer; `abort` and `error` end none."""


class _Function(Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(Struct):
    index: int = 0
    id: str | None = None
    function: _Function | None = None


class _Said(Struct):
    """A delta, or a whole message. vLLM 0.32 calls it `reasoning`; others say `reasoning_content`."""

    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Logprobs(Struct):
    content: list[Logprob] | None = None


class _StreamChoice(Struct):
    delta: _Said
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None


class _WholeChoice(Struct):
    message: _Said
    finish_reason: str
    logprobs: _Logprobs | None = None


class _Details(Struct):
    reasoning_tokens: int = 0


class _EngineUsage(Struct):
    prompt_tokens: int
    completion_tokens: int
    completion_tokens_details: _Details | None = None


class _Chunk(Struct):
    choices: list[_StreamChoice]
    usage: _EngineUsage | None = None


class _Completion(Struct):
    choices: list[_WholeChoice]
    usage: _EngineUsage


_DATA_BYTES = len(b"data: ")
_decode_chunk = msgspec.json.Decoder(_Chunk).decode
_decode_completion = msgspec.json.Decoder(_Completion).decode
_Decoded = TypeVar("_Decoded")


def _read(decode: Callable[[bytes], _Decoded], data: bytes) -> _Decoded:
    try:
        return decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError("The engine's answer does not have the shape of a chat answer.") from None


def _end_of(finish_reason: str) -> _End:
    end = _ENDS.get(finish_reason)
    if end is None:
        raise ValueError("The engine ended its answer for a reason that is not known.")
    return end


def _logprobs_of(logprobs: _Logprobs | None) -> list[Logprob]:
    return [] if logprobs is None else logprobs.content or []


def _usage_of(usage: _EngineUsage) -> Usage:
    details = usage.completion_tokens_details
    return Usage(
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.prompt_tokens + usage.completion_tokens,
        OutputDetails(0 if details is None else details.reasoning_tokens),
    )
