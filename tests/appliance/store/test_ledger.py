from __future__ import annotations

import datetime as dt
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.clock import ulid
from appliance.domain import LedgerRow
from appliance.errors import StoreError
from appliance.store.database import BUSY_SECONDS_MAX
from appliance.store.journal import Journal, OpenRequest
from appliance.store.ledger import ROWS_AT_ONCE, Days, Ledger, Recent, Settled, Spent, first_id

COST = 31
DAY = "1970-01-01"


def row(request_id: str, completion: int = 2) -> LedgerRow:
    return LedgerRow(
        request_id,
        1000,
        2000,
        7,
        completion,
        "exact",
        "m",
        "m",
        200,
        1000,
        5,
        6,
        1,
        7 + completion,
        "abcdefghij",
    )


def cost_of(row: LedgerRow) -> int:
    return 1000 * row.completion_tokens


def opened(folder: Path, journal: Journal, zone: str = "Asia/Kolkata") -> Ledger:
    return Ledger(folder / "usage.db", journal, zone=ZoneInfo(zone), cost_of=cost_of)


def rows(folder: Path) -> list[LedgerRow]:
    with closing(sqlite3.connect(folder / "usage.db")) as db:
        return [LedgerRow(*found) for found in db.execute("SELECT * FROM usage ORDER BY request_id")]


def eventually(true: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    return true()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "usage.journal", 64)
    yield journal
    journal.release()


@pytest.fixture
def ledger(tmp_path: Path, journal: Journal) -> Iterator[Ledger]:
    ledger = opened(tmp_path, journal)
    ledger.start()
    yield ledger
    ledger.stop(10)


def admitted(journal: Journal, count: int = 1) -> Settled:
    """Requests in the journal, each with the row that will settle it."""
    settled: Settled = []
    for _ in range(count):
        request_id = ulid(1000)
        slot = journal.open(OpenRequest(1000, request_id, "m", "m", "abcdefghij"))
        assert slot is not None
        settled.append((slot, row(request_id), COST))
    return settled


def test_a_row_is_written_as_it_is_and_its_slot_freed(
    tmp_path: Path, journal: Journal, ledger: Ledger
) -> None:
    batch = admitted(journal)

    ledger.settle(batch)

    assert eventually(lambda: journal.left_open() == [])
    assert rows(tmp_path) == [batch[0][1]]


def test_many_batches_are_all_written_once(tmp_path: Path, journal: Journal, ledger: Ledger) -> None:
    batches = [admitted(journal, 4) for _ in range(16)]

    for batch in [*batches, *batches]:
        ledger.settle(batch)

    assert eventually(lambda: journal.left_open() == [])
    assert rows(tmp_path) == sorted(found for batch in batches for _, found, _ in batch)


def test_stopping_writes_what_was_handed_over(tmp_path: Path, journal: Journal) -> None:
    ledger = opened(tmp_path, journal)
    ledger.start()
    batch = admitted(journal, 50)
    ledger.settle(batch)

    ledger.stop(10)

    assert len(rows(tmp_path)) == 50
    assert journal.left_open() == []


def test_requests_that_a_former_gateway_left_open_get_their_rows(tmp_path: Path, journal: Journal) -> None:
    ((slot, settled, _),) = admitted(journal)
    journal.note(slot, b'{"prompt_tokens":7,"completion_tokens":5}')
    ledger = opened(tmp_path, journal)

    assert ledger.start() == 1
    ledger.stop(10)

    (found,) = rows(tmp_path)
    assert (found.request_id, found.token_counts, found.completion_tokens) == (
        settled.request_id,
        "interrupted",
        5,
    )
    assert journal.left_open() == []


def spent_by_day(ledger: Ledger) -> dict[str, int]:
    return {spent.day: spent.requests for spent in ledger.spent(DAY)}


def test_rows_are_added_to_the_totals_of_their_day_key_and_model(journal: Journal, ledger: Ledger) -> None:
    (slot, settled, _), *rest = admitted(journal, 5)
    other = settled._replace(api_key_id="ABCDEFGHIJ", http_status=502)

    ledger.settle([(slot, other, 0)])
    ledger.settle(rest)

    assert eventually(lambda: ledger.backlog == 0)
    assert ledger.spent(DAY) == [
        Spent(DAY, "ABCDEFGHIJ", "m", 1, 9, 0),
        Spent(DAY, "abcdefghij", "m", 4, 36, 4 * COST),
    ]


