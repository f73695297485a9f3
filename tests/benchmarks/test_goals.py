import pytest

from benchmarks import goals
from benchmarks.goals import Goal, cpu_us
from benchmarks.plan import Result, Spread
from benchmarks.processes import Sample
from benchmarks.report import Run


def run(target: str, number: int, cost_us: float, scenario: str = "S1") -> Run:
    """A run of 1,000 requests or events that cost so much each."""
    return Run(
        target,
        scenario,
        number,
        Result(
            answers=1_000,
            events=1_000,
            errors=0,
            first_errors=[],
            reconnects=0,
            wall_seconds=1,
            client_cpu_seconds=0.1,
            latency_ms=Spread(1.0, 2.0),
            first_event_ms=None,
            transit_ms=None,
            watched=[Sample(cost_us / 1_000, 10, 1)],
        ),
    )


RUNS = [
    *(run("inferfly", 1, 40), run("nginx", 1, 20), run("litellm", 1, 8_000)),
    *(run("inferfly", 2, 90), run("nginx", 2, 30), run("litellm", 2, 9_000)),
    *(run("inferfly", 3, 60), run("nginx", 3, 30), run("litellm", 3, 6_600)),
]


@pytest.mark.parametrize(
    ("goal", "expected"),
    [
        (Goal("", "S1", cpu_us), 60),
        (Goal("", "S1", cpu_us, to="nginx"), 2),
        (Goal("", "S1", cpu_us, to="litellm", inverse=True), 110),
        (Goal("", "S1", goals.per_core), 1e6 / 60),
        (Goal("", "S1", cpu_us, to="haproxy"), None),
        (Goal("", "S7", cpu_us), None),
    ],
    ids=["plain", "ratio within rounds", "inverse", "capacity", "peer absent", "not measured"],
)
def test_goals_are_measured_as_medians_of_rounds(goal: Goal, expected: float | None) -> None:
    measured = goals.value(goal, "inferfly", RUNS)

    assert measured == (None if expected is None else pytest.approx(expected, abs=0.001))


@pytest.mark.parametrize(
    ("goal", "value", "reached"),
    [
        (Goal("", "S1", cpu_us), 2.0, True),
        (Goal("", "S1", cpu_us), 2.01, False),
        (Goal("", "S1", cpu_us, at_least=True), 2.0, True),
        (Goal("", "S1", cpu_us, at_least=True), 1.99, False),
    ],
)
def test_limit_itself_is_reached(goal: Goal, value: float, *, reached: bool) -> None:
    assert goal.reached(value, 2.0) == reached


@pytest.mark.parametrize(
    ("measured", "cell"),
    [
        (0.5, "0.50"),
        (1.2, "1.20 (**misses the goal**)"),
        (2.0, "2 (**misses the must and the goal**)"),
        (None, "-"),
    ],
    ids=["both", "must only", "none", "not measured"],
)
def test_what_is_missed_is_said(measured: float | None, cell: str) -> None:
    goal = Goal("", "S1", cpu_us, must=1.5, goal=1.0)

    assert goals.judged(goal, measured, {"must": goal.must, "goal": goal.goal}) == cell
