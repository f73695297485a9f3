"""One engine over its unix socket: send a request, hand its answer to a sink, cut it off.

A small HTTP/1.1 client instead of a general one: an event of a stream costs it one slice and one call
(docs/performance.md). It reads what uvicorn, vLLM's server, writes: a content-length or chunks (RFC 9112).
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol, cast

from appliance.errors import NotReady

IDLE_SECONDS_MAX: Final = 3.0
"""vLLM's server closes an idle connection after 5 s; an older one of ours may be closing at this moment."""
IDLE_CONNECTIONS_MAX: Final = 1024
CONNECT_SECONDS_MAX: Final = 5.0
HEAD_BYTES_MAX: Final = 64 * 1024
CHUNK_BYTES_MAX: Final = 64 * 1024 * 1024


class Sink(Protocol):
    """Where an answer goes. Called from the event loop, in this order; `on_lost` may come at any point instead."""

    def on_head(self, status: int) -> None: ...
    def on_data(self, data: bytes) -> None:
        """A chunk as the engine wrote it, or a piece of an answer that has no chunks."""
        ...

    def on_end(self) -> None: ...
    def on_lost(self) -> None:
        """The connection ended before the answer did."""
        ...


class Connection(asyncio.Protocol):
    """One connection, for one request at a time. Given back to its pool only after a whole, clean answer."""

    __slots__ = (
        "_body_left",
        "_chunked",
        "_head_done",
        "_keep",
        "_paused",
        "_pool",
        "_rest",
        "_sink",
        "idle_since",
        "reused",
        "transport",
    )

    def __init__(self, pool: EnginePool) -> None:
        self._pool = pool
        self._sink: Sink | None = None
        self._rest = b""
        self._head_done = self._chunked = False
        self._keep = True
        self._paused = False
        self._body_left = 0
        self.idle_since = 0.0
        self.reused = False
        """It has carried an answer before: the engine may have closed it at the very moment it was taken."""

    def send(self, request: bytes, sink: Sink) -> None:
        self._sink = sink
        self._rest = b""
        self._head_done = False
        self.transport.write(request)

    def cut(self) -> None:
        """Stop listening and hang up: the engine aborts the request at once. Also fine after the end."""
        self._sink = None
        self.transport.abort()

    def pause(self) -> None:
        """Leave what comes in the socket. What has been read already still goes to the sink."""
        self._paused = True
        self.transport.pause_reading()

    def resume(self) -> None:
        self._paused = False
        self.transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        self._pool.forget(self)
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.on_lost()

    def data_received(self, data: bytes) -> None:
        if self._sink is None:
            self.transport.abort()
            return
        try:
            if self._rest:
                data = self._rest + data
                self._rest = b""
            if not self._head_done:
                data = self._read_head(data)
                if not self._head_done:
                    return
            if self._chunked:
                self._read_chunks(data)
            else:
                self._read_counted(data)
        except ValueError:
            self.transport.abort()

    def _read_head(self, data: bytes) -> bytes:
        """Take the status line and the headers; give what follows them. ValueError if they are no HTTP."""
        end = data.find(b"\r\n\r\n")
        if end < 0:
            if len(data) > HEAD_BYTES_MAX:
                raise ValueError("head too long")
            self._rest = data
            return b""
        head = data[:end].lower()
        if not head.startswith(b"http/1.1 "):
            raise ValueError("not HTTP/1.1")
        if not head[9:12].isdigit() or head[12:13] not in (b" ", b"\r", b""):
            raise ValueError("no status")
        self._chunked = _only(head, b"\r\ntransfer-encoding:") == b"chunked"
        length = _only(head, b"\r\ncontent-length:")
        if self._chunked:
            if length is not None:
                raise ValueError("a length, and chunks")
        elif length is None or not length.isdigit() or b"\r\ntransfer-encoding:" in head:
            raise ValueError("an answer without one length or chunks")
        else:
            self._body_left = int(length)
        self._keep = b"\r\nconnection: close" not in head
        self._head_done = True
        assert self._sink is not None
        self._sink.on_head(int(head[9:12]))
        return data[end + 4 :]

    def _read_chunks(self, data: bytes) -> None:
        at, size = 0, len(data)
        while at < size and (sink := self._sink) is not None:
            line_end = data.find(b"\r\n", at)
            if line_end < 0:
                if size - at > 32:
                    raise ValueError("chunk size too long")
                break
            length = int(data[at:line_end].partition(b";")[0], 16)
            start = line_end + 2
            end = start + length
            if not 0 <= length <= CHUNK_BYTES_MAX:
                raise ValueError("chunk too large")
            if end + 2 > size:
                break
            if data[end : end + 2] != b"\r\n":
                raise ValueError("no line end behind a chunk")
            if not length:
                self._keep = self._keep and size == end + 2
                self._end()
                return
            sink.on_data(data[start:end])
            at = end + 2
        self._rest = data[at:] if at else data

    def _read_counted(self, data: bytes) -> None:
        self._body_left -= len(data)
        if self._body_left < 0:
            raise ValueError("more body than announced")
        if data and self._sink is not None:
            self._sink.on_data(data)
        if not self._body_left and self._sink is not None:
            self._end()

    def _end(self) -> None:
        sink, self._sink = self._sink, None
        if self._paused:
            self.resume()
        if self._keep:
            self._pool.give_back(self)
        else:
            self.transport.close()
        if sink is not None:
            sink.on_end()


