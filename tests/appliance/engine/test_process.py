import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from appliance.domain import EngineState
from appliance.engine.process import ProcessSupervisor
from appliance.engine.supervisor import UnitState
from appliance.errors import EnvironmentBroken, Refused


@asynccontextmanager
async def up(folder: Path, answer: bytes) -> AsyncIterator[list[Any]]:
    """A supervisor that gives one answer to every question, and the questions it got."""
    asked: list[Any] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(json.loads(await reader.readline()))
        writer.write(answer)
        writer.close()

    server = await asyncio.start_unix_server(serve, folder / "up.sock")
    try:
        yield asked
    finally:
        server.close()


async def test_each_verb_is_one_line(short_folder: Path) -> None:
    async with up(short_folder, b'{"done": true}\n') as asked:
        supervisor = ProcessSupervisor(short_folder / "up.sock")
        await supervisor.start("tiny")
        await supervisor.stop("tiny")
        await supervisor.restart("tiny")

    assert asked == [{"verb": verb, "engine": "tiny"} for verb in ("start", "stop", "restart")]


async def test_states_come_back_whole(short_folder: Path) -> None:
    unit = {"state": "failed", "since_ms": 5, "pid": None, "restarts": 2, "cause": "why", "cure": "what"}
    async with up(short_folder, json.dumps({"states": {"tiny": unit}}).encode() + b"\n"):
        states = await ProcessSupervisor(short_folder / "up.sock").states()

    assert states == {"tiny": UnitState(EngineState.FAILED, 5, None, 2, "why", "what")}


async def test_a_refusal_is_told(short_folder: Path) -> None:
    async with up(short_folder, b'{"refused": "models.yaml has no such engine."}\n'):
        with pytest.raises(Refused, match="no such engine"):
            await ProcessSupervisor(short_folder / "up.sock").start("nobody")


@pytest.mark.parametrize("answer", [b"", b"{\n", b"no json\n"], ids=["nothing", "half", "noise"])
async def test_no_answer_is_told_with_its_cure(short_folder: Path, answer: bytes) -> None:
    async with up(short_folder, answer):
        with pytest.raises(EnvironmentBroken, match="inferfly up"):
            await ProcessSupervisor(short_folder / "up.sock").states()


async def test_nobody_there_is_told_with_its_cure(short_folder: Path) -> None:
    with pytest.raises(EnvironmentBroken, match="inferfly up"):
        await ProcessSupervisor(short_folder / "up.sock").states()


async def test_waiting_has_a_limit(short_folder: Path) -> None:
    closing = asyncio.Event()

    async def never(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await closing.wait()
        writer.close()

    server = await asyncio.start_unix_server(never, short_folder / "up.sock")

    async with asyncio.timeout(2):
        with pytest.raises(EnvironmentBroken):
            await ProcessSupervisor(short_folder / "up.sock", answer_seconds_max=0.1).states()
    server.close()
    closing.set()
    await asyncio.sleep(0.05)