def test_failed_requests_are_counted_among_the_days(tmp_path: Path, journal: Journal, ledger: Ledger) -> None:
    batch = [
        (slot, found._replace(http_status=status), 0)
        for (slot, found, _), status in zip(admitted(journal, 4), (200, 399, 400, 502), strict=True)
    ]

    ledger.settle(batch)

    assert eventually(lambda: ledger.backlog == 0)
    with closing(sqlite3.connect(tmp_path / "usage.db")) as db:
        assert db.execute("SELECT requests, failed FROM usage_day").fetchall() == [(4, 2)]


def test_totals_begin_with_a_day(journal: Journal, ledger: Ledger) -> None:
    ledger.settle(admitted(journal))

    assert eventually(lambda: ledger.backlog == 0)
    assert ledger.spent("1970-01-02") == []


@pytest.mark.parametrize("count", [1, ROWS_AT_ONCE - 1, ROWS_AT_ONCE, ROWS_AT_ONCE + 1, 3 * ROWS_AT_ONCE])
def test_batches_of_every_size_are_written_whole(
    tmp_path: Path, journal: Journal, ledger: Ledger, count: int
) -> None:
    batch = admitted(journal, count)

    ledger.settle(batch)

    assert eventually(lambda: ledger.backlog == 0)
    assert rows(tmp_path) == sorted(found for _, found, _ in batch)
    assert spent_by_day(ledger) == {DAY: count}


def test_a_day_is_the_sites_own(journal: Journal, ledger: Ledger) -> None:
    """18:30 UTC is midnight in India."""
    midnight_ms = 1_777_573_800_000
    batch = [
        (slot, found._replace(ts_start_ms=midnight_ms + late_ms), 0)
        for (slot, found, _), late_ms in zip(admitted(journal, 3), (-1, 0, 1), strict=True)
    ]

    ledger.settle(batch)

    assert eventually(lambda: ledger.backlog == 0)
    assert spent_by_day(ledger) == {"2026-04-30": 1, "2026-05-01": 2}


@given(
    zone=st.sampled_from(
        ["UTC", "Asia/Kolkata", "America/Santiago", "America/Havana", "Australia/Lord_Howe"]
    ),
    times_s=st.lists(st.integers(0, 4_000_000_000), min_size=1),
)
def test_a_remembered_day_is_the_day_that_the_calendar_has(zone: str, times_s: list[int]) -> None:
    days = Days(ZoneInfo(zone))

    found = [days.of(s * 1000) for s in times_s for s in (s, s + 3600, s - 1)]

    right = [
        dt.datetime.fromtimestamp(s, ZoneInfo(zone)).date().isoformat()
        for s in times_s
        for s in (s, s + 3600, s - 1)
    ]
    assert found == right


def test_what_a_former_gateway_left_open_is_spent_once_the_ledger_has_started(
    tmp_path: Path, journal: Journal
) -> None:
    ((slot, _, _),) = admitted(journal)
    journal.note(slot, b'{"prompt_tokens":7,"completion_tokens":5}')
    ledger = opened(tmp_path, journal)

    ledger.start()
    spent, recent = ledger.spent(DAY), ledger.recent(0)
    ledger.stop(10)

    assert spent == [Spent(DAY, "abcdefghij", "m", 1, 12, 5000)]
    assert recent == [Recent(1000, "abcdefghij", "m", 7, 5)]


def test_a_request_counts_once_though_its_slot_was_not_freed(tmp_path: Path, journal: Journal) -> None:
    ledger = opened(tmp_path, journal)
    ledger.start()
    ((slot, settled, _),) = admitted(journal)
    ledger.settle([(slot, settled, COST)])
    ledger.stop(10)
    journal.open(OpenRequest(1000, settled.request_id, "m", "m", "abcdefghij"))

    again = opened(tmp_path, journal)
    left = again.start()

    assert left == 1
    assert again.spent(DAY) == [Spent(DAY, "abcdefghij", "m", 1, 9, COST)]
    assert journal.left_open() == []
    again.stop(10)


def test_recent_requests_are_those_since_a_moment_oldest_first(journal: Journal, ledger: Ledger) -> None:
    batch: Settled = []
    for start_ms in (5000, 3000, 4000, 2999):
        ((slot, found, _),) = admitted(journal)
        batch.append((slot, found._replace(request_id=ulid(start_ms), ts_start_ms=start_ms), 0))

    ledger.settle(batch)

    assert eventually(lambda: ledger.backlog == 0)
    assert [recent.ts_start_ms for recent in ledger.recent(3000)] == [3000, 4000, 5000]


@given(ms=st.integers(0, 2**48 - 2))
def test_ids_sort_around_the_first_of_their_time(ms: int) -> None:
    assert ulid(ms) >= first_id(ms)
    assert ulid(ms) < first_id(ms + 1)


