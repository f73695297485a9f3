"""Tallies: what one subject used within the last minute, today and this month."""

from __future__ import annotations

import datetime as dt
from bisect import insort
from collections import deque
from collections.abc import Callable
from operator import attrgetter
from typing import NamedTuple
from zoneinfo import ZoneInfo

from appliance.domain import Limits

WINDOW_SECONDS = 60
"""A rate counts the whole second that runs and the 59 before it."""

Count = Callable[["Counts"], int]
REQUESTS: Count = attrgetter("requests")
INPUT_TOKENS: Count = attrgetter("input_tokens")
OUTPUT_TOKENS: Count = attrgetter("output_tokens")
"""What a rate looks at."""


class Need(NamedTuple):
    """The most that one request may use."""

    input_tokens: int
    output_tokens: int
    cost_micros: int


class Day:
    """What one subject spent on one calendar day, open requests included."""

    __slots__ = ("cost_micros", "month", "ordinal", "tokens")

    def __init__(self, ordinal: int, month: int) -> None:
        self.ordinal = ordinal
        self.month = month
        self.tokens = 0
        self.cost_micros = 0


class Counts:
    """Requests of some time, and the tokens that they use."""

    __slots__ = ("input_tokens", "output_tokens", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self.input_tokens = 0
        self.output_tokens = 0

    def add(self, other: Counts) -> None:
        self.requests += other.requests
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens

    def subtract(self, other: Counts) -> None:
        self.requests -= other.requests
        self.input_tokens -= other.input_tokens
        self.output_tokens -= other.output_tokens


class Slot(Counts):
    """One subject's requests of one second. An open request holds its slots, so that it can settle them."""

    __slots__ = ("closed", "day", "second", "tally")

    def __init__(self, tally: Tally, second: int) -> None:
        super().__init__()
        self.tally = tally
        self.second = second
        self.day = tally.day
        self.closed = False
        """Whether it is one of the window's earlier seconds, which are in the tally's sum."""


class Tally:
    """One subject's counts. The newest slot and day stand apart, so that a request changes few numbers."""

    __slots__ = (
        "day",
        "earlier",
        "earlier_sum",
        "month_cost_micros",
        "month_tokens",
        "open",
        "slot",
    )

    def __init__(self) -> None:
        self.open = 0
        self.day = Day(0, 0)
        self.month_tokens = 0
        self.month_cost_micros = 0
        """Of the month's days before `day`."""
        self.slot = Slot(self, -1)
        self.earlier: deque[Slot] = deque()
        """The window's seconds before `slot`, those without a request left out."""
        self.earlier_sum = Counts()

    def has_room(self, limits: Limits, need: Need) -> bool:
        """Whether one more request passes none of the limits.

        A request that asks for more tokens than a rate allows has room when the window is empty of them:
        a large context has to wait for its turn, but is not locked out. A request that needs none is not held up.
        """
        requests_rate, input_rate, output_rate, concurrent, day_tokens, month_tokens, day_cost, month_cost = (
            limits
        )
        if concurrent is not None and self.open >= concurrent:
            return False
        slot = self.slot
        earlier = self.earlier_sum
        if requests_rate is not None and earlier.requests + slot.requests >= requests_rate:
            return False
        input_tokens, output_tokens, cost_micros = need
        if input_rate is not None:
            used = earlier.input_tokens + slot.input_tokens
            if used + input_tokens > input_rate and input_tokens and (used or not input_rate):
                return False
        if output_rate is not None:
            used = earlier.output_tokens + slot.output_tokens
            if used + output_tokens > output_rate and output_tokens and (used or not output_rate):
                return False
        tokens = input_tokens + output_tokens
        day = self.day
        return not (
            (day_tokens is not None and day.tokens + tokens > day_tokens)
            or (month_tokens is not None and self.month_tokens + day.tokens + tokens > month_tokens)
            or (day_cost is not None and day.cost_micros + cost_micros > day_cost)
            or (
                month_cost is not None and self.month_cost_micros + day.cost_micros + cost_micros > month_cost
            )
        )

    def used(self, count: Count) -> int:
        """What the window holds."""
        return count(self.earlier_sum) + count(self.slot)

    def last_second(self) -> int:
        """The newest second that a request was counted in, by this process or the one before."""
        return max(self.slot.second, self.earlier[-1].second if self.earlier else -1)

    def reset_seconds(self, count: Count, second: int) -> int:
        """Time until the window holds nothing of this any more."""
        if count(self.slot):
            return self.slot.second + WINDOW_SECONDS - second
        for slot in reversed(self.earlier):
            if count(slot):
                return slot.second + WINDOW_SECONDS - second
        return 0

    def room_seconds(self, count: Count, limit: int, amount: int, second: int) -> int:
        """Time until a rate has room for this amount, if nothing else happens; 0 if it has now."""
        if not amount:
            return 0
        if not limit:
            return WINDOW_SECONDS
        used = self.used(count)
        free_at = second
        for slot in (*self.earlier, self.slot):
            if not used or used + amount <= limit:
                break
            used -= count(slot)
            free_at = slot.second + WINDOW_SECONDS
        return free_at - second

    def advance(self, second: int, ordinal: int, month: int) -> Slot:
        """Make the slot of this second the newest: seconds that left the window and past days no longer count.

        A clock set back by less than a window goes on with the newest slot. One set back by more had been wrong:
        the window starts anew.
        """
        slot = self.slot
        if second < slot.second:
            if slot.second - second < WINDOW_SECONDS:
                return slot
            self._clear()
        elif slot.requests:
            slot.closed = True
            self.earlier.append(slot)
            self.earlier_sum.add(slot)
        earlier = self.earlier
        while earlier and earlier[0].second <= second - WINDOW_SECONDS:
            oldest = earlier.popleft()
            oldest.closed = False
            self.earlier_sum.subtract(oldest)
        self.turn(ordinal, month)
        self.slot = slot = Slot(self, second)
        return slot

    def turn(self, ordinal: int, month: int) -> None:
        """Begin another day. Within a month the day that ends joins the month's total."""
        day = self.day
        if ordinal == day.ordinal:
            return
        if month == day.month:
            self.month_tokens += day.tokens
            self.month_cost_micros += day.cost_micros
        else:
            self.month_tokens = 0
            self.month_cost_micros = 0
        self.day = Day(ordinal, month)

    def insert(self, second: int, input_tokens: int, output_tokens: int) -> None:
        """Count a request that an earlier process admitted in this second."""
        slot = next((slot for slot in self.earlier if slot.second == second), None)
        if slot is None:
            slot = Slot(self, second)
            slot.closed = True
            insort(self.earlier, slot, key=attrgetter("second"))
        for counts in (slot, self.earlier_sum):
            counts.requests += 1
            counts.input_tokens += input_tokens
            counts.output_tokens += output_tokens

    def _clear(self) -> None:
        for slot in self.earlier:
            slot.closed = False
        self.earlier.clear()
        self.earlier_sum = Counts()


class Calendar:
    """Today and this month in one time zone, as seconds since the epoch; the date is worked out once a day."""

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone
        self.day_start = self.day_end = self.month_end = 0
        self.ordinal = 0
        self.month = 0

    def turn(self, second: int) -> None:
        """Work out the day that this second belongs to. A day may have 23 or 25 hours."""
        date = dt.datetime.fromtimestamp(second, self._zone).date()
        self.day_start = self._start(date)
        self.day_end = self._start(date + dt.timedelta(days=1))
        self.month_end = self._start((date.replace(day=1) + dt.timedelta(days=32)).replace(day=1))
        self.ordinal = date.toordinal()
        self.month = month_of(date)

    def _start(self, date: dt.date) -> int:
        return int(dt.datetime.combine(date, dt.time(), self._zone).timestamp())


def month_of(date: dt.date) -> int:
    """One number for each calendar month."""
    return date.year * 12 + date.month
