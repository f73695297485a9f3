"""The book of limits: whether a request fits what its key, account and model may use, and what it then used."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from zoneinfo import ZoneInfo

from appliance.domain import Limits, Subject
from appliance.errors import BudgetSpent, RateLimited, RequestError, TokenRateLimited, TooManyRequests
from appliance.gateway.tallies import (
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    REQUESTS,
    Calendar,
    Count,
    Need,
    Slot,
    Tally,
    month_of,
)

__all__ = ["Allowance", "Book", "Hold", "Need", "Standing"]

_IDLE_SECONDS = 86400
"""How long a tally without a request is kept, if this month holds nothing of it."""


class Hold:
    """What one open request reserved. It ends exactly once, by `Book.settle` or `Book.cancel`."""

    __slots__ = ("need", "slots")

    def __init__(self, slots: list[Slot], need: Need) -> None:
        self.slots: list[Slot] | None = slots
        self.need = need


class Allowance(NamedTuple):
    """How a caller stands with the tightest of its rates."""

    limit: int
    remaining: int
    reset_seconds: int
    """Time until nothing of the window is used any more."""


class Standing(NamedTuple):
    """What the `x-ratelimit-*` headers say; None where there is no limit."""

    requests: Allowance | None
    tokens: Allowance | None


_KNOWN_MAX = 10_000
_UNLIMITED = Standing(None, None)
Rate = tuple[int, int, Tally, Count]
"""What is left of it, how much it is, and whose."""


class Book:
    """All tallies. Times are seconds since the epoch; one event loop uses it, and nothing in it waits."""

    def __init__(self, zone: ZoneInfo) -> None:
        self._tallies: dict[Subject, Tally] = {}
        self._calendar = Calendar(zone)
        self._limits: Mapping[Subject, Limits] = {}
        self._known: dict[tuple[Subject, ...], tuple[tuple[Tally, ...], tuple[Limits | None, ...]]] = {}
        """Tallies and limits (of `_limits`) of subjects that came together: finding them costs more than counting."""

    def reserve(
        self, subjects: tuple[Subject, ...], limits: Mapping[Subject, Limits], need: Need, now: float
    ) -> Hold:
        """Count one more open request with every subject, and the most that it may use.

        Raises RateLimited, BudgetSpent or TooManyRequests, with nothing counted, if a subject has no room for it.
        Subjects without limits are counted too: a limit may be set later.
        """
        slots, limited = self._look_up(subjects, limits, int(now))
        if limits:
            for limit, slot in zip(limited, slots, strict=True):
                if limit is not None and not slot.tally.has_room(limit, need):
                    raise self._refusal(subjects, limits, need, int(now))
        input_tokens, output_tokens, cost_micros = need
        tokens = input_tokens + output_tokens
        for slot in slots:
            slot.tally.open += 1
            slot.requests += 1
            slot.input_tokens += input_tokens
            slot.output_tokens += output_tokens
            day = slot.day
            day.tokens += tokens
            day.cost_micros += cost_micros
        return Hold(slots, need)

    def settle(self, hold: Hold, prompt_tokens: int, completion_tokens: int, cost_micros: int) -> None:
        """Put what was used in the place of what was reserved: in the second, day and month of the reservation."""
        slots = hold.slots
        assert slots is not None, "a hold ends once"
        hold.slots = None
        need = hold.need
        input_more = prompt_tokens - need.input_tokens
        output_more = completion_tokens - need.output_tokens
        tokens_more = input_more + output_more
        cost_more = cost_micros - need.cost_micros
        for slot in slots:
            tally = slot.tally
            tally.open -= 1
            slot.input_tokens += input_more
            slot.output_tokens += output_more
            if slot.closed:
                earlier = tally.earlier_sum
                earlier.input_tokens += input_more
                earlier.output_tokens += output_more
            day = slot.day
            day.tokens += tokens_more
            day.cost_micros += cost_more
            if day is not tally.day and day.month == tally.day.month:
                tally.month_tokens += tokens_more
                tally.month_cost_micros += cost_more

    def cancel(self, hold: Hold) -> None:
        """As if the request had never been."""
        for slot in hold.slots or ():
            slot.requests -= 1
            if slot.closed:
                slot.tally.earlier_sum.requests -= 1
        self.settle(hold, 0, 0, 0)

    def standing(
        self, subjects: tuple[Subject, ...], limits: Mapping[Subject, Limits], now: float
    ) -> Standing:
        """The rate with the least remaining, of requests and of tokens."""
        if not limits:
            return _UNLIMITED
        second = int(now)
        requests: Rate | None = None
        tokens: Rate | None = None
        slots, limited = self._look_up(subjects, limits, second)
        for limit, slot in zip(limited, slots, strict=True):
            if limit is None:
                continue
            requests_rate, input_rate, output_rate, _, _, _, _, _ = limit
            tally = slot.tally
            earlier = tally.earlier_sum
            if requests_rate is not None:
                left = max(0, requests_rate - earlier.requests - slot.requests)
                if requests is None or left < requests[0]:
                    requests = (left, requests_rate, tally, REQUESTS)
            if input_rate is not None:
                left = max(0, input_rate - earlier.input_tokens - slot.input_tokens)
                if tokens is None or left < tokens[0]:
                    tokens = (left, input_rate, tally, INPUT_TOKENS)
            if output_rate is not None:
                left = max(0, output_rate - earlier.output_tokens - slot.output_tokens)
                if tokens is None or left < tokens[0]:
                    tokens = (left, output_rate, tally, OUTPUT_TOKENS)
        return Standing(_allowance(requests, second), _allowance(tokens, second))

    def restore_spent(self, subject: Subject, day: dt.date, tokens: int, cost_micros: int) -> None:
        """At start, before the first request: one day's total of this month, from the ledger; days in any order."""
        tally = self._tallies.setdefault(subject, Tally())
        ordinal, month = day.toordinal(), month_of(day)
        if ordinal > tally.day.ordinal:
            tally.turn(ordinal, month)
        if ordinal == tally.day.ordinal:
            tally.day.tokens += tokens
            tally.day.cost_micros += cost_micros
        elif month == tally.day.month:
            tally.month_tokens += tokens
            tally.month_cost_micros += cost_micros

    def restore_recent(self, subject: Subject, at: float, input_tokens: int, output_tokens: int) -> None:
        """At start, before the first request: one of the last minute's, from the ledger; in any order."""
        self._tallies.setdefault(subject, Tally()).insert(int(at), input_tokens, output_tokens)

    def prune(self, now: float) -> None:
        """Forget subjects that were idle for a day and used nothing this month."""
        second = int(now)
        self._turn(second)
        month = self._calendar.month
        idle = [
            subject
            for subject, tally in self._tallies.items()
            if not tally.open
            and tally.last_second() < second - _IDLE_SECONDS
            and (tally.day.month != month or not _spent(tally))
        ]
        for subject in idle:
            del self._tallies[subject]
        if idle:
            self._known.clear()

    def _look_up(
        self, subjects: tuple[Subject, ...], limits: Mapping[Subject, Limits], second: int
    ) -> tuple[list[Slot], tuple[Limits | None, ...]]:
        """The subjects' slots of this second, with all that expired gone, and their limits."""
        calendar = self._turn(second)
        if limits is not self._limits:
            self._limits = limits
            self._known.clear()
        tallies, limited = self._known.get(subjects) or self._learn(subjects)
        slots: list[Slot] = []
        for tally in tallies:
            slot = tally.slot
            if slot.second != second:
                slot = tally.advance(second, calendar.ordinal, calendar.month)
            slots.append(slot)
        return slots, limited

    def _learn(self, subjects: tuple[Subject, ...]) -> tuple[tuple[Tally, ...], tuple[Limits | None, ...]]:
        if len(self._known) >= _KNOWN_MAX:
            self._known.clear()
        tallies = tuple(self._tallies.setdefault(subject, Tally()) for subject in subjects)
        known = self._known[subjects] = (tallies, tuple(map(self._limits.get, subjects)))
        return known

    def _turn(self, second: int) -> Calendar:
        calendar = self._calendar
        if not calendar.day_start <= second < calendar.day_end:
            calendar.turn(second)
        return calendar

    def _refusal(
        self, subjects: tuple[Subject, ...], limits: Mapping[Subject, Limits], need: Need, second: int
    ) -> RequestError:
        """Of all limits without room the one that frees last: whoever waits for it meets none of the others."""
        found = [
            refusal
            for subject in subjects
            if (limit := limits.get(subject)) is not None
            for refusal in _refusals(
                subject, self._tallies[subject], limit, need, second=second, calendar=self._calendar
            )
        ]
        return max(found, key=lambda refusal: refusal.retry_after_seconds or 0)


