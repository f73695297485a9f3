"""A gateway without its server: real registry records, journal, ledger and engine client, in one folder."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from appliance import apikey
from appliance.domain import Engine, LedgerRow
from appliance.engine.client import EngineClient
from appliance.gateway.admission import Admission
from appliance.gateway.inference import Gateway
from appliance.gateway.meter import Meter
from appliance.gateway.routing import Routing
from appliance.metrics import Metrics
from appliance.store.journal import Journal
from appliance.store.ledger import Ledger
from appliance.store.registry import KeyRecord, ModelRecord, RoutingTable

KEY = apikey.new()
FAR_MS = 4_000_000_000_000
OPEN_MAX = 4


@dataclass
class Box:
    """`socket` is where its only engine listens. `close` it."""

    folder: Path
    body_seconds_max: float = 5
    gateway: Gateway = field(init=False)

    def __post_init__(self) -> None:
        self.socket = self.folder / "engine.sock"
        self.journal = Journal(self.folder / "usage.journal", OPEN_MAX)
        self._ledger = Ledger(self.folder / "usage.db", self.journal)
        self._ledger.start()
        metrics = Metrics()
        self.gateway = Gateway(
            table=self.table(),
            admission=Admission(self.journal, OPEN_MAX),
            routing=Routing(),
            engines=EngineClient(),
            meter=Meter(self._ledger, metrics),
            metrics=metrics,
            journal=self.journal,
            body_bytes_max=100_000,
            body_seconds_max=self.body_seconds_max,
        )

    def table(self, *, ready: bool = True) -> RoutingTable:
        engine = Engine("m-1", "m", str(self.socket))
        return RoutingTable(
            keys={KEY.key_id: KeyRecord(KEY.key_id, "account", KEY.sha256, FAR_MS)},
            models={"m": ModelRecord("m", frozenset({"chat", "completions"}), 4096, 1_700_000_000)},
            engines={"m": (engine,)} if ready else {},
        )

    async def rows(self) -> list[LedgerRow]:
        """What is in the ledger once everything that ended is written."""
        self.gateway.meter.flush()
        await asyncio.to_thread(self._ledger.stop, 10)
        with closing(sqlite3.connect(self.folder / "usage.db")) as db:
            return [LedgerRow(*found) for found in db.execute("SELECT * FROM usage ORDER BY request_id")]

    def close(self) -> None:
        self.gateway.engines.close()
        self._ledger.stop(10)
        self.journal.release()


def chat(prompt: str, **fields: Any) -> bytes:
    return msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": prompt}]} | fields)
