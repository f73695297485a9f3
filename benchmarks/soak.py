"""A soak: many streams at a realistic pace, for minutes. Every answer is checked, and the gateway's memory watched.

The memory is flat if it grows by less than 3 % after the first fifth of the time (of 10 minutes, the first two).
Exit code 1: it was not, an answer was wrong, or the ledger is.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

import click
import msgspec

from benchmarks import harness, install, machine, processes, product, report
from benchmarks.machine import Machine
from benchmarks.plan import Spread
from benchmarks.report import Ledger
from benchmarks.scenarios import SCENARIOS, STEP_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.harness import Harness, Server
    from benchmarks.plan import Plan

SAMPLE_SECONDS: Final = 5.0
SETTLED: Final = 0.2
"""Share of the time after which the memory has to be flat."""
WINDOW: Final = 0.1
"""Share of the time over which the median is taken, at the beginning of the flat part and at its end."""
GROWTH_MAX: Final = 0.03
SAID_EACH: Final = 12
"""Samples from one line of progress to the next."""
TIMED_EACH: Final = 16
LATE_SECONDS_MAX: Final = 60.0
"""How long the streams may take that have begun when the time is over."""
BLOCKS: Final = "▁▂▃▄▅▆▇█"


class Moment(msgspec.Struct, frozen=True):
    """What the gateway held at one moment."""

    seconds: float
    memory_mb: float
    files: int


class Soak(msgspec.Struct, frozen=True, kw_only=True):
    """All that one soak found."""

    machine: Machine
    began: str
    minutes: float
    streams: int
    answers: int
    events: int
    events_per_second: int
    errors: int
    first_errors: list[str]
    transit_ms: Spread | None
    cpu_us_per_event: float
    settled_mb: float
    end_mb: float
    growth: float
    flat: bool
    ledgers: dict[str, Ledger]
    moments: list[Moment]


def growth(moments: Sequence[Moment], seconds: float) -> tuple[float, float]:
    """Memory in MB at the beginning of the time in which it has to be flat, and at the end: medians of windows."""

    def middle(since: float, until: float) -> float:
        return median(one.memory_mb for one in moments if since * seconds <= one.seconds <= until * seconds)

    return middle(SETTLED, SETTLED + WINDOW), middle(1 - WINDOW, 1)


def sparkline(values: Sequence[float], width: int = 60) -> str:
    """A line of blocks; the lowest value is the lowest block, whatever it is."""
    step = max(1, -(-len(values) // width))
    means = [median(values[at : at + step]) for at in range(0, len(values), step)]
    low, span = min(means), (max(means) - min(means)) or 1.0
    return "".join(BLOCKS[round((value - low) / span * (len(BLOCKS) - 1))] for value in means)


def text(soak: Soak) -> str:
    """The verdict in a few lines."""
    memory = [moment.memory_mb for moment in soak.moments]
    transit = "-" if soak.transit_ms is None else f"{soak.transit_ms.p50:.1f} / {soak.transit_ms.p99:.1f}"
    lines = (
        f"{soak.streams:,} streams, {soak.minutes:g} minutes: {soak.answers:,} answers and {soak.events:,} events,",
        f"{soak.events_per_second:,} events a second; {soak.errors} wrong answers.",
        f"Transit p50 / p99 {transit} ms, CPU {soak.cpu_us_per_event:.1f} µs an event.",
        f"Memory {min(memory):.1f} to {max(memory):.1f} MB: {sparkline(memory)}",
        f"Growth after the first fifth: from {soak.settled_mb:.1f} to {soak.end_mb:.1f} MB, {soak.growth:+.1%}:",
        f"{'flat' if soak.flat else 'NOT FLAT'} (limit {GROWTH_MAX:.0%}).",
        f"Open files at the end: {soak.moments[-1].files}.",
    )
    return "\n".join(lines)


def plan(one_run: Plan, seconds: float, streams: int) -> Plan:
    """Streams one after another on each connection, for so long. The count of requests is no limit then."""
    return msgspec.structs.replace(
        one_run,
        connections=streams,
        requests=round(2 * streams * seconds / STEP_SECONDS),
        seconds_max=seconds,
        timeout_seconds=seconds + LATE_SECONDS_MAX,
        timed_each=TIMED_EACH,
    )


def watch(bench: Harness, server: Server, todo: Plan) -> tuple[bytes, list[Moment]]:
    """Run the client, and sample the gateway meanwhile. Gives what the client printed."""
    assert server.pid is not None
    moments: list[Moment] = []
    began = time.monotonic()
    output: bytes | None = None
    with bench.client(todo) as client:
        try:
            while output is None and time.monotonic() - began < 2 * todo.timeout_seconds:
                moments.append(_moment(server.pid, time.monotonic() - began))
                if len(moments) % SAID_EACH == 0:
                    harness.say(
                        "{0.seconds:5.0f} s: {0.memory_mb:.1f} MB, {0.files} files".format(moments[-1])
                    )
                with contextlib.suppress(subprocess.TimeoutExpired):
                    output = client.communicate(timeout=min(SAMPLE_SECONDS, todo.seconds_max / 100))[0]
        finally:
            client.kill()
    if output is None:
        raise click.ClickException("The client did not come to an end.")
    return output, moments


def _moment(pid: int, seconds: float) -> Moment:
    used = processes.sample(pid)
    return Moment(round(seconds, 1), round(used.memory_mb, 2), used.files)


@click.command(help=__doc__)
@click.option("--minutes", type=click.FloatRange(0.1, 240), default=10, show_default=True)
@click.option("--streams", type=click.IntRange(1, 4000), default=1000, show_default=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=install.RESULTS / "soak",
    help="Where the result goes, without .json and .md.",
)
def main(*, minutes: float, streams: int, out: Path) -> None:
    began = harness.prepare()
    here = machine.here()
    with harness.started([product.EVERYTHING_ON]) as bench:
        server = bench.servers[1]
        todo = plan(bench.plan(server, SCENARIOS["S7"]), minutes * 60, streams)
        output, moments = watch(bench, server, todo)
        result = bench.take_result(server, todo, output)
    settled_mb, end_mb = growth(moments, minutes * 60)
    soak = Soak(
        machine=here,
        began=began,
        minutes=minutes,
        streams=streams,
        answers=result.answers,
        events=result.events,
        events_per_second=round(result.events / result.wall_seconds),
        errors=result.errors,
        first_errors=result.first_errors,
        transit_ms=result.transit_ms,
        cpu_us_per_event=round(result.watched[0].cpu_seconds / max(1, result.events) * 1e6, 2),
        settled_mb=round(settled_mb, 2),
        end_mb=round(end_mb, 2),
        growth=round(end_mb / settled_mb - 1, 4),
        flat=end_mb / settled_mb - 1 < GROWTH_MAX,
        ledgers=bench.ledgers,
        moments=moments,
    )
    harness.write(soak, out, f"# Soak\n\n{machine.text(here)}\n\n{began}.\n\n```\n{text(soak)}\n```\n")
    click.echo(text(soak))
    report.refuse_wrong(soak.errors, bench.ledgers)
    if not soak.flat:
        raise click.ClickException("The memory grew.")


if __name__ == "__main__":
    main()
