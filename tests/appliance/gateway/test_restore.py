from __future__ import annotations

import datetime as dt
from contextlib import closing
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from appliance.clock import ulid
from appliance.domain import LedgerRow, Limits, Subject
from appliance.errors import BudgetSpent, RateLimited
from appliance.gateway import restore
from appliance.gateway.limits import Book, Need
from appliance.store import database
from appliance.store import ledger as ledgers
from appliance.store.journal import Journal
from appliance.store.ledger import Ledger
from appliance.store.registry import RoutingTable

ZONE = ZoneInfo("Asia/Kolkata")
NOW = dt.datetime(2026, 11, 15, 0, 10, tzinfo=ZONE)
"""Ten minutes into a day of which it is still yesterday in UTC."""
LINES = {
    "old0000000": ("old0000000", "acme"),
    "new0000000": ("old0000000", "acme"),
    "other00000": ("other00000", "acme"),
}
KEY, ACCOUNT, MODEL = Subject("key", "old0000000"), Subject("account", "acme"), Subject("model", "m")
ROW = LedgerRow("", 0, 0, 70, 30, "exact", "m", "m", 200, 5, None, None, 1, 100, "old0000000")


class Past:
    """What an earlier gateway left in its ledger, and the book that a new one starts with."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def use(self, ago: dt.timedelta, *, key: str = "old0000000", model: str = "m") -> None:
        """A request of 100 tokens and 5 millionths, so long ago."""
        start_ms = int((NOW - ago).timestamp() * 1000)
        row = ROW._replace(
            request_id=ulid(start_ms),
            ts_start_ms=start_ms,
            ts_end_ms=start_ms,
            api_key_id=key,
            model_id=model,
        )
        with closing(database.open_usage(self._folder / "usage.db")) as db, db:
            ledgers.write(db, [(0, row, 5)], ledgers.Days(ZONE))

    def restored(self) -> Book:
        book = Book(ZONE)
        journal = Journal(self._folder / "usage.journal", 4)
        ledger = Ledger(self._folder / "usage.db", journal, zone=ZONE, cost_of=lambda _: 0)
        ledger.start()
        now_ms = int(NOW.timestamp() * 1000)
        restore.counts(book, ledger, RoutingTable({}, {}, {}, lines=LINES), ZONE, now_ms)
        ledger.stop(10)
        journal.release()
        return book


@pytest.fixture
def past(tmp_path: Path) -> Past:
    return Past(tmp_path)


def fits(book: Book, subject: Subject, limits: Limits, need: Need = Need(0, 0, 0)) -> bool:  # noqa: B008  # a tuple
    """Whether a request of this need still passes."""
    try:
        hold = book.reserve((subject,), {subject: limits}, need, NOW.timestamp())
    except (RateLimited, BudgetSpent):
        return False
    book.cancel(hold)
    return True


def spent(book: Book, subject: Subject) -> tuple[int, int]:
    """Tokens of today and of this month: the smallest budgets that still hold."""
    day = next(count for count in range(0, 1001, 100) if fits(book, subject, Limits(tokens_per_day=count)))
    month = next(
        count for count in range(0, 1001, 100) if fits(book, subject, Limits(tokens_per_month=count))
    )
    return day, month


MINUTE, HOUR = dt.timedelta(minutes=1), dt.timedelta(hours=1)
AGO = {
    "just now": (dt.timedelta(seconds=30), (100, 100)),
    "today": (9 * MINUTE, (100, 100)),
    "yesterday, which is the same day in UTC": (11 * MINUTE, (0, 100)),
    "on the first of the month": (14 * 24 * HOUR, (0, 100)),
    "last month": (14 * 24 * HOUR + 11 * MINUTE, (0, 0)),
}


@pytest.mark.parametrize(("ago", "counted"), AGO.values(), ids=AGO.keys())
@pytest.mark.parametrize("subject", [KEY, ACCOUNT, MODEL], ids=["key", "account", "model"])
def test_what_was_spent_this_month_is_still_spent(
    past: Past, subject: Subject, ago: dt.timedelta, counted: tuple[int, int]
) -> None:
    past.use(ago)

    assert spent(past.restored(), subject) == counted


def test_costs_are_still_spent(past: Past) -> None:
    past.use(9 * MINUTE)
    past.use(24 * HOUR)
    book = past.restored()

    assert not fits(book, KEY, Limits(cost_per_day_micros=5), Need(0, 0, 1))
    assert fits(book, KEY, Limits(cost_per_day_micros=6), Need(0, 0, 1))
    assert not fits(book, KEY, Limits(cost_per_month_micros=10), Need(0, 0, 1))
    assert fits(book, KEY, Limits(cost_per_month_micros=11), Need(0, 0, 1))


def test_the_last_minutes_requests_and_tokens_still_count(past: Past) -> None:
    past.use(dt.timedelta(seconds=59))
    past.use(dt.timedelta(seconds=1))
    past.use(dt.timedelta(seconds=61))
    book = past.restored()

    assert not fits(book, ACCOUNT, Limits(requests_per_minute=2))
    assert fits(book, ACCOUNT, Limits(requests_per_minute=3))
    assert not fits(book, ACCOUNT, Limits(input_tokens_per_minute=140), Need(1, 0, 0))
    assert fits(book, ACCOUNT, Limits(input_tokens_per_minute=141), Need(1, 0, 0))
    assert not fits(book, ACCOUNT, Limits(output_tokens_per_minute=60), Need(0, 1, 0))
    assert fits(book, ACCOUNT, Limits(output_tokens_per_minute=61), Need(0, 1, 0))


def test_keys_of_one_line_count_together(past: Past) -> None:
    """Also one that was revoked since, and the one that it was rotated into."""
    past.use(MINUTE, key="old0000000")
    past.use(MINUTE, key="new0000000")
    past.use(MINUTE, key="other00000")
    book = past.restored()

    assert spent(book, KEY) == (200, 200)
    assert spent(book, Subject("key", "other00000")) == (100, 100)
    assert spent(book, ACCOUNT) == (300, 300)


def test_a_key_that_is_no_longer_known_counts_for_its_model(past: Past) -> None:
    past.use(dt.timedelta(seconds=5), key="erased0000")
    book = past.restored()

    assert spent(book, MODEL) == (100, 100)
    assert set(book._tallies) == {MODEL}


def test_models_count_apart(past: Past) -> None:
    past.use(MINUTE)
    past.use(MINUTE, model="other")
    book = past.restored()

    assert spent(book, MODEL) == (100, 100)
    assert spent(book, KEY) == (200, 200)


def test_a_box_that_was_never_used_has_spent_nothing(past: Past) -> None:
    assert past.restored()._tallies == {}
