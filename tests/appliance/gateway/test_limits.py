from __future__ import annotations

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from appliance.domain import Limits, Subject
from appliance.errors import BudgetSpent, RateLimited, RequestError, TokenRateLimited, TooManyRequests
from appliance.gateway.limits import Allowance, Book, Hold, Need, Standing

KEY = Subject("key", "a-key")
ACCOUNT = Subject("account", "an-account")
MODEL = Subject("model", "a-model")
ALL = (KEY, ACCOUNT, MODEL)
BERLIN = ZoneInfo("Europe/Berlin")
NEED = Need(10, 20, 30)
SMALL = Need(1, 1, 1)


def at(text: str, zone: ZoneInfo = BERLIN) -> float:
    return dt.datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


NOON = at("2026-05-11T12:00:00")


def book(zone: ZoneInfo = BERLIN) -> Book:
    return Book(zone)


def admit(book: Book, limits: Limits, *, count: int = 1, need: Need = NEED, now: float = NOON) -> list[Hold]:
    return [book.reserve(ALL, {KEY: limits}, need, now) for _ in range(count)]


def refuse(book: Book, limits: Limits, *, need: Need = NEED, now: float = NOON) -> RequestError:
    with pytest.raises(RequestError) as caught:
        book.reserve(ALL, {KEY: limits}, need, now)
    return caught.value


EVERY_LIMIT: list[Any] = [
    pytest.param(Limits(requests_per_minute=3), RateLimited, "requests per minute", 60, id="requests"),
    pytest.param(
        Limits(input_tokens_per_minute=39), TokenRateLimited, "input tokens per minute", 60, id="input"
    ),
    pytest.param(
        Limits(output_tokens_per_minute=79), TokenRateLimited, "output tokens per minute", 60, id="output"
    ),
    pytest.param(Limits(concurrent_requests=3), TooManyRequests, "open at once", 1, id="concurrent"),
    pytest.param(Limits(tokens_per_day=119), BudgetSpent, "tokens per day", 12 * 3600, id="tokens-day"),
    pytest.param(Limits(cost_per_day_micros=119), BudgetSpent, "cost per day", 12 * 3600, id="cost-day"),
    pytest.param(
        Limits(tokens_per_month=119),
        BudgetSpent,
        "tokens per month",
        (20 * 24 + 12) * 3600,
        id="tokens-month",
    ),
    pytest.param(
        Limits(cost_per_month_micros=119),
        BudgetSpent,
        "cost per month",
        (20 * 24 + 12) * 3600,
        id="cost-month",
    ),
]


@pytest.mark.parametrize(("limits", "error", "words", "seconds"), EVERY_LIMIT)
def test_each_limit_refuses_the_request_that_would_pass_it(
    limits: Limits, error: type[RequestError], words: str, seconds: int
) -> None:
    subject = book()
    admit(subject, limits, count=3)

    refusal = refuse(subject, limits)

    assert type(refusal) is error
    assert words in str(refusal)
    assert refusal.retry_after_seconds == seconds


@pytest.mark.parametrize("subject", ALL, ids=lambda subject: subject.kind)
def test_a_limit_of_any_subject_refuses_and_says_whose(subject: Subject) -> None:
    full = book()
    limits = {subject: Limits(requests_per_minute=1)}
    full.reserve(ALL, limits, NEED, NOON)

    with pytest.raises(RateLimited, match=f"This {subject.kind}'s limit of requests per minute"):
        full.reserve(ALL, limits, NEED, NOON)


@pytest.mark.parametrize("limits", [pytest.param(*case.values[:1], id=case.id) for case in EVERY_LIMIT])
def test_what_is_cancelled_makes_room_at_once(limits: Limits) -> None:
    subject = book()
    holds = admit(subject, limits, count=3)

    subject.cancel(holds[1])

    admit(subject, limits)
    refuse(subject, limits)


@pytest.mark.parametrize("limits", [pytest.param(*case.values[:1], id=case.id) for case in EVERY_LIMIT])
def test_what_is_cancelled_later_makes_room_too(limits: Limits) -> None:
    subject = book()
    holds = admit(subject, limits, count=3)
    refuse(subject, limits, now=NOON + 5)

    subject.cancel(holds[1])

    admit(subject, limits, now=NOON + 5)
    refuse(subject, limits, now=NOON + 5)


