"""From measured runs to figures: medians over rounds, ratios within a round, and the tables that show them."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

import click
import msgspec

from benchmarks import machine
from benchmarks.machine import Machine
from benchmarks.plan import Result, Spread
from benchmarks.scenarios import SCENARIOS, STEP_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

DIRECT = "direct"
FLOOR = "nginx"
FLOOR_TLS = "nginx-tls"
RIVAL = "vllm-router"
CORE_FULL = 0.95
"""Below this share of its core, a gateway was not the limit: the harness was."""


PACE_KEPT = 0.85
"""Below this share of the pace, a run fell behind. Starts and ends of streams take the rest."""


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """What one of our ledgers held in the end, beside what had been sent."""

    requests: int
    completion_tokens: int
    requests_in_totals: int
    requests_sent: int
    completion_tokens_sent: int

    @property
    def right(self) -> bool:
        """Whether every request and token is there once, and the days' totals agree."""
        held = (self.requests, self.requests_in_totals, self.completion_tokens)
        return held == (self.requests_sent, self.requests_sent, self.completion_tokens_sent)


class Run(msgspec.Struct, frozen=True):
    """One target under one scenario in one round."""

    target: str
    scenario: str
    round: int
    result: Result

    @property
    def cpu_us(self) -> float | None:
        """CPU of the target's process tree per request or event; none of direct, which is no process."""
        if not self.result.watched or not self.served:
            return None
        return self.result.watched[0].cpu_seconds / self.served * 1e6

    @property
    def served(self) -> int:
        return self.result.events if SCENARIOS[self.scenario].stream else self.result.answers

    @property
    def served_per_second(self) -> float:
        return self.served / self.result.wall_seconds

    @property
    def behind(self) -> bool:
        """Whether a stream's events were under way for longer than a step, or fewer came than were offered."""
        if not SCENARIOS[self.scenario].stream or self.result.transit_ms is None:
            return False
        pace = min(SCENARIOS[self.scenario].connections, self.result.answers) / STEP_SECONDS
        late = self.result.transit_ms.p50 > STEP_SECONDS * 1000
        return late or self.served_per_second < PACE_KEPT * pace

    @property
    def core_use(self) -> float | None:
        if not self.result.watched:
            return None
        return self.result.watched[0].cpu_seconds / self.result.wall_seconds


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """The medians of one target under one scenario. Ratios are taken within each round."""

    target: str
    scenario: str
    errors: int
    cpu_us: float | None
    cpu_to_nginx: float | None
    """With TLS: to nginx with TLS."""
    cpu_to_vllm_router: float | None
    core_use: float | None
    served_per_second: float
    harness_is_limit: bool
    behind: bool
    """Streams came later than their pace: several events share a read, and the CPU per event flatters."""
    memory_peak_mb: float | None
    latency_ms: Spread | None
    added_latency_ms: Spread | None
    transit_ms: Spread | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All that one benchmark found."""

    machine: Machine
    began: str
    quick: bool
    rounds: int
    versions: dict[str, str]
    absent: dict[str, str]
    left_out: dict[str, dict[str, str]]
    ledgers: dict[str, Ledger]
    figures: list[Figure]
    runs: list[Run]

    @property
    def errors(self) -> int:
        return sum(run.result.errors for run in self.runs)


def figures(runs: list[Run]) -> list[Figure]:
    """One figure for each target and scenario that was run, in the order they were run first."""
    pairs = dict.fromkeys((run.scenario, run.target) for run in runs)
    return [_figure(target, scenario, runs) for scenario, target in pairs]


def _figure(target: str, scenario: str, runs: list[Run]) -> Figure:
    beside = {
        name: {run.round: run for run in runs if (run.target, run.scenario) == (name, scenario)}
        for name in (target, DIRECT, FLOOR, FLOOR_TLS, RIVAL)
    }
    floor = FLOOR_TLS if target.endswith("-tls") else FLOOR
    own = list(beside[target].values())
    core_use = _middle(run.core_use for run in own)
    served = round(median(run.served_per_second for run in own))
    return Figure(
        target=target,
        scenario=scenario,
        errors=sum(run.result.errors for run in own),
        cpu_us=_middle(run.cpu_us for run in own),
        cpu_to_nginx=ratio(own, beside[floor]),
        cpu_to_vllm_router=ratio(own, beside[RIVAL]),
        core_use=core_use,
        served_per_second=served,
        harness_is_limit=core_use is None or core_use < CORE_FULL,
        behind=sum(run.behind for run in own) * 2 > len(own),
        memory_peak_mb=_middle(run.result.watched[0].memory_peak_mb for run in own if run.result.watched),
        latency_ms=_spread(own, lambda run: run.result.latency_ms),
        added_latency_ms=_added(own, beside[DIRECT]),
        transit_ms=_spread(own, lambda run: run.result.transit_ms),
    )


def _middle(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(median(known), 3) if known else None


def _cpu_us(run: Run) -> float | None:
    return run.cpu_us


def ratio(
    own: list[Run], others: Mapping[int, Run], of: Callable[[Run], float | None] = _cpu_us
) -> float | None:
    """The median over rounds of one target's figure to another's. A busy machine weighs on both of a round."""

    def in_round(run: Run) -> float | None:
        mine, other = of(run), others.get(run.round)
        theirs = of(other) if other is not None else None
        return mine / theirs if mine is not None and theirs else None

    return _middle(in_round(run) for run in own)


def _spread(own: list[Run], of: Callable[[Run], Spread | None]) -> Spread | None:
    found = [spread for run in own if (spread := of(run)) is not None]
    if not found:
        return None
    return Spread(
        round(median(spread.p50 for spread in found), 4), round(median(spread.p99 for spread in found), 4)
    )


def _added(own: list[Run], direct: dict[int, Run]) -> Spread | None:
    def added(run: Run) -> Spread | None:
        mine, base = (
            run.result.latency_ms,
            direct[run.round].result.latency_ms if run.round in direct else None,
        )
        return Spread(mine.p50 - base.p50, mine.p99 - base.p99) if mine and base else None

    return _spread(own, added)


def refuse_wrong(errors: int, ledgers: Mapping[str, Ledger]) -> None:
    """Raise ClickException where an answer was wrong, or a ledger is."""
    if errors:
        raise click.ClickException(f"{errors} answers were wrong; the notes in the result say how.")
    for name, ledger in ledgers.items():
        if not ledger.right:
            raise click.ClickException(f"The ledger of {name} differs from what was sent: {ledger}.")


def markdown(report: Report) -> str:
    """The report as a page."""
    return "\n\n".join((*_heading(report), *_tables(report), *_notes(report))) + "\n"


def _heading(report: Report) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items() if version)
    return [
        "# Overhead of the gateway",
        machine.text(report.machine),
        f"{report.began}, medians of {report.rounds} interleaved rounds"
        + (", **quick: too short for figures**." if report.quick else "."),
        f"Measured: {versions}." if versions else "",
        "\n".join(f"- {s.name}: {s.title}" for s in SCENARIOS.values()),
    ]


def _tables(report: Report) -> list[str]:
    found = {(figure.target, figure.scenario): figure for figure in report.figures}
    targets = [name for name in report.versions if any(figure.target == name for figure in report.figures)]
    scenarios = [name for name in SCENARIOS if any(figure.scenario == name for figure in report.figures)]
    per = [f"{name} /{SCENARIOS[name].per}" for name in scenarios]

    def cells(show: Callable[[Figure], str], names: list[str]) -> list[list[str]]:
        return [
            [target, *(show(found[target, name]) if (target, name) in found else "-" for name in names)]
            for target in targets
        ]

    streams = [name for name in scenarios if SCENARIOS[name].stream]
    whole = [name for name in scenarios if not SCENARIOS[name].stream]
    return [
        "## CPU, µs, and in brackets its ratio to nginx",
        table(["", *per], cells(cpu_text, scenarios)),
        "## CPU, ratio to vllm-router",
        table(["", *per], cells(lambda f: _number(f.cpu_to_vllm_router, 2), scenarios)),
        "## Latency of whole answers, ms: p50 / p99, and in brackets what it adds to direct",
        table(["", *whole], cells(lambda f: f"{_pair(f.latency_ms)} ({_pair(f.added_latency_ms)})", whole)),
        f"## Transit of one event from engine to client, ms: p50 / p99 (a step every {STEP_SECONDS * 1000:.0f} ms)",
        table(["", *streams], cells(lambda f: _pair(f.transit_ms), streams)),
        "## Served per second, and in brackets the share of its core that the gateway used",
        table(["", *per], cells(_served, scenarios)),
        "## Memory, MB, peak of the process tree",
        table(["", *scenarios], cells(lambda f: _number(f.memory_peak_mb, 0), scenarios)),
    ]


def _notes(report: Report) -> list[str]:
    notes = [
        f"- Errors, of all answers of all runs: {report.errors}.",
        f"- ≥: the gateway used under {CORE_FULL:.0%} of its core: the harness or the streams' pace was the limit.",
        f"- †: events took longer than a step, or under {PACE_KEPT:.0%} came in time: shared reads, which flatter.",
        "- nginx and haproxy reach the engine over its unix socket as we do, the other peers over TCP.",
        "- nginx and haproxy compare the key with one fixed string, the routers look at none.",
        "- Ratios of targets with TLS are to nginx with TLS.",
    ]
    notes += [
        f"- The ledger of {name} after the run: {one.requests} requests, {one.completion_tokens} completion tokens; "
        f"sent: {one.requests_sent} and {one.completion_tokens_sent}."
        for name, one in report.ledgers.items()
    ]
    notes += [f"- {name}: absent, {reason}." for name, reason in report.absent.items()]
    notes += [
        f"- {name} is left out of {scenario}: {reason}."
        for name, some in report.left_out.items()
        for scenario, reason in some.items()
    ]
    notes += [
        f"- Error: {run.target} {run.scenario} round {run.round}: {error}"
        for run in report.runs
        for error in run.result.first_errors
    ]
    return ["## Notes", "\n".join(notes)]


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *("--:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def cpu_text(figure: Figure) -> str:
    """CPU in µs, in brackets its ratio to nginx."""
    if figure.cpu_us is None:
        return "-"
    text = f"{figure.cpu_us:,.1f}" if figure.cpu_us < 100 else f"{figure.cpu_us:,.0f}"
    ratio = "" if figure.cpu_to_nginx is None else f" ({figure.cpu_to_nginx:.2f})"
    return text + ratio + (" †" if figure.behind else "")


def _pair(spread: Spread | None) -> str:
    return "-" if spread is None else f"{spread.p50:.3f} / {spread.p99:.3f}"


def _served(figure: Figure) -> str:
    if figure.core_use is None:
        return f"{figure.served_per_second:,.0f}"
    return f"{'≥ ' if figure.harness_is_limit else ''}{figure.served_per_second:,.0f} ({figure.core_use:.0%})"
