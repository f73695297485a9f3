from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from appliance.clock import ulid
from appliance.domain import LedgerRow
from appliance.store.database import BUSY_SECONDS_MAX
from appliance.store.journal import Journal, OpenRequest
from appliance.store.ledger import Ledger, Settled


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
    ledger = Ledger(tmp_path / "usage.db", journal)
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
        settled.append((slot, row(request_id)))
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
    assert rows(tmp_path) == sorted(found for batch in batches for _, found in batch)


def test_stopping_writes_what_was_handed_over(tmp_path: Path, journal: Journal) -> None:
    ledger = Ledger(tmp_path / "usage.db", journal)
    ledger.start()
    batch = admitted(journal, 50)
    ledger.settle(batch)

    ledger.stop(10)

    assert len(rows(tmp_path)) == 50
    assert journal.left_open() == []


def test_requests_that_a_former_gateway_left_open_get_their_rows(tmp_path: Path, journal: Journal) -> None:
    ((slot, settled),) = admitted(journal)
    journal.note(slot, b'{"prompt_tokens":7,"completion_tokens":5}')
    ledger = Ledger(tmp_path / "usage.db", journal)

    assert ledger.start() == 1
    ledger.stop(10)

    (found,) = rows(tmp_path)
    assert (found.request_id, found.token_counts, found.completion_tokens) == (
        settled.request_id,
        "interrupted",
        5,
    )
    assert journal.left_open() == []


def test_a_locked_database_delays_rows_and_loses_none(
    tmp_path: Path, journal: Journal, ledger: Ledger
) -> None:
    """Longer than SQLite itself waits, so that a write really fails."""
    batch = admitted(journal)
    with closing(sqlite3.connect(tmp_path / "usage.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        ledger.settle(batch)
        time.sleep(BUSY_SECONDS_MAX + 0.3)
        while_locked = journal.left_open()
        other.execute("ROLLBACK")

        assert eventually(lambda: journal.left_open() == [])
    assert len(while_locked) == 1
    assert rows(tmp_path) == [batch[0][1]]


def test_stopping_is_bounded_and_leaves_the_rest_in_the_journal(tmp_path: Path, journal: Journal) -> None:
    ledger = Ledger(tmp_path / "usage.db", journal)
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

folder, ids = Path(sys.argv[1]), sys.argv[2:]
def row(id): return LedgerRow(id, 1000, 2000, 7, 2, "exact", "m", "m", 200, 1000, 5, 6, 1, 9, "abcdefghij")
def admitted(journal): return [(journal.open(OpenRequest(1000, id, "m", "m", "abcdefghij")), row(id)) for id in ids]
"""

DYING = """
class Dying(Journal):
    def close(self, slot):
        os.kill(os.getpid(), signal.SIGKILL)

journal = Dying(folder / "usage.journal", 8)
ledger = Ledger(folder / "usage.db", journal)
ledger.start()
ledger.settle(admitted(journal))
time.sleep(30)
"""

FULL = """
journal = Journal(folder / "usage.journal", 64)
ledger = Ledger(folder / "usage.db", journal)
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
    ledger = Ledger(tmp_path / "usage.db", journal)
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
