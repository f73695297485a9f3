from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.domain import Call, Price, Reservation, Used
from appliance.errors import (
    BudgetSpent,
    LedgerBehind,
    Overloaded,
    RateLimited,
    RequestError,
    ShuttingDown,
    TooManyRequests,
)
from appliance.gateway import admission
from appliance.gateway.admission import SPARE_TOKENS
from appliance.gateway.answers import pairs
from appliance.gateway.limits import Need
from tests.fakes.desk import CALL, MODEL, NOTHING, Desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.journal.release()


async def refusal(task: asyncio.Task[Reservation]) -> RequestError:
    with pytest.raises(RequestError) as caught:
        await asyncio.wait_for(task, 1)
    return caught.value


async def admitted(*tasks: asyncio.Task[Reservation]) -> list[bool]:
    """Which of them have a place by now."""
    await asyncio.sleep(0.01)
    return [task.done() and task.exception() is None for task in tasks]


# What is admitted


async def test_an_admitted_request_is_in_the_journal(desk: Desk) -> None:
    reservation = await desk.admit()

    ((slot, row),) = desk.journal.left_open()
    assert slot == reservation.slot
    assert (row.request_id, row.ts_start_ms) == (reservation.request_id, reservation.ts_start_ms)
    assert (row.model_id, row.deployment_id, row.api_key_id) == ("m", "m", "a")
    assert desk.reserved("a") == (1, 1, 500 + SPARE_TOKENS + 100)


async def test_one_that_ends_gives_back_what_it_did_not_use(desk: Desk) -> None:
    reservation = await desk.admit()

    desk.admission.leave(reservation, Used(7, 5, 0))

    assert desk.reserved("a") == (0, 1, 12)
    assert desk.admission.open == 0


async def test_no_more_are_open_than_allowed(tmp_path: Path) -> None:
    desk = Desk(tmp_path, open_max=2)
    desk.follow(engines=4)
    first = await desk.admit()
    await desk.admit("b")

    with pytest.raises(Overloaded) as caught:
        await desk.admit()
    desk.leave(first)
    await desk.admit()

    assert (caught.value.reason, caught.value.retry_after_seconds) == (Overloaded.code, 1)
    assert desk.admission.open == 2
    desk.journal.release()


async def test_open_requests_beyond_the_limit_are_the_ledgers_fault_while_it_is_behind(
    tmp_path: Path,
) -> None:
    desk = Desk(tmp_path, open_max=1)
    await desk.admit()
    desk.behind = True

    with pytest.raises(LedgerBehind):
        await desk.admit()

    desk.journal.release()


@pytest.mark.parametrize(
    ("behind", "error"), [(False, Overloaded), (True, LedgerBehind)], ids=["busy", "behind"]
)
async def test_rows_that_are_not_written_yet_keep_their_places(
    desk: Desk, error: type[RequestError], *, behind: bool
) -> None:
    """A ledger that can't be written stops admission at the journal's size: nothing is lost."""
    for _ in range(8):
        desk.admission.leave(await desk.admit("b"), Used(0, 0, 0))
    desk.behind = behind

    with pytest.raises(error) as caught:
        await desk.admit()

    assert caught.value.reason == error.code
    assert (desk.admission.open, desk.reserved("a")) == (0, NOTHING)
    desk.journal.close(0)
    assert (await desk.admit()).slot == 0


async def test_nothing_is_admitted_while_draining_but_what_waits_already(desk: Desk) -> None:
    first = await desk.admit()
    waits = await desk.queue()
    desk.admission.draining = True

    with pytest.raises(ShuttingDown):
        await desk.admit("b")
    desk.leave(first)

    assert await admitted(waits) == [True]


LIMITS = {
    "requests": ({"requests_per_minute": 1}, RateLimited),
    "tokens": ({"output_tokens_per_minute": 150}, RateLimited),
    "at once": ({"concurrent_requests": 1}, TooManyRequests),
    "a budget": ({"tokens_per_day": 1000}, BudgetSpent),
}


@pytest.mark.parametrize("subject", ["a", "model"])
@pytest.mark.parametrize(("limits", "error"), LIMITS.values(), ids=LIMITS.keys())
async def test_who_has_reached_a_limit_does_not_wait(
    desk: Desk, subject: str, limits: dict[str, int], error: type[RequestError]
) -> None:
    desk.limit(subject, **limits)
    await desk.admit()

    with pytest.raises(error) as caught:
        await desk.admit()

    assert caught.value.status == 429
    assert (caught.value.retry_after_seconds or 0) >= 1
    assert desk.waiting == 0
    assert desk.reserved("a") == (1, 1, 500 + SPARE_TOKENS + 100)


async def test_an_answer_tells_what_is_left_of_the_limits(desk: Desk) -> None:
    desk.limit("a", requests_per_minute=5, output_tokens_per_minute=1000)

    reservation = await desk.admit()

    told = dict(pairs(reservation.head))
    assert told[b"x-ratelimit-limit-requests"] == b"5"
    assert told[b"x-ratelimit-remaining-requests"] == b"4"
    assert told[b"x-ratelimit-remaining-tokens"] == b"900"
    assert told[b"x-ratelimit-reset-requests"] in (b"60s", b"59s")


@pytest.mark.parametrize(
    ("limits", "names"),
    [({"concurrent_requests": 9}, []), ({"requests_per_minute": 9}, ["requests"])],
    ids=["no rate", "one rate"],
)
async def test_an_answer_tells_nothing_of_rates_that_are_not_limited(
    desk: Desk, limits: dict[str, int], names: list[str]
) -> None:
    desk.limit("a", **limits)

    reservation = await desk.admit()

    assert [name for name, _ in pairs(reservation.head)] == [
        f"x-ratelimit-{what}-{name}".encode() for name in names for what in ("limit", "remaining", "reset")
    ]


async def test_an_answer_without_limits_tells_of_none(desk: Desk) -> None:
    assert (await desk.admit()).head == b""


# The most that a request can use

NEEDS: dict[str, tuple[Call, int, Need]] = {
    "the bytes of its prompt": (CALL, 1000, Need(1256, 100, 0)),
    "no more than the context": (CALL, 1_000_000, Need(4096, 100, 0)),
    "all of the context where it names no end": (
        CALL._replace(output_tokens_max=None),
        0,
        Need(256, 4096, 0),
    ),
    "no more output than the context": (CALL._replace(output_tokens_max=10**9), 0, Need(256, 4096, 0)),
    "each of its answers": (CALL._replace(choices=3), 1000, Need(1256, 300, 0)),
    "each of its prompts, together longer than the context": (
        CALL._replace(choices=3),
        1_000_000,
        Need(1_000_256, 300, 0),
    ),
    "texts to embed, together longer than the context": (
        Call("embeddings", "m"),
        1_000_000,
        Need(1_000_256, 0, 0),
    ),
    "a picture, whatever its bytes": (CALL._replace(images=1), 50, Need(4096, 100, 0)),
    "a picture larger than the context": (CALL._replace(images=1), 1_000_000, Need(4096, 100, 0)),
}


@pytest.mark.parametrize(("call", "size", "need"), NEEDS.values(), ids=NEEDS.keys())
def test_a_request_needs_at_most(desk: Desk, call: Call, size: int, need: Need) -> None:
    assert admission._need(call, MODEL, size, desk.table) == need


def test_a_request_costs_at_most_what_its_tokens_cost(desk: Desk) -> None:
    table = replace(desk.table, prices={"m": Price(1_000_000, 3_000_000)})

    assert admission._need(CALL, MODEL, 1000, table) == Need(1256, 100, 1256 + 300)
