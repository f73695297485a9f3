"""The gateway's writer of `usage.db`: every admitted request becomes exactly one row."""

from __future__ import annotations

import datetime as dt
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from itertools import chain
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from appliance import clock
from appliance.domain import LedgerRow
from appliance.errors import StoreError
from appliance.privacy.logs import log
from appliance.store import database
from appliance.store.journal import Journal

RETRY_SECONDS: Final = 0.5
ROWS_AT_ONCE: Final = 16
"""Rows of one statement: the fixed cost of a statement is a third of a row's."""
COMMIT_ROWS_MAX: Final = 4096
"""Where more are waiting, they go into several transactions."""

_COLUMNS = ", ".join(LedgerRow._fields)
_MARKS = f"({', '.join('?' for _ in LedgerRow._fields)})"
INSERT: Final = f"INSERT INTO usage ({_COLUMNS}) VALUES {_MARKS}"  # noqa: S608  # names of ours
_INSERT_MANY: Final = f"{INSERT}{f', {_MARKS}' * (ROWS_AT_ONCE - 1)}"
_ADD_TO_DAY: Final = """INSERT INTO usage_day VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (day, api_key_id, model_id) DO UPDATE SET requests = requests + excluded.requests,
  failed = failed + excluded.failed, prompt_tokens = prompt_tokens + excluded.prompt_tokens,
  completion_tokens = completion_tokens + excluded.completion_tokens,
  cost_micros = cost_micros + excluded.cost_micros"""
_SPENT: Final = """SELECT day, api_key_id, model_id, requests, prompt_tokens + completion_tokens, cost_micros
FROM usage_day WHERE day >= ? ORDER BY day, api_key_id, model_id"""
_RECENT: Final = """SELECT ts_start_ms, api_key_id, model_id, prompt_tokens, completion_tokens
FROM usage WHERE request_id >= ? ORDER BY request_id"""
_THERE: Final = "SELECT 1 FROM usage WHERE request_id = ?"

Settled = list[tuple[int, LedgerRow, int]]
"""Journal slot, row and cost (millionths of the site's currency) of requests that ended."""


class Spent(NamedTuple):
    """What one key used of one model on one day of the site's zone."""

    day: str
    """YYYY-MM-DD."""
    api_key_id: str
    model_id: str
    requests: int
    tokens: int
    cost_micros: int


class Recent(NamedTuple):
    """One request, as far as limits by the minute ask for it."""

    ts_start_ms: int
    api_key_id: str
    model_id: str
    prompt_tokens: int
    completion_tokens: int


