"""A gateway in this process that listens on loopback, and raw connections to it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from appliance.gateway import public
from appliance.gateway.wire import Door, Wire
from tests.fakes.box import KEY, Box

BEARER = f"Bearer {KEY.plaintext}"
ANSWER_SECONDS_MAX = 5.0


@dataclass
class Answer:
    """One response, as it stood on the wire."""

    status: int
    headers: dict[str, str]
    body: bytes
    open: bool
    """Whether the server left the connection open."""


@dataclass
class Served:
    """Where it listens, and what its connections share."""

    box: Box
    door: Door
    port: int

    async def connect(
        self, *, receive_bytes: int | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A new connection, whose kernel holds so many bytes for a caller that does not read."""
        if receive_bytes is None:
            return await asyncio.open_connection("127.0.0.1", self.port)
        near = socket.socket()
        near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        near.setblocking(False)  # noqa: FBT003  # socket's signature
        await asyncio.get_running_loop().sock_connect(near, ("127.0.0.1", self.port))
        return await asyncio.open_connection(sock=near)

    @property
    def wire(self) -> Wire:
        """Its only connection."""
        (wire,) = self.door.open
        return wire

    async def ask(self, *pieces: bytes, gap_seconds: float = 0.0) -> Answer:
        """Send these bytes on a new connection, as writes of their own, and read one answer."""
        reader, writer = await self.connect()
        try:
            for piece in pieces:
                with contextlib.suppress(ConnectionError):
                    writer.write(piece)
                    await writer.drain()
                await asyncio.sleep(gap_seconds)
            return await asyncio.wait_for(read_answer(reader), ANSWER_SECONDS_MAX)
        finally:
            writer.transport.abort()


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """One answer of a known length or in chunks; then whether the connection stays open."""
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    headers = dict(line.split(": ", 1) for line in lines)
    if headers.get("transfer-encoding") == "chunked":
        body = b"".join([chunk async for chunk in _chunks(reader)])
    else:
        body = await reader.readexactly(int(headers["content-length"]))
    try:
        is_open = await asyncio.wait_for(reader.read(1), 0.05) != b""
    except TimeoutError:
        is_open = True
    return Answer(int(first.split(" ")[1]), headers, body, is_open)


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while length := int(await reader.readline(), 16):
        yield await reader.readexactly(length)
        await reader.readexactly(2)
    await reader.readexactly(2)


def post(body: bytes, path: str = "/v1/chat/completions", *lines: str, bearer: str = BEARER) -> bytes:
    """A request as an application would write it; `lines` are further headers."""
    head = [
        f"POST {path} HTTP/1.1",
        "Host: box",
        f"Authorization: {bearer}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *lines,
    ]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


@contextlib.asynccontextmanager
async def served(
    box: Box, *, fast_lane: bool = True, send_bytes: int | None = None, **door: Any
) -> AsyncIterator[Served]:
    """The box's gateway behind its own protocol, as `server.py` puts it there.

    `send_bytes` is what the kernel takes of an answer that nobody reads.
    """
    shared: dict[str, Any] = {"body_seconds_max": 5.0, "connections_per_source_max": 64} | door
    endpoints = {path.encode(): one for path, one in public.INFERENCE.items()} if fast_lane else {}
    hall = Door(box.gateway, endpoints, **shared)
    config = uvicorn.Config(
        public.build(box.gateway, hall.body_seconds_max), lifespan="off", log_config=None, ws="none"
    )
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    hall.now = loop.time()
    listening = socket.create_server(("127.0.0.1", 0))
    if send_bytes is not None:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_bytes)
    server = await loop.create_server(lambda: Wire(config, state, {}, door=hall), sock=listening)
    sweeping = loop.create_task(hall.sweep())
    try:
        yield Served(box, hall, server.sockets[0].getsockname()[1])
    finally:
        sweeping.cancel()
        server.close()
        for wire in list(hall.open):
            wire.transport.abort()
        await asyncio.gather(sweeping, *state.tasks, return_exceptions=True)