@pytest.mark.parametrize("limits", [pytest.param(*case.values[:1], id=case.id) for case in EVERY_LIMIT])
def test_a_limit_set_later_finds_what_was_used_before(limits: Limits) -> None:
    subject = book()
    admit(subject, Limits(), count=3)

    refuse(subject, limits)


def test_a_refusal_counts_nothing_with_any_subject() -> None:
    subject = book()
    limits = {KEY: Limits(requests_per_minute=1), MODEL: Limits(concurrent_requests=0)}
    with pytest.raises(TooManyRequests):
        subject.reserve(ALL, limits, NEED, NOON)

    assert subject.standing(ALL, limits, NOON) == Standing(Allowance(1, 1, 0), None)


def test_of_two_limits_the_one_that_frees_last_is_told() -> None:
    subject = book()
    limits = Limits(requests_per_minute=1, tokens_per_day=30, concurrent_requests=1)
    admit(subject, limits)

    assert type(refuse(subject, limits)) is BudgetSpent


def test_settling_puts_what_was_used_in_the_place_of_what_was_reserved() -> None:
    subject = book()
    limits = Limits(input_tokens_per_minute=100, output_tokens_per_minute=100, tokens_per_day=200)
    [hold] = admit(subject, limits, need=Need(90, 90, 0))
    refuse(subject, limits, need=Need(50, 50, 0))

    subject.settle(hold, 50, 50, 0)

    admit(subject, limits, need=Need(50, 50, 0))
    refuse(subject, limits, need=SMALL)


def test_a_request_that_ends_leaves_its_place_to_another() -> None:
    subject = book()
    limits = Limits(concurrent_requests=1)
    [hold] = admit(subject, limits)

    subject.settle(hold, 1, 1, 1)

    admit(subject, limits)


def test_a_hold_ends_once() -> None:
    subject = book()
    [hold] = admit(subject, Limits())
    subject.settle(hold, 1, 1, 1)

    with pytest.raises(AssertionError):
        subject.settle(hold, 1, 1, 1)
    with pytest.raises(AssertionError):
        subject.cancel(hold)


def test_the_window_slides_by_whole_seconds() -> None:
    subject = book()
    limits = Limits(requests_per_minute=2)
    admit(subject, limits, now=NOON + 0.9)
    admit(subject, limits, now=NOON + 30)

    assert refuse(subject, limits, now=NOON + 59.999).retry_after_seconds == 1
    admit(subject, limits, now=NOON + 60)
    assert refuse(subject, limits, now=NOON + 60).retry_after_seconds == 30


def test_a_token_rate_frees_when_enough_for_this_very_request_has_left_the_window() -> None:
    subject = book()
    limits = Limits(input_tokens_per_minute=100)
    admit(subject, limits, need=Need(30, 0, 0), now=NOON)
    admit(subject, limits, need=Need(60, 0, 0), now=NOON + 10)

    assert refuse(subject, limits, need=Need(40, 0, 0), now=NOON + 20).retry_after_seconds == 40
    assert refuse(subject, limits, need=Need(80, 0, 0), now=NOON + 20).retry_after_seconds == 50


def test_a_request_larger_than_a_token_rate_waits_for_an_empty_window() -> None:
    subject = book()
    limits = Limits(input_tokens_per_minute=100)
    large = Need(5000, 1, 0)
    admit(subject, limits, need=SMALL)

    assert refuse(subject, limits, need=large, now=NOON + 1).retry_after_seconds == 59
    admit(subject, limits, need=large, now=NOON + 60)
    refuse(subject, limits, need=SMALL, now=NOON + 119)


def test_a_request_without_output_is_not_held_up_by_the_rate_of_output() -> None:
    subject = book()
    limits = Limits(output_tokens_per_minute=10)
    admit(subject, limits, need=Need(1, 500, 0))

    admit(subject, limits, need=Need(1, 0, 0))


@pytest.mark.parametrize(
    "limits",
    [
        pytest.param(Limits(requests_per_minute=0), id="requests"),
        pytest.param(Limits(input_tokens_per_minute=0), id="input"),
        pytest.param(Limits(output_tokens_per_minute=0), id="output"),
    ],
)
def test_a_rate_of_nothing_admits_nothing(limits: Limits) -> None:
    assert refuse(book(), limits).retry_after_seconds == 60


def test_more_used_than_reserved_keeps_the_window_shut_until_it_leaves() -> None:
    subject = book()
    limits = Limits(input_tokens_per_minute=100)
    [hold] = admit(subject, limits, need=Need(100, 0, 0))
    subject.settle(hold, 250, 0, 0)

    assert refuse(subject, limits, need=SMALL, now=NOON + 1).retry_after_seconds == 59
    admit(subject, limits, need=SMALL, now=NOON + 60)


