"""The book against a slow model that keeps a list of all requests and adds them up each time."""

from __future__ import annotations

import copy
import datetime as dt
from dataclasses import dataclass
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from appliance.domain import Limits, Subject
from appliance.errors import RequestError
from appliance.gateway.limits import Allowance, Book, Hold, Need, Standing

KEYS = [Subject("key", "a-key"), Subject("key", "another-key")]
ACCOUNTS = [Subject("account", "an-account"), Subject("account", "another-account")]
MODEL = Subject("model", "a-model")
EVERYBODY = [*KEYS, *ACCOUNTS, MODEL]

# Each begins minutes before something odd: a day of 23 or 25 hours, a midnight that is skipped or comes twice.
STARTS = [
    ("Europe/Berlin", "2026-03-28T23:57:00"),
    ("Europe/Berlin", "2026-10-31T23:57:00"),
    ("Africa/Cairo", "2024-04-25T23:57:00"),
    ("America/Sao_Paulo", "2018-02-17T22:57:00"),
    ("America/Havana", "2026-10-31T23:57:00"),
    ("Asia/Kolkata", "2026-12-31T23:57:00"),
]

none = st.none()
limits = st.builds(
    Limits,
    requests_per_minute=none | st.integers(1, 4),
    input_tokens_per_minute=none | st.integers(1, 60),
    output_tokens_per_minute=none | st.integers(1, 60),
    concurrent_requests=none | st.integers(1, 5),
    tokens_per_day=none | st.integers(0, 200),
    tokens_per_month=none | st.integers(0, 400),
    cost_per_day_micros=none | st.integers(0, 100),
    cost_per_month_micros=none | st.integers(0, 200),
)
needs = st.builds(Need, st.integers(0, 40), st.integers(0, 40), st.integers(0, 20))
subjects = st.tuples(st.sampled_from(KEYS), st.sampled_from(ACCOUNTS), st.just(MODEL))
milliseconds = st.one_of(
    st.integers(0, 3000),
    st.integers(0, 130_000),
    st.integers(0, 30 * 3_600_000),
    st.integers(0, 40 * 86_400_000),
)


@dataclass
class Request:
    subjects: tuple[Subject, ...]
    second: int
    date: dt.date
    used: Need
    hold: Hold | None


class Total(NamedTuple):
    requests: int
    input_tokens: int
    output_tokens: int
    tokens: int
    cost_micros: int


def total(requests: list[Request]) -> Total:
    input_tokens = sum(request.used.input_tokens for request in requests)
    output_tokens = sum(request.used.output_tokens for request in requests)
    cost_micros = sum(request.used.cost_micros for request in requests)
    return Total(len(requests), input_tokens, output_tokens, input_tokens + output_tokens, cost_micros)


class AgainstAModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Request] = []
        self.limits: dict[Subject, Limits] = {}
        self.now_ms = 0

    @initialize(
        start=st.sampled_from(STARTS),
        limits=st.dictionaries(st.sampled_from(EVERYBODY), limits, max_size=5),
    )
    def begin(self, start: tuple[str, str], limits: dict[Subject, Limits]) -> None:
        self.zone = ZoneInfo(start[0])
        self.now_ms = int(dt.datetime.fromisoformat(start[1]).replace(tzinfo=self.zone).timestamp()) * 1000
        self.limits = limits
        self.book = Book(self.zone)

    @property
    def now(self) -> float:
        return self.now_ms / 1000

    @property
    def today(self) -> dt.date:
        return dt.datetime.fromtimestamp(self.now_ms // 1000, self.zone).date()

    @rule(milliseconds=milliseconds)
    def wait(self, milliseconds: int) -> None:
        self.now_ms += milliseconds

    @rule(subjects=subjects, need=needs)
    def reserve(self, subjects: tuple[Subject, ...], need: Need) -> None:
        expected = all(self.has_room(subject, need) for subject in subjects)
        before = self.standing_of(subjects)

        try:
            hold = self.book.reserve(subjects, self.limits, need, self.now)
        except RequestError as refusal:
            assert not expected
            assert self.book.standing(subjects, self.limits, self.now) == before
            self.come_back(subjects, need, refusal.retry_after_seconds or 0)
        else:
            assert expected
            self.requests.append(Request(subjects, self.now_ms // 1000, self.today, need, hold))

    def come_back(self, subjects: tuple[Subject, ...], need: Need, seconds: int) -> None:
        """If waiting can help at all, the request is admitted after just so many seconds."""
        assert seconds >= 1
        if any(self.stays_full(subject, need) for subject in subjects):
            return
        with pytest.raises(RequestError):
            copy.deepcopy(self.book).reserve(subjects, self.limits, need, self.now + seconds - 1)
        copy.deepcopy(self.book).reserve(subjects, self.limits, need, self.now + seconds)

    @precondition(lambda self: self.opened())
    @rule(
        data=st.data(), input_used=st.integers(0, 40), output_used=st.integers(0, 40), cost=st.integers(0, 20)
    )
    def settle(self, data: st.DataObject, input_used: int, output_used: int, cost: int) -> None:
        request = data.draw(st.sampled_from(self.opened()))
        assert request.hold is not None
        need = request.used
        request.used = Need(
            min(need.input_tokens, input_used),
            min(need.output_tokens, output_used),
            min(need.cost_micros, cost),
        )
        self.book.settle(request.hold, *request.used)
        request.hold = None

    @precondition(lambda self: self.opened())
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.opened()))
        assert request.hold is not None
        self.book.cancel(request.hold)
        self.requests.remove(request)

    @rule()
    def prune(self) -> None:
        self.book.prune(self.now)

    @precondition(lambda self: not self.opened())
    @rule(backwards=st.booleans())
    def restart(self, backwards: bool) -> None:  # noqa: FBT001  # hypothesis passes it by name
        self.book = Book(self.zone)
        for request in sorted(self.requests, key=lambda request: request.second, reverse=backwards):
            for subject in request.subjects:
                self.restore(subject, request)

    def restore(self, subject: Subject, request: Request) -> None:
        used = request.used
        if request.date.replace(day=1) == self.today.replace(day=1):
            tokens = used.input_tokens + used.output_tokens
            self.book.restore_spent(subject, request.date, tokens, used.cost_micros)
        if request.second > self.now_ms // 1000 - 60:
            self.book.restore_recent(subject, request.second, used.input_tokens, used.output_tokens)

    @rule(subjects=subjects)
    def ask_for_standing(self, subjects: tuple[Subject, ...]) -> None:
        assert self.book.standing(subjects, self.limits, self.now) == self.standing_of(subjects)

    @invariant()
    def nobody_is_over_a_limit(self) -> None:
        assert [subject for subject in self.limits if self.is_over(subject)] == []

    def opened(self) -> list[Request]:
        return [request for request in self.requests if request.hold is not None]

    def of(self, subject: Subject) -> list[Request]:
        return [request for request in self.requests if subject in request.subjects]

    def window(self, subject: Subject) -> list[Request]:
        return [request for request in self.of(subject) if request.second > self.now_ms // 1000 - 60]

    def day(self, subject: Subject) -> Total:
        return total([request for request in self.of(subject) if request.date == self.today])

    def month(self, subject: Subject) -> Total:
        first = self.today.replace(day=1)
        return total([request for request in self.of(subject) if request.date.replace(day=1) == first])

    def budgets(self, subject: Subject) -> list[tuple[int, int | None, str]]:
        """Used, limit, and what of a need counts."""
        limit, day, month = self.limits.get(subject, Limits()), self.day(subject), self.month(subject)
        return [
            (day.tokens, limit.tokens_per_day, "tokens"),
            (month.tokens, limit.tokens_per_month, "tokens"),
            (day.cost_micros, limit.cost_per_day_micros, "cost_micros"),
            (month.cost_micros, limit.cost_per_month_micros, "cost_micros"),
        ]

    def rates(self, subject: Subject) -> list[tuple[int, int | None, str]]:
        limit, used = self.limits.get(subject, Limits()), total(self.window(subject))
        return [
            (used.requests, limit.requests_per_minute, "requests"),
            (used.input_tokens, limit.input_tokens_per_minute, "input_tokens"),
            (used.output_tokens, limit.output_tokens_per_minute, "output_tokens"),
        ]

    def concurrent(self, subject: Subject) -> tuple[int, int | None]:
        opened = [request for request in self.of(subject) if request.hold is not None]
        return len(opened), self.limits.get(subject, Limits()).concurrent_requests

    def has_room(self, subject: Subject, need: Need) -> bool:
        amount = Total(1, need.input_tokens, need.output_tokens, sum(need[:2]), need.cost_micros)
        opened, opened_max = self.concurrent(subject)
        return (
            (opened_max is None or opened + 1 <= opened_max)
            and all(
                limit is None or used + getattr(amount, name) <= limit
                for used, limit, name in self.budgets(subject)
            )
            and all(
                limit is None
                or used == 0
                or getattr(amount, name) == 0
                or used + getattr(amount, name) <= limit
                for used, limit, name in self.rates(subject)
            )
        )

    def stays_full(self, subject: Subject, need: Need) -> bool:
        """Whether no wait helps: only requests that end, or a larger budget."""
        amount = Total(1, need.input_tokens, need.output_tokens, sum(need[:2]), need.cost_micros)
        opened, opened_max = self.concurrent(subject)
        return (opened_max is not None and opened >= opened_max) or any(
            limit is not None and getattr(amount, name) > limit for _, limit, name in self.budgets(subject)
        )

    def is_over(self, subject: Subject) -> bool:
        """A rate may only be passed by a request that had the window to itself."""
        opened, opened_max = self.concurrent(subject)
        alone = {
            name: sum(getattr(total([request]), name) > 0 for request in self.window(subject)) <= 1
            for name in Total._fields
        }
        return (
            (opened_max is not None and opened > opened_max)
            or any(limit is not None and used > limit for used, limit, _ in self.budgets(subject))
            or any(
                limit is not None and used > limit and not alone[name]
                for used, limit, name in self.rates(subject)
            )
        )

    def standing_of(self, subjects: tuple[Subject, ...]) -> Standing:
        rates = [(subject, *rate) for subject in subjects for rate in self.rates(subject)]
        requests = [rate for rate in rates if rate[3] == "requests"]
        tokens = [rate for rate in rates if rate[3] != "requests"]
        return Standing(self.tightest(requests), self.tightest(tokens))

    def tightest(self, rates: list[tuple[Subject, int, int | None, str]]) -> Allowance | None:
        found = [
            Allowance(limit, max(0, limit - used), self.reset_seconds(subject, name))
            for subject, used, limit, name in rates
            if limit is not None
        ]
        return min(found, key=lambda allowance: allowance.remaining, default=None)

    def reset_seconds(self, subject: Subject, name: str) -> int:
        counted = [request for request in self.window(subject) if getattr(total([request]), name)]
        return max((request.second + 60 - self.now_ms // 1000 for request in counted), default=0)


AgainstAModel.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestAgainstAModel = AgainstAModel.TestCase
