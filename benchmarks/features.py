"""What each feature costs: the gateway with one feature taken away or added, against the one with all of them.

Rounds are interleaved, and the difference to the whole gateway is taken within a round. The row `nothing` is the
whole gateway once more: a difference no larger than its spread means nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Final

import click
import msgspec

from benchmarks import harness, install, machine, report
from benchmarks.machine import Machine
from benchmarks.product import Variant
from benchmarks.report import Ledger
from benchmarks.scenarios import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.report import Run

WHOLE: Final = "all-on"
LOADS: Final = tuple(
    msgspec.structs.replace(SCENARIOS[name], requests=requests, requests_quick=quick)
    for name, requests, quick in (("S1", 15_000, 300), ("S3", 400, 20))
)
"""Shorter than beside the peers, and more often: neighbours on the machine then weigh on all alike."""


@dataclass(frozen=True, slots=True)
class Feature:
    """Something that can be had or not, and the gateway that shows what it costs."""

    title: str
    variant: Variant
    added: bool = False
    """The variant has it and the whole gateway has not."""


FEATURES: Final = {
    feature.variant.name: feature
    for feature in (
        Feature("nothing", Variant("control")),
        Feature("TLS 1.3", Variant("tls", tls=True), added=True),
        Feature(
            "the way through Litestar", Variant("litestar", env={"INFERFLY_FAST_LANE": "false"}), added=True
        ),
        Feature("limits, budgets and prices", Variant("limits", limits=False)),
        Feature("ledger rows and metrics", Variant("metering", without="metering", metered=False)),
        Feature("journal of open requests", Variant("journal", without="journal")),
        Feature("running usage in each event", Variant("running-usage", without="running-usage")),
        Feature("salts of the prefix cache", Variant("salts", without="salts")),
        Feature("structural check of the body", Variant("structure", without="structure")),
    )
}


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What one feature costs under one load. Quartiles are of the differences within rounds."""

    feature: str
    scenario: str
    rounds: int
    with_us: float
    without_us: float
    cost_us: float
    quartile_low_us: float
    quartile_high_us: float

    @property
    def share(self) -> float:
        return self.cost_us / self.with_us


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """All that one run found."""

    machine: Machine
    began: str
    quick: bool
    rounds: int
    whole_us: dict[str, float]
    """CPU of the whole gateway, by load."""
    errors: int
    ledgers: dict[str, Ledger]
    costs: list[Cost]


def costs(runs: Sequence[Run]) -> list[Cost]:
    """One for each feature and load that was run."""
    by_place = {(run.target, run.scenario, run.round): cpu for run in runs if (cpu := run.cpu_us) is not None}
    found: list[Cost] = []
    for name, scenario in dict.fromkeys(
        (name, scenario) for name, scenario, _ in by_place if name in FEATURES
    ):
        pairs = [
            (cpu, by_place[WHOLE, scenario, number])
            for (target, load, number), cpu in by_place.items()
            if (target, load) == (name, scenario) and (WHOLE, scenario, number) in by_place
        ]
        if pairs:
            found.append(_cost(name, scenario, pairs))
    return found


def _cost(name: str, scenario: str, pairs: Sequence[tuple[float, float]]) -> Cost:
    """`pairs` are, round by round, the CPU of the variant and of the whole gateway."""
    feature = FEATURES[name]
    with_without = [pair if feature.added else pair[::-1] for pair in pairs]
    differences = [has - has_not for has, has_not in with_without]
    low, _, high = quantiles(differences, n=4) if len(differences) > 1 else differences * 3
    return Cost(
        feature=feature.title,
        scenario=scenario,
        rounds=len(pairs),
        with_us=round(median(has for has, _ in with_without), 3),
        without_us=round(median(has_not for _, has_not in with_without), 3),
        cost_us=round(median(differences), 3),
        quartile_low_us=round(low, 3),
        quartile_high_us=round(high, 3),
    )


def table(found: Costs) -> str:
    """Features by row, loads by column: the cost in µs, in brackets the quartiles of its rounds."""
    loads = list(found.whole_us)
    by_place = {(cost.feature, cost.scenario): cost for cost in found.costs}
    rows = [["all of it", *(f"{found.whole_us[load]:.2f}" for load in loads)]]
    rows += [
        [title, *(_cell(by_place.get((title, load))) for load in loads)]
        for title in dict.fromkeys(cost.feature for cost in found.costs)
    ]
    return report.table(["CPU, µs", *(f"{load} /{SCENARIOS[load].per}" for load in loads)], rows)


def _cell(cost: Cost | None) -> str:
    if cost is None:
        return "-"
    return f"{cost.cost_us:+.2f} ({cost.quartile_low_us:+.2f} to {cost.quartile_high_us:+.2f}), {cost.share:+.1%}"


def markdown(found: Costs) -> str:
    """The result as a page."""
    parts = (
        "# What each feature costs",
        machine.text(found.machine),
        f"{found.began}, {found.rounds} interleaved rounds"
        + (", **quick: too short for figures**." if found.quick else "."),
        f"{__doc__.partition(chr(10) * 2)[2]}" if __doc__ else "",
        "Medians of the differences, in brackets their quartiles, then the share of the gateway that has the feature.",
        table(found),
        f"Wrong answers: {found.errors}.",
    )
    return "\n\n".join(part.strip() for part in parts) + "\n"


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="Two short rounds, to see that it works: no figures.")
@click.option("--rounds", type=click.IntRange(2, 50), default=9, show_default=True)
@click.option("--features", "names", type=harness.Names(FEATURES), default=list(FEATURES))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=install.RESULTS / "features",
    help="Where the result goes, without .json and .md.",
)
def main(*, quick: bool, rounds: int, names: list[str], out: Path) -> None:
    began = harness.prepare()
    rounds = 2 if quick else rounds
    here = machine.here()
    variants = [Variant(WHOLE), *(FEATURES[name].variant for name in names)]
    with harness.started(variants, quick=quick) as bench:
        harness.run_all(bench, bench.servers[1:], LOADS, rounds)
    found = Costs(
        machine=here,
        began=began,
        quick=quick,
        rounds=rounds,
        whole_us={load.name: round(median(_of_whole(bench.runs, load.name)), 3) for load in LOADS},
        errors=sum(run.result.errors for run in bench.runs),
        ledgers=bench.ledgers,
        costs=costs(bench.runs),
    )
    harness.write(found, out, markdown(found))
    report.refuse_wrong(found.errors, bench.ledgers)


def _of_whole(runs: Sequence[Run], scenario: str) -> list[float]:
    return [
        cpu
        for run in runs
        if (run.target, run.scenario) == (WHOLE, scenario) and (cpu := run.cpu_us) is not None
    ]


if __name__ == "__main__":
    main()