def test_a_backlog_is_what_is_not_committed(tmp_path: Path, journal: Journal, ledger: Ledger) -> None:
    with closing(sqlite3.connect(tmp_path / "usage.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        ledger.settle(admitted(journal, 3))
        ledger.settle(admitted(journal, 2))
        waiting = ledger.backlog
        other.execute("ROLLBACK")

    assert waiting == 5
    assert eventually(lambda: ledger.backlog == 0)
    assert not ledger.failing


def test_a_start_that_can_not_write_says_so(tmp_path: Path, journal: Journal) -> None:
    admitted(journal)
    ledger = opened(tmp_path, journal)
    with closing(sqlite3.connect(tmp_path / "usage.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(StoreError, match=r"could not be written \(SQLITE_BUSY\).*start again"):
            ledger.start()

        other.execute("ROLLBACK")
    ledger._db.close()
    assert len(journal.left_open()) == 1


def test_a_locked_database_delays_rows_and_loses_none(
    tmp_path: Path, journal: Journal, ledger: Ledger
) -> None:
    """Longer than SQLite itself waits, so that a write really fails."""
    batch = admitted(journal)
    with closing(sqlite3.connect(tmp_path / "usage.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        ledger.settle(batch)
        time.sleep(BUSY_SECONDS_MAX + 0.3)
        while_locked, failing = journal.left_open(), ledger.failing
        other.execute("ROLLBACK")

        assert eventually(lambda: journal.left_open() == [])
    assert (len(while_locked), failing) == (1, True)
    assert not ledger.failing
    assert rows(tmp_path) == [batch[0][1]]


def test_stopping_is_bounded_and_leaves_the_rest_in_the_journal(tmp_path: Path, journal: Journal) -> None:
    ledger = opened(tmp_path, journal)
    ledger.start()
    with closing(sqlite3.connect(tmp_path / "usage.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        ledger.settle(admitted(journal))
        began = time.monotonic()
        ledger.stop(0.3)
        took = time.monotonic() - began
        still_open = len(journal.left_open())
        other.execute("ROLLBACK")
    ledger._thread.join(10)
    ledger._db.close()

    assert took < 1
    assert still_open == 1


# At the boundary of the process: a kill, and a disk that is full

COMMON = """
import os, resource, signal, sqlite3, sys, time
from pathlib import Path
from appliance.domain import LedgerRow
from appliance.store.journal import Journal, OpenRequest
from appliance.store.ledger import Ledger
from zoneinfo import ZoneInfo

folder, ids = Path(sys.argv[1]), sys.argv[2:]
def row(id): return LedgerRow(id, 1000, 2000, 7, 2, "exact", "m", "m", 200, 1000, 5, 6, 1, 9, "abcdefghij")
def admitted(journal):
    return [(journal.open(OpenRequest(1000, id, "m", "m", "abcdefghij")), row(id), 31) for id in ids]
def opened(journal):
    return Ledger(folder / "usage.db", journal, zone=ZoneInfo("UTC"), cost_of=lambda row: 7)
"""

DYING = """
class Dying(Journal):
    def close(self, slot):
        os.kill(os.getpid(), signal.SIGKILL)

journal = Dying(folder / "usage.journal", 8)
ledger = opened(journal)
ledger.start()
ledger.settle(admitted(journal))
time.sleep(30)
"""

FULL = """
journal = Journal(folder / "usage.journal", 64)
ledger = opened(journal)
ledger.start()
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
ledger.settle(admitted(journal))
time.sleep(0.2)
print("open while full:", len(journal.left_open()), flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
ledger.stop(10)
print("open afterwards:", len(journal.left_open()), flush=True)
"""


def run(script: str, folder: Path, ids: list[str]) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", COMMON + script, str(folder), *ids]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_a_kill_between_commit_and_freeing_leaves_one_row(tmp_path: Path) -> None:
    request_id = ulid(1000)
    assert run(DYING, tmp_path, [request_id]).returncode == -9

    journal = Journal(tmp_path / "usage.journal", 8)
    ledger = opened(tmp_path, journal)
    found = ledger.start()
    ledger.stop(10)
    left = journal.left_open()
    journal.release()

    assert (found, left) == (1, [])
    assert rows(tmp_path) == [row(request_id)]


def test_a_full_disk_delays_rows_and_loses_none(tmp_path: Path) -> None:
    ids = sorted(ulid(1000) for _ in range(64))

    child = run(FULL, tmp_path, ids)

    assert child.stdout.splitlines() == ["open while full: 64", "open afterwards: 0"]
    assert rows(tmp_path) == [row(request_id) for request_id in ids]
    assert "Traceback" not in child.stderr
