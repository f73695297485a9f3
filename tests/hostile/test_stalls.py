from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.fakes.engine import Exchange, ScriptedEngine, answer, whole
from tests.fakes.served import post
from tests.hostile.attack import attack
from tests.hostile.bodies import LARGE
from tests.hostile.costly import CHAT, CHATS, COSTLY
from tests.hostile.gateways import WatchedTarget

STALL_SECONDS_MAX = 0.02
TRIES = 6
"""A shared machine is slow at times: a body that is too much is so each time."""
SETTLE_SECONDS = 0.02

BODIES = COSTLY | {f"refused: {name}": (CHAT, body) for name, body in LARGE.items()}


@pytest.fixture
async def engine(watched: WatchedTarget) -> AsyncIterator[ScriptedEngine]:
    async with ScriptedEngine(watched.engine_socket, one_word) as engine:
        yield engine


async def one_word(exchange: Exchange) -> None:
    await exchange.send(whole(answer("N", 1)))


async def least_stall(watched: WatchedTarget, *requests: bytes) -> float:
    """What these requests, sent together, stall the loop at the least."""
    stalls: list[float] = []
    while len(stalls) < TRIES and min(stalls, default=1) > STALL_SECONDS_MAX:
        watched.forget_stalls()
        await asyncio.gather(*(attack(watched.port, request) for request in requests))
        await asyncio.sleep(SETTLE_SECONDS)
        stalls.append(watched.seen("stall_seconds"))
    return min(stalls)


async def test_an_idle_loop_does_not_stall(watched: WatchedTarget) -> None:
    """What the other tests stand on: the watch runs, and sees nothing where nothing is."""
    await asyncio.sleep(0.5)
    before = watched.seen("samples")
    watched.forget_stalls()
    await asyncio.sleep(0.5)

    assert watched.seen("samples") > before + 50
    assert watched.seen("stall_seconds") < STALL_SECONDS_MAX / 2


@pytest.mark.parametrize(("path", "body"), BODIES.values(), ids=BODIES.keys())
async def test_no_body_stalls_the_loop(
    path: str, body: bytes, watched: WatchedTarget, engine: ScriptedEngine
) -> None:
    assert await least_stall(watched, post(body, path)) < STALL_SECONDS_MAX


async def test_many_large_bodies_at_once_do_not_stall_the_loop(
    watched: WatchedTarget, engine: ScriptedEngine
) -> None:
    """Their steps take turns; between two of them, pieces of the others are read."""
    requests = [post(CHATS[name]) for name in ("plain text", "three bytes a character", "messages")] * 3

    assert await least_stall(watched, *requests) < 2 * STALL_SECONDS_MAX
    assert len(engine.exchanges) >= len(requests)
