from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from appliance import clock
from appliance.domain import LedgerRow
from appliance.errors import StoreError
from appliance.store import database, ledger
from appliance.store.usage import Totals, UsageReader

if TYPE_CHECKING:
    from collections.abc import Iterator

MAY_1_MS = 1_777_573_800_000
"""2026-05-01 00:00 in India."""
FIRST_DAY = "0000-00-00"
"""Before any."""
DAY_MS = 86_400_000
KEY_A = "aaaaaaaaaa"
KEY_B = "BBBBBBBBBB"


@pytest.fixture
def usage(usage_db: Path) -> Iterator[UsageReader]:
    reader = UsageReader(usage_db)
    yield reader
    reader.close()


def _row(start_ms: int, key: str = KEY_A, model: str = "tiny", status: int = 200) -> LedgerRow:
    return LedgerRow(
        request_id=clock.ulid(start_ms),
        ts_start_ms=start_ms,
        ts_end_ms=start_ms + 5,
        prompt_tokens=10,
        completion_tokens=2,
        token_counts="exact",
        model_id=model,
        deployment_id=model,
        http_status=status,
        latency_total_ms=5,
        latency_ttft_ms=None,
        latency_itl_mean_us=None,
        rl_requests_used=1,
        rl_tokens_used=12,
        api_key_id=key,
    )


def _write(path: Path, *rows: LedgerRow, cost_micros: int = 0) -> None:
    connection = database.open_usage(path)
    with connection:
        ledger.write(
            connection, [(0, row, cost_micros) for row in rows], ledger.Days(ZoneInfo("Asia/Kolkata"))
        )
    connection.close()


def test_nothing_was_used_before_the_gateway_made_the_file(usage: UsageReader, usage_db: Path) -> None:
    assert usage.totals("key", FIRST_DAY) == []
    assert usage.newest(5) == []
    assert usage.last_used_days() == {}
    assert not usage_db.exists()


def test_totals_by_key(usage: UsageReader, usage_db: Path) -> None:
    _write(usage_db, _row(MAY_1_MS), _row(MAY_1_MS + 1, status=502), _row(MAY_1_MS, KEY_B))

    assert usage.totals("key", FIRST_DAY) == [Totals(KEY_B, 1, 0, 10, 2, 0), Totals(KEY_A, 2, 1, 20, 4, 0)]


def test_totals_by_model(usage: UsageReader, usage_db: Path) -> None:
    _write(usage_db, _row(MAY_1_MS), _row(MAY_1_MS, model="other", status=404))

    assert usage.totals("model", FIRST_DAY) == [
        Totals("other", 1, 1, 10, 2, 0),
        Totals("tiny", 1, 0, 10, 2, 0),
    ]


def test_totals_by_day_of_the_site(usage: UsageReader, usage_db: Path) -> None:
    _write(usage_db, _row(MAY_1_MS - 1), _row(MAY_1_MS), _row(MAY_1_MS + DAY_MS - 1))

    assert usage.totals("day", FIRST_DAY) == [
        Totals("2026-04-30", 1, 0, 10, 2, 0),
        Totals("2026-05-01", 2, 0, 20, 4, 0),
    ]


def test_totals_begin_with_the_given_day(usage: UsageReader, usage_db: Path) -> None:
    _write(usage_db, _row(MAY_1_MS - 1), _row(MAY_1_MS))

    assert usage.totals("model", "2026-05-01") == [Totals("tiny", 1, 0, 10, 2, 0)]


def test_costs_are_added_up(usage: UsageReader, usage_db: Path) -> None:
    _write(usage_db, _row(MAY_1_MS), cost_micros=3)
    _write(usage_db, _row(MAY_1_MS + DAY_MS), _row(MAY_1_MS + DAY_MS), cost_micros=10**12)

    assert [row.cost_micros for row in usage.totals("key", FIRST_DAY)] == [2 * 10**12 + 3]


def test_newest_requests_come_first_and_are_limited(usage: UsageReader, usage_db: Path) -> None:
    rows = [_row(MAY_1_MS + number) for number in range(5)]
    _write(usage_db, *rows)

    assert usage.newest(2) == [rows[4], rows[3]]


def test_last_use_is_known_to_the_day(usage: UsageReader, usage_db: Path) -> None:
    _write(usage_db, _row(MAY_1_MS - DAY_MS), _row(MAY_1_MS + 3_600_000), _row(MAY_1_MS - 1, KEY_B))

    assert usage.last_used_days() == {KEY_A: "2026-05-01", KEY_B: "2026-04-30"}


def test_rows_written_later_are_seen(usage: UsageReader, usage_db: Path) -> None:
    _write(usage_db, _row(MAY_1_MS))
    assert len(usage.newest(10)) == 1

    _write(usage_db, _row(MAY_1_MS + 1))

    assert len(usage.newest(10)) == 2


def test_damaged_file_is_said(usage: UsageReader, usage_db: Path) -> None:
    usage_db.write_bytes(b"x" * 5000)

    with pytest.raises(StoreError, match="damaged"):
        usage.newest(1)
