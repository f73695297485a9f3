"""Wire: what a connection may do before and around a request: sizes, times, counts, and nothing ambiguous.

A subclass of uvicorn's protocol, pinned to its minor version in pyproject.toml. Requests of the inference
endpoints go past Litestar, straight to the request path (`lane.py`), unless the fast lane is switched off.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast
from urllib.parse import quote_from_bytes, unquote_to_bytes

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from appliance.errors import (
    AddressTooLong,
    BodyTooSlow,
    HeadTooLarge,
    HeadTooSlow,
    NotHttp,
    RequestError,
    TooManyConnections,
    UnknownRoute,
)
from appliance.gateway import answers
from appliance.gateway.asgi import BODY_FAULT, Scope
from appliance.gateway.exchange import STALL_SECONDS_MAX, by_name
from appliance.gateway.guard import network_of
from appliance.gateway.inference import Endpoint, Gateway
from appliance.gateway.lane import LaneExchange
from appliance.gateway.public import INFERENCE

HEADERS_MAX: Final = 64
HEADER_BYTES_MAX: Final = 8 * 1024
HEAD_BYTES_MAX: Final = 32 * 1024
ADDRESS_BYTES_MAX: Final = 2 * 1024
FRAMING_BYTES_MAX: Final = 32 * 1024
"""What may come between two bytes of a chunked body. Only extensions of chunks, which nobody needs, are that long."""
FRAMING_BYTES_READ: Final = 4 * 1024
"""How exactly that is counted."""
HEAD_SECONDS_MAX: Final = 10.0
IDLE_SECONDS_MAX: Final = 75.0
LATE_SECONDS_MAX: Final = 2.0
"""How long a stopping server waits for the first request of a connection that it has just accepted."""
LINGER_SECONDS_MAX: Final = 2.0
"""How long an answer waits to be read before a connection with unread input is closed under it."""
CONNECTIONS_MAX: Final = 10_000
"""From outside. One beyond them is closed without a word: an answer would keep it open for longer."""
SWEEP_SECONDS: Final = 0.5
"""How exactly those times are kept."""
NEVER: Final = float("inf")

_HOST: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~:[]%"
_PLAIN: Final = "/:@!$&'()*+,;=-._~"
"""What stands for itself in a path (RFC 3986, section 3.3)."""


@dataclass(slots=True)
class Door:
    """What all connections of a gateway share."""

    gateway: Gateway
    endpoints: Mapping[bytes, Endpoint]
    """What goes past Litestar, by address; empty where the fast lane is switched off."""
    body_seconds_max: float
    connections_per_source_max: int
    connections_max: int = CONNECTIONS_MAX
    head_seconds_max: float = HEAD_SECONDS_MAX
    stall_seconds_max: float = STALL_SECONDS_MAX
    idle_seconds_max: float = IDLE_SECONDS_MAX
    late_seconds_max: float = LATE_SECONDS_MAX
    sweep_seconds: float = SWEEP_SECONDS
    by_source: Counter[str] = field(default_factory=Counter[str])
    open: set[Wire] = field(default_factory=set["Wire"])
    now: float = 0.0
    """The loop's time at the last sweep: exact enough for limits of seconds, and free."""
    _standing: tuple[object, bytes] = (None, b"")

    def standing_head(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """uvicorn's own headers, the date, as they stand on the wire. It makes a new list every second."""
        if self._standing[0] is not headers:
            self._standing = (headers, b"".join([b"%b: %b\r\n" % header for header in headers]))
        return self._standing[1]

    async def sweep(self) -> None:
        """Close connections that have waited for too long, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            self.now = loop.time()
            self.gateway.metrics.connections.set(len(self.open))
            for wire in [wire for wire in self.open if wire.deadline < self.now]:
                wire.time_out()
            await asyncio.sleep(self.sweep_seconds)


class Wire(HttpToolsProtocol):
    """One connection of a caller."""

    def __init__(self, *arguments: Any, door: Door, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.door = door
        self.deadline = NEVER
        self.exchange: LaneExchange | None = None
        self.closing = False
        """This is its last answer."""
        self.url = b""
        self._used = self._in_litestar = False
        self._source = ""
        self._head_bytes = 0
        self._in_head = True
        """Between requests too."""
        self._takes_headers = self._chunked = False
        self._framing_bytes = 0
        self._deaf = False
        """What comes is thrown away: the connection ends with the answer under way."""
        self._stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        door = self.door
        door.open.add(self)
        self.deadline = door.now + door.head_seconds_max
        if self.client is None:
            return
        self._source = network_of(self.client[0])
        door.by_source[self._source] += 1
        if len(door.open) > door.connections_max:
            self._deaf = True
            transport.abort()
            return
        if door.by_source[self._source] > door.connections_per_source_max:
            self.refuse(TooManyConnections())

    def connection_lost(self, exc: Exception | None) -> None:
        self.door.open.discard(self)
        if self._source:
            self.door.by_source[self._source] -= 1
            if not self.door.by_source[self._source]:
                del self.door.by_source[self._source]
        if self._stall is not None:
            self._stall.cancel()
        if self.exchange is not None:
            self.exchange.lose()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self._feed_long(data)
                return
        elif self._chunked:
            self._feed_chunks(data)
            return
        self._feed(data)

    def _feed(self, data: bytes) -> None:
        assert self.parser is not None
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.refuse(NotHttp())

    def _feed_long(self, data: bytes) -> None:
        """Only as much as a head may have at first, so that it doesn't matter in which pieces one comes."""
        room = HEAD_BYTES_MAX - (self._head_bytes - len(data))
        self._feed(data[:room])
        if self._in_head and self._head_bytes:
            self.refuse(HeadTooLarge())
        self.data_received(data[room:])

    def _feed_chunks(self, data: bytes) -> None:
        for at in range(0, len(data), FRAMING_BYTES_READ):
            piece = data[at : at + FRAMING_BYTES_READ]
            self._framing_bytes += len(piece)
            self._feed(piece)
            if self._in_head:
                self.data_received(data[at + FRAMING_BYTES_READ :])
                return
            if self._framing_bytes > FRAMING_BYTES_MAX:
                self.refuse(NotHttp())
                return

    def on_message_begin(self) -> None:
        if self._busy():
            self._deaf = True
            return
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._in_head = self._takes_headers = True
        self.deadline = self.door.now + self.door.head_seconds_max

    def on_url(self, url: bytes) -> None:
        if self._takes_headers:
            self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._takes_headers:
            self.headers.append((name.lower(), value))
        else:
            self.refuse(NotHttp())  # behind the body, where nobody looks for one

    def on_headers_complete(self) -> None:
        if self._deaf:
            return
        self._in_head = self._takes_headers = False
        self._framing_bytes = 0
        self.deadline = self.door.now + self.door.body_seconds_max
        assert self.parser is not None
        try:
            headers = by_name(self.headers)
            self._check(headers)
            endpoint = self.door.endpoints.get(self.url)
            if endpoint is None or self.parser.get_method() != b"POST":
                if not _is_plain(self.url):
                    raise UnknownRoute
                self._into_litestar(headers)
            else:
                self._into_lane(endpoint, headers)
        except RequestError as error:
            self.refuse(error)

    def _into_lane(self, endpoint: Endpoint, headers: Mapping[bytes, bytes]) -> None:
        assert self.parser is not None
        self.exchange = exchange = LaneExchange(
            self,
            "POST",
            headers,
            self.client[0] if self.client else None,
            self.door.gateway.body_bytes_max,
            keep_alive=self._stays(),
        )
        exchange.task = task = self.loop.create_task(self._through(endpoint, exchange))
        self.tasks.add(task)

    async def _through(self, endpoint: Endpoint, exchange: LaneExchange) -> None:
        try:
            await self.door.gateway.serve(endpoint, exchange)
        finally:
            self.tasks.discard(cast("asyncio.Task[None]", exchange.task))

    def on_body(self, body: bytes) -> None:
        if self._deaf:
            return
        self._framing_bytes = 0
        if self.exchange is not None:
            self.exchange.take(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._deaf:
            return
        self._head_bytes = 0
        self._in_head = self._used = True
        self.deadline = NEVER
        if self.exchange is not None:
            self.exchange.take_end()
        else:
            self.cycle.waiting_for_100_continue = False
            self.cycle.keep_alive = self._stays() and not self.cycle.response_started
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is out, whichever way it went. Wait for the next request, or close."""
        self.exchange = None
        self.deadline = self.door.now + self.door.idle_seconds_max
        if self._deaf or not self._in_head:
            self.linger()  # more has come, or it was answered before it had come whole
        elif self._in_litestar and not self.cycle.keep_alive:
            self.close()
        else:
            super().on_response_complete()
            self._unset_keepalive_if_required()  # the sweep does that

    @property
    def standing_head(self) -> bytes:
        return self.door.standing_head(self.server_state.default_headers)

    def free(self, exchange: LaneExchange, *, keep_alive: bool, body_read: bool) -> None:
        """The lane's answer is out: the connection is free for the next request, or ends."""
        assert exchange is self.exchange
        self.exchange = None
        if keep_alive and not self._deaf:
            self.deadline = self.door.now + self.door.idle_seconds_max
        elif body_read:
            self.close()
        else:
            self.linger()

    def pause_writing(self) -> None:
        self._stall = self.loop.call_later(self.door.stall_seconds_max, self.transport.abort)
        if self.exchange is not None:
            self.exchange.fill()
        super().pause_writing()

    def resume_writing(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
        super().resume_writing()
        if self.exchange is not None:
            self.exchange.drain()

    def shutdown(self) -> None:
        """Called when the server stops: end now if idle, else with the answer under way."""
        self.closing = True
        if self.exchange is not None:
            self.exchange.keep_alive = False
        elif self._busy():
            self.cycle.keep_alive = False
        elif self._used and not self._head_bytes:
            self.close()
        else:
            self.deadline = min(self.deadline, self.door.now + self.door.late_seconds_max)

    def refuse(self, error: RequestError) -> None:
        """Answer what is no request, and close; if another request's answer is under way, close after that one."""
        if self._deaf:
            return
        self._deaf = True
        if not self._busy():
            self._answer(error)
        elif self._in_head:
            return
        elif self.exchange is not None:
            self.exchange.fail_body(error)
        else:
            cast("Scope", self.scope)["state"][BODY_FAULT] = error
            self.cycle.message_event.set()

    def _answer(self, error: RequestError) -> None:
        self.door.gateway.metrics.refusals.labels(error.reason).inc()
        endpoint = INFERENCE.get(self.url.partition(b"?")[0].decode("latin-1"))
        body = (endpoint.errors if endpoint else answers.OPENAI).body(error, None)
        head = b"%b%bcontent-length: %d\r\nconnection: close\r\n%b\r\n" % (
            answers.status_line(error.status),
            answers.error_head(error, None),
            len(body),
            self.standing_head,
        )
        self.transport.write(head + body)
        self.linger()

    def close(self) -> None:
        """Close once the caller has taken what is written, or too much time has passed."""
        self._deaf = True
        self.deadline = self.door.now + self.door.stall_seconds_max
        self.transport.close()

    def linger(self) -> None:
        """Close once the caller has had time to read its answer: closing with unread input would take it away."""
        self._deaf = True
        self.deadline = self.door.now + LINGER_SECONDS_MAX
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def time_out(self) -> None:
        """The deadline has passed."""
        self.deadline = NEVER
        if self.transport.is_closing():
            self.transport.abort()
        elif self._deaf or (self._in_head and not self._head_bytes):
            self.close()
        else:
            self.refuse(HeadTooSlow() if self._in_head else BodyTooSlow())

    def _busy(self) -> bool:
        """Whether an answer is under way."""
        return self.exchange is not None or (self._in_litestar and not self.cycle.response_complete)

    def _stays(self) -> bool:
        """Whether another request may follow the one that has come."""
        assert self.parser is not None
        return (
            not self.closing and self.parser.should_keep_alive() and self.parser.get_http_version() == "1.1"
        )

    def _check(self, headers: Mapping[bytes, bytes]) -> None:
        """Refuse a head that is too large, or could be read in two ways (RFC 9112, sections 3.2 and 6)."""
        if len(self.headers) > HEADERS_MAX:
            raise HeadTooLarge
        if self._head_bytes > HEADER_BYTES_MAX and not _fits(self.headers):
            raise HeadTooLarge
        if len(self.url) > ADDRESS_BYTES_MAX:
            raise AddressTooLong
        coding = headers.get(b"transfer-encoding")
        self._chunked = coding is not None
        if coding is not None and (coding.lower() != b"chunked" or b"content-length" in headers):
            raise NotHttp
        assert self.parser is not None
        version = self.parser.get_http_version()
        if version != "1.1" and (version != "1.0" or coding is not None or b"expect" in headers):
            raise NotHttp
        host = headers.get(b"host", b"" if version == "1.1" else b"-")
        if not host or host.translate(None, _HOST):
            raise NotHttp
        if headers.get(b"expect", b"100-continue").lower() != b"100-continue":
            raise NotHttp
        if self.parser.should_upgrade() or self.url[:1] != b"/":
            raise NotHttp

    def _into_litestar(self, headers: Mapping[bytes, bytes]) -> None:
        url, listed = self.url, self.headers
        super().on_message_begin()
        self.url, self.expect_100_continue = url, b"expect" in headers
        self.headers.extend(listed)
        super().on_headers_complete()
        self._in_litestar = True
        self.cycle.transport = cast("asyncio.Transport", _Patient(self))
        self.cycle.keep_alive = False  # until its body is whole: an answer before that is the last


class _Patient:
    """The transport as uvicorn's cycle sees it. It would close as soon as it has answered; `Wire` does that."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.write = wire.transport.write
        self.is_closing = wire.transport.is_closing

    def close(self) -> None:
        if not self._wire.cycle.response_complete:
            self._wire.close()


def _fits(headers: list[tuple[bytes, bytes]]) -> bool:
    return max(len(name) + len(value) for name, value in headers) <= HEADER_BYTES_MAX


def _is_plain(url: bytes) -> bool:
    """Whether nobody could take this address for another one."""
    path = url.partition(b"?")[0]
    return not (
        b"#" in url
        or b"//" in path
        or b"/." in path
        or (b"%" in path and quote_from_bytes(unquote_to_bytes(path), safe=_PLAIN).encode() != path)
    )
