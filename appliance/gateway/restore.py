"""Counters of limits and budgets as the ledger has them: what a restart, orderly or not, does not lose."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

from appliance.domain import Subject
from appliance.gateway.limits import Book
from appliance.store.ledger import Ledger
from appliance.store.registry import RoutingTable

WINDOW_MS = 60_000


def counts(book: Book, ledger: Ledger, table: RoutingTable, zone: ZoneInfo, now_ms: int) -> None:
    """Count again this month's days and the last minute's requests, with everybody they count for."""
    today = dt.datetime.fromtimestamp(now_ms / 1000, zone).date()
    for spent in ledger.spent(today.replace(day=1).isoformat()):
        day = dt.date.fromisoformat(spent.day)
        for subject in _subjects(table, spent.api_key_id, spent.model_id):
            book.restore_spent(subject, day, spent.tokens, spent.cost_micros)
    for one in ledger.recent(now_ms - WINDOW_MS):
        for subject in _subjects(table, one.api_key_id, one.model_id):
            book.restore_recent(subject, one.ts_start_ms / 1000, one.prompt_tokens, one.completion_tokens)


def _subjects(table: RoutingTable, key_id: str, model: str) -> tuple[Subject, ...]:
    """Whose use it was. A key that the registry no longer knows counts for its model only."""
    if key_id not in table.lines:
        return (Subject("model", model),)
    origin, account_id = table.lines[key_id]
    return (Subject("key", origin), Subject("account", account_id), Subject("model", model))
