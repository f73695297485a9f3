"""A gateway without its server: real registry records, journal, ledger and engine client, in one folder."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from appliance import apikey
from appliance.domain import Engine, LedgerRow, Limits, Price, Subject
from appliance.engine.client import EngineClient
from appliance.gateway.admission import Admission
from appliance.gateway.guard import Guard
from appliance.gateway.inference import Gateway
from appliance.gateway.limits import Book
from appliance.gateway.meter import Meter
from appliance.gateway.routing import Routing
from appliance.metrics import Metrics
from appliance.store.journal import Journal
from appliance.store.ledger import Ledger
from appliance.store.registry import KeyRecord, ModelRecord, RoutingTable

KEY = apikey.new()
FAR_MS = 4_000_000_000_000
OPEN_MAX = 4
ZONE = ZoneInfo("Asia/Kolkata")
ACCOUNT = Subject("account", "account")


@dataclass
class Box:
    """`sockets` are where its engines listen, if somebody makes them. `close` it."""

    folder: Path
    engines: int = 1
    sequences_max: int = 16
    queue_max: int = 256
    queue_seconds_max: float = 5
    guesses_max: int = 20
    limits: Mapping[Subject, Limits] = field(default_factory=dict[Subject, Limits])
    prices: Mapping[str, Price] = field(default_factory=dict[str, Price])
    gateway: Gateway = field(init=False)

    def __post_init__(self) -> None:
        self.sockets = [self.folder / f"engine-{number}.sock" for number in range(self.engines)]
        self.journal = Journal(self.folder / "usage.journal", 2 * OPEN_MAX)
        self.ledger = Ledger(self.folder / "usage.db", self.journal, zone=ZONE, cost_of=lambda _: 0)
        self.ledger.start()
        metrics = Metrics()
        self.book = Book(ZONE)
        self.gateway = Gateway(
            table=self.table(),
            guard=Guard(failures_max=self.guesses_max),
            admission=Admission(
                self.journal, OPEN_MAX, self.book, self.queue_seconds_max, behind=lambda: self.ledger.failing
            ),
            routing=Routing(),
            engines=EngineClient(),
            meter=Meter(self.ledger, metrics),
            metrics=metrics,
            journal=self.journal,
            body_bytes_max=100_000,
        )

    @property
    def socket(self) -> Path:
        """Of its first engine."""
        return self.sockets[0]

    def table(self, *, ready: bool = True, usable: bool = True) -> RoutingTable:
        """With the model's engines ready or not, and its only key usable or revoked."""
        engines = tuple(
            Engine(f"m-{number}", "m", str(socket)) for number, socket in enumerate(self.sockets, 1)
        )
        model = ModelRecord(
            "m",
            frozenset({"chat", "completions", "messages"}),
            4096,
            1_700_000_000,
            sequences_max=self.sequences_max,
            queue_max=self.queue_max,
        )
        key = KeyRecord(KEY.key_id, "account", KEY.sha256, FAR_MS, origin=KEY.key_id)
        return RoutingTable(
            keys={KEY.key_id: key} if usable else {},
            models={"m": model},
            lines={KEY.key_id: (KEY.key_id, "account")},
            engines={"m": engines} if ready else {},
            limits=self.limits,
            prices=self.prices,
        )

    @property
    def is_idle(self) -> bool:
        """Whether no request holds anything: a place, a limit, an engine."""
        open_in_book = any(tally.open for tally in self.book._tallies.values())
        return not (self.gateway.admission.open or self.gateway._running or open_in_book)

    async def rows(self) -> list[LedgerRow]:
        """What is in the ledger once everything that ended is written."""
        self.gateway.meter.flush()
        await asyncio.to_thread(self.ledger.stop, 10)
        with closing(sqlite3.connect(self.folder / "usage.db")) as db:
            return [LedgerRow(*found) for found in db.execute("SELECT * FROM usage ORDER BY request_id")]

    def close(self) -> None:
        self.gateway.engines.close()
        self.ledger.stop(10)
        self.journal.release()


def chat(prompt: str, **fields: Any) -> bytes:
    return msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": prompt}]} | fields)
