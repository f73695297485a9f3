"""Puts the results into docs/performance.md: each block between its markers is written anew from its result file."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import click
import msgspec

from benchmarks import features, goals, install, machine, pieces, report, soak
from benchmarks.report import Figure, Report

PAGE: Final = install.ROOT / "docs" / "performance.md"
BLOCK: Final = re.compile(r"(<!-- table (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

T = TypeVar("T")


def fill(page: str, results: Path) -> str:
    """The page with every block as its result says. Raises KeyError for a block that nobody can write."""

    def block(found: re.Match[str]) -> str:
        return f"{found[1]}\n{BLOCKS[found['name']](results).strip()}\n\n{found[3]}"

    return BLOCK.sub(block, page)


def _read(results: Path, name: str, kind: type[T]) -> T:
    return msgspec.json.decode((results / f"{name}.json").read_bytes(), type=kind)


def _overhead(results: Path) -> Report:
    return _read(results, "overhead", Report)


def _machine(results: Path) -> str:
    found = _overhead(results)
    return f"{machine.text(found.machine)}\n{found.began}; rounds: {found.rounds}."


def _side_by_side(results: Path) -> str:
    found = _overhead(results)
    figures = {(figure.target, figure.scenario): figure for figure in found.figures}
    rows = [
        [
            f"**{name} {version}**" if name.startswith("inferfly") else f"{name} {version}",
            *(_cpu(figures.get((name, scenario))) for scenario in ("S1", "S3", "S7", "S5", "S6")),
            _latency(figures.get((name, "S4"))),
            _transit(figures.get((name, "S7"))),
            _memory(figures.get((name, "S7")) or figures.get((name, "S3"))),
        ]
        for name, version in found.versions.items()
        if name != report.DIRECT
    ]
    head = ["", "S1 /request", "S3 /event", "S7 /event", "S5 /request", "S6 /request"]
    return report.table([*head, "S4 p50 / p99 ms", "S7 transit p50 / p99 ms", "memory MB"], rows)


def _cpu(figure: Figure | None) -> str:
    return report.cpu_text(figure) if figure else "-"


def _latency(figure: Figure | None) -> str:
    return (
        "-"
        if figure is None or not figure.latency_ms
        else "{:.2f} / {:.2f}".format(*_both(figure.latency_ms))
    )


def _transit(figure: Figure | None) -> str:
    return (
        "-"
        if figure is None or not figure.transit_ms
        else "{:,.0f} / {:,.0f}".format(*_both(figure.transit_ms))
    )


def _both(spread: report.Spread) -> tuple[float, float]:
    return spread.p50, spread.p99


def _memory(figure: Figure | None) -> str:
    return "-" if figure is None or figure.memory_peak_mb is None else f"{figure.memory_peak_mb:.0f}"


def _proof(results: Path) -> str:
    """What was checked beside the figures."""
    found = _overhead(results)
    ledgers = found.ledgers.values()
    right = all(ledger.right for ledger in ledgers)
    sent = (
        sum(ledger.requests_sent for ledger in ledgers),
        sum(ledger.completion_tokens_sent for ledger in ledgers),
    )
    lines = [
        f"- Wrong answers in these runs, of all targets: {found.errors}.",
        f"- Our ledgers {'held' if right else '**did not hold**'} each of the {sent[0]:,} requests",
        f"  and {sent[1]:,} completion tokens that were sent.",
        *(f"- {name} was not there: {reason}." for name, reason in found.absent.items()),
    ]
    return "\n".join(lines)


def _goals(results: Path) -> str:
    return goals.table(_overhead(results))


def _features(results: Path) -> str:
    found = _read(results, "features", features.Costs)
    return f"{found.began}; rounds: {found.rounds}; {_load(found.machine)}.\n\n{features.table(found)}"


def _pieces(results: Path) -> str:
    found = _read(results, "pieces", pieces.Pieces)
    rows = [[name, f"{cost:.2f}"] for name, cost in found.cpu_us.items()]
    return f"Python {found.machine.software['Python']}; {_load(found.machine)}.\n\n{report.table(['step', 'µs'], rows)}"


def _soak(results: Path) -> str:
    found = _read(results, "soak", soak.Soak)
    return f"{found.began}; {_load(found.machine)}.\n\n```\n{soak.text(found)}\n```"


def _load(here: machine.Machine) -> str:
    return f"load average {here.load_average:.1f} before the start"


BLOCKS: Final[dict[str, Callable[[Path], str]]] = {
    "machine": _machine,
    "side-by-side": _side_by_side,
    "proof": _proof,
    "goals": _goals,
    "features": _features,
    "pieces": _pieces,
    "soak": _soak,
}


@click.command(help=__doc__)
@click.option("--check", is_flag=True, help="Write nothing; exit code 1 if the page is not up to date.")
def main(*, check: bool) -> None:
    before = PAGE.read_text()
    after = fill(before, install.RESULTS)
    if check:
        sys.exit(int(before != after))
    PAGE.write_text(after)
    click.echo(f"written: {PAGE}")


if __name__ == "__main__":
    main()
