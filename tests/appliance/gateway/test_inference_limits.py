"""What callers meet of limits, queues and the guard against guessed keys."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance import apikey
from appliance.domain import Limits, Price
from appliance.gateway.asgi import AsgiExchange
from appliance.gateway.public import INFERENCE
from tests.fakes import engine as fake
from tests.fakes.box import ACCOUNT, KEY, Box, chat
from tests.fakes.caller import Caller, scope
from tests.fakes.engine import ScriptedEngine

ENDPOINT = INFERENCE["/v1/chat/completions"]
GOOD = f"Bearer {KEY.plaintext}"


@pytest.fixture
async def box(short_folder: Path) -> AsyncIterator[Box]:
    box = Box(short_folder, sequences_max=1, queue_max=1, queue_seconds_max=0.05, guesses_max=6)
    async with ScriptedEngine(box.socket):
        yield box
    box.close()


async def serve(
    box: Box, caller: Caller, bearer: str = GOOD, source: tuple[str, int] | None = ("192.0.2.1", 5)
) -> None:
    head = scope(authorization=bearer) | {"client": source}
    exchange = AsgiExchange(head, caller.receive, caller.send, 200_000, 5)
    await asyncio.wait_for(box.gateway.serve(ENDPOINT, exchange), 5)


async def ask(box: Box, **fields: object) -> Caller:
    caller = Caller(chat("nonce=N tokens=3", max_tokens=10, **fields))
    await serve(box, caller)
    return caller


async def running(box: Box) -> tuple[Caller, asyncio.Task[None]]:
    """A request that has the engine for itself."""
    caller = Caller(chat("nonce=N tokens=2 then=hang", stream=True))
    task = asyncio.create_task(serve(box, caller))
    while len(caller.sent) < 3:
        await asyncio.sleep(0.005)
    return caller, task


def code(caller: Caller) -> str:
    return json.loads(caller.received)["error"]["code"]


def limit(box: Box, **limits: int) -> None:
    box.limits = {ACCOUNT: Limits(**limits)}
    box.gateway.follow(box.table())


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_an_answer_says_what_is_left_of_the_rates(box: Box, *, stream: bool) -> None:
    limit(box, requests_per_minute=5, output_tokens_per_minute=100)

    first, second = await ask(box, stream=stream), await ask(box, stream=stream)

    assert first.headers[b"x-ratelimit-remaining-requests"] == b"4"
    assert second.headers[b"x-ratelimit-remaining-requests"] == b"3"
    assert first.headers[b"x-ratelimit-remaining-tokens"] == b"90"
    assert second.headers[b"x-ratelimit-remaining-tokens"] == b"87"  # the first used 3 of its 10


REACHED: dict[str, tuple[dict[str, int], str]] = {
    "requests": ({"requests_per_minute": 1}, "rate_limit_exceeded"),
    "tokens": ({"output_tokens_per_minute": 12}, "rate_limit_exceeded"),
    "a budget of tokens": ({"tokens_per_day": 415}, "insufficient_quota"),
    "a budget of money": ({"cost_per_month_micros": 1450}, "insufficient_quota"),
}


@pytest.mark.parametrize(("limits", "reason"), REACHED.values(), ids=REACHED.keys())
async def test_a_limit_that_is_reached_is_429_without_a_row(
    box: Box, limits: dict[str, int], reason: str
) -> None:
    box.prices = {"m": Price(1_000_000, 100_000_000)}
    limit(box, **limits)
    answers = [await ask(box) for _ in range(5)]
    rows = await box.rows()
    refused = [answer for answer in answers if answer.status == 429]

    assert answers[0].status == 200
    assert {code(answer) for answer in refused} == {reason}
    assert all(int(answer.headers[b"retry-after"]) >= 1 for answer in refused)
    assert len(rows) == 5 - len(refused)


async def written(box: Box) -> Caller:
    """An answer whose row is in the ledger: until then it keeps one of the few places of this journal."""
    answer = await ask(box)
    box.gateway.meter.flush()
    while box.journal.left_open():
        await asyncio.sleep(0.005)
    return answer


async def test_what_was_used_counts_and_not_what_was_reserved(box: Box) -> None:
    """Of 10 tokens asked for, 3 come: the budget that held two reservations holds dozens of answers."""
    limit(box, tokens_per_day=2 * (400 + 10))

    answers = [await written(box) for _ in range(20)]

    assert [answer.status for answer in answers] == [200] * 20


async def test_costs_are_written_down(box: Box) -> None:
    box.prices = {"m": Price(1_000_000, 2_000_000)}
    box.gateway.follow(box.table())
    await ask(box)
    await box.rows()

    tally = box.book._tallies[ACCOUNT]
    assert tally.day.cost_micros == fake.PROMPT_TOKENS + 2 * 3


async def test_who_finds_the_queue_full_or_waits_too_long_is_told_when_to_come_back(box: Box) -> None:
    leaves, task = await running(box)
    late, full = await asyncio.gather(ask(box), ask(box))
    leaves.hang_up()
    await task
    after = await ask(box)

    assert sorted([(late.status, code(late)), (full.status, code(full))]) == [
        (503, "queue_full"),
        (503, "queue_timeout"),
    ]
    assert all(int(answer.headers[b"retry-after"]) >= 1 for answer in (late, full))
    assert after.status == 200


async def test_the_metrics_show_what_is_open_and_what_waits(box: Box) -> None:
    leaves, task = await running(box)
    waits = asyncio.create_task(ask(box))
    await asyncio.sleep(0.01)
    box.gateway.publish()
    exposition = box.gateway.metrics.exposition().decode()
    await waits
    leaves.hang_up()
    await task

    assert 'inferfly_requests_waiting{model="m"} 1.0' in exposition
    assert "inferfly_requests_open 1.0" in exposition
    assert "inferfly_sources_banned 0.0" in exposition


# Guessed keys


async def guess(box: Box, source: tuple[str, int] | None = ("192.0.2.1", 5)) -> tuple[Caller, float]:
    caller = Caller(b"{}")
    began = time.monotonic()
    await serve(box, caller, f"Bearer {apikey.new().plaintext}", source)
    return caller, time.monotonic() - began


async def test_who_guesses_keys_is_answered_ever_later_and_then_banned(box: Box) -> None:
    guesses = [await guess(box) for _ in range(5)]
    seconds = [spent for _, spent in guesses]
    sixth = asyncio.create_task(guess(box))
    await asyncio.sleep(0.05)
    banned = Caller(chat("x"))
    await serve(box, banned)
    neighbour = Caller(chat("nonce=N"))
    await serve(box, neighbour, source=("192.0.2.2", 5))
    here = Caller(chat("nonce=N"))
    await serve(box, here, source=None)
    sixth.cancel()

    assert [(answer.status, code(answer)) for answer, _ in guesses] == [(401, "invalid_api_key")] * 5
    assert max(seconds[:3]) < 0.1 < seconds[3] < seconds[4]
    assert (banned.status, code(banned)) == (429, "too_many_wrong_keys")
    assert banned.headers[b"retry-after"] == b"900"
    assert (neighbour.status, here.status) == (200, 200)


async def test_the_boxs_own_socket_is_never_banned(box: Box) -> None:
    guesses = [await guess(box, None) for _ in range(12)]
    good = Caller(chat("nonce=N"))
    await serve(box, good, source=None)

    assert max(spent for _, spent in guesses) < 0.1
    assert good.status == 200


async def test_a_ban_that_is_lifted_is_over(box: Box) -> None:
    for _ in range(6):
        box.gateway.guard.failed("192.0.2.1", time.time())
    before, after = Caller(chat("x")), Caller(chat("nonce=N"))
    await serve(box, before)
    box.gateway.guard.lift("192.0.2.1")
    await serve(box, after)

    assert (before.status, after.status) == (429, 200)