def test_a_request_that_ends_after_its_second_left_the_window_no_longer_counts_in_it() -> None:
    subject = book()
    limits = Limits(input_tokens_per_minute=100)
    [hold] = admit(subject, limits, need=Need(100, 0, 0))
    admit(subject, limits, need=Need(50, 0, 0), now=NOON + 60)

    subject.settle(hold, 100, 0, 0)

    admit(subject, limits, need=Need(50, 0, 0), now=NOON + 60)


def test_a_request_counts_on_the_day_it_was_admitted() -> None:
    subject = book()
    limits = Limits(tokens_per_day=100, tokens_per_month=150)
    [hold] = admit(subject, limits, need=Need(90, 0, 0), now=at("2026-05-11T23:59:59"))
    [today] = admit(subject, limits, need=Need(10, 0, 0), now=at("2026-05-12T00:00:00"))
    subject.settle(hold, 50, 0, 0)

    admit(subject, limits, need=Need(90, 0, 0), now=at("2026-05-12T00:00:01"))
    refuse(subject, limits, need=SMALL, now=at("2026-05-12T00:00:01"))
    subject.cancel(today)
    admit(subject, limits, need=Need(10, 0, 0), now=at("2026-05-12T00:00:01"))
    assert "month" in str(refuse(subject, limits, need=SMALL, now=at("2026-05-13T00:00:01")))


def test_a_request_of_last_month_does_not_count_in_this() -> None:
    subject = book()
    limits = Limits(tokens_per_month=100)
    [hold] = admit(subject, limits, need=Need(90, 0, 0), now=at("2026-05-31T23:59:59"))
    admit(subject, limits, need=Need(100, 0, 0), now=at("2026-06-01T00:00:00"))

    subject.settle(hold, 10, 0, 0)

    refuse(subject, limits, need=SMALL, now=at("2026-06-01T00:00:00"))


@pytest.mark.parametrize(
    ("zone", "now", "seconds"),
    [
        pytest.param("Europe/Berlin", "2026-03-29T00:00:00", 23 * 3600, id="23-hours"),
        pytest.param("Europe/Berlin", "2026-10-25T00:00:00", 25 * 3600, id="25-hours"),
        pytest.param("Africa/Cairo", "2024-04-25T00:00:00", 24 * 3600, id="next-midnight-is-skipped"),
        pytest.param("America/Sao_Paulo", "2018-02-17T00:00:00", 25 * 3600, id="last-hour-is-twice"),
        pytest.param("America/Havana", "2026-11-01T00:00:00", 25 * 3600, id="midnight-is-twice"),
        pytest.param("Asia/Kolkata", "2026-02-28T23:59:59", 1, id="last-second"),
    ],
)
def test_a_days_budget_frees_when_the_next_day_begins_in_the_zone(zone: str, now: str, seconds: int) -> None:
    subject = book(ZoneInfo(zone))
    start = at(now, ZoneInfo(zone))
    limits = Limits(tokens_per_day=30)
    admit(subject, limits, now=start)

    assert refuse(subject, limits, now=start).retry_after_seconds == seconds
    refuse(subject, limits, now=start + seconds - 0.001)
    admit(subject, limits, now=start + seconds)


def test_standing_is_that_of_the_tightest_rate() -> None:
    subject = book()
    limits = {
        KEY: Limits(requests_per_minute=10, output_tokens_per_minute=1000),
        ACCOUNT: Limits(requests_per_minute=5, input_tokens_per_minute=200),
        MODEL: Limits(tokens_per_day=1),
    }
    hold = subject.reserve(ALL[:2], limits, Need(150, 20, 0), NOON)
    subject.settle(hold, 140, 10, 0)
    subject.reserve(ALL[:2], limits, Need(0, 20, 0), NOON + 5)

    assert subject.standing(ALL, limits, NOON + 10.5) == Standing(Allowance(5, 3, 55), Allowance(200, 60, 50))


def test_standing_without_rates_says_nothing() -> None:
    assert book().standing(ALL, {}, NOON) == Standing(None, None)
    assert book().standing(ALL, {KEY: Limits(tokens_per_day=1)}, NOON) == Standing(None, None)


