import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.domain import EngineState
from appliance.engine.lifecycle import Restarts
from appliance.engine.process import ProcessSupervisor
from appliance.errors import Refused
from appliance.up.children import Child, Part
from appliance.up.engines import EngineDesk


@pytest.fixture
async def desk(short_folder: Path) -> AsyncIterator[EngineDesk]:
    """A desk over one engine that sleeps, open at short_folder/up.sock."""
    part = Part(
        name="tiny",
        argv=(sys.executable, "-c", "import time; time.sleep(60)"),
        environment={},
        log=short_folder / "tiny.log",
        notify=short_folder / "notify",
        stop_seconds_max=1,
    )
    child = Child(part, Restarts(delay_seconds_min=1, delay_seconds_max=1), lambda _child: None)
    desk = EngineDesk({"tiny": child})
    server = await desk.open(short_folder / "up.sock")
    yield desk
    server.close()
    child.kill()
    await child.ended()


async def test_an_engine_is_started_and_stopped(desk: EngineDesk, short_folder: Path) -> None:
    supervisor = ProcessSupervisor(short_folder / "up.sock")
    assert (await supervisor.states())["tiny"].state is EngineState.STOPPED

    await supervisor.start("tiny")
    while (await supervisor.states())["tiny"].pid is None:
        await asyncio.sleep(0.02)
    assert (await supervisor.states())["tiny"].state is EngineState.LOADING

    await supervisor.stop("tiny")
    while (await supervisor.states())["tiny"].pid is not None:
        await asyncio.sleep(0.02)
    assert (await supervisor.states())["tiny"].state is EngineState.STOPPED


async def test_an_unknown_engine_is_refused(desk: EngineDesk, short_folder: Path) -> None:
    with pytest.raises(Refused, match="no such engine"):
        await ProcessSupervisor(short_folder / "up.sock").start("other")


async def test_nothing_is_started_while_the_appliance_stops(desk: EngineDesk, short_folder: Path) -> None:
    desk.closing = True
    supervisor = ProcessSupervisor(short_folder / "up.sock")

    with pytest.raises(Refused, match="stopping"):
        await supervisor.start("tiny")

    assert (await supervisor.states())["tiny"].pid is None


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"{\n",
        b"[]\n",
        b'"states"\n',
        b"{}\n",
        b'{"verb": "start"}\n',
        b'{"verb": "start", "engine": []}\n',
        b'{"verb": "burn", "engine": "tiny"}\n',
    ],
)
async def test_what_is_no_question_is_refused(desk: EngineDesk, short_folder: Path, line: bytes) -> None:
    reader, writer = await asyncio.open_unix_connection(short_folder / "up.sock")

    writer.write(line)

    assert set(json.loads(await reader.readline())) == {"refused"}
    writer.close()
    await writer.wait_closed()


async def test_a_line_without_end_is_cut_off(desk: EngineDesk, short_folder: Path) -> None:
    reader, writer = await asyncio.open_unix_connection(short_folder / "up.sock")

    writer.write(b"x" * 200_000)

    assert await reader.read() == b""
    writer.close()
