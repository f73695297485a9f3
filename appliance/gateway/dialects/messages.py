"""An engine's chat answer in the words of Anthropic's messages API (API reference: messages, streaming, errors)."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from appliance.errors import RequestError
from appliance.gateway.answers import ErrorShape
from appliance.gateway.dialects.chat_answers import (
    ToolCall,
    Usage,
    read_answer,
    read_arguments,
    read_count,
    read_event,
)

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]

_json = msgspec.json.Encoder().encode
_PING = b'event: ping\ndata: {"type":"ping"}\n\n'
_MESSAGE_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_BLOCK_START = (
    b'event: content_block_start\ndata: {"type":"content_block_start","index":%d,"content_block":%b}\n\n'
)
_BLOCK_DELTA = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":%b}}\n\n'
)
_BLOCK_STOP = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n'

_TEXT = b'{"type":"text","text":""}'
_THINKING = b'{"type":"thinking","thinking":"","signature":""}'
_SIGNATURE = "unsigned"
"""SDKs want a signature and some drop a thought without one. No thought is taken back, so nothing has to be proved."""


class MessagesTranslator:
    """One answer. Thoughts are shown only to a caller that asked for them: others look for text in the first block."""

    __slots__ = (
        "_arguments",
        "_block",
        "_call",
        "_finish",
        "_index",
        "_late_text",
        "_request_id",
        "_show_thinking",
        "_started",
        "_stopped_at",
        "_usage",
    )

    def __init__(self, request_id: str, *, show_thinking: bool) -> None:
        self._request_id = request_id
        self._show_thinking = show_thinking
        self._started = False
        self._usage = Usage(0)
        self._finish: str | None = None
        self._stopped_at: int | str | None = None
        self._block: Literal["text", "thinking", "tool"] | None = None
        """The block that is open; `_index` is its place, or that of the last one."""
        self._index = -1
        self._call = -1
        """The engine's number of the last tool call, and what it has for arguments so far."""
        self._arguments: list[str] = []
        self._late_text: list[str] = []
        """Text that came inside a tool call: blocks don't nest, so it waits for the call's end."""

    def event(self, event: bytes) -> bytes:
        chunk = read_event(event)
        if chunk.usage is not None:
            self._usage = chunk.usage
        out = b"" if self._started else self._start(chunk.model)
        for choice in chunk.choices:
            said = choice.delta
            if said.reasoning and self._show_thinking:
                out += self._think(said.reasoning)
            if said.content:
                out += self._say(said.content)
            for call in said.tool_calls:
                out += self._use(call)
            if choice.finish_reason is not None:
                self._finish, self._stopped_at = choice.finish_reason, choice.stop_reason
        return out

    def end(self) -> bytes:
        if self._finish is None:
            raise ValueError("the engine's stream ended in the middle of the answer")
        last_call = "".join(self._arguments) if self._call >= 0 else None
        reason, sequence = _stop_reason(self._finish, self._stopped_at, last_call)
        out = self._close()
        if self._index < 0:
            out += self._open("text", _TEXT) + self._close()
        delta = {
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": sequence},
            "usage": _usage(self._usage),
        }
        return out + b"event: message_delta\ndata: %b\n\n" % _json(delta) + _MESSAGE_STOP

    def fail(self, error: RequestError) -> bytes:
        return error_event(error, self._request_id)

    def whole(self, body: bytes) -> bytes:
        answer = read_answer(body)
        choice = answer.choices[0]
        said = choice.message
        cut = choice.finish_reason == "length" or isinstance(choice.stop_reason, str)
        content: list[dict[str, Any]] = []
        if said.reasoning and self._show_thinking:
            content.append({"type": "thinking", "thinking": said.reasoning, "signature": _SIGNATURE})
        if said.content or not (content or said.tool_calls):
            content.append({"type": "text", "text": said.content or ""})
        content += [_tool_use(call, may_be_cut=cut) for call in said.tool_calls]
        last_call = said.tool_calls[-1].function.arguments or "" if said.tool_calls else None
        reason, sequence = _stop_reason(choice.finish_reason, choice.stop_reason, last_call)
        message = self._message(answer.model, content, reason, sequence, answer.usage)
        return _json(message)

    def _start(self, model: str) -> bytes:
        self._started = True
        message = self._message(model, [], None, None, self._usage)
        return (
            b"event: message_start\ndata: %b\n\n" % _json({"type": "message_start", "message": message})
            + _PING
        )

    def _message(
        self,
        model: str,
        content: list[dict[str, Any]],
        stop_reason: StopReason | None,
        stop_sequence: str | None,
        usage: Usage,
    ) -> dict[str, Any]:
        return {
            "id": f"msg_{self._request_id}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": stop_sequence,
            "usage": _usage(usage),
        }

    def _say(self, text: str) -> bytes:
        if self._block == "tool":
            self._late_text.append(text)
            return b""
        start = b"" if self._block == "text" else self._open("text", _TEXT)
        return start + self._delta(b'"text_delta","text":%b', text)

    def _think(self, thought: str) -> bytes:
        start = b"" if self._block == "thinking" else self._open("thinking", _THINKING)
        return start + self._delta(b'"thinking_delta","thinking":%b', thought)

    def _use(self, call: ToolCall) -> bytes:
        function, start = call.function, b""
        if self._block != "tool" or call.index != self._call:
            if function.name is None or call.id is None:
                raise ValueError("the engine's tool call does not begin with its name and id")
            block: dict[str, Any] = {"type": "tool_use", "id": call.id, "name": function.name, "input": {}}
            start = self._open("tool", _json(block))
            self._call, self._arguments = call.index, []
        if not function.arguments:
            return start
        self._arguments.append(function.arguments)
        return start + self._delta(b'"input_json_delta","partial_json":%b', function.arguments)

    def _delta(self, shape: bytes, text: str) -> bytes:
        return _BLOCK_DELTA % (self._index, shape % _json(text))

    def _open(self, kind: Literal["text", "thinking", "tool"], block: bytes) -> bytes:
        before = self._close()
        self._block = kind
        self._index += 1
        return before + _BLOCK_START % (self._index, block)

    def _close(self) -> bytes:
        """End the block that is open, if one is, and say what had to wait for that."""
        if self._block is None:
            return b""
        out = (
            self._delta(b'"signature_delta","signature":%b', _SIGNATURE) if self._block == "thinking" else b""
        )
        out += _BLOCK_STOP % self._index
        self._block = None
        if self._late_text:
            text, self._late_text = "".join(self._late_text), []
            out += self._say(text) + self._close()
        return out


