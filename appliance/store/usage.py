"""Questions to `usage.db`: totals by key, model or day, and the newest requests. Read-only."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from appliance.domain import LedgerRow
from appliance.store import database
from appliance.store.migrations import USAGE

if TYPE_CHECKING:
    from pathlib import Path

    from sqlite_utils import Database

Group = Literal["key", "model", "day"]


@dataclass(frozen=True, slots=True)
class Totals:
    """Requests of one group. `group` is a key's id, a model's name or a day (UTC, YYYY-MM-DD)."""

    group: str
    requests: int
    failed: int
    """Those that ended with an HTTP status of 400 or more."""
    prompt_tokens: int
    completion_tokens: int


_DAY: Final = "strftime('%Y-%m-%d', ts_start_ms / 1000, 'unixepoch')"
_GROUPS: Final[dict[Group, str]] = {"key": "api_key_id", "model": "model_id", "day": _DAY}
_TOTALS: Final = """SELECT {group} AS grouped, count(*), sum(http_status >= 400),
  sum(prompt_tokens), sum(completion_tokens)
FROM usage WHERE ts_start_ms >= ? GROUP BY grouped ORDER BY grouped"""
_NEWEST: Final = (
    f"SELECT {', '.join(LedgerRow._fields)} FROM usage ORDER BY ts_start_ms DESC, request_id DESC LIMIT ?"  # noqa: S608  # names of ours
)
_LAST_USED: Final = (
    "SELECT api_key_id, strftime('%Y-%m-%d', max(ts_start_ms) / 1000, 'unixepoch') FROM usage GROUP BY 1"
)


class UsageReader:
    """Control's view of `usage.db`, which the gateway makes and writes. Any thread may call it; calls take turns.

    Until the gateway has made the file, nothing was used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db: Database | None = None
        self._turn = threading.Lock()

    def close(self) -> None:
        with self._turn:
            if self._db is not None:
                self._db.close()
                self._db = None

    def totals(self, by: Group, since_ms: int) -> list[Totals]:
        """Totals of the requests that began at `since_ms` or later."""
        return [Totals(*row) for row in self._rows(_TOTALS.format(group=_GROUPS[by]), since_ms)]

    def newest(self, limit: int) -> list[LedgerRow]:
        """The `limit` requests that began last, newest first."""
        return [LedgerRow(*row) for row in self._rows(_NEWEST, limit)]

    def last_used_days(self) -> dict[str, str]:
        """Key id -> the day of its last request, as far back as the detailed rows go. Never finer than a day."""
        return dict(self._rows(_LAST_USED))

    def _rows(self, sql: str, *values: int) -> list[Any]:
        with self._turn:
            if self._db is None:
                if not self._path.exists():
                    return []
                self._db = database.open_reader(self._path, USAGE)
            return self._db.execute(sql, values).fetchall()
