"""The gateway's process in both lanes, and the loop that it runs on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from tests.appliance.gateway.conftest import gateway, pytest_asyncio_loop_factories
from tests.fakes.gateway import GatewayProcess

__all__ = ["gateway", "pytest_asyncio_loop_factories"]


@pytest.fixture
async def application(gateway: GatewayProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with gateway.application() as application:
        yield application


@pytest.fixture(params=[True, False], ids=["fast lane", "Litestar"])
def two(request: pytest.FixtureRequest, short_folder: Path) -> Iterator[GatewayProcess]:
    """A gateway with two replicas of its model."""
    gateway = GatewayProcess(short_folder, fast_lane=request.param, engines=2)
    yield gateway
    gateway.close()
    assert not {"crashed", "task_failed", "request_failed"} & set(gateway.log_events)
