"""Many requests at the edge of a budget or a rate: it is never passed, and a kill forgets nothing of it."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter

import httpx
import pytest

from appliance.domain import Price
from tests.fakes.engine import PROMPT_TOKENS, Exchange, ScriptedEngine, answer, whole
from tests.fakes.gateway import GatewayProcess, chat

pytestmark = pytest.mark.parametrize("gateway", [True], ids=["fast lane"], indirect=True)

CHAT = "/v1/chat/completions"
TOKENS = 10
EACH = PROMPT_TOKENS + TOKENS
"""What one request uses. It reserves over 400: its bytes and the template's."""


async def ask(application: httpx.AsyncClient, *, stream: bool = False) -> tuple[int, str]:
    request = chat(f"nonce=N tokens={TOKENS} gap=0.001", max_tokens=TOKENS, stream=stream)
    answer = await application.post(CHAT, json=request)
    code = "" if answer.status_code == 200 else answer.json()["error"]["code"]
    assert answer.status_code == 200 or int(answer.headers["retry-after"]) >= 1
    return answer.status_code, code


def limit(gateway: GatewayProcess, kind: str, **limits: int | None) -> None:
    name = {"key": gateway.key.key_id, "account": "default", "model": "m"}[kind]
    with gateway.registry() as registry:
        registry.change_limits(kind, name, limits)  # type: ignore[arg-type]  # one of the three kinds


async def at_once(application: httpx.AsyncClient, count: int) -> Counter[tuple[int, str]]:
    return Counter(
        await asyncio.gather(*(ask(application, stream=bool(number % 2)) for number in range(count)))
    )


async def test_no_budget_is_passed_by_a_hundred_at_once(
    gateway: GatewayProcess, application: httpx.AsyncClient
) -> None:
    budget = 1500
    limit(gateway, "account", tokens_per_day=budget)
    gateway.start()

    async with ScriptedEngine(gateway.engine_socket):
        told = await at_once(application, 100)
        while (await ask(application))[0] == 200:  # to the very edge
            told[200, ""] += 1

    rows = await asyncio.to_thread(gateway.rows_soon, told[200, ""])
    assert set(told) == {(200, ""), (429, "insufficient_quota")}
    assert len(rows) == told[200, ""] >= 3
    assert sum(row.rl_tokens_used for row in rows) == EACH * len(rows)
    assert budget - 500 < EACH * len(rows) <= budget


async def test_costs_are_held_as_tokens_are(gateway: GatewayProcess, application: httpx.AsyncClient) -> None:
    with gateway.registry() as registry:
        registry.set_price("m", Price(1_000_000, 20_000_000))
    limit(gateway, "account", cost_per_month_micros=2500)
    gateway.start()

    async with ScriptedEngine(gateway.engine_socket):
        told = await at_once(application, 100)

    rows = await asyncio.to_thread(gateway.rows_soon, told[200, ""])
    assert set(told) == {(200, ""), (429, "insufficient_quota")}
    assert 0 < sum(row.prompt_tokens + 20 * row.completion_tokens for row in rows) <= 2500


async def test_a_rate_lets_as_many_pass_as_it_says(
    gateway: GatewayProcess, application: httpx.AsyncClient
) -> None:
    limit(gateway, "key", requests_per_minute=17)
    gateway.start()

    async with ScriptedEngine(gateway.engine_socket):
        told = await at_once(application, 100)

    assert told == {(200, ""): 17, (429, "rate_limit_exceeded"): 83}


async def test_so_many_run_at_once_and_no_more(
    gateway: GatewayProcess, application: httpx.AsyncClient
) -> None:
    limit(gateway, "key", concurrent_requests=5)
    gateway.start()
    at_work: list[int] = []

    async def slow(exchange: Exchange) -> None:
        at_work.append(at_work[-1] + 1 if at_work else 1)
        await asyncio.sleep(0.5)
        await exchange.send(whole(answer("N", TOKENS)))
        at_work.append(at_work[-1] - 1)

    async with ScriptedEngine(gateway.engine_socket, slow):
        told = Counter(await asyncio.gather(*(ask(application) for _ in range(60))))

    assert set(told) == {(200, ""), (429, "rate_limit_exceeded")}
    assert told[200, ""] >= 5
    assert max(at_work) == 5


async def test_what_was_spent_before_a_kill_is_still_spent(gateway: GatewayProcess) -> None:
    """Also by streams that it cut: by as many tokens as the engine had told of."""
    with gateway.registry() as registry:
        registry.set_price("m", Price(1_000_000, 1_000_000))  # a token costs a millionth
    gateway.start()
    spent = 10 * EACH + 5 * (PROMPT_TOKENS + 20)
    async with ScriptedEngine(gateway.engine_socket):
        async with gateway.application() as application:
            whole_ones = await at_once(application, 10)
            streams = [asyncio.create_task(hang(application)) for _ in range(5)]
            await asyncio.sleep(0.5)
            gateway.children[-1].send_signal(signal.SIGKILL)
            await asyncio.gather(*streams, return_exceptions=True)
        limit(gateway, "account", tokens_per_day=spent + 350)
        gateway.start()
        async with gateway.application() as application:
            days = await until(application, "This account's budget of tokens per day")
            limit(gateway, "account", tokens_per_day=None, cost_per_day_micros=spent + 350)
            costs = await until(application, "This account's budget of cost per day")
            limit(gateway, "model", tokens_per_month=spent + 350)
            limit(gateway, "account", cost_per_day_micros=spent + 10_000)
            months = await until(application, "This model's budget of tokens per month")
            limit(gateway, "key", requests_per_minute=15)
            limit(gateway, "model", tokens_per_month=None)
            minutes = await until(application, "This key's limit of requests per minute")

    rows = await asyncio.to_thread(gateway.rows_soon, 15)
    assert whole_ones == {(200, ""): 10}
    assert (days, costs, months, minutes) == (True, True, True, True)
    assert sum(row.rl_tokens_used for row in rows) == spent
    assert [row.token_counts for row in rows].count("interrupted") == 5


async def hang(application: httpx.AsyncClient) -> None:
    await application.post(CHAT, json=chat("nonce=N tokens=20 then=hang", max_tokens=20, stream=True))


async def until(application: httpx.AsyncClient, said: str) -> bool:
    """Whether this comes to be the refusal within two seconds, and no request passes before."""
    for _ in range(40):
        answer = await application.post(CHAT, json=chat("nonce=N", max_tokens=TOKENS))
        assert answer.status_code == 429
        if answer.json()["error"]["message"].startswith(said):
            return True
        await asyncio.sleep(0.05)
    return False
