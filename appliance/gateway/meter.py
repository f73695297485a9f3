"""charge: an ended request becomes its ledger row and its counts, exactly once."""

from __future__ import annotations

import asyncio
import time

from appliance.clock import now_ms
from appliance.domain import LedgerRow, Outcome, Price, Reservation, Used
from appliance.metrics import Metrics
from appliance.store.journal import parse_usage
from appliance.store.ledger import Ledger, Settled

FLUSH_SECONDS = 0.1
"""Rows of this long go to the writer thread together: a commit costs as much as twenty rows."""


class Meter:
    """Turns reservations into rows. Lives on the event loop."""

    def __init__(self, ledger: Ledger, metrics: Metrics) -> None:
        self._ledger = ledger
        self._metrics = metrics
        self._batch: Settled = []

    def charge(self, reservation: Reservation, outcome: Outcome, price: Price | None) -> Used:
        """Write down how a request ended. Gives what it used."""
        status, usage, counts, first_ns, last_ns = outcome
        tokens = parse_usage(usage)
        total_ns = time.monotonic_ns() - reservation.started_ns
        ttft_ns = first_ns - reservation.started_ns if first_ns else None
        gaps = tokens.completion_tokens - 1
        call = reservation.call
        row = LedgerRow(
            reservation.request_id,
            reservation.ts_start_ms,
            max(reservation.ts_start_ms, now_ms()),
            tokens.prompt_tokens,
            tokens.completion_tokens,
            counts,
            call.model,
            call.model,
            status,
            total_ns // 1_000_000,
            None if ttft_ns is None else ttft_ns // 1_000_000,
            (last_ns - first_ns) // (gaps * 1000) if first_ns and gaps > 0 else None,
            1,
            tokens.prompt_tokens + tokens.completion_tokens,
            reservation.caller.key_id,
        )
        if not self._batch:
            asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
        cost_micros = price.cost_micros(tokens.prompt_tokens, tokens.completion_tokens) if price else 0
        self._batch.append((reservation.slot, row, cost_micros))
        self._count(call.model, status, row, total_ns, ttft_ns)
        return Used(tokens.prompt_tokens, tokens.completion_tokens, cost_micros)

    def flush(self) -> None:
        """Hand what has gathered to the writer thread."""
        batch, self._batch = self._batch, []
        if batch:
            self._ledger.settle(batch)

    def _count(self, model: str, status: int, row: LedgerRow, total_ns: int, ttft_ns: int | None) -> None:
        metrics = self._metrics.of(model)
        metrics.requests[status] += 1
        metrics.prompt_tokens += row.prompt_tokens
        metrics.completion_tokens += row.completion_tokens
        metrics.duration.observe(total_ns)
        if ttft_ns is not None:
            metrics.ttft.observe(ttft_ns)
