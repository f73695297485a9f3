"""Keys that change while requests run."""

from __future__ import annotations

import asyncio
import json
import time

import httpx

from appliance import apikey
from appliance.store.registry import Registry
from tests.fakes.engine import PROMPT_TOKENS, ScriptedEngine
from tests.fakes.gateway import FAR_MS, GatewayProcess, chat

CHAT = "/v1/chat/completions"
HANG = chat("nonce=N tokens=3 then=hang", stream=True)


def revoke(gateway: GatewayProcess) -> None:
    with gateway.registry() as registry:
        registry.revoke_key(gateway.key.key_id)


async def test_a_stream_of_a_revoked_key_is_cut_within_a_second(
    gateway: GatewayProcess, application: httpx.AsyncClient
) -> None:
    gateway.start()
    async with (
        ScriptedEngine(gateway.engine_socket),
        application.stream("POST", CHAT, json=HANG) as answer,
    ):
        lines = answer.aiter_lines()
        await anext(lines)
        began = time.monotonic()
        revoke(gateway)
        rest = [line async for line in lines if line]
        seconds = time.monotonic() - began
        after = await application.post(CHAT, json=HANG)

    (row,) = await asyncio.to_thread(gateway.rows_soon, 1)
    assert json.loads(rest[-1].removeprefix("data: "))["error"]["code"] == "key_revoked"
    assert seconds < 1
    assert after.status_code == 401
    assert (row.http_status, row.token_counts) == (401, "partial")
    assert (row.prompt_tokens, row.completion_tokens) == (PROMPT_TOKENS, 3)


async def test_who_waits_with_a_revoked_key_is_refused_and_others_go_on(gateway: GatewayProcess) -> None:
    gateway.put_model(max_concurrent_sequences=1)
    other = apikey.new()
    with gateway.registry() as registry:
        registry.add_key(other, account="default", name="other", expires_at_ms=FAR_MS)
    gateway.start()
    async with (
        ScriptedEngine(gateway.engine_socket) as engine,
        gateway.application() as revoked,
        gateway.application(other.plaintext) as good,
        good.stream("POST", CHAT, json=chat("nonce=N tokens=15 gap=0.1", stream=True)) as running,
    ):
        waits = asyncio.create_task(revoked.post(CHAT, json=chat("nonce=N")))
        waits_on = asyncio.create_task(good.post(CHAT, json=chat("nonce=N")))
        await queued(gateway, 2)
        revoke(gateway)
        refused = await asyncio.wait_for(waits, 1)
        whole = await running.aread()
        answered = await waits_on

    rows = await asyncio.to_thread(gateway.rows_soon, 2)
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
    assert whole.endswith(b"data: [DONE]\n\n")
    assert answered.status_code == 200
    assert {row.api_key_id for row in rows} == {other.key_id}
    assert len(engine.exchanges) == len(rows) == 2


async def queued(gateway: GatewayProcess, count: int) -> None:
    """Wait until so many requests are in the queue."""
    line = f'inferfly_requests_waiting{{model="m"}} {count}.0'
    async with gateway.application() as box:
        while line not in (await box.get("/metrics")).text:
            await asyncio.sleep(0.02)


async def test_no_request_fails_while_a_key_is_rotated(gateway: GatewayProcess) -> None:
    """The old one and the new one both work until the grace is over."""
    gateway.start()
    new = apikey.new()
    told: list[int] = []
    stop = asyncio.Event()

    async def use(key: str) -> None:
        async with gateway.application(key) as application:
            while not stop.is_set():
                request = chat("nonce=N tokens=3 gap=0.005", stream=bool(len(told) % 2))
                told.append((await application.post(CHAT, json=request)).status_code)

    async with ScriptedEngine(gateway.engine_socket), asyncio.TaskGroup() as users:
        for _ in range(6):
            users.create_task(use(gateway.key.plaintext))
        await asyncio.sleep(0.3)
        with gateway.registry() as registry:
            rotate(registry, gateway.key, new)
        await known(gateway, new)
        for _ in range(6):
            users.create_task(use(new.plaintext))
        await asyncio.sleep(0.7)
        stop.set()

    rows = await asyncio.to_thread(gateway.rows_soon, len(told))
    assert set(told) == {200}
    assert len(rows) == len(told)
    assert {row.api_key_id for row in rows} == {gateway.key.key_id, new.key_id}


async def known(gateway: GatewayProcess, key: apikey.ApiKey) -> None:
    async with gateway.application(key.plaintext) as application:
        while (await application.get("/v1/models")).status_code != 200:
            await asyncio.sleep(0.02)


def rotate(registry: Registry, old: apikey.ApiKey, new: apikey.ApiKey) -> None:
    registry.rotate_key(old.key_id, new, grace_ms=60_000, expires_at_ms=FAR_MS)
