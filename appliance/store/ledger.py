"""The gateway's writer of `usage.db`: every admitted request becomes exactly one row."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from queue import SimpleQueue

from appliance.domain import LedgerRow
from appliance.privacy.logs import log
from appliance.store import database
from appliance.store.journal import Journal

RETRY_SECONDS = 0.5

_COLUMNS = ", ".join(LedgerRow._fields)
_MARKS = ", ".join("?" for _ in LedgerRow._fields)
INSERT = f"INSERT INTO usage ({_COLUMNS}) VALUES ({_MARKS}) ON CONFLICT (request_id) DO NOTHING"  # noqa: S608  # names of ours

Settled = list[tuple[int, LedgerRow]]
"""Journal slot and row of requests that ended."""


class Ledger:
    """One writer thread that commits rows in batches and frees their journal slots.

    A batch that can't be written (disk full, database locked) is tried again for ever: its slots stay taken,
    so admission stops at the journal's size and nothing is lost.
    """

    def __init__(self, path: Path, journal: Journal) -> None:
        self._db = database.open_usage(path)
        self._journal = journal
        self._batches: SimpleQueue[Settled | None] = SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)

    def start(self) -> int:
        """Begin, with what a former gateway left open. Gives the number of rows that settle it."""
        left = self._journal.left_open()
        if left:
            log("requests_interrupted", count=len(left))
            self._batches.put(left)
        self._thread.start()
        return len(left)

    def settle(self, batch: Settled) -> None:
        """Hand over ended requests. Returns at once."""
        self._batches.put(batch)

    def stop(self, seconds: float) -> None:
        """Write everything handed over, trying for at most `seconds`. What is left stays in the journal."""
        self._batches.put(None)
        self._thread.join(seconds)
        self._stopping.set()
        if not self._thread.is_alive():
            self._db.close()

    def _run(self) -> None:
        while (batch := self._batches.get()) is not None:
            attempt = 1
            while not self._try(batch, attempt):
                attempt += 1
                if self._stopping.wait(RETRY_SECONDS):
                    return

    def _try(self, batch: Settled, attempt: int) -> bool:
        """Log the first failure and the success after it, not every try: a full disk stays full for hours."""
        try:
            self._write(batch)
        except sqlite3.Error as error:
            if attempt == 1:
                log("ledger_write_failed", error=type(error).__name__.lower())
            return False
        if attempt > 1:
            log("ledger_write_recovered", attempt=attempt)
        return True

    def _write(self, batch: Settled) -> None:
        with self._db:
            self._db.executemany(INSERT, [row for _, row in batch])
        for slot, _ in batch:
            self._journal.close(slot)
