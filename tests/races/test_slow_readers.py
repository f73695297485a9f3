"""Callers that read nothing from answers without end: the gateway keeps next to nothing for them."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import ExitStack

import httpx

from tests.fakes import engine as fake
from tests.fakes.engine import Exchange, ScriptedEngine
from tests.fakes.gateway import GatewayProcess, chat
from tests.fakes.served import post
from tests.processes import resident_bytes

CHAT = "/v1/chat/completions"
READERS = 50
EVENT_BYTES = 20_000


class Endless:
    """An engine that speaks as fast as it is listened to."""

    def __init__(self) -> None:
        self.sent = 0

    async def __call__(self, exchange: Exchange) -> None:
        if not exchange.json.get("stream"):
            await exchange.send(fake.whole(fake.answer("N", 2)))
            return
        await exchange.send(fake.STREAM_HEAD)
        event = fake.chunk(fake.event("x" * EVENT_BYTES, 1))
        while True:
            await exchange.send(event)
            self.sent += 1


def reader(gateway: GatewayProcess) -> socket.socket:
    """It has asked for a stream, and reads none of it."""
    body = json.dumps(chat("x", stream=True)).encode()
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(gateway.socket))
    connection.sendall(post(body, bearer=gateway.bearer))
    return connection


async def stands_still(engine: Endless) -> int:
    """What the engine has sent once it can't get rid of more."""
    sent = -1
    while sent != engine.sent:
        sent = engine.sent
        await asyncio.sleep(0.3)
    return sent


async def test_callers_that_read_nothing_do_not_fill_the_memory(
    gateway: GatewayProcess, application: httpx.AsyncClient
) -> None:
    child = gateway.start()
    engine = Endless()
    async with ScriptedEngine(gateway.engine_socket, engine):
        await application.post(CHAT, json=chat("nonce=N"))
        before = resident_bytes(child.pid)
        with ExitStack() as readers:
            for _ in range(READERS):
                readers.enter_context(reader(gateway))
            sent = await stands_still(engine)
            grown = resident_bytes(child.pid) - before
            others = await application.post(CHAT, json=chat("nonce=N"))
        rows = await asyncio.to_thread(gateway.rows_soon, READERS + 2)

    assert sent > READERS
    assert grown < READERS * 600_000
    assert others.status_code == 200
    assert sorted(row.http_status for row in rows) == [200] * 2 + [499] * READERS
