"""The shapes of answers: headers, OpenAI's error object, a stream's error event, token counts."""

from __future__ import annotations

import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, NamedTuple

import msgspec

from appliance.errors import BadRequest, EngineFault, Overloaded, RequestError

Header = tuple[bytes, bytes]

_SAFE: Final = b"cache-control: no-store\r\nx-content-type-options: nosniff\r\n"
JSON: Final = b"content-type: application/json\r\n" + _SAFE
EVENT_STREAM: Final = b"content-type: text/event-stream; charset=utf-8\r\n" + _SAFE
"""Headers as they stand on the wire, each with its line end: most of an answer's are the same each time."""


class ErrorShape(NamedTuple):
    """How a protocol tells of a failure. Every text in it is fixed and ours."""

    body: Callable[[RequestError, str | None], bytes]
    """Failure, request id -> body of an answer."""
    event: Callable[[RequestError], bytes]
    """Failure -> what ends a stream that has begun."""
    request_id_headers: tuple[bytes, ...] = (b"x-request-id",)


def error_object(error: RequestError) -> dict[str, str | None]:
    """OpenAI's `error` object."""
    return {"message": str(error), "type": error.type, "param": error.param, "code": error.reason}


def _openai_body(error: RequestError, _request_id: str | None) -> bytes:
    return msgspec.json.encode({"error": error_object(error)})


def _openai_event(error: RequestError) -> bytes:
    """A server-sent event that OpenAI's SDKs raise as an APIError."""
    return b"data: %b\n\n" % _openai_body(error, None)


OPENAI: Final = ErrorShape(_openai_body, _openai_event)


def error_head(error: RequestError, request_id: str | None, shape: ErrorShape = OPENAI) -> bytes:
    """Headers of an answer that tells of a failure."""
    head = JSON
    if request_id is not None:
        head += request_id_head(request_id, shape)
    if error.retry_after_seconds is not None:
        head += b"retry-after: %d\r\n" % error.retry_after_seconds
    return head


def request_id_head(request_id: str, shape: ErrorShape) -> bytes:
    return b"".join([b"%b: %b\r\n" % (name, request_id.encode()) for name in shape.request_id_headers])


def pairs(head: bytes) -> list[Header]:
    """Headers apart, for those who want them so."""
    return [(name, value) for name, _, value in (line.partition(b": ") for line in head.split(b"\r\n")[:-1])]


_COUNTS = re.compile(rb'"(prompt|completion)_tokens": ?(\d{1,12})(?=[,}])')


def counts(usage: bytes) -> tuple[int, int]:
    """Prompt and completion tokens of the engine's `usage` object. What is not there is 0."""
    found = {name: int(digits) for name, digits in _COUNTS.findall(usage)}
    return found.get(b"prompt", 0), found.get(b"completion", 0)


def usage(prompt_tokens: int, completion_tokens: int) -> bytes:
    """A `usage` object of our own making."""
    return b'{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d}' % (
        prompt_tokens,
        prompt_tokens + completion_tokens,
        completion_tokens,
    )


_TOO_LONG = (b"context length", b"max_model_len", b"maximum model length")
_NO_TOOLS = b"--tool-call-parser"


def refusal_of(status: int, body: bytes) -> RequestError:
    """What the engine's refusal means to the caller.

    vLLM's own words quote the request, so they only choose between fixed texts of ours and go no further.
    """
    if status in (429, 503):
        return Overloaded()
    if status not in (400, 413, 422):
        return EngineFault()
    if any(words in body for words in _TOO_LONG):
        return BadRequest(
            "Prompt and answer together are longer than the model's context. "
            "Shorten the prompt or ask for fewer tokens.",
            code="context_length_exceeded",
        )
    if _NO_TOOLS in body:
        return BadRequest(
            'The model can\'t call tools here. Send `tool_choice` "none" or no tools, or ask the operator to set '
            "the model's `tool_parser`.",
            param="tools",
            code="unsupported_tool",
        )
    return BadRequest(
        "The model does not accept this combination of fields and values.", code="invalid_request"
    )


_STATUS_LINES: Final = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus
}


def status_line(status: int) -> bytes:
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
