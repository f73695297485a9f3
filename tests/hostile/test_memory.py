from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.fakes.engine import ScriptedEngine
from tests.fakes.served import post
from tests.hostile.attack import attack, sources
from tests.hostile.bodies import BODIES
from tests.hostile.cases import BODY, GOOD
from tests.hostile.costly import CHATS
from tests.hostile.fields import FIELDS
from tests.hostile.framing import CHUNKS, HIDDEN
from tests.hostile.gateways import WatchedTarget
from tests.hostile.lines import LINES

WARM_UP = 500
REQUESTS = 1500
AT_ONCE = 20
GROWTH_BYTES_MAX = 10 * 1024 * 1024
LARGE_WARM_UP = 4
LARGE_REQUESTS = 12
LARGE_GROWTH_BYTES_MAX = 64 * 1024 * 1024
"""The allocator keeps room for a few bodies of 8 MiB. Were they all kept, it would be 96 MiB and more."""
SOURCES = sources("127.2.0.0/16")

KINDS: dict[str, bytes] = {
    "no request": LINES["8 bits in the address"].sent,
    "an unknown address": LINES["an unknown address"].sent,
    "a folded header": FIELDS["folded"].sent,
    "a key that is none": FIELDS["a key that is none"].sent,
    "a trailer": CHUNKS["a trailer"].sent,
    "two requests": HIDDEN["behind a good one"].sent,
    "an unknown field": BODIES["an unknown field"].sent,
    "half a request": GOOD[: -len(BODY) // 2],
}


async def hit(port: int, sent: bytes, times: int) -> None:
    """Send it that often, each on a connection of its own, read how its answer begins, if any, and hang up."""

    async def some() -> None:
        for _ in range(times // AT_ONCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(next(SOURCES), 0))
            with contextlib.suppress(ConnectionError, TimeoutError):
                writer.write(sent)
                await asyncio.wait_for(reader.readline(), 0.05)
            writer.transport.abort()

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))


@pytest.mark.parametrize("sent", KINDS.values(), ids=KINDS.keys())
async def test_thousands_of_hostile_requests_leave_memory_as_it_was(
    sent: bytes, watched: WatchedTarget, engine_of_watched: ScriptedEngine
) -> None:
    await hit(watched.port, sent, WARM_UP)
    before = watched.rss_bytes()

    await hit(watched.port, sent, REQUESTS)

    assert watched.rss_bytes() - before < GROWTH_BYTES_MAX
    assert await watched.idle()


@pytest.mark.parametrize("name", ["three bytes a character", "messages of 8 MiB"])
async def test_large_bodies_are_not_kept(
    name: str, watched: WatchedTarget, engine_of_watched: ScriptedEngine
) -> None:
    request = post(CHATS[name])
    for _ in range(LARGE_WARM_UP):
        await attack(watched.port, request)
    before = watched.rss_bytes()

    statuses = [(await attack(watched.port, request)).statuses for _ in range(LARGE_REQUESTS)]

    assert statuses == [(200,)] * LARGE_REQUESTS
    assert watched.rss_bytes() - before < LARGE_GROWTH_BYTES_MAX


async def test_a_body_in_the_smallest_chunks_takes_the_room_of_its_bytes(
    watched: WatchedTarget, engine_of_watched: ScriptedEngine
) -> None:
    """Two bytes each: as objects of their own they would take thirty times as much."""
    before = watched.rss_bytes()
    head = post(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    asked = asyncio.create_task(attack(watched.port, head + b"2\r\n  \r\n" * 250_000 + b"0\r\n\r\n"))

    most = before
    while not asked.done():
        most = max(most, watched.rss_bytes())
        await asyncio.sleep(0.002)

    assert (await asked).statuses == (400,)
    assert most - before < 6 * 1024 * 1024
