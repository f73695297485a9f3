"""A replica dies under load: whoever was admitted hears of it, and pays once."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field

import httpx

from tests.fakes.engine import ScriptedEngine
from tests.fakes.gateway import GatewayProcess, chat

CHAT = "/v1/chat/completions"


@dataclass
class Crowd:
    """Applications that ask one question after the other, streamed or not, until they are told to stop."""

    application: httpx.AsyncClient
    ends: Counter[str] = field(default_factory=Counter[str])
    """How the answers ended."""
    ids: list[str] = field(default_factory=list[str])
    """Of the requests that were admitted."""
    over: bool = False

    async def ask(self) -> None:
        while not self.over:
            await self._ask(stream=len(self.ids) % 3 > 0)

    async def _ask(self, *, stream: bool) -> None:
        answer = await self.application.post(CHAT, json=chat("nonce=N tokens=10 gap=0.04", stream=stream))
        self.ids += [answer.headers["x-request-id"]] if "x-request-id" in answer.headers else []
        self.ends[_end(answer)] += 1


def _end(answer: httpx.Response) -> str:
    """`whole`, or the code of the error that it is or that it ends with."""
    if answer.headers["content-type"] == "application/json":
        return answer.json()["error"]["code"] if answer.status_code != 200 else "whole"
    last = answer.text.strip().rpartition("data: ")[2]
    return "whole" if last == "[DONE]" else json.loads(last)["error"]["code"]


async def test_a_replica_that_dies_under_load_leaves_nobody_without_an_answer(two: GatewayProcess) -> None:
    two.start()
    first, second = two.engine_sockets
    async with ScriptedEngine(second) as good, two.application() as application:
        crowd = Crowd(application)
        async with ScriptedEngine(first) as bad:
            callers = [asyncio.create_task(crowd.ask()) for _ in range(40)]
            await asyncio.sleep(0.7)
            both = len(bad.exchanges), len(good.exchanges)
        await asyncio.sleep(0.7)
        crowd.over = True
        await asyncio.gather(*callers)

    rows = await asyncio.to_thread(two.rows_soon, len(crowd.ids))
    assert min(both) > 20
    assert set(crowd.ends) == {"whole", "engine_lost"}
    assert 0 < crowd.ends["engine_lost"] <= 40
    assert sorted(row.request_id for row in rows) == sorted(crowd.ids)
    assert Counter(row.http_status for row in rows) == {
        200: crowd.ends["whole"],
        502: crowd.ends["engine_lost"],
    }


async def test_a_replica_that_comes_back_is_used_again(two: GatewayProcess) -> None:
    two.start()
    first, second = two.engine_sockets
    async with ScriptedEngine(second), two.application() as application:
        crowd = Crowd(application)
        callers = [asyncio.create_task(crowd.ask()) for _ in range(10)]
        await asyncio.sleep(0.5)
        async with ScriptedEngine(first) as back:
            while not any(exchange.path == CHAT for exchange in back.exchanges):
                await asyncio.sleep(0.05)
            crowd.over = True
            await asyncio.gather(*callers)

    assert set(crowd.ends) == {"whole"}