def test_standing_never_goes_below_nothing() -> None:
    subject = book()
    limits = Limits(input_tokens_per_minute=100)
    admit(subject, limits, need=Need(500, 0, 0))

    assert subject.standing(ALL, {KEY: limits}, NOON).tokens == Allowance(100, 0, 60)


@pytest.mark.parametrize("order", [(9, 10, 11), (11, 10, 9), (10, 11, 9)], ids=str)
def test_days_restored_in_any_order_count_in_today_and_the_month(order: tuple[int, int, int]) -> None:
    subject = book()
    one, two, three = order
    subject.restore_spent(KEY, dt.date(2026, 5, one), one, 2 * one)
    subject.restore_spent(KEY, dt.date(2026, 5, two), two, 2 * two)
    subject.restore_spent(KEY, dt.date(2026, 5, three), three, 2 * three)

    admit(subject, Limits(tokens_per_day=12, tokens_per_month=31), need=SMALL._replace(output_tokens=0))
    refuse(subject, Limits(tokens_per_day=12), need=SMALL)
    refuse(subject, Limits(tokens_per_month=31), need=SMALL)
    admit(subject, Limits(cost_per_day_micros=24, cost_per_month_micros=62), need=SMALL)
    refuse(subject, Limits(cost_per_day_micros=24), need=SMALL)
    refuse(subject, Limits(cost_per_month_micros=62), need=SMALL)


def test_a_day_of_another_month_is_not_restored_into_this() -> None:
    subject = book()
    subject.restore_spent(KEY, dt.date(2026, 5, 1), 10, 10)
    subject.restore_spent(KEY, dt.date(2026, 4, 30), 500, 500)

    admit(subject, Limits(tokens_per_month=40))
    refuse(subject, Limits(tokens_per_month=40), need=SMALL)


def test_the_last_minute_restored_in_any_order_fills_the_window() -> None:
    subject = book()
    subject.restore_recent(KEY, NOON - 10, 5, 6)
    subject.restore_recent(KEY, NOON - 59, 5, 6)
    subject.restore_recent(KEY, NOON - 59, 5, 6)
    limits = Limits(requests_per_minute=3, input_tokens_per_minute=15)

    assert refuse(subject, limits).retry_after_seconds == 1
    admit(subject, limits, need=SMALL, now=NOON + 1)
    assert subject.standing(ALL, {KEY: limits}, NOON + 1).tokens == Allowance(15, 9, 60)


def test_a_clock_set_back_a_little_forgets_nothing() -> None:
    subject = book()
    limits = Limits(requests_per_minute=1)
    admit(subject, limits, now=NOON)

    refuse(subject, limits, now=NOON - 59)


def test_a_clock_set_back_far_does_not_lock_out_until_it_has_caught_up() -> None:
    subject = book()
    limits = Limits(input_tokens_per_minute=10, tokens_per_month=100)
    [hold] = admit(subject, limits, need=Need(9, 0, 0), now=NOON + 86400)
    admit(subject, limits, need=Need(1, 0, 0), now=NOON + 86401)

    admit(subject, limits, need=Need(10, 0, 0), now=NOON)
    subject.settle(hold, 2, 0, 0)

    assert refuse(subject, limits, need=SMALL, now=NOON + 1).retry_after_seconds == 59
    admit(subject, limits, need=Need(10, 77, 0), now=NOON + 60)
    assert "month" in str(refuse(subject, limits, need=SMALL, now=NOON + 120))


def remembered(book: Book) -> int:
    return len(book._tallies)


def test_idle_subjects_with_nothing_this_month_are_forgotten() -> None:
    subject = book()
    holds = admit(subject, Limits(), count=2)
    subject.settle(holds[0], 1, 1, 1)

    subject.prune(at("2026-06-15T12:00:00"))
    assert remembered(subject) == 3
    subject.settle(holds[1], 1, 1, 1)
    subject.prune(at("2026-05-31T12:00:00"))
    assert remembered(subject) == 3
    subject.prune(at("2026-06-15T12:00:00"))
    assert remembered(subject) == 0


def test_subjects_that_used_nothing_are_forgotten_after_a_day() -> None:
    subject = book()
    subject.cancel(admit(subject, Limits())[0])

    subject.prune(NOON + 86400)
    assert remembered(subject) == 3
    subject.prune(NOON + 86401)
    assert remembered(subject) == 0


def test_a_subject_restored_into_the_last_minute_is_not_idle() -> None:
    subject = book()
    subject.restore_recent(KEY, NOON - 1, 0, 0)

    subject.prune(NOON)

    assert remembered(subject) == 1
