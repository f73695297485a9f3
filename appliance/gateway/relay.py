"""relay: the byte pump. An engine's answer goes to the caller as it comes; only token counts are read."""

from __future__ import annotations

import asyncio
import time
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from appliance.domain import Call, Outcome, TokenCounts
from appliance.engine.client import Connection
from appliance.errors import EngineFault, EngineLost, RequestError
from appliance.gateway import answers
from appliance.gateway.asgi import Message, Receive, Send

ERROR_BYTES_MAX = 64 * 1024
EVENT_BYTES_MAX = 16 * 1024 * 1024
STALL_SECONDS_MAX = 30.0
"""A caller that takes nothing for this long is gone: it must not hold an engine and a slot for ever."""
HUNG_UP = 499
"""What the ledger says of a caller that left before the end (nginx's number; no standard has one)."""

_USAGE = b'"usage":{'
_AT_OBJECT = len(_USAGE) - 1
_ERROR = b'data: {"error"'
_DONE = b"data: [DONE]\n\n"
"""The last event of a stream. SDKs hang up when they have read it, often before the body's own end."""
_NO_CHOICES = b'"choices":[]'


class Relay:
    """The sink of one engine's answer.

    It is driven from the engine's socket: an event costs no task switch, because `send` runs to its end at once
    unless the caller reads too slowly. Then reading from the engine pauses until the caller has caught up.
    """

    __slots__ = (
        "_carry",
        "_connection",
        "_counts",
        "_ended",
        "_first_ns",
        "_hide_usage",
        "_last_ns",
        "_note",
        "_outbox",
        "_owner",
        "_pieces",
        "_request_id",
        "_send",
        "_show_total",
        "_size",
        "_stall_seconds_max",
        "_started",
        "_status",
        "_stream",
        "_told_done",
        "_usage",
        "_writer",
    )

    def __init__(
        self,
        send: Send,
        request_id: str,
        call: Call,
        note: Callable[[bytes], None],
        stall_seconds_max: float = STALL_SECONDS_MAX,
    ) -> None:
        """`note` keeps the engine's running usage where a kill of this process can't lose it."""
        self._send = send
        self._request_id = request_id
        self._note = note
        self._stall_seconds_max = stall_seconds_max
        self._stream = call.stream
        self._show_total = call.include_usage
        self._hide_usage = not call.continuous_usage
        self._connection: Connection | None = None
        self._owner = asyncio.current_task()
        self._outbox: deque[Message] = deque()
        self._writer: asyncio.Task[None] | None = None
        self._carry = b""
        self._pieces: list[bytes] = []
        self._size = 0
        self._started = False
        self._status = HUNG_UP
        self._usage = b""
        self._counts: TokenCounts = "partial"
        self._first_ns = self._last_ns = 0
        self._ended = False
        self._told_done = False

    async def run(self, connection: Connection, receive: Receive) -> None:
        """Wait until the answer is out or the caller has hung up."""
        self._connection = connection
        await self.finish(receive)

    async def finish(self, receive: Receive) -> None:
        """Wait until what there is to say is out or the caller has hung up."""
        while not self._ended or self._writer is not None:
            if (await receive())["type"] == "http.disconnect":
                break
        if self._writer is not None or not (self._ended or self._told_done):
            self._status = HUNG_UP

    def outcome(self) -> Outcome:
        """How the request ended, for its ledger row."""
        return Outcome(self._status, self._usage, self._counts, self._first_ns, self._last_ns)

    def close(self) -> None:
        """Let go of the engine, which aborts the request if it still runs."""
        self._cut()
        if self._writer is not None:
            self._writer.cancel()

    def fail(self, error: RequestError) -> None:
        """End the answer with an error: a response of its own, or an event if a stream has begun."""
        if self._ended:
            return
        self._ended = True
        self._status = error.status
        self._cut()
        if self._started:
            self._put({"type": "http.response.body", "body": answers.error_event(error), "more_body": False})
            return
        body = answers.error_body(error)
        headers = answers.error_headers(error, self._request_id)
        self._respond(error.status, headers, body)

    def on_head(self, status: int) -> None:
        self._status = status
        if status == 200 and self._stream:
            self._started = True
            headers = [*answers.EVENT_STREAM, (b"x-request-id", self._request_id.encode())]
            self._put({"type": "http.response.start", "status": 200, "headers": headers})

    def on_data(self, data: bytes) -> None:
        if not self._started:
            self._collect(data)
        elif self._carry or data.find(b"\n\n") != len(data) - 2 or len(data) < 2:
            self._split(data)
        else:
            self._event(data)

    def on_end(self) -> None:
        if self._ended:
            return
        self._connection = None
        if self._carry:
            self.fail(EngineLost())
        elif self._started:
            self._finish_stream()
        elif self._status == 200:
            self._finish_whole(b"".join(self._pieces))
        else:
            refusal = answers.refusal_of(self._status, b"".join(self._pieces))
            if refusal.status != EngineFault.status:
                self._counts = "exact"
            self.fail(refusal)

    def on_lost(self) -> None:
        self.fail(EngineLost())

    def _event(self, event: bytes) -> None:
        """One whole server-sent event. Running usage is noted, and cut out unless the caller asked for it."""
        at = event.rfind(_USAGE)
        if at < 0:
            if event.startswith(_ERROR):
                self.fail(EngineFault())
                return
        else:
            start = at + _AT_OBJECT
            end = _object_end(event, start)
            self._usage = usage = event[start:end]
            self._note(usage)
            if event.find(_NO_CHOICES, 0, at) >= 0:
                self._counts = "exact"
                if not self._show_total:
                    return
            elif self._hide_usage:
                event = event[: at - 1] + event[end:]
        self._told_done = event == _DONE
        self._last_ns = now = time.monotonic_ns()
        if not self._first_ns:
            self._first_ns = now
        self._put({"type": "http.response.body", "body": event, "more_body": True})

    def _split(self, data: bytes) -> None:
        """Events that came cut, or several at once."""
        *events, self._carry = (self._carry + data).split(b"\n\n")
        if len(self._carry) > EVENT_BYTES_MAX:
            self.fail(EngineFault())
        for event in events:
            if self._ended:
                return
            self._event(event + b"\n\n")

    def _collect(self, data: bytes) -> None:
        self._size += len(data)
        if self._status == 200 or self._size <= ERROR_BYTES_MAX:
            self._pieces.append(data)

    def _finish_stream(self) -> None:
        self._ended = True
        self._put({"type": "http.response.body", "body": b"", "more_body": False})

    def _finish_whole(self, body: bytes) -> None:
        self._ended = True
        at = body.rfind(_USAGE)
        if at >= 0:
            start = at + _AT_OBJECT
            self._usage = body[start : _object_end(body, start)]
            self._note(self._usage)
            self._counts = "exact"
        self._respond(200, [*answers.JSON, (b"x-request-id", self._request_id.encode())], body)

    def _respond(self, status: int, headers: list[answers.Header], body: bytes) -> None:
        headers.append((b"content-length", b"%d" % len(body)))
        self._put({"type": "http.response.start", "status": status, "headers": headers})
        self._put({"type": "http.response.body", "body": body, "more_body": False})

    def _put(self, message: Message) -> None:
        if self._writer is not None:
            self._outbox.append(message)
            return
        sending = self._send(message)
        try:
            waits_for = sending.send(None)
        except StopIteration:
            return
        except Exception:  # noqa: BLE001  # whatever the server raises ends this request, not the loop's callback
            self._abandon()
            return
        if self._connection is not None:
            self._connection.pause()
        self._writer = asyncio.get_running_loop().create_task(self._catch_up(sending, waits_for))

    async def _catch_up(self, sending: Coroutine[Any, Any, None], waits_for: object) -> None:
        """Finish a `send` that had to wait for the caller, then what piled up behind it, then read on."""
        now = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(self._stall_seconds_max) as limit:
                await _resume(sending, waits_for)
                while self._outbox:
                    limit.reschedule(now() + self._stall_seconds_max)
                    await self._send(self._outbox.popleft())
        except Exception:  # noqa: BLE001  # as in `_put`; also a caller that takes nothing any more
            self._abandon()
            return
        self._writer = None
        if self._connection is not None:
            self._connection.resume()

    def _cut(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.cut()

    def _abandon(self) -> None:
        """The caller can't be reached any more."""
        self._ended = True
        self._status = HUNG_UP
        if self._owner is not None:
            self._owner.cancel()


def _object_end(data: bytes, start: int) -> int:
    """Index just behind the JSON object that begins at `start` and holds no strings with braces."""
    end = data.find(b"}", start)
    nested = data.find(b"{", start + 1, end)
    while nested >= 0 and end >= 0:
        end = data.find(b"}", end + 1)
        nested = data.find(b"{", nested + 1, end)
    return end + 1 if end >= 0 else len(data)


@types.coroutine
def _resume(sending: Coroutine[Any, Any, None], waits_for: object) -> Generator[object, None, None]:
    """Carry on, inside a task, a coroutine that was begun outside of one and now waits for a future."""
    while True:
        yield waits_for
        try:
            waits_for = sending.send(None)
        except StopIteration:
            return
