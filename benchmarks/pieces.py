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

import click
import msgspec
import uvloop

from appliance import apikey, clock
from appliance.domain import Caller, LedgerRow
from appliance.gateway import auth, policy
from appliance.gateway.schema import chat
from appliance.store import database
from appliance.store.journal import Journal, OpenRequest, parse_usage
from appliance.store.ledger import INSERT
from appliance.store.registry import KeyRecord
from benchmarks import machine
from benchmarks.plan import Plan

PASSES = 15
CALLS = 2_000
ROWS = 100
"""Rows of the ledger that are committed together."""
SALT = 43 * "x"
USAGE = b'{"prompt_tokens":31,"total_tokens":35,"completion_tokens":4,"completion_tokens_details":null}'


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


def steps(folder: Path) -> dict[str, tuple[Callable[[], object], int]]:
    """Each step by its name, with how many times a pass does it."""
    key = apikey.new()
    keys = {key.key_id: KeyRecord(key.key_id, "0" * 26, key.sha256, None)}
    headers = [(b"host", b"localhost"), (b"authorization", b"Bearer " + key.plaintext.encode())]
    small, large = body_of(0), body_of(128 * 1024)
    call, _ = chat.parse(small)
    caller = Caller("0" * 26, key.key_id)
    journal = Journal(folder / "journal", 64)
    entry = OpenRequest(clock.now_ms(), "0" * 26, "scripted", "scripted", key.key_id)
    held = journal.open(entry)
    assert held is not None
    ledger, unchecked = (database.open_usage(folder / name) for name in ("usage.db", "unchecked.db"))
    unchecked.execute("PRAGMA ignore_check_constraints = ON")

    def journalled() -> None:
        slot = journal.open(entry)
        assert slot is not None
        journal.close(slot)

    def rows(into: sqlite3.Connection) -> None:
        batch = [row_of(key.key_id) for _ in range(ROWS)]
        with into:
            into.executemany(INSERT, batch)

    return {
        "identify the key": (lambda: auth.identify(headers, keys), CALLS),
        "parse a small body": (lambda: chat.parse(small), CALLS),
        "parse and rebuild a small body": (lambda: chat.parse(small)[1].for_engine(SALT), CALLS),
        "parse a body of 128 KB": (lambda: chat.parse(large), CALLS // 20),
        "salt of the prefix cache": (lambda: policy.cache_salt(caller, call), CALLS),
        "request id": (lambda: clock.ulid(1_795_472_512_000), CALLS),
        "journal: open and close a slot": (journalled, CALLS),
        "journal: note running usage, each event": (lambda: journal.note(held, USAGE), CALLS),
        "read the last usage": (lambda: parse_usage(USAGE), CALLS),
        f"ledger: {ROWS} rows in one commit": (lambda: rows(ledger), 20),
        f"ledger: {ROWS} rows in one commit, without the columns' checks": (lambda: rows(unchecked), 20),
    }


def body_of(prompt_bytes: int) -> bytes:
    return Plan(prompt_bytes=prompt_bytes).request.partition(b"\r\n\r\n")[2]


def row_of(key_id: str) -> LedgerRow:
    now = clock.now_ms()
    model = "scripted"
    return LedgerRow(
        clock.ulid(now), now, now + 9, 31, 4, "exact", model, model, 200, 9, None, None, 1, 35, key_id
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
