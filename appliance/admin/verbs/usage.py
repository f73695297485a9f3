"""`inferfly usage`: what was used, and what it cost."""

from __future__ import annotations

from pathlib import Path

import click

from appliance.admin import tables
from appliance.admin.contract import USAGE_DAYS_DEFAULT, USAGE_DAYS_MAX, USAGE_LIMIT_MAX, UsageGroup
from appliance.admin.verbs import answer


@click.command(context_settings=answer.CONTEXT)
@click.option(
    "--by",
    type=click.Choice(["account", "key", "model", "day"]),
    default="account",
    show_default=True,
    help="What one line of the answer stands for.",
)
@click.option(
    "--days",
    type=click.IntRange(1, USAGE_DAYS_MAX),
    default=USAGE_DAYS_DEFAULT,
    show_default=True,
    help="Days to add up, today included. They begin at midnight in INFERFLY_TIMEZONE.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, USAGE_LIMIT_MAX),
    default=None,
    help="List so many of the newest requests, instead of totals.",
)
@answer.common
def usage(home: Path | None, by: UsageGroup, days: int, limit: int | None, *, as_json: bool) -> None:
    """Show requests, tokens and costs: totals, or single requests.

    Totals are by account unless --by says otherwise; --limit lists the newest requests. Costs are shown once a model
    has a price.

    Example: inferfly usage --by model --days 7
    """
    client = answer.client(home)
    if limit is not None:
        rows = client.newest_requests(limit)
        answer.print_json(rows) if as_json else tables.show_requests(rows)
        return
    report = client.usage(by=by, days=days)
    answer.print_json(report) if as_json else tables.show_usage(report)
