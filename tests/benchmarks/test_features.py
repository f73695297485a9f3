import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from benchmarks import features
from benchmarks.features import WHOLE, Cost, Costs
from benchmarks.plan import Result
from benchmarks.processes import Sample
from benchmarks.report import Run


def run(target: str, number: int, cpu_us: float) -> Run:
    """A run of 1,000 requests that cost so much each."""
    return Run(
        target,
        "S1",
        number,
        Result(
            answers=1_000,
            events=0,
            errors=0,
            first_errors=[],
            reconnects=0,
            wall_seconds=1,
            client_cpu_seconds=0.1,
            latency_ms=None,
            first_event_ms=None,
            transit_ms=None,
            watched=[Sample(cpu_us / 1_000, 10, 1)],
        ),
    )


def only_cost(runs: list[Run]) -> Cost:
    (cost,) = features.costs(runs)
    return cost


def test_what_was_taken_away_cost_what_the_whole_gateway_costs_more() -> None:
    cost = only_cost([run(WHOLE, 1, 50), run("salts", 1, 47)])

    assert (cost.feature, cost.cost_us, cost.with_us, cost.without_us) == (
        "salts of the prefix cache",
        3,
        50,
        47,
    )


def test_what_was_added_costs_what_the_variant_costs_more() -> None:
    cost = only_cost([run(WHOLE, 1, 50), run("tls", 1, 58)])

    assert (cost.cost_us, cost.with_us, cost.without_us) == (8, 58, 50)


def test_differences_are_taken_within_a_round() -> None:
    """The machine was slower in each round; the feature cost the same in all of them."""
    runs = [
        made
        for number, base in enumerate((50.0, 70.0, 90.0), 1)
        for made in (run(WHOLE, number, base), run("limits", number, base - 4))
    ]

    cost = only_cost(runs)

    assert (cost.cost_us, cost.quartile_low_us, cost.quartile_high_us) == pytest.approx((4, 4, 4))


def test_differences_have_a_spread() -> None:
    rounds = enumerate((1.0, 2.0, 3.0, 4.0, 9.0), 1)
    runs = [made for number, d in rounds for made in (run(WHOLE, number, 50), run("limits", number, 50 - d))]

    cost = only_cost(runs)

    assert (cost.quartile_low_us, cost.cost_us, cost.quartile_high_us) == pytest.approx((1.5, 3, 6.5))


def test_quick_run_finds_a_cost_for_each_feature(short_folder: Path) -> None:
    out = short_folder / "result"
    argv = [sys.executable, "-m", "benchmarks.features", "--quick", "--features", "tls,limits,metering"]

    done = subprocess.run(
        [*argv, "--out", str(out)],
        env=os.environ | {"TMPDIR": str(short_folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    found = msgspec.json.decode(out.with_suffix(".json").read_bytes(), type=Costs)
    assert {(cost.feature, cost.scenario) for cost in found.costs} == {
        (features.FEATURES[name].title, load)
        for name in ("tls", "limits", "metering")
        for load in ("S1", "S3")
    }
    assert found.ledgers.keys() == {WHOLE, "tls", "limits"}
    assert "ledger rows and metrics" in out.with_suffix(".md").read_text()
