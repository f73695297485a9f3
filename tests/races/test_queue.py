from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.domain import Caller, Reservation, Subject
from appliance.errors import (
    ClientGone,
    InvalidKey,
    NotReady,
    QueueFull,
    QueueLate,
    RequestError,
)
from appliance.gateway import admission
from appliance.gateway.answers import pairs
from tests.fakes.desk import NOTHING, Desk, at_once


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


# The queue


async def test_one_that_finds_all_places_taken_waits_for_one(desk: Desk) -> None:
    first = await desk.admit()
    second = await desk.queue()
    before = await admitted(second)
    waiting = desk.waiting
    desk.leave(first)

    assert (before, await admitted(second)) == ([False], [True])
    assert (waiting, desk.waiting, desk.admission.open) == (1, 0, 1)


async def test_who_waits_is_not_in_the_journal(desk: Desk) -> None:
    first = await desk.admit()
    await desk.queue()

    assert [row.request_id for _, row in desk.journal.left_open()] == [first.request_id]


async def test_nobody_gets_past_those_who_wait(desk: Desk) -> None:
    desk.leave(await desk.admit())
    running = await desk.admit()
    waits = await desk.queue()
    desk.leave(running)
    newcomer = await desk.queue("b")

    assert await admitted(waits, newcomer) == [True, False]


async def test_accounts_take_turns(desk: Desk) -> None:
    running = await desk.admit()
    asked = {"a1": await desk.queue("a"), "a2": await desk.queue("a2"), "b1": await desk.queue("b")}
    order: list[str] = []

    for _ in range(3):
        desk.leave(running)
        await asyncio.sleep(0.01)
        ((name, task),) = [(name, task) for name, task in asked.items() if task.done()]
        order.append(name)
        running = asked.pop(name).result()
        assert task.done()

    assert order == ["a1", "b1", "a2"]


async def test_a_full_queue_says_when_to_come_back(desk: Desk) -> None:
    await desk.admit()
    for _ in range(3):
        await desk.queue()

    error = await refusal(await desk.queue("a2"))

    assert (error.status, error.reason) == (503, QueueFull.code)
    assert error.retry_after_seconds == 3  # as long as three requests take, as far as is known
    assert (desk.reserved("a2"), desk.waiting) == (NOTHING, 3)


async def test_an_account_that_fills_the_queue_does_not_keep_others_out(desk: Desk) -> None:
    first = await desk.admit()
    oldest, _, newest = [await desk.queue() for _ in range(3)]
    other = await desk.queue("b")

    error = await refusal(newest)
    desk.leave(first)

    assert (error.status, error.reason, error.retry_after_seconds) == (503, QueueFull.code, 3)
    assert await admitted(oldest, other) == [True, False]


async def test_who_waits_for_too_long_is_told_when_to_come_back(tmp_path: Path) -> None:
    desk = Desk(tmp_path, queue_seconds_max=0.05)
    await desk.admit("b")

    error = await refusal(await desk.queue())

    assert (error.status, error.reason, error.retry_after_seconds) == (503, QueueLate.code, 1)
    assert (desk.reserved("a"), desk.waiting) == (NOTHING, 0)
    desk.journal.release()


class Line:
    """A caller's connection, as admission knows it."""

    def __init__(self) -> None:
        self.hang_up: Callable[[], None] = lambda: None

    def when_gone(self, call: Callable[[], None]) -> None:
        self.hang_up = call


async def hangs_up(desk: Desk) -> RequestError:
    line = Line()
    waits = await desk.queue(when_gone=line.when_gone)
    line.hang_up()
    return await refusal(waits)


async def is_gone(desk: Desk) -> RequestError:
    return await refusal(await desk.queue(when_gone=at_once))


async def is_revoked(desk: Desk) -> RequestError:
    waits = await desk.queue()
    desk.follow(gone="a")
    return await refusal(waits)


async def loses_its_engines(desk: Desk) -> RequestError:
    waits = await desk.queue()
    desk.follow(engines=0)
    return await refusal(waits)


GIVEN_UP = {
    "it hangs up": (hangs_up, ClientGone),
    "it is gone already": (is_gone, ClientGone),
    "its key is revoked": (is_revoked, InvalidKey),
    "no engine is left": (loses_its_engines, NotReady),
}


@pytest.mark.parametrize(("give_up", "kind"), GIVEN_UP.values(), ids=GIVEN_UP.keys())
async def test_who_gives_up_waiting_holds_nothing(
    desk: Desk, give_up: Callable[[Desk], asyncio.Future[RequestError]], kind: type[RequestError]
) -> None:
    running = await desk.admit("b")

    error = await give_up(desk)

    assert type(error) is kind
    assert (desk.waiting, desk.reserved("a")) == (0, NOTHING)
    desk.follow()
    desk.leave(running)
    await asyncio.wait_for(desk.admit("c"), 1)


async def test_one_that_is_displaced_holds_nothing(desk: Desk) -> None:
    await desk.admit("b")
    displaced = [await desk.queue("a") for _ in range(3)][-1]
    await desk.queue("c")

    await refusal(displaced)

    assert (desk.waiting, desk.reserved("a")[0], desk.reserved("c")[0]) == (3, 2, 1)


