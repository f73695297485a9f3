import click
import pytest

from benchmarks import report
from benchmarks.plan import Result, Spread
from benchmarks.processes import Sample


def run(
    target: str,
    number: int,
    cpu_seconds: float,
    *,
    scenario: str = "S1",
    wall_seconds: float = 1.0,
    transit_ms: float = 1.0,
) -> report.Run:
    """A run that served 10,000 requests or events."""
    stream = scenario != "S1"
    result = Result(
        answers=200 if stream else 10_000,
        events=10_000 if stream else 0,
        errors=0,
        first_errors=[],
        reconnects=0,
        wall_seconds=wall_seconds,
        client_cpu_seconds=0.1,
        latency_ms=Spread(cpu_seconds * 10, cpu_seconds * 20),
        first_event_ms=None,
        transit_ms=Spread(transit_ms, transit_ms) if stream else None,
        watched=[] if target == "direct" else [Sample(cpu_seconds, 10, 1)],
    )
    return report.Run(target, scenario, number, result)


def figure_of(target: str, runs: list[report.Run]) -> report.Figure:
    return next(figure for figure in report.figures(runs) if figure.target == target)


def test_cpu_is_the_median_of_the_rounds() -> None:
    runs = [run("inferfly", 1, 0.5), run("inferfly", 2, 0.9), run("inferfly", 3, 0.6)]

    assert figure_of("inferfly", runs).cpu_us == pytest.approx(60)


def test_ratios_are_taken_within_a_round() -> None:
    """A round on a busy machine weighs on both sides, so the ratio stays."""
    runs = [
        *(run("inferfly", 1, 0.2), run("nginx", 1, 0.1), run("vllm-router", 1, 0.4)),
        *(run("inferfly", 2, 0.6), run("nginx", 2, 0.3), run("vllm-router", 2, 1.2)),
    ]

    figure = figure_of("inferfly", runs)

    assert (figure.cpu_to_nginx, figure.cpu_to_vllm_router) == (2, 0.5)


def test_ratio_with_tls_is_to_nginx_with_tls() -> None:
    runs = [run("inferfly-tls", 1, 0.6), run("nginx-tls", 1, 0.3), run("nginx", 1, 0.1)]

    assert figure_of("inferfly-tls", runs).cpu_to_nginx == 2
    assert figure_of("nginx-tls", runs).cpu_to_nginx == 1


def ledger(requests: int, in_totals: int, tokens: int) -> report.Ledger:
    """One that ought to hold 10 requests and 160 tokens."""
    return report.Ledger(
        requests=requests,
        requests_in_totals=in_totals,
        completion_tokens=tokens,
        requests_sent=10,
        completion_tokens_sent=160,
    )


@pytest.mark.parametrize(
    ("errors", "held", "says"),
    [
        (1, ledger(10, 10, 160), "1 answers were wrong"),
        (0, ledger(9, 9, 144), "ledger of inferfly differs"),
        (0, ledger(10, 9, 160), "ledger of inferfly differs"),
        (0, ledger(10, 10, 161), "ledger of inferfly differs"),
    ],
    ids=["wrong answer", "lost row", "wrong total", "wrong tokens"],
)
def test_wrong_run_ends_in_an_error(errors: int, held: report.Ledger, says: str) -> None:
    with pytest.raises(click.ClickException, match=says):
        report.refuse_wrong(errors, {"inferfly": held})


def test_right_run_ends_well() -> None:
    report.refuse_wrong(0, {"inferfly": ledger(10, 10, 160)})


def test_added_latency_is_the_difference_to_direct() -> None:
    runs = [run("inferfly", 1, 0.3), run("direct", 1, 0.1)]

    assert figure_of("inferfly", runs).added_latency_ms == Spread(2, 4)


def test_gateway_below_its_whole_core_was_not_the_limit() -> None:
    runs = [run("inferfly", 1, 0.94), run("nginx", 1, 0.96)]

    assert figure_of("inferfly", runs).harness_is_limit
    assert not figure_of("nginx", runs).harness_is_limit


def test_stream_behind_its_pace_is_marked() -> None:
    """S3 offers 10,000 events a second."""
    runs = [
        run("inferfly", 1, 0.1, scenario="S3", wall_seconds=2),
        run("haproxy", 1, 0.1, scenario="S3", transit_ms=21),
        run("nginx", 1, 0.1, scenario="S3"),
    ]

    assert figure_of("inferfly", runs).behind
    assert figure_of("haproxy", runs).behind
    assert not figure_of("nginx", runs).behind