class Ledger:
    """One writer thread that commits rows in batches, adds them to their day's totals and frees their slots.

    A batch that can't be written (disk full, database locked) is tried again for ever: its slots stay taken,
    so admission stops at the journal's size and nothing is lost.
    """

    failing: bool = False
    """The last attempt to write failed, and is being repeated."""

    def __init__(
        self, path: Path, journal: Journal, *, zone: ZoneInfo, cost_of: Callable[[LedgerRow], int]
    ) -> None:
        """`cost_of` prices the rows that settle what a former gateway left open."""
        self._db = database.open_usage(path)
        self._journal = journal
        self._cost_of = cost_of
        self._days = Days(zone)
        self._batches: SimpleQueue[Settled | None] = SimpleQueue()
        self._handed = 0
        self._committed = 0
        self._turn = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)

    def start(self) -> int:
        """Write what a former gateway left open, and begin. Gives the number of rows that settle it.

        When it returns, `spent` and `recent` know these rows too. Raises StoreError where they can't be written.
        """
        left = [(slot, row, self._cost_of(row)) for slot, row in self._journal.left_open()]
        if left:
            log("requests_interrupted", count=len(left))
            try:
                self._write(left, replayed=True)
            except sqlite3.Error as error:
                raise StoreError(
                    f"usage.db could not be written ({error.sqlite_errorname}).",
                    why="It has to take the requests that were open when the gateway ended last.",
                    fix="Check free disk space and that no other program holds the file, then start again.",
                ) from None
        self._thread.start()
        return len(left)

    def settle(self, batch: Settled) -> None:
        """Hand over ended requests. Returns at once. For the event loop's thread only."""
        self._handed += len(batch)
        self._batches.put(batch)

    @property
    def backlog(self) -> int:
        """Rows that were handed over and are not committed yet."""
        return self._handed - self._committed

    def spent(self, since_day: str) -> list[Spent]:
        """Totals by day, key and model from `since_day` (YYYY-MM-DD) on. Reads the disk: for the start only."""
        with self._turn:
            return [Spent(*row) for row in self._db.execute(_SPENT, (since_day,)).fetchall()]

    def recent(self, since_ms: int) -> list[Recent]:
        """Requests that began at `since_ms` or later, oldest first. Reads the disk: for the start only."""
        with self._turn:
            return [Recent(*row) for row in self._db.execute(_RECENT, (first_id(since_ms),)).fetchall()]

    def stop(self, seconds: float) -> None:
        """Write everything handed over, trying for at most `seconds`. What is left stays in the journal."""
        self._batches.put(None)
        self._thread.join(seconds)
        self._stopping.set()
        if not self._thread.is_alive():
            self._db.close()

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            attempt = 1
            while not self._try(batch, attempt):
                attempt += 1
                if self._stopping.wait(RETRY_SECONDS):
                    return
            self._committed += len(batch)

    def _next(self) -> Settled | None:
        """All that has gathered, at least one batch; None at the end. A commit costs as much as 20 rows."""
        first = self._batches.get()
        if first is None:
            return None
        batch = list(first)
        with suppress(Empty):
            while len(batch) < COMMIT_ROWS_MAX:
                more = self._batches.get_nowait()
                if more is None:
                    self._batches.put(None)
                    break
                batch += more
        return batch

    def _try(self, batch: Settled, attempt: int) -> bool:
        """Log the first failure and the success after it, not every try: a full disk stays full for hours.

        What failed once may have reached the disk all the same.
        """
        try:
            self._write(batch, replayed=attempt > 1)
        except sqlite3.Error as error:
            self.failing = True
            if attempt == 1:
                log("ledger_write_failed", error=type(error).__name__.lower())
            return False
        self.failing = False
        if attempt > 1:
            log("ledger_write_recovered", attempt=attempt)
        return True

    def _write(self, batch: Settled, *, replayed: bool) -> None:
        with self._turn, self._db:
            write(self._db, self._without_written(batch) if replayed else batch, self._days)
        for slot, _, _ in batch:
            self._journal.close(slot)

    def _without_written(self, batch: Settled) -> Settled:
        """Those whose row is not there yet: a request counts once, whatever happened between commit and freeing."""
        once = {row.request_id: (slot, row, cost) for slot, row, cost in batch}
        return [
            entry
            for request_id, entry in once.items()
            if not self._db.execute(_THERE, (request_id,)).fetchone()
        ]


def write(db: sqlite3.Connection, batch: Settled, days: Days) -> None:
    """The rows of a batch and their share of the days' totals, in the caller's transaction. All of them are new."""
    rows = [row for _, row, _ in batch]
    whole = len(rows) - len(rows) % ROWS_AT_ONCE
    for first in range(0, whole, ROWS_AT_ONCE):
        db.execute(_INSERT_MANY, list(chain.from_iterable(rows[first : first + ROWS_AT_ONCE])))
    db.executemany(INSERT, rows[whole:])
    db.executemany(_ADD_TO_DAY, by_day(batch, days))


def by_day(batch: Settled, days: Days) -> list[tuple[str | int, ...]]:
    """Rows of `usage_day` that a batch comes to."""
    sums: dict[tuple[str, str, str], list[int]] = {}
    for _, row, cost_micros in batch:
        key = (days.of(row.ts_start_ms), row.api_key_id, row.model_id)
        total = sums.get(key)
        if total is None:
            total = sums[key] = [0, 0, 0, 0, 0]
        total[0] += 1
        total[1] += row.http_status >= 400
        total[2] += row.prompt_tokens
        total[3] += row.completion_tokens
        total[4] += cost_micros
    return [(*key, *total) for key, total in sums.items()]


def first_id(ms: int) -> str:
    """A text that no request id from `ms` or later sorts before: the time is a ULID's first ten characters."""
    return clock.ulid(ms)[:10]


class Days:
    """Days of a zone by time. Remembers the last one, because requests come by the day."""

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone
        self._day = ""
        self._from_ms = self._until_ms = 0

    def of(self, ms: int) -> str:
        """YYYY-MM-DD."""
        if not self._from_ms <= ms < self._until_ms:
            day = dt.datetime.fromtimestamp(ms / 1000, self._zone).date()
            self._from_ms, self._until_ms = (
                self._midnight_ms(day),
                self._midnight_ms(day + dt.timedelta(days=1)),
            )
            self._day = day.isoformat()
        return self._day

    def _midnight_ms(self, day: dt.date) -> int:
        return int(dt.datetime.combine(day, dt.time(), self._zone).timestamp() * 1000)
