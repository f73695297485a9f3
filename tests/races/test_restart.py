"""A gateway that is restarted under load, as `inferfly up` does it: with the listening socket handed on."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.fakes.engine import DONE, ScriptedEngine
from tests.fakes.gateway import GatewayProcess, chat
from tests.fakes.served import Answer, post, read_answer

CHAT = "/v1/chat/completions"
SECONDS_MAX = 20
"""For a gateway to end."""


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """The public socket, as `up` keeps it open while no gateway runs."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listening:
        yield listening


@dataclass
class Crowd:
    """Applications that make a new connection for every question."""

    gateway: GatewayProcess
    port: int
    told: Counter[str] = field(default_factory=Counter[str])
    over: bool = False

    async def come(self) -> None:
        while not self.over:
            try:
                answer = await self.ask("nonce=N tokens=2 gap=0.01")
            except (OSError, asyncio.IncompleteReadError) as error:
                self.told[type(error).__name__] += 1
            else:
                self.told[str(answer.status)] += 1

    async def ask(self, prompt: str, *, stream: bool = False) -> Answer:
        body = json.dumps(chat(prompt, stream=stream)).encode()
        request = post(body, CHAT, "Connection: close", bearer=self.gateway.bearer)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request)
            return await read_answer(reader)
        finally:
            writer.transport.abort()


async def test_a_restart_under_load_loses_nobody(gateway: GatewayProcess, listening: socket.socket) -> None:
    """Streams go on to their end, and whoever comes meanwhile is answered by the next gateway."""
    gateway.start(listening)
    crowd = Crowd(gateway, listening.getsockname()[1])

    async with ScriptedEngine(gateway.engine_socket) as engine:
        streams = [
            asyncio.create_task(crowd.ask("nonce=S tokens=30 gap=0.05", stream=True)) for _ in range(4)
        ]
        callers = [asyncio.create_task(crowd.come()) for _ in range(16)]
        await asyncio.sleep(0.5)
        before = sum(crowd.told.values())
        code = await gateway.stop(signal.SIGTERM, SECONDS_MAX)
        between = sum(crowd.told.values())
        await asyncio.to_thread(gateway.start, listening)
        await asyncio.sleep(0.5)
        crowd.over = True
        await asyncio.gather(*callers)
        answers = await asyncio.gather(*streams)
        asked = len(engine.exchanges)

    rows = await asyncio.to_thread(gateway.rows_soon, asked)
    told = sum(crowd.told.values())
    assert code == 0
    assert crowd.told == {"200": told}
    assert 0 < before <= between < told
    assert [len(re.findall(rb'"S\.\d+ "', answer.body)) for answer in answers] == [30] * 4
    assert all(answer.body.endswith(DONE) for answer in answers)
    assert len(rows) == asked == told + 4
    assert {row.http_status for row in rows} == {200}


async def test_who_comes_while_no_gateway_runs_is_answered_by_the_next(
    gateway: GatewayProcess, listening: socket.socket
) -> None:
    crowd = Crowd(gateway, listening.getsockname()[1])
    gateway.start(listening)
    await gateway.stop(signal.SIGKILL, SECONDS_MAX)

    async with ScriptedEngine(gateway.engine_socket):
        waits = [asyncio.create_task(crowd.ask("nonce=N")) for _ in range(20)]
        await asyncio.sleep(0.2)
        nobody = not any(task.done() for task in waits)
        await asyncio.to_thread(gateway.start, listening)
        answers = await asyncio.wait_for(asyncio.gather(*waits), 10)

    assert nobody
    assert [answer.status for answer in answers] == [200] * 20


async def test_who_waits_in_the_queue_of_a_gateway_that_has_to_end_is_told(
    gateway: GatewayProcess, listening: socket.socket
) -> None:
    gateway.put_model(max_concurrent_sequences=1)
    gateway.start(listening, drain_seconds_max=1)
    crowd = Crowd(gateway, listening.getsockname()[1])

    async with ScriptedEngine(gateway.engine_socket) as engine:
        stream = asyncio.create_task(crowd.ask("nonce=N tokens=2 then=hang", stream=True))
        while not engine.exchanges:
            await asyncio.sleep(0.02)
        waits = asyncio.create_task(crowd.ask("nonce=N"))
        await asyncio.sleep(0.3)
        code = await gateway.stop(signal.SIGTERM, SECONDS_MAX)
        cut, refused = await asyncio.wait_for(asyncio.gather(stream, waits), 10)

    (row,) = gateway.rows()
    assert json.loads(cut.body.rpartition(b"data: ")[2])["error"]["code"] == "shutting_down"
    assert (refused.status, json.loads(refused.body)["error"]["code"]) == (503, "shutting_down")
    assert (code, row.http_status, row.completion_tokens) == (0, 503, 2)
