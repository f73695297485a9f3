"""Many requests at once, whoever hangs up when: none gets another's answer, and each has its row."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Iterator

from tests.fakes.engine import ScriptedEngine
from tests.fakes.gateway import GatewayProcess, chat
from tests.fakes.served import post


class Crowd:
    """Callers on connections that they keep, some of whom hang up at some point of their request."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._gateway = gateway
        self.answered: set[str] = set()
        """Ids of requests whose answer began."""
        self.whole = 0
        self.strange: list[str] = []
        """Nonces of others, and answers that lack their own."""

    async def come(self, nonces: Iterator[int]) -> None:
        connection = None
        for number in nonces:
            connection = connection or await asyncio.open_unix_connection(self._gateway.socket)
            keep = await self._ask(f"n{number}x", random.Random(number), *connection)
            if not keep:
                connection[1].transport.abort()
                connection = None
        if connection:
            connection[1].close()

    async def _ask(
        self, nonce: str, dice: random.Random, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Ask one question, whole or as a stream. Whether it was answered to its end."""
        stream, leaves = dice.random() < 0.5, dice.random()
        body = json.dumps(chat(f"nonce={nonce} tokens=4 gap={dice.random() * 0.004}", stream=stream))
        writer.write(post(body.encode(), bearer=self._gateway.bearer))
        if leaves < 0.1:
            await asyncio.sleep(dice.random() * 0.01)
            return False
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.answered.add(re.findall(r"x-request-id: (\S+)", head)[0])
        if leaves < 0.2:
            self._look(nonce, await reader.read(dice.randrange(1, 1000)))
            return False
        length = re.findall(r"content-length: (\d+)", head)
        body = await (reader.readexactly(int(length[0])) if length else reader.readuntil(b"\r\n0\r\n\r\n"))
        self._look(nonce, body, times=4 if stream else 1)
        self.whole += 1
        return True

    def _look(self, nonce: str, body: bytes, times: int | None = None) -> None:
        found = re.findall(r"n\d+x", body.decode())
        self.strange += [other for other in found if other != nonce]
        self.strange += [nonce] * (times is not None and len(found) != times)


async def test_many_requests_at_once_each_get_their_own_answer_and_row(gateway: GatewayProcess) -> None:
    """None of another's, whoever hangs up when (threats: response mix-up)."""
    gateway.start()
    crowd, nonces = Crowd(gateway), iter(range(2000))

    async with ScriptedEngine(gateway.engine_socket), gateway.application() as application:
        await asyncio.gather(*(crowd.come(nonces) for _ in range(64)))
        await asyncio.sleep(0.3)
        exposition = (await application.get("/metrics")).text

    counted = sum(float(n) for n in re.findall(r"inferfly_requests_total\{.*\} (\S+)", exposition))
    rows = gateway.rows()
    assert crowd.strange == []
    assert crowd.whole > 1500
    assert crowd.answered <= {row.request_id for row in rows}
    assert len(rows) == counted <= 2000
    assert "inferfly_requests_open 0.0" in exposition
