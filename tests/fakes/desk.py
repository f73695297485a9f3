"""Admission with a journal, a book and callers by their names: the account is the first letter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

from appliance.domain import Call, Caller, Engine, Limits, Reservation, Subject, Used
from appliance.gateway.admission import Admission, Ask
from appliance.gateway.limits import Book
from appliance.gateway.tallies import REQUESTS
from appliance.store.journal import Journal
from appliance.store.registry import KeyRecord, ModelRecord, RoutingTable

CALL = Call("chat", "m", output_tokens_max=100)
MODEL = ModelRecord("m", frozenset({"chat"}), 4096, 0, sequences_max=1, queue_max=3)
ENGINES = tuple(Engine(f"m-{number}", "m", f"/{number}") for number in range(4))
KEYS = {name: KeyRecord(name, name[0], b"", None) for name in ("a", "a2", "b", "c")}
"""By their names: the account is the first letter."""
NOTHING = (0, 0, 0)


def never(call: Callable[[], None]) -> None:
    """A caller that does not hang up."""


def at_once(call: Callable[[], None]) -> None:
    """A caller that is gone already."""
    call()


class Desk:
    """An admission of one model, with what it stands on. Unless said otherwise its engine takes one at a time."""

    def __init__(self, folder: Path, *, open_max: int = 8, queue_seconds_max: float = 5) -> None:
        self.journal = Journal(folder / "journal", open_max)
        self.book = Book(ZoneInfo("Asia/Kolkata"))
        self.behind = False
        self.table = RoutingTable(KEYS, {"m": MODEL}, {"m": ENGINES[:1]})
        self.admission = Admission(
            self.journal, open_max, self.book, queue_seconds_max, behind=lambda: self.behind
        )

    async def admit(self, key: str = "a", when_gone: Ask = never) -> Reservation:
        caller = Caller(KEYS[key].account_id, key, key)
        return await self.admission.admit(caller, CALL, self.table.models["m"], 500, self.table, when_gone)

    async def queue(self, key: str = "a", when_gone: Ask = never) -> asyncio.Task[Reservation]:
        """One that waits by now."""
        task = asyncio.create_task(self.admit(key, when_gone))
        await asyncio.sleep(0)
        return task

    def leave(self, reservation: Reservation) -> None:
        """It has used nothing, and its row is written."""
        self.admission.leave(reservation, Used(0, 0, 0))
        self.journal.close(reservation.slot)

    def follow(self, *, engines: int = 1, gone: str = "") -> None:
        """The registry has so many engines, and all keys but this one."""
        keys = {name: key for name, key in KEYS.items() if name != gone}
        self.table = replace(self.table, keys=keys, engines={"m": ENGINES[:engines]})
        self.admission.follow(self.table)

    def limit(self, kind: str, **limits: int) -> None:
        subject = Subject("model" if kind == "model" else "key", "m" if kind == "model" else kind)
        self.table = replace(self.table, limits={subject: Limits(**limits)})

    def reserved(self, key: str) -> tuple[int, int, int]:
        """Open requests, requests of this minute and tokens of today that the book holds for a key."""
        tally = self.book._tallies[Subject("key", key)]
        return tally.open, tally.used(REQUESTS), tally.day.tokens

    @property
    def waiting(self) -> int:
        return self.admission.waiting()["m"]
