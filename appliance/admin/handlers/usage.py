"""What was used: totals by account, key, model or day, and the newest requests. Never a word of them."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Final

from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter

from appliance import clock
from appliance.admin import money
from appliance.admin.contract import (
    USAGE_DAYS_DEFAULT,
    USAGE_DAYS_MAX,
    USAGE_LIMIT_MAX,
    UsageGroup,
    UsageReport,
    UsageRow,
    UsageTotals,
)
from appliance.admin.handlers import Plane
from appliance.store.usage import Totals

UNKNOWN: Final = "unknown"
"""Stands for the account of a key that the registry no longer knows."""


@get("/v1/usage", sync_to_thread=True)
def report_usage(
    plane: NamedDependency[Plane],
    by: FromQuery[UsageGroup] = "account",
    days: Annotated[int, QueryParameter(ge=1, le=USAGE_DAYS_MAX)] = USAGE_DAYS_DEFAULT,
) -> UsageReport:
    """Totals since midnight of the site's time zone, `days` - 1 days ago."""
    today = dt.datetime.fromtimestamp(clock.now_ms() / 1000, plane.zone).date()
    since_day = (today - dt.timedelta(days=days - 1)).isoformat()
    if by == "account":
        account_of = {key.key_id: key.account for key in plane.registry.api_keys()}
        rows = by_account(plane.usage.totals("key", since_day), account_of)
    else:
        rows = plane.usage.totals(by, since_day)
    return UsageReport(
        by=by,
        days=days,
        since_day=since_day,
        timezone=plane.zone.key,
        currency=plane.currency,
        priced=any(row.cost_micros for row in rows) or bool(plane.registry.prices()),
        rows=tuple(map(_totals, rows)),
    )


@get("/v1/requests", sync_to_thread=True)
def list_newest_requests(
    plane: NamedDependency[Plane], limit: Annotated[int, QueryParameter(ge=1, le=USAGE_LIMIT_MAX)] = 20
) -> list[UsageRow]:
    return [UsageRow(**row._asdict()) for row in plane.usage.newest(limit)]


def by_account(keys: list[Totals], account_of: dict[str, str]) -> list[Totals]:
    """Add up the totals of each account's keys."""
    sums: dict[str, Totals] = {}
    for key in keys:
        name = account_of.get(key.group, UNKNOWN)
        so_far = sums.get(name, Totals(name, 0, 0, 0, 0, 0))
        sums[name] = Totals(
            name,
            so_far.requests + key.requests,
            so_far.failed + key.failed,
            so_far.prompt_tokens + key.prompt_tokens,
            so_far.completion_tokens + key.completion_tokens,
            so_far.cost_micros + key.cost_micros,
        )
    return [sums[name] for name in sorted(sums)]


def _totals(row: Totals) -> UsageTotals:
    return UsageTotals(
        group=row.group,
        requests=row.requests,
        failed=row.failed,
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        cost=money.to_text(row.cost_micros),
    )
