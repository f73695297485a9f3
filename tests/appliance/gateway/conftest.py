"""The gateway runs on uvloop, so its tests do: the two loops differ where connections end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest
import uvloop

from tests.fakes.box import Box
from tests.fakes.gateway import GatewayProcess

TEST_SECONDS_MAX = 90


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": _loop}


def _loop() -> asyncio.AbstractEventLoop:
    """With an end: uvloop swallows what pytest-timeout raises in its signal's handler."""
    loop = uvloop.new_event_loop()
    loop.call_later(TEST_SECONDS_MAX, _give_up, loop)
    return loop


def _give_up(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel(f"after {TEST_SECONDS_MAX} seconds")


@pytest.fixture
async def box(short_folder: Path) -> AsyncIterator[Box]:
    """One engine."""
    box = Box(short_folder)
    yield box
    box.close()


@pytest.fixture(params=[True, False], ids=["fast lane", "Litestar"])
def gateway(request: pytest.FixtureRequest, short_folder: Path) -> Iterator[GatewayProcess]:
    """Whatever a test does to it: its output is events only, and nothing of it is left behind."""
    gateway = GatewayProcess(short_folder, fast_lane=request.param)
    yield gateway
    gateway.close()
    assert "crashed" not in gateway.log_events
    assert "task_failed" not in gateway.log_events
    assert "request_failed" not in gateway.log_events