def _refusals(
    subject: Subject, tally: Tally, limits: Limits, need: Need, *, second: int, calendar: Calendar
) -> Iterator[RequestError]:
    """Every limit of one subject that has no room for this request, with the time until it has."""
    kind = subject.kind
    if limits.concurrent_requests is not None and tally.open >= limits.concurrent_requests:
        yield TooManyRequests(f"This {kind} has too many requests open at once. Wait for some to finish.")
    rates: list[tuple[int | None, type[RateLimited], str, Count, int]] = [
        (limits.requests_per_minute, RateLimited, "requests", REQUESTS, 1),
        (limits.input_tokens_per_minute, TokenRateLimited, "input tokens", INPUT_TOKENS, need.input_tokens),
        (
            limits.output_tokens_per_minute,
            TokenRateLimited,
            "output tokens",
            OUTPUT_TOKENS,
            need.output_tokens,
        ),
    ]
    for limit, error, unit, count, amount in rates:
        if limit is not None and (seconds := tally.room_seconds(count, limit, amount, second)):
            yield error(
                f"This {kind}'s limit of {unit} per minute is reached. Try again in {seconds} seconds.",
                retry_after_seconds=seconds,
            )
    day, tokens, cost = tally.day, need.input_tokens + need.output_tokens, need.cost_micros
    budgets: list[tuple[int | None, str, int, int]] = [
        (limits.tokens_per_day, "tokens per day", day.tokens + tokens, calendar.day_end),
        (limits.cost_per_day_micros, "cost per day", day.cost_micros + cost, calendar.day_end),
        (
            limits.tokens_per_month,
            "tokens per month",
            tally.month_tokens + day.tokens + tokens,
            calendar.month_end,
        ),
        (
            limits.cost_per_month_micros,
            "cost per month",
            tally.month_cost_micros + day.cost_micros + cost,
            calendar.month_end,
        ),
    ]
    for budget, unit, total, free_at in budgets:
        if budget is not None and total > budget:
            seconds = max(1, free_at - second)
            yield BudgetSpent(
                f"This {kind}'s budget of {unit} does not cover this request. It starts anew in {seconds} seconds; "
                "until then ask for fewer output tokens, or ask your administrator for a larger budget.",
                retry_after_seconds=seconds,
            )


def _allowance(rate: Rate | None, second: int) -> Allowance | None:
    if rate is None:
        return None
    left, limit, tally, count = rate
    return Allowance(limit, left, tally.reset_seconds(count, second))


def _spent(tally: Tally) -> int:
    day = tally.day
    return tally.month_tokens + tally.month_cost_micros + day.tokens + day.cost_micros
