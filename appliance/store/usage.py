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
    """Requests of one group. `group` is a key's id, a model's name or a day (YYYY-MM-DD) of the site's time zone."""

    group: str
    requests: int
    failed: int
    """Those that ended with an HTTP status of 400 or more."""
    prompt_tokens: int
    completion_tokens: int
    cost_micros: int
    """Millionths of the site's currency."""


_GROUPS: Final[dict[Group, str]] = {"key": "api_key_id", "model": "model_id", "day": "day"}
_TOTALS: Final = """SELECT {group}, sum(requests), sum(failed), sum(prompt_tokens), sum(completion_tokens),
  sum(cost_micros)
FROM usage_day WHERE day >= ? GROUP BY 1 ORDER BY 1"""
_NEWEST: Final = f"SELECT {', '.join(LedgerRow._fields)} FROM usage ORDER BY request_id DESC LIMIT ?"  # noqa: S608  # names of ours
_LAST_USED: Final = "SELECT api_key_id, max(day) FROM usage_day GROUP BY 1"


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

    def totals(self, by: Group, since_day: str) -> list[Totals]:
        """Totals of the requests that began on `since_day` (YYYY-MM-DD) or later."""
        return [Totals(*row) for row in self._rows(_TOTALS.format(group=_GROUPS[by]), since_day)]

    def newest(self, limit: int) -> list[LedgerRow]:
        """The `limit` requests that began last, newest first."""
        return [LedgerRow(*row) for row in self._rows(_NEWEST, limit)]

    def last_used_days(self) -> dict[str, str]:
        """Key id -> the day of its last request, as far back as the totals go. Never finer than a day."""
        return dict(self._rows(_LAST_USED))

    def _rows(self, sql: str, *values: int | str) -> list[Any]:
        with self._turn:
            if self._db is None:
                if not self._path.exists():
                    return []
                self._db = database.open_reader(self._path, USAGE)
            return self._db.execute(sql, values).fetchall()