async def test_one_that_is_cancelled_holds_nothing(desk: Desk) -> None:
    running = await desk.admit("b")
    waits = await desk.queue()
    waits.cancel()
    with suppress(asyncio.CancelledError):
        await waits

    assert (desk.waiting, desk.reserved("a")) == (0, NOTHING)
    desk.leave(running)
    await asyncio.wait_for(desk.admit("c"), 1)


async def test_a_place_that_came_too_late_goes_to_the_next(desk: Desk) -> None:
    """It is called up, and cancelled before it has noticed."""
    running = await desk.admit("b")
    first, second = await desk.queue(), await desk.queue("c")
    desk.leave(running)
    first.cancel()

    assert await admitted(second) == [True]
    assert desk.reserved("a") == NOTHING
    assert desk.admission.open == 1


async def test_a_place_goes_past_one_that_hangs_up_at_that_moment(desk: Desk) -> None:
    """It is still in the queue, and waits no longer."""
    line = Line()
    running = await desk.admit("b")
    first, second = await desk.queue("a", line.when_gone), await desk.queue("c")
    line.hang_up()
    desk.leave(running)

    assert type(await refusal(first)) is ClientGone
    assert await admitted(second) == [True]
    assert desk.reserved("a") == NOTHING


async def test_one_that_hangs_up_when_its_turn_has_come_is_admitted(desk: Desk) -> None:
    """Whoever answers it will find out."""
    line = Line()
    running = await desk.admit("b")
    waits = await desk.queue("a", line.when_gone)
    desk.leave(running)
    line.hang_up()

    assert await admitted(waits) == [True]


async def test_a_revoked_key_ends_only_its_own_requests(desk: Desk) -> None:
    await desk.admit("b")
    revoked, other = await desk.queue("a"), await desk.queue("a2")
    desk.follow(gone="a")

    assert type(await refusal(revoked)) is InvalidKey
    assert (await admitted(other), desk.waiting) == ([False], 1)


async def test_more_engines_take_more_at_once(desk: Desk) -> None:
    await desk.admit()
    waits = [await desk.queue() for _ in range(3)]
    desk.follow(engines=3)

    assert await admitted(*waits) == [True, True, False]


async def test_fewer_engines_take_less_once_some_have_ended(desk: Desk) -> None:
    desk.follow(engines=2)
    first, second = await desk.admit(), await desk.admit()
    waits = await desk.queue()
    desk.follow(engines=1)
    desk.leave(first)
    one_left = await admitted(waits)
    desk.leave(second)

    assert (one_left, await admitted(waits)) == ([False], [True])


async def test_without_an_engine_nobody_waits_for_one(desk: Desk) -> None:
    """They are refused at once, by routing, with a row of their own."""
    desk.follow(engines=0)

    for _ in range(5):
        await asyncio.wait_for(desk.admit(), 1)

    assert desk.admission.open == 5


async def test_an_engine_that_comes_back_takes_as_many_as_before(desk: Desk) -> None:
    desk.follow(engines=0)
    failed = await desk.admit()
    desk.follow(engines=1)
    waits = await desk.queue()
    desk.leave(failed)
    after = await desk.queue()

    assert await admitted(waits, after) == [True, False]


async def test_a_model_that_is_gone_has_no_places(desk: Desk) -> None:
    await desk.admit()
    waits = await desk.queue()
    desk.admission.follow(replace(desk.table, models={}))

    assert type(await refusal(waits)) is NotReady


async def test_limits_count_as_of_the_end_of_a_long_wait(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at the minute in which the wait began would forget all that came since."""
    began = time.time()
    desk.limit("a", requests_per_minute=3)
    running = await desk.admit("b")
    waits = await desk.queue()
    monkeypatch.setattr(time, "time", lambda: began + 70)
    later = await desk.queue()
    desk.leave(running)
    told = dict(pairs((await waits).head))

    assert told[b"x-ratelimit-remaining-requests"] == b"2"
    assert desk.reserved("a")[1] == 1
    assert not later.done()


def test_who_is_refused_comes_back_when_as_many_have_ended_as_wait() -> None:
    """As a moving mean of the time between two ends tells, within a second and a minute."""
    deployment = admission._Deployment(100)
    seconds = [deployment.retry_seconds()]
    deployment.ended(10.0)
    for number in range(4):
        deployment.queue.push("a", admission._Waiter.__new__(admission._Waiter))
        deployment.ended(12.0 + 2 * number)
    seconds.append(deployment.retry_seconds())
    deployment.ended(100_000.0)
    seconds.append(deployment.retry_seconds())

    assert seconds == [1, 6, 29]


def test_subjects_are_remembered_for_so_many_keys_only(desk: Desk) -> None:
    for number in range(admission.CACHED_SUBJECTS_MAX + 5):
        desk.admission._subjects_of(Caller("account", f"key-{number}", f"origin-{number}"), "m")

    assert len(desk.admission._subjects) == 5
    assert desk.admission._subjects["key-10004", "m"] == (
        Subject("key", "origin-10004"),
        Subject("account", "account"),
        Subject("model", "m"),
    )


async def test_counts_that_cant_matter_any_more_are_forgotten(desk: Desk) -> None:
    desk.leave(await desk.admit())

    desk.admission.prune(time.time() + 3 * 86400)

    assert desk.book._tallies == {}
