"""Control's answers as tables that fit 80 columns."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.admin.contract import (
        Account,
        Ban,
        CreatedKey,
        EngineStatus,
        Key,
        ModelStatus,
        Price,
        Status,
        SubjectLimits,
        UsageReport,
        UsageRow,
    )


def show_status(status: Status) -> None:
    console = _console()
    _line(console, "Ready: applications get answers." if status.ready else "Not ready.")
    _line(console, f"Release {status.version}, gateway {status.gateway}.")
    if status.supervisor == "unreachable":
        _line(console, "The supervisor does not answer: these states are the last known ones.")
    table = _table("~ENGINE", "STATE", "SINCE (UTC)", ">RESTARTS")
    for engine in status.engines:
        table.add_row(engine.name, engine.state, _minute(engine.since_ms), str(engine.restarts))
    console.print(table)
    for engine in status.engines:
        _explain(console, engine)


def show_models(models: Sequence[ModelStatus]) -> None:
    table = _table("~NAME", "STATE", "ENDPOINTS", ">CONTEXT", ">READY")
    for model in models:
        ready = f"{model.replicas_ready}/{model.replicas}"
        table.add_row(model.name, model.state, ", ".join(model.endpoints), f"{model.max_context:,}", ready)
    _console().print(table)


def show_created_key(key: CreatedKey) -> None:
    console = _console()
    _line(console, key.key)
    _line(console, "")
    _line(console, f"This is the only time the key is shown. It expires on {_day(key.expires_at_ms)} (UTC).")


def show_keys(keys: Sequence[Key]) -> None:
    console = _console()
    table = _table("ID", "~ACCOUNT", "~NAME", "STATE", "EXPIRES", "LAST USED")
    for key in keys:
        expires = _day(key.expires_at_ms)
        table.add_row(key.key_id, key.account, key.name, key.state, expires, key.last_used_day or "-")
    console.print(table)
    for key in keys:
        _explain_key(console, key)


def show_limits(limits: Sequence[SubjectLimits]) -> None:
    table = _table("KIND", "~NAME", "LIMIT", ">VALUE")
    for each in limits:
        for name, value in each.model_dump(exclude={"kind", "name", "currency"}, exclude_none=True).items():
            shown = f"{value:,}" if isinstance(value, int) else f"{value} {each.currency}"
            table.add_row(each.kind, each.name, name.replace("_", " "), shown)
    _console().print(table)


def show_prices(prices: Sequence[Price]) -> None:
    table = _table("~MODEL", ">INPUT", ">OUTPUT", "PER MILLION TOKENS")
    for price in prices:
        table.add_row(price.model, price.input_per_million, price.output_per_million, price.currency)
    _console().print(table)


def show_bans(bans: Sequence[Ban]) -> None:
    table = _table("~SOURCE", "SINCE (UTC)", "UNTIL (UTC)", ">FAILURES")
    for ban in bans:
        table.add_row(ban.source, _minute(ban.since_ms), _minute(ban.until_ms), str(ban.failures))
    _console().print(table)


def show_accounts(accounts: Sequence[Account]) -> None:
    table = _table("~NAME", "STATE", ">USABLE KEYS", "CREATED")
    for account in accounts:
        table.add_row(account.name, account.state, str(account.usable_keys), _day(account.created_at_ms))
    _console().print(table)


def show_usage(report: UsageReport) -> None:
    console = _console()
    _line(console, f"Since {report.since_day} ({report.timezone}):")
    costs = [f">COST {report.currency}"] if report.priced else []
    table = _table("~" + report.by.upper(), ">REQUESTS", ">FAILED", ">TOKENS IN", ">TOKENS OUT", *costs)
    for row in report.rows:
        numbers = (row.requests, row.failed, row.prompt_tokens, row.completion_tokens)
        table.add_row(row.group, *(f"{n:,}" for n in numbers), *([row.cost] if report.priced else []))
    console.print(table)


def show_requests(rows: Sequence[UsageRow]) -> None:
    table = _table("STARTED (UTC)", "KEY", "~MODEL", ">STATUS", ">IN", ">OUT", ">MS", "COUNTS")
    for row in rows:
        numbers = (row.http_status, row.prompt_tokens, row.completion_tokens, row.latency_total_ms)
        started = _time(row.ts_start_ms).strftime("%m-%d %H:%M:%S")
        table.add_row(started, row.api_key_id, row.model_id, *map(str, numbers), row.token_counts)
    _console().print(table)


def _explain(console: Console, engine: EngineStatus) -> None:
    words = " ".join(part for part in (engine.cause, engine.cure) if part)
    if words:
        console.print(Text(f"{engine.name}: {words}"))


def _explain_key(console: Console, key: Key) -> None:
    """What it may be used for and which key it continues, where there is anything to say."""
    scopes = (("models", key.models), ("endpoints", key.endpoints), ("from", key.networks))
    only = "; ".join(f"{what} {', '.join(values)}" for what, values in scopes if values)
    if only:
        console.print(Text(f"{key.key_id}: only {only}."))
    if key.origin != key.key_id:
        console.print(Text(f"{key.key_id}: of the line of {key.origin}."))


def _console() -> Console:
    return Console(highlight=False, emoji=False, markup=False)


def _line(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True)


def _table(*columns: str) -> Table:
    """A plain table. `>` before a column's name sets its numbers right; `~` lets its words go on below."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        justify = "right" if column.startswith(">") else "left"
        folds = column.startswith("~")
        table.add_column(column.lstrip(">~"), justify=justify, overflow="fold", no_wrap=not folds)
    return table


def _time(ms: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(ms / 1000, dt.UTC)


def _day(ms: int) -> str:
    return _time(ms).strftime("%Y-%m-%d")


def _minute(ms: int) -> str:
    return _time(ms).strftime("%Y-%m-%d %H:%M")
