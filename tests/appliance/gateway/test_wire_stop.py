"""Connections of a server that stops, and what all of them say and count."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator

import pytest

from tests.fakes.box import Box, chat
from tests.fakes.engine import ScriptedEngine
from tests.fakes.served import Served, post, read_answer, served
from tests.processes import soon

SECONDS_MAX = 3
GOOD = post(chat("nonce=N tokens=2"))


@pytest.fixture(params=[True, False], ids=["fast lane", "Litestar"])
async def gateway(request: pytest.FixtureRequest, box: Box) -> AsyncIterator[Served]:
    async with served(box, fast_lane=request.param, sweep_seconds=0.05) as gateway:
        yield gateway


async def test_an_idle_connection_is_closed_when_the_server_stops(gateway: Served) -> None:
    async with ScriptedEngine(gateway.box.socket):
        reader, writer = await gateway.connect()
        writer.write(GOOD)
        await read_answer(reader)
        gateway.wire.shutdown()
        rest = await asyncio.wait_for(reader.read(), 2)
        writer.close()

    assert rest == b""


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_an_answer_under_way_when_the_server_stops_is_the_last(
    gateway: Served, *, stream: bool
) -> None:
    async with ScriptedEngine(gateway.box.socket) as engine:
        reader, writer = await gateway.connect()
        writer.write(post(chat("nonce=N tokens=3 gap=0.1", stream=stream)))
        await soon(lambda: engine.exchanges, SECONDS_MAX)
        gateway.wire.shutdown()
        answer = await read_answer(reader)
        writer.close()

    assert (answer.status, answer.open) == (200, False)
    assert answer.body.count(b'"N') == (3 if stream else 1)


async def test_a_connection_of_the_last_moment_is_still_answered(gateway: Served) -> None:
    async with ScriptedEngine(gateway.box.socket):
        reader, writer = await gateway.connect()
        await soon(lambda: gateway.door.open, SECONDS_MAX)
        gateway.wire.shutdown()
        writer.write(GOOD)
        answer = await read_answer(reader)
        writer.close()

    assert (answer.status, answer.headers["connection"], answer.open) == (200, "close", False)


async def test_a_request_of_the_last_moment_is_still_answered(gateway: Served) -> None:
    """Its head is on its way when the server stops."""
    async with ScriptedEngine(gateway.box.socket):
        reader, writer = await gateway.connect()
        writer.write(GOOD)
        await read_answer(reader)
        writer.write(GOOD[:30])
        await asyncio.sleep(0.05)
        gateway.wire.shutdown()
        writer.write(GOOD[30:])
        answer = await read_answer(reader)
        writer.close()

    assert (answer.status, answer.headers["connection"], answer.open) == (200, "close", False)


async def test_a_connection_that_says_nothing_does_not_hold_up_a_server_that_stops(box: Box) -> None:
    async with served(box, sweep_seconds=0.05, late_seconds_max=0.1) as gateway:
        reader, writer = await gateway.connect()
        await soon(lambda: gateway.door.open, SECONDS_MAX)
        gateway.wire.shutdown()
        rest = await asyncio.wait_for(reader.read(), 2)
        writer.close()

    assert rest == b""


# What the metrics and the date say


async def test_open_connections_are_counted(gateway: Served) -> None:
    async def shown() -> str:
        await asyncio.sleep(0.12)
        text = gateway.box.gateway.metrics.exposition().decode()
        return re.findall(r"(?m)^inferfly_connections (\S+)", text)[0]

    connections = [await gateway.connect() for _ in range(3)]
    open_ = await shown()
    for _, writer in connections:
        writer.transport.abort()

    assert (open_, await shown()) == ("3.0", "0.0")


async def test_the_servers_own_headers_are_on_every_answer(gateway: Served) -> None:
    async with ScriptedEngine(gateway.box.socket):
        reader, writer = await gateway.connect()
        await soon(lambda: gateway.door.open, SECONDS_MAX)
        gateway.wire.server_state.default_headers = [(b"date", b"today")]
        writer.write(GOOD)
        first = await read_answer(reader)
        gateway.wire.server_state.default_headers = [(b"date", b"tomorrow")]
        writer.write(GOOD)
        second = await read_answer(reader)
        writer.write(b"noise\r\n\r\n")
        third = await read_answer(reader)
        writer.close()

    assert [answer.headers["date"] for answer in (first, second, third)] == ["today", "tomorrow", "tomorrow"]
    assert json.loads(third.body)["error"]["code"] == "invalid_http"