class CountTranslator:
    """vLLM's count of a prompt's tokens as Anthropic's. It is never streamed."""

    __slots__ = ("_request_id",)

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id

    def event(self, event: bytes) -> bytes:  # noqa: ARG002  # a count has no events
        raise ValueError("a count is not streamed")

    def end(self) -> bytes:
        raise ValueError("a count is not streamed")

    def fail(self, error: RequestError) -> bytes:
        return error_event(error, self._request_id)

    def whole(self, body: bytes) -> bytes:
        return b'{"input_tokens":%d}' % read_count(body)


_ERROR_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def error_body(error: RequestError, request_id: str | None) -> bytes:
    """Anthropic's error object. Every text in it is fixed and ours."""
    other = "invalid_request_error" if error.status < 500 else "api_error"
    kind = _ERROR_TYPES.get(error.status, other)
    return _json({"type": "error", "error": {"type": kind, "message": str(error)}, "request_id": request_id})


def error_event(error: RequestError, request_id: str | None) -> bytes:
    """A server-sent event that Anthropic's SDKs raise as an APIStatusError."""
    return b"event: error\ndata: %b\n\n" % error_body(error, request_id)


def _event(error: RequestError) -> bytes:
    return error_event(error, None)


ERRORS = ErrorShape(error_body, _event, request_id_headers=(b"x-request-id", b"request-id"))
"""Anthropic's SDKs look for `request-id`."""


def _usage(usage: Usage) -> dict[str, int]:
    """What the engine found in its cache is not told: it would say what others have asked."""
    return {
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens or 0,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
    }


def _stop_reason(
    finish: str | None, stopped_at: int | str | None, last_call: str | None
) -> tuple[StopReason, str | None]:
    """Why the answer ended. `last_call` is what its last tool call has for arguments; None: it called no tool.

    A call that a stop sequence cut short must not be run; a whole one may be.
    """
    if finish == "length":
        return "max_tokens", None
    if finish not in ("stop", "tool_calls"):
        raise ValueError("the engine ended the answer for a reason that has no name here")
    if isinstance(stopped_at, str) and (last_call is None or _is_cut(last_call)):
        return "stop_sequence", stopped_at
    return ("end_turn" if last_call is None else "tool_use"), None


def _tool_use(call: ToolCall, *, may_be_cut: bool) -> dict[str, Any]:
    function = call.function
    if call.id is None or function.name is None:
        raise ValueError("the engine's tool call has no name or no id")
    cut = may_be_cut and _is_cut(function.arguments or "")
    arguments = {} if cut else read_arguments(function.arguments)
    return {"type": "tool_use", "id": call.id, "name": function.name, "input": arguments}


def _is_cut(arguments: str) -> bool:
    try:
        read_arguments(arguments)
    except ValueError:
        return True
    return not arguments
