"""A ledger that can't be written: admission goes on as long as nothing can be lost, and not a request longer."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager

import httpx

from tests.fakes.engine import PROMPT_TOKENS, ScriptedEngine
from tests.fakes.gateway import GatewayProcess, chat

CHAT = "/v1/chat/completions"
OPEN_MAX = 10
PLACES = 2 * OPEN_MAX
"""Of its journal: a row that can't be written keeps its own."""


@contextmanager
def locked(gateway: GatewayProcess) -> Iterator[sqlite3.Connection]:
    """As a backup that hangs would hold it; for SQLite a failing disk ends in the same way."""
    db = sqlite3.connect(gateway.home / "usage.db", isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
    finally:
        db.close()


async def ask(application: httpx.AsyncClient) -> str:
    answer = await application.post(CHAT, json=chat("nonce=N tokens=2"))
    return "whole" if answer.status_code == 200 else answer.json()["error"]["code"]


async def filled(application: httpx.AsyncClient) -> Counter[str]:
    """What as many as there are places for are told, one after the other, and then half as many again."""
    told = [await ask(application) for _ in range(PLACES)]
    await asyncio.sleep(0.1)  # rows go to the ledger ten times a second
    told += [await ask(application) for _ in range(OPEN_MAX)]
    return Counter(told)


async def test_a_ledger_that_is_stuck_stops_admission_when_the_journal_is_full(
    gateway: GatewayProcess, application: httpx.AsyncClient
) -> None:
    gateway.start(open_requests_max=OPEN_MAX)

    async with ScriptedEngine(gateway.engine_socket):
        with locked(gateway):
            told = await filled(application)
            refusal = await application.post(CHAT, json=chat("nonce=N"))
            healthy = await application.get("/healthz")
        again = await until_admitted(application)

    rows = await asyncio.to_thread(gateway.rows_soon, PLACES + 1)
    assert told == {"whole": PLACES, "metering_unavailable": OPEN_MAX}
    assert (refusal.status_code, refusal.headers["retry-after"]) == (503, "5")
    assert healthy.status_code == 200
    assert again < 40
    assert len({row.request_id for row in rows}) == len(rows) == PLACES + 1
    assert {(row.http_status, row.completion_tokens) for row in rows} == {(200, 2), (200, 3)}


async def until_admitted(application: httpx.AsyncClient) -> int:
    """How many are refused before one is not: one every tenth of a second."""
    for number in range(100):
        answer = await application.post(CHAT, json=chat("nonce=N tokens=3"))
        if answer.status_code == 200:
            return number
        await asyncio.sleep(0.1)
    return 100


async def test_rows_that_a_stuck_ledger_did_not_take_outlive_a_kill(gateway: GatewayProcess) -> None:
    gateway.start(open_requests_max=OPEN_MAX)
    async with ScriptedEngine(gateway.engine_socket), gateway.application() as application:
        with locked(gateway):
            told = await filled(application)
            await gateway.stop(signal.SIGKILL)
        gateway.start(open_requests_max=OPEN_MAX)

    rows = await asyncio.to_thread(gateway.rows_soon, PLACES)
    assert told["whole"] == PLACES == len(rows)
    assert {(row.token_counts, row.prompt_tokens, row.completion_tokens) for row in rows} == {
        ("interrupted", PROMPT_TOKENS, 2)
    }


@asynccontextmanager
async def unwritten(gateway: GatewayProcess, application: httpx.AsyncClient) -> AsyncIterator[None]:
    """Five requests have been answered whose rows can't be written: their table is gone, and comes back at the end.

    It is as if its pages could not be read.
    """
    with closing(sqlite3.connect(gateway.home / "usage.db", isolation_level=None)) as db:
        db.execute("ALTER TABLE usage RENAME TO away")
        assert Counter([await ask(application) for _ in range(5)]) == {"whole": 5}
        while "ledger_write_failed" not in gateway.log_events:
            await asyncio.sleep(0.02)
        yield
        db.execute("ALTER TABLE away RENAME TO usage")


async def test_a_disk_that_fails_for_a_moment_loses_nothing(
    gateway: GatewayProcess, application: httpx.AsyncClient
) -> None:
    gateway.start(open_requests_max=OPEN_MAX)

    async with ScriptedEngine(gateway.engine_socket):
        async with unwritten(gateway, application):
            pass
        rows = await asyncio.to_thread(gateway.rows_soon, 5)

    assert len(rows) == 5
    assert gateway.log_events.count("ledger_write_failed") == 1


async def test_a_kill_while_the_disk_fails_loses_nothing(
    gateway: GatewayProcess, application: httpx.AsyncClient
) -> None:
    gateway.start(open_requests_max=OPEN_MAX)

    async with ScriptedEngine(gateway.engine_socket):
        async with unwritten(gateway, application):
            await gateway.stop(signal.SIGKILL)
        gateway.start(open_requests_max=OPEN_MAX)

    rows = await asyncio.to_thread(gateway.rows_soon, 5)
    assert {(row.token_counts, row.completion_tokens) for row in rows} == {("interrupted", 2)}
    assert len(rows) == 5
