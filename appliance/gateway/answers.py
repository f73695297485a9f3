"""The shapes of answers: headers, OpenAI's error object, a stream's error event."""

from __future__ import annotations

from typing import Any

import msgspec

from appliance.errors import BadRequest, EngineFault, Overloaded, RequestError

Header = tuple[bytes, bytes]

_SAFE: list[Header] = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
JSON: list[Header] = [(b"content-type", b"application/json"), *_SAFE]
EVENT_STREAM: list[Header] = [(b"content-type", b"text/event-stream; charset=utf-8"), *_SAFE]


def error_object(error: RequestError) -> dict[str, Any]:
    """OpenAI's error shape. Every text in it is fixed and ours."""
    return {"error": {"message": str(error), "type": error.type, "param": error.param, "code": error.reason}}


def error_body(error: RequestError) -> bytes:
    return msgspec.json.encode(error_object(error))


def error_event(error: RequestError) -> bytes:
    """A server-sent event that OpenAI's SDKs raise as an APIError."""
    return b"data: %b\n\n" % error_body(error)


def error_headers(error: RequestError, request_id: str | None) -> list[Header]:
    headers = list(JSON)
    if request_id is not None:
        headers.append((b"x-request-id", request_id.encode()))
    if error.retry_after_seconds is not None:
        headers.append((b"retry-after", str(error.retry_after_seconds).encode()))
    return headers


_TOO_LONG = (b"context length", b"max_model_len", b"maximum model length")


def refusal_of(status: int, body: bytes) -> RequestError:
    """What the engine's refusal means to the caller.

    vLLM's own words quote the request, so they only choose between two fixed texts of ours and go no further.
    """
    if status in (429, 503):
        return Overloaded()
    if status not in (400, 413, 422):
        return EngineFault()
    if any(words in body for words in _TOO_LONG):
        return BadRequest(
            "Prompt and answer together are longer than the model's context. "
            "Shorten the messages or ask for fewer tokens.",
            param="messages",
            code="context_length_exceeded",
        )
    return BadRequest(
        "The model does not accept this combination of fields and values.", code="invalid_request"
    )
