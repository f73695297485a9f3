"""What single steps of a request cost in Python, one after another in a loop: the best of several passes.

Caches are warm here: in a gateway with many streams the same step costs more.
Use it to find what is worth making cheaper, and overhead.py to see whether it became so.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import click
import msgspec
import uvloop

from appliance import apikey, clock
from appliance.domain import Call, Caller, Engine, LedgerRow, Limits, Subject, Used
from appliance.errors import RequestError
from appliance.gateway import answers, auth, policy, shape
from appliance.gateway.admission import subjects_of
from appliance.gateway.guard import Guard
from appliance.gateway.limits import Book, Need
from appliance.gateway.routing import Routing
from appliance.gateway.schema import chat
from appliance.store import database, ledger
from appliance.store.journal import Journal, OpenRequest, parse_usage
from appliance.store.keys import KeyRecord
from benchmarks import machine, product
from benchmarks.plan import Plan

PASSES = 15
CALLS = 2_000
ROWS = 100
"""Rows of the ledger that are committed together."""
MODEL = product.MODEL
SALT = 43 * "x"
USAGE = b'{"prompt_tokens":31,"total_tokens":35,"completion_tokens":4,"completion_tokens_details":null}'
ZONE = ZoneInfo("UTC")
SOURCE = "127.0.0.1"

Step = tuple[Callable[[], object], int]
"""What is done, and how many times in a pass."""


class Pieces(msgspec.Struct, frozen=True):
    """Microseconds of CPU by step."""

    machine: machine.Machine
    cpu_us: dict[str, float]


def cpu_us(step: Callable[[], object], calls: int) -> float:
    """The least that a call took, over PASSES passes."""
    least = float("inf")
    for _ in range(PASSES):
        began = time.process_time_ns()
        for _ in range(calls):
            step()
        least = min(least, (time.process_time_ns() - began) / calls / 1000)
    return round(least, 2)


def steps(folder: Path) -> dict[str, Step]:
    """Each step by its name, in the order of a request."""
    return {
        **of_the_caller(),
        **of_the_body(),
        **of_the_limits(),
        **of_the_journal(folder),
        **of_the_ledger(folder),
    }


def of_the_caller() -> dict[str, Step]:
    key = apikey.new()
    keys = {key.sha256: KeyRecord(key.key_id, "0" * 26, key.sha256, None)}
    headers = {b"host": b"localhost", b"authorization": b"Bearer " + key.plaintext.encode()}
    guard = Guard(failures_max=10)

    def refused() -> None:
        guard.failed(SOURCE, time.time())
        guard.lift(SOURCE)

    return {
        "guard: is the source banned": (lambda: guard.check(SOURCE, time.time()), CALLS),
        "guard: count a wrong key": (refused, CALLS),
        "identify the key": (lambda: auth.identify(headers, SOURCE, keys), CALLS),
    }


def of_the_body() -> dict[str, Step]:
    small, large = body_of(0), body_of(128 * 1024)
    caller, call = Caller("0" * 26, "0" * 10), chat.parse(small)[0]

    def rebuild(body: bytes) -> bytes:
        return chat.parse(body)[1].for_engine(SALT)

    return {
        "check the structure of a small body": (lambda: shape.check(small), CALLS),
        "parse a small body": (lambda: chat.parse(small), CALLS),
        "parse and rebuild a small body": (lambda: rebuild(small), CALLS),
        "check the structure of 128 KB": (lambda: shape.check(large), CALLS // 20),
        "parse and rebuild 128 KB": (lambda: rebuild(large), CALLS // 20),
        "salt of the prefix cache": (lambda: policy.cache_salt(caller, call), CALLS),
    }


def of_the_limits() -> dict[str, Step]:
    subjects = subjects_of("0" * 10, "0" * 26, MODEL)
    need, used = Need(400, 16, 100), Used(31, 16, 12)
    all_limits = dict.fromkeys(subjects, product.HIGH)
    limited, unlimited = Book(ZONE), Book(ZONE)

    def one(book: Book, limits: dict[Subject, Limits]) -> None:
        hold = book.reserve(subjects, limits, need, time.time())
        book.settle(hold, *used)

    routing = Routing()
    call = Call("chat", MODEL)
    engines = {MODEL: (Engine(MODEL, MODEL, "/nonexistent"),)}

    def route() -> None:
        with routing.choose(call, engines):
            pass

    return {
        "reserve and settle, no limits": (lambda: one(unlimited, {}), CALLS),
        "reserve and settle, all eight limits on key, account and model": (
            lambda: one(limited, all_limits),
            CALLS,
        ),
        "what is left of the limits, for the headers": (
            lambda: limited.standing(subjects, all_limits, time.time()),
            CALLS,
        ),
        "route to an engine": (route, CALLS),
    }


def of_the_journal(folder: Path) -> dict[str, Step]:
    journal = Journal(folder / "journal", 64)
    entry = OpenRequest(clock.now_ms(), "0" * 26, MODEL, MODEL, "0" * 10)
    held = journal.open(entry)
    assert held is not None

    def journalled() -> None:
        slot = journal.open(entry)
        assert slot is not None
        journal.close(slot)

    return {
        "request id": (lambda: clock.ulid(1_795_472_512_000), CALLS),
        "journal: open and close a slot": (journalled, CALLS),
        "journal: note running usage, each event": (lambda: journal.note(held, USAGE), CALLS),
        "read the last usage": (lambda: parse_usage(USAGE), CALLS),
        "an error's body": (lambda: answers.OPENAI.body(RequestError(), None), CALLS),
    }


def of_the_ledger(folder: Path) -> dict[str, Step]:
    checked, unchecked = (database.open_usage(folder / name) for name in ("usage.db", "unchecked.db"))
    unchecked.execute("PRAGMA ignore_check_constraints = ON")
    days = ledger.Days(ZONE)

    def rows(into: sqlite3.Connection) -> None:
        batch: ledger.Settled = [(0, row(), 12) for _ in range(ROWS)]
        with into:
            ledger.write(into, batch, days)

    return {
        "price of a request": (lambda: product.PRICE.cost_micros(31, 4), CALLS),
        f"ledger: {ROWS} rows and the day's totals in one commit": (lambda: rows(checked), 20),
        f"ledger: {ROWS} rows, without the columns' checks": (lambda: rows(unchecked), 20),
    }


def body_of(prompt_bytes: int) -> bytes:
    return Plan(prompt_bytes=prompt_bytes).request.partition(b"\r\n\r\n")[2]


def row() -> LedgerRow:
    now = clock.now_ms()
    return LedgerRow(
        clock.ulid(now), now, now + 9, 31, 4, "exact", MODEL, MODEL, 200, 9, None, None, 1, 35, "0" * 10
    )


async def measure(calls_part: float) -> dict[str, float]:
    """On the gateway's kind of event loop, for steps that ask for it."""
    await asyncio.sleep(0)
    with tempfile.TemporaryDirectory(prefix="inferfly-bench-") as folder:
        return {
            name: cpu_us(step, max(1, int(calls * calls_part)))
            for name, (step, calls) in steps(Path(folder)).items()
        }


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="A hundredth of the calls, to see that it works: no figures.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path(__file__).with_name("results") / "pieces.json",
    help="Where the result goes.",
)
def main(*, quick: bool, out: Path) -> None:
    pieces = Pieces(machine.here(), uvloop.run(measure(0.01 if quick else 1)))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(msgspec.json.format(msgspec.json.encode(pieces)) + b"\n")
    for name, cost in pieces.cpu_us.items():
        click.echo(f"{cost:9.2f} µs  {name}")


if __name__ == "__main__":
    main()
