from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from appliance.clock import now_ms, ulid
from appliance.domain import Call, Caller, LedgerRow, Outcome, Price, Reservation, Used
from appliance.gateway.meter import Meter
from appliance.metrics import Metrics
from appliance.store.journal import Journal, OpenRequest
from appliance.store.ledger import Ledger

USAGE = b'{"prompt_tokens":7,"total_tokens":12,"completion_tokens":5}'
CALL = Call("chat", "m", stream=True)
ZONE = ZoneInfo("Asia/Kolkata")
PRICE = Price(1_000_000, 2_500_000)


class Books:
    """A meter with what it writes to."""

    def __init__(self, folder: Path) -> None:
        self._db = folder / "usage.db"
        self.journal = Journal(folder / "usage.journal", 256)
        self.ledger = Ledger(self._db, self.journal, zone=ZONE, cost_of=lambda _: 0)
        self.ledger.start()
        self.metrics = Metrics()
        self.meter = Meter(self.ledger, self.metrics)

    def admit(self) -> Reservation:
        """An open request, as admission leaves it."""
        now = now_ms()
        request_id = ulid(now)
        slot = self.journal.open(OpenRequest(now, request_id, "m", "m", "abcdefghij"))
        assert slot is not None
        return Reservation(slot, request_id, Caller("account", "abcdefghij"), CALL, now, time.monotonic_ns())

    def days(self) -> list[tuple[str, int]]:
        """Each day's key and cost."""
        with closing(sqlite3.connect(self._db)) as db:
            return db.execute("SELECT api_key_id, cost_micros FROM usage_day").fetchall()

    def rows(self) -> list[LedgerRow]:
        """What is in the ledger once everything handed over is written."""
        self.meter.flush()
        self.ledger.stop(10)
        with closing(sqlite3.connect(self._db)) as db:
            return [LedgerRow(*found) for found in db.execute("SELECT * FROM usage")]


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    books = Books(tmp_path)
    yield books
    books.ledger.stop(10)
    books.journal.release()


async def test_a_stream_becomes_a_row(books: Books) -> None:
    reservation = books.admit()._replace(started_ns=time.monotonic_ns() - 100_000_000)
    first_ns = reservation.started_ns + 20_000_000

    books.meter.charge(reservation, Outcome(200, USAGE, "exact", first_ns, first_ns + 8_000_000), None)

    (row,) = books.rows()
    assert row[:2] == (reservation.request_id, reservation.ts_start_ms)
    assert row.ts_start_ms <= row.ts_end_ms <= now_ms()
    assert row[3:9] == (7, 5, "exact", "m", "m", 200)
    assert 100 <= row.latency_total_ms < 5000
    assert (row.latency_ttft_ms, row.latency_itl_mean_us) == (20, 2000)
    assert row[12:] == (1, 12, "abcdefghij")


@pytest.mark.parametrize(
    ("usage", "first_ns", "latencies"),
    [
        (USAGE, 0, (None, None)),
        (b"", 0, (None, None)),
        (b'{"prompt_tokens":7,"completion_tokens":1}', 1, (0, None)),
        (b'{"prompt_tokens":7,"completion_tokens":0}', 1, (0, None)),
    ],
    ids=["not streamed", "no usage", "one token", "no token"],
)
async def test_latencies_of_what_did_not_stream_are_empty(
    books: Books, usage: bytes, first_ns: int, latencies: tuple[int | None, int | None]
) -> None:
    reservation = books.admit()
    at_ns = reservation.started_ns if first_ns else 0

    books.meter.charge(reservation, Outcome(200, usage, "exact", at_ns, at_ns), None)

    (row,) = books.rows()
    assert (row.latency_ttft_ms, row.latency_itl_mean_us) == latencies


async def test_a_clock_that_is_set_back_makes_no_row_that_ends_before_it_starts(books: Books) -> None:
    reservation = books.admit()._replace(ts_start_ms=now_ms() + 3_600_000)

    books.meter.charge(reservation, Outcome(499, b"", "partial", 0, 0), None)

    (row,) = books.rows()
    assert row.ts_end_ms == row.ts_start_ms


async def test_rows_are_written_soon_without_anybody_asking(books: Books) -> None:
    books.meter.charge(books.admit(), Outcome(200, USAGE, "exact", 0, 0), None)
    books.meter.charge(books.admit(), Outcome(200, USAGE, "exact", 0, 0), None)

    await asyncio.sleep(0.5)

    assert books.journal.left_open() == []


async def test_every_request_is_one_row(books: Books) -> None:
    reservations = [books.admit() for _ in range(200)]
    for reservation in reservations:
        books.meter.charge(reservation, Outcome(200, USAGE, "exact", 0, 0), None)

    found = sorted(row.request_id for row in books.rows())

    assert found == sorted(reservation.request_id for reservation in reservations)


async def test_a_request_is_counted_by_model_and_status(books: Books) -> None:
    reservation = books.admit()
    books.meter.charge(
        reservation, Outcome(499, USAGE, "partial", reservation.started_ns, reservation.started_ns), None
    )

    text = books.metrics.exposition().decode()

    assert 'inferfly_requests_total{model="m",status="499"} 1.0' in text
    assert 'inferfly_tokens_total{kind="prompt",model="m"} 7.0' in text
    assert 'inferfly_tokens_total{kind="completion",model="m"} 5.0' in text
    assert 'inferfly_time_to_first_token_seconds_count{model="m"} 1.0' in text
    assert 'inferfly_request_duration_seconds_count{model="m"} 1.0' in text


async def test_what_was_used_is_given_back_with_its_cost(books: Books) -> None:
    priced = books.meter.charge(books.admit(), Outcome(200, USAGE, "exact", 0, 0), PRICE)
    free = books.meter.charge(books.admit(), Outcome(200, USAGE, "exact", 0, 0), None)
    nothing = books.meter.charge(books.admit(), Outcome(503, b"", "partial", 0, 0), PRICE)

    assert priced == Used(7, 5, 7 + 13)  # 12.5 is rounded up
    assert free == Used(7, 5, 0)
    assert nothing == Used(0, 0, 0)


async def test_costs_are_added_to_the_day(books: Books) -> None:
    books.meter.charge(books.admit(), Outcome(200, USAGE, "exact", 0, 0), PRICE)
    books.meter.charge(books.admit(), Outcome(499, USAGE, "partial", 0, 0), PRICE)

    assert len(books.rows()) == 2
    assert books.days() == [("abcdefghij", 40)]


async def test_nothing_to_flush_is_nothing_to_write(books: Books) -> None:
    books.meter.flush()

    assert books.rows() == []