def _only(head: bytes, name: bytes) -> bytes | None:
    """The value of a header, of a head in lower case; None where it is not there. ValueError if it comes twice."""
    at = head.find(name)
    if at < 0:
        return None
    start = at + len(name)
    if head.find(name, start) >= 0:
        raise ValueError("a header twice")
    end = head.find(b"\r\n", start)
    return (head[start:] if end < 0 else head[start:end]).strip()


class EnginePool:
    """Connections to one engine's socket, kept alive between requests."""

    def __init__(self, socket_path: str) -> None:
        self._path = socket_path
        self._idle: list[Connection] = []
        self._closed = False
        self._loop = asyncio.get_running_loop()

    async def open_stream(self, path: str, body: bytes, sink: Sink, *, fresh: bool = False) -> Connection:
        """POST `body` to `path`; the answer comes to `sink`. Raises NotReady if the engine can't be reached.

        `fresh` wants a new connection.
        """
        connection = (None if fresh else self._take()) or await self._connect()
        head = b"POST %b HTTP/1.1\r\nhost: engine\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        connection.send(head % (path.encode(), len(body)) + body, sink)
        return connection

    def give_back(self, connection: Connection) -> None:
        if self._closed or len(self._idle) >= IDLE_CONNECTIONS_MAX:
            connection.transport.close()
            return
        connection.idle_since = self._loop.time()
        connection.reused = True
        self._idle.append(connection)

    def forget(self, connection: Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)

    def close(self) -> None:
        """Close idle connections, and each busy one after its answer."""
        self._closed = True
        for connection in self._idle[:]:
            connection.transport.close()

    def _take(self) -> Connection | None:
        oldest = self._loop.time() - IDLE_SECONDS_MAX
        while self._idle:
            connection = self._idle.pop()
            if connection.idle_since >= oldest and not connection.transport.is_closing():
                return connection
            connection.transport.close()
        return None

    async def _connect(self) -> Connection:
        try:
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                _, connection = await self._loop.create_unix_connection(lambda: Connection(self), self._path)
        except (OSError, TimeoutError):
            raise NotReady from None
        return connection


class EngineClient:
    """Pools for all engines, by socket."""

    def __init__(self) -> None:
        self._pools: dict[str, EnginePool] = {}

    def pool(self, socket_path: str) -> EnginePool:
        """The connections to one engine. For a running event loop."""
        pool = self._pools.get(socket_path)
        if pool is None:
            pool = self._pools[socket_path] = EnginePool(socket_path)
        return pool

    async def healthy(self, socket_path: str, seconds_max: float) -> bool:
        """Whether an engine's server answers at all. Over a connection of its own."""
        try:
            async with asyncio.timeout(seconds_max):
                reader, writer = await asyncio.open_unix_connection(socket_path)
                try:
                    writer.write(b"GET /health HTTP/1.1\r\nhost: engine\r\nconnection: close\r\n\r\n")
                    return (await reader.read(13)).startswith(b"HTTP/1.1 200")
                finally:
                    writer.transport.abort()
        except (OSError, TimeoutError):
            return False

    def keep_only(self, socket_paths: set[str]) -> None:
        """Forget engines that are gone."""
        for gone in self._pools.keys() - socket_paths:
            self._pools.pop(gone).close()

    def close(self) -> None:
        self.keep_only(set())
