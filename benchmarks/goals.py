"""What the gateway is to reach: ratios to peers of the same run, and a few plain figures.

Must and goal are for the fast lane, which serves by default; the way through Litestar is judged by the must as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

from benchmarks import product, report
from benchmarks.report import FLOOR, RIVAL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.report import Report, Run

LANE: Final = product.NAME
LITESTAR: Final = f"{product.NAME}-litestar"
KEYS: Final = f"{product.NAME}-keys"


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure that is judged."""

    title: str
    scenario: str
    of: Callable[[Run], float | None]
    to: str = ""
    """The peer that it is set beside; empty: the figure itself."""
    inverse: bool = False
    """The peer's figure to ours, and not ours to the peer's."""
    at_least: bool = False
    must: float | None = None
    goal: float | None = None
    unit: str = ""

    def reached(self, value: float, limit: float) -> bool:
        return value >= limit if self.at_least else value <= limit


def cpu_us(run: Run) -> float | None:
    return run.cpu_us


def p50_ms(run: Run) -> float | None:
    return run.result.latency_ms.p50 if run.result.latency_ms else None


def p99_ms(run: Run) -> float | None:
    return run.result.latency_ms.p99 if run.result.latency_ms else None


def transit_p99_ms(run: Run) -> float | None:
    return run.result.transit_ms.p99 if run.result.transit_ms else None


def per_core(run: Run) -> float | None:
    """What a whole core would serve at this cost."""
    return 1e6 / run.cpu_us if run.cpu_us else None


def memory_mb(run: Run) -> float | None:
    return run.result.watched[0].memory_peak_mb if run.result.watched else None


def wrong(run: Run) -> float | None:
    return float(run.result.errors)


GOALS: Final = (
    Goal("CPU per request, S1, to nginx", "S1", cpu_us, to=FLOOR, goal=2.0),
    Goal("CPU per request, S1, to vllm-router", "S1", cpu_us, to=RIVAL, must=1.5, goal=0.65),
    Goal(
        "CPU per request, S1, LiteLLM's to ours",
        "S1",
        cpu_us,
        to="litellm",
        inverse=True,
        at_least=True,
        must=80,
        goal=200,
    ),
    Goal("CPU per event, S3, to nginx", "S3", cpu_us, to=FLOOR, goal=1.3),
    Goal("CPU per event, S3, to vllm-router", "S3", cpu_us, to=RIVAL, must=1.1, goal=0.9),
    Goal("CPU per event, S7, to nginx", "S7", cpu_us, to=FLOOR, goal=1.3),
    Goal("CPU per event, S7, to vllm-router", "S7", cpu_us, to=RIVAL, must=1.1, goal=0.9),
    Goal("CPU per prompt of 128 KB, S5, to vllm-router", "S5", cpu_us, to=RIVAL, must=2.0, goal=1.0),
    Goal("CPU per refused key, S6, to nginx", "S6", cpu_us, to=FLOOR, goal=1.8),
    Goal("CPU per refused key, S6", "S6", cpu_us, must=60, unit="µs"),
    Goal("p50 on one connection, S4, to vllm-router", "S4", p50_ms, to=RIVAL, must=1.5, goal=1.0),
    Goal("p99 on one connection, S4", "S4", p99_ms, must=1.0, unit="ms"),
    Goal("p99 of an event's transit, S7, to vllm-router", "S7", transit_p99_ms, to=RIVAL, must=1.0),
    Goal("p99 of an event's transit, S7, to nginx", "S7", transit_p99_ms, to=FLOOR, goal=1.5),
    Goal("wrong or broken streams, S7", "S7", wrong, must=0, goal=0),
    Goal("requests a second on one core, S1", "S1", per_core, at_least=True, must=17_500, goal=35_000),
    Goal("events a second on one core, S7", "S7", per_core, at_least=True, must=32_500, goal=65_000),
    Goal("memory, S7", "S7", memory_mb, must=120, goal=90, unit="MB"),
)


def value(goal: Goal, target: str, runs: Sequence[Run]) -> float | None:
    """What was measured; None where the target or its peer was not."""
    own = [run for run in runs if (run.target, run.scenario) == (target, goal.scenario)]
    if not goal.to:
        values = [found for run in own if (found := goal.of(run)) is not None]
        return median(values) if values else None
    others = {run.round: run for run in runs if (run.target, run.scenario) == (goal.to, goal.scenario)}
    if goal.inverse:
        return report.ratio(list(others.values()), {run.round: run for run in own}, goal.of)
    return report.ratio(own, others, goal.of)


def table(found: Report) -> str:
    """Every goal with what was measured on both ways, and whether it is reached."""
    rows = [_row(goal, found) for goal in GOALS]
    return report.table(["", "must", "goal", "fast lane", "through Litestar"], rows)


def _row(goal: Goal, found: Report) -> list[str]:
    lane = KEYS if goal.scenario == "S6" else LANE
    limits = {"must": goal.must, "goal": goal.goal}
    return [
        goal.title,
        _number(goal.must, goal.unit),
        _number(goal.goal, goal.unit),
        judged(goal, value(goal, lane, found.runs), limits) + _flattered(goal, lane, found),
        judged(goal, value(goal, LITESTAR, found.runs), {"must": goal.must})
        + _flattered(goal, LITESTAR, found),
    ]


def _flattered(goal: Goal, target: str, found: Report) -> str:
    """The mark of a figure that came from streams behind their pace, ours or the peer's."""
    behind = {(figure.target, figure.scenario) for figure in found.figures if figure.behind}
    sides = {(target, goal.scenario), (goal.to, goal.scenario)}
    return " †" if behind & sides else ""


def judged(goal: Goal, measured: float | None, limits: dict[str, float | None]) -> str:
    if measured is None:
        return "-"
    missed = [
        name for name, limit in limits.items() if limit is not None and not goal.reached(measured, limit)
    ]
    return _number(measured, goal.unit) + (f" (**misses the {' and the '.join(missed)}**)" if missed else "")


def _number(number: float | None, unit: str) -> str:
    if number is None:
        return "-"
    text = f"{number:,.0f}" if number >= 100 or number == int(number) else f"{number:.2f}"
    return f"{text} {unit}".strip()
