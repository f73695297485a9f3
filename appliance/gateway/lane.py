"""The fast lane: an exchange straight on a connection, without a server's framework in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from uvicorn.protocols.http.flow_control import FlowControl

from appliance.errors import BodyTooLarge, ClientGone, RequestError
from appliance.gateway import answers
from appliance.gateway.exchange import nothing

UNWANTED_BYTES_MAX: Final = 64 * 1024
"""How much of a body is taken before anybody has asked for it: its sender may have no key."""
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_LAST_CHUNK: Final = b"0\r\n\r\n"


class Line(Protocol):
    """What an exchange needs of its connection's protocol."""

    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    flow: FlowControl

    @property
    def standing_head(self) -> bytes:
        """Headers that every answer of the server carries, as they stand on the wire."""
        ...

    def free(self, exchange: LaneExchange, *, keep_alive: bool, body_read: bool) -> None:
        """The answer is out."""
        ...


class LaneExchange:
    """One request on one connection. The connection's protocol feeds it and asks it for its end."""

    __slots__ = (
        "_body",
        "_body_bytes_max",
        "_chunked",
        "_ended",
        "_fault",
        "_gone",
        "_head",
        "_line",
        "_on_drained",
        "_on_full",
        "_on_gone",
        "_size",
        "_waiting",
        "_wanted",
        "_whole",
        "full",
        "headers",
        "keep_alive",
        "method",
        "query",
        "source",
        "task",
    )

    def __init__(
        self,
        line: Line,
        method: str,
        headers: Mapping[bytes, bytes],
        source: str | None,
        body_bytes_max: int,
        *,
        keep_alive: bool,
    ) -> None:
        self._line = line
        self.method = method
        self.query = b""
        self.headers = headers
        self.source = source
        self.keep_alive = keep_alive
        """Whether another request may follow on this connection."""
        self.full = False
        self.task: asyncio.Task[None] | None = None
        self._body_bytes_max = body_bytes_max
        self._on_full: Callable[[], None] = nothing
        self._on_drained: Callable[[], None] = nothing
        self._on_gone: Callable[[], None] = nothing
        self._body: bytes | bytearray = b""
        self._size = 0
        self._whole = False
        self._fault: RequestError | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._head = b""
        self._chunked = self._ended = self._gone = self._wanted = False

    async def body(self) -> bytes:
        if not self._whole and self.headers.get(b"expect", b"").lower() == b"100-continue":
            self._line.transport.write(_CONTINUE)
        self._wanted = True
        self._line.flow.resume_reading()
        while not self._whole:
            if self._gone:
                raise ClientGone
            if self._fault is not None:
                raise self._fault
            await self._wait()
        if self._fault is not None:
            raise self._fault
        body, self._body = self._body, b""  # this exchange may outlive its request until memory is tidied up
        return body if isinstance(body, bytes) else bytes(body)

    def pace(self, on_full: Callable[[], None], on_drained: Callable[[], None]) -> None:
        self._on_full, self._on_drained = on_full, on_drained

    def when_gone(self, call: Callable[[], None]) -> None:
        self._on_gone = call
        if self._gone:
            call()

    def start(self, status: int, head: bytes, length: int | None = None) -> None:
        """Kept back until the first byte of the body, to go out with it."""
        if not self._whole:
            self.keep_alive = False
        self._chunked = length is None
        body = b"transfer-encoding: chunked\r\n" if length is None else b"content-length: %d\r\n" % length
        close = b"" if self.keep_alive else b"connection: close\r\n"
        line = answers.status_line(status)
        self._head = b"%b%b%b%b%b\r\n" % (line, head, body, close, self._line.standing_head)

    def write(self, data: bytes) -> None:
        if self._gone:
            return
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        if self._head:
            data, self._head = self._head + data, b""
        self._line.transport.write(data)

    def end(self) -> None:
        self._ended = True
        if self._gone:
            return
        if self._chunked:
            self._line.transport.write(self._head + _LAST_CHUNK)
        if not self.full:
            self._finish()

    async def over(self) -> bool:
        while not self._gone and (self.full or not self._ended):
            await self._wait()
        return not self._gone

    def take(self, body: bytes) -> None:
        """A piece of the body has come."""
        self._size += len(body)
        if self._size > self._body_bytes_max:
            self.fail_body(BodyTooLarge())
            return
        if not self._wanted and self._size > UNWANTED_BYTES_MAX:
            self._line.flow.pause_reading()
        if not self._body:
            self._body = body
            return
        if isinstance(self._body, bytes):
            self._body = bytearray(
                self._body
            )  # a list would take up to 50 times the room of very small pieces
        self._body += body

    def take_end(self) -> None:
        """The body is whole."""
        self._whole = True
        self._wake()

    def fail_body(self, error: RequestError) -> None:
        """The body will not be taken any further."""
        self._body = b""
        self._fault = self._fault or error
        self._wake()

    def fill(self) -> None:
        """The caller reads too slowly."""
        self.full = True
        self._on_full()

    def drain(self) -> None:
        """The caller has caught up."""
        self.full = False
        if self._ended:
            self._finish()
        else:
            self._on_drained()
        self._wake()

    def lose(self) -> None:
        """The connection is gone."""
        self._gone = True
        self._wake()
        on_gone, self._on_gone = self._on_gone, nothing
        on_gone()

    def _finish(self) -> None:
        self._on_gone = nothing  # whoever asked for that call holds on to this exchange as well
        self._line.free(self, keep_alive=self.keep_alive, body_read=self._whole)

    async def _wait(self) -> None:
        self._waiting = self._line.loop.create_future()
        await self._waiting

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
