"""A raw connection to a gateway: what is sent goes out as it is, and all that comes back is kept."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_network

ANSWER_SECONDS_MAX = 10.0
GAP_SECONDS = 0.003
"""Between two pieces of a request, so that they are read as two."""
PROBE = b"GET /healthz HTTP/1.1\r\nhost: probe\r\n\r\n"
HEALTHY = b'{"status":"ok"}'


@dataclass(frozen=True)
class Answer:
    """One answer as it stood on the wire."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Seen:
    """All that came back on one connection."""

    answers: tuple[Answer, ...]
    """Without that to the probe."""
    closed: bool
    """Whether the gateway closed it. If not, it answered a further, honest request with exactly its answer."""

    @property
    def statuses(self) -> tuple[int, ...]:
        return tuple(answer.status for answer in self.answers)

    @property
    def raw(self) -> bytes:
        """Every byte that the caller got to see of the answers."""
        return b"".join(repr(answer).encode() for answer in self.answers)


def sources(network: str) -> Iterator[str]:
    """Loopback addresses: the guard against guessing keys would keep a single one waiting."""
    return map(str, ip_network(network).hosts())


async def attack(port: int, *pieces: bytes, source: str = "127.0.0.1") -> Seen:
    """Send these pieces on a connection of their own and read until it is closed, or proves to be in order."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    answers: list[Answer] = []
    probed = False
    try:
        await _send(writer, pieces)
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            while True:
                answer = await _read(reader, bodiless=b"".join(pieces[:2])[:4] == b"HEAD" and not answers)
                if answer is None:
                    return Seen(tuple(answers), closed=True)
                if answer.body == HEALTHY and probed:
                    return Seen(tuple(answers), closed=False)
                answers.append(answer)
                if not probed and answer.headers.get("connection") != "close":
                    probed = True
                    await _send(writer, [PROBE])
    finally:
        writer.transport.abort()


async def _send(writer: asyncio.StreamWriter, pieces: Sequence[bytes]) -> None:
    for at, piece in enumerate(pieces):
        if at:
            await asyncio.sleep(GAP_SECONDS)
        with contextlib.suppress(ConnectionError):
            writer.write(piece)
            await writer.drain()


async def _read(reader: asyncio.StreamReader, *, bodiless: bool = False) -> Answer | None:
    """The next answer; None where the connection ends instead. Fails on anything that is no whole answer."""
    head = b""
    with contextlib.suppress(ConnectionError):
        while not head.endswith(b"\r\n\r\n") and (line := await reader.readline()):
            head += line
    if not head:
        return None
    assert head.endswith(b"\r\n\r\n"), "half an answer"
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    version, status, *_ = first.split(" ")
    assert version == "HTTP/1.1"
    headers = dict(line.split(": ", 1) for line in lines)
    if status == "100":
        return await _read(reader, bodiless=bodiless)
    if bodiless:
        return Answer(int(status), headers, b"")
    if headers.get("transfer-encoding") == "chunked":
        body = b"".join([chunk async for chunk in _chunks(reader)])
    else:
        body = await reader.readexactly(int(headers["content-length"]))
    return Answer(int(status), headers, body)


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while length := int(await reader.readline(), 16):
        yield await reader.readexactly(length)
        await reader.readexactly(2)
    await reader.readexactly(2)


def cuts(sent: bytes, most: int) -> list[tuple[bytes, bytes]]:
    """It in two pieces, cut at every place or, if it is long, at so many, and close to its end."""
    step = len(sent) // (most + 1) + 1
    places = {*range(step, len(sent), step), len(sent) - 1}
    return [(sent[:at], sent[at:]) for at in sorted(places)]
