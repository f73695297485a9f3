"""Gateways to attack, one with the fast lane and one without, and the engine behind them."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.fakes.box import KEY
from tests.fakes.engine import ScriptedEngine
from tests.hostile.gateways import Target, WatchedTarget

BODY_SECONDS_MAX = 2.0
"""Long enough for 8 MiB on a busy machine."""
LANES = {"fast lane": True, "Litestar": False}


@pytest.fixture(scope="session")
def targets() -> Iterator[dict[str, Target]]:
    with tempfile.TemporaryDirectory(prefix="ifly-") as folder:
        found = {lane: Target(Path(folder) / str(number), key=KEY) for number, lane in enumerate(LANES)}
        try:
            for lane, target in found.items():
                target.start(fast_lane=LANES[lane], body_seconds_max=BODY_SECONDS_MAX)
            yield found
        finally:
            for target in found.values():
                target.close()


@pytest.fixture(scope="module", params=list(LANES))
def watched(request: pytest.FixtureRequest) -> Iterator[WatchedTarget]:
    """A fresh one for each file, so that one's memory is not measured in the other."""
    with tempfile.TemporaryDirectory(prefix="ifly-") as folder:
        target = WatchedTarget(Path(folder), key=KEY)
        try:
            target.start(fast_lane=LANES[request.param], body_seconds_max=BODY_SECONDS_MAX)
            yield target
        finally:
            target.close()


@pytest.fixture
async def engine_of_watched(watched: WatchedTarget) -> AsyncIterator[ScriptedEngine]:
    async with ScriptedEngine(watched.engine_socket) as engine:
        yield engine


@pytest.fixture(params=list(LANES))
def target(request: pytest.FixtureRequest, targets: dict[str, Target]) -> Target:
    return targets[request.param]


@pytest.fixture
async def engine(target: Target) -> AsyncIterator[ScriptedEngine]:
    async with ScriptedEngine(target.engine_socket) as engine:
        yield engine
