from __future__ import annotations

import asyncio
import contextlib
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.fakes.box import KEY
from tests.fakes.engine import ScriptedEngine
from tests.hostile.attack import attack, sources
from tests.hostile.cases import BODY, CHAT, GOOD, chunks, coded, request
from tests.hostile.conftest import BODY_SECONDS_MAX
from tests.hostile.gateways import Target, WatchedTarget
from tests.processes import soon

HEAD_SECONDS_MAX = 10.0
LATE_SECONDS_MAX = 3.0
"""By how much a busy machine may miss a time."""
DROP_SECONDS = 0.2
FILES = 600
SOURCES = sources("127.3.0.0/16")


class Slow(NamedTuple):
    """Who sends this at once, then the rest byte by byte, is answered so and cut off within this time."""

    at_once: bytes
    drops: bytes
    status: int
    seconds_max: float


SLOW: dict[str, Slow] = {
    "nothing": Slow(b"", b"", 0, HEAD_SECONDS_MAX),
    "half a line": Slow(CHAT[:9], b"", 408, HEAD_SECONDS_MAX),
    "half a head": Slow(GOOD[:90], b"", 408, HEAD_SECONDS_MAX),
    "a head in drops": Slow(GOOD[:20], GOOD[20:], 408, HEAD_SECONDS_MAX),
    "empty lines": Slow(b"", b"\r\n" * 100, 408, HEAD_SECONDS_MAX),
    "half a body": Slow(GOOD[:-5], b"", 408, BODY_SECONDS_MAX),
    "a body in drops": Slow(GOOD[: -len(BODY)], BODY, 408, BODY_SECONDS_MAX),
    "chunks in drops": Slow(coded(b""), chunks(), 408, BODY_SECONDS_MAX),
    "an extension in drops": Slow(coded(b"5;"), b"a" * 200, 408, BODY_SECONDS_MAX),
    "a body that is not waited for": Slow(request(b"GET /healthz HTTP/1.1")[:-5], BODY, 200, 2.0),
}


async def cut_off(port: int, slow: Slow) -> tuple[int, bool]:
    """Status of what a slow caller is told, if anything, and whether it was cut off in time."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(next(SOURCES), 0))
    began = time.monotonic()
    writer.write(slow.at_once)
    dropping = asyncio.create_task(drop(writer, slow.drops))
    told = await reader.read()
    took = time.monotonic() - began
    dropping.cancel()
    writer.transport.abort()
    return int(told.split(b" ")[1]) if told else 0, took < slow.seconds_max + LATE_SECONDS_MAX


async def drop(writer: asyncio.StreamWriter, drops: bytes) -> None:
    for byte in drops:
        with contextlib.suppress(ConnectionError):
            writer.write(bytes([byte]))
            await writer.drain()
        await asyncio.sleep(DROP_SECONDS)


async def test_who_is_slow_is_cut_off_in_time(
    watched: WatchedTarget, engine_of_watched: ScriptedEngine
) -> None:
    files = watched.files()

    ended = await asyncio.gather(*(cut_off(watched.port, slow) for slow in SLOW.values()))

    assert dict(zip(SLOW, ended, strict=True)) == {name: (slow.status, True) for name, slow in SLOW.items()}
    assert await watched.idle()
    assert await soon(lambda: watched.files() <= files)
    assert engine_of_watched.exchanges == []


async def test_who_hangs_up_leaves_nothing(watched: WatchedTarget, engine_of_watched: ScriptedEngine) -> None:
    files = watched.files()
    writers = [
        (await asyncio.open_connection("127.0.0.1", watched.port, local_addr=(next(SOURCES), 0)))[1]
        for _ in range(300)
    ]
    for at, writer in enumerate(writers):
        writer.write(GOOD[: at * 2 % len(GOOD)])
    assert await soon(lambda: watched.seen("connections") == len(writers))

    for writer in writers[::2]:
        writer.transport.abort()
    for writer in writers[1::2]:
        writer.write_eof()
    idle = await watched.idle()
    for writer in writers:
        writer.transport.abort()

    assert idle
    assert await soon(lambda: watched.files() <= files)
    assert engine_of_watched.exchanges == []


@pytest.fixture
def cramped(short_folder: Path) -> Iterator[Target]:
    """A gateway that may open few files."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = Target(short_folder, key=KEY)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, limits[1]))
    try:
        target.start(open_requests_max=16)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    yield target
    target.close()


async def test_connections_never_take_the_descriptors_that_engines_need(cramped: Target) -> None:
    """From many sources, so that no limit of a single one holds them off."""
    held = [
        await asyncio.open_connection("127.0.0.1", cramped.port, local_addr=(next(SOURCES), 0))
        for _ in range(FILES)
    ]
    async with ScriptedEngine(cramped.engine_socket) as engine:
        reader, writer = held[0]
        writer.write(GOOD)
        served = await reader.readline()
        one_more = await attack(cramped.port, GOOD)
        files = cramped.files()
        for _, held_open in held:
            held_open.transport.abort()
        await asyncio.sleep(0.5)
        afterwards = await attack(cramped.port, GOOD)

    assert served.startswith(b"HTTP/1.1 200 ")
    assert (one_more.statuses, files < FILES // 2) == ((), True)
    assert afterwards.statuses == (200,)
    assert len(engine.exchanges) == 2
