from __future__ import annotations

import re

from appliance.metrics import Metrics


def series(metrics: Metrics) -> dict[str, float]:
    lines = [line for line in metrics.exposition().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_requests_are_counted_by_model_and_status() -> None:
    metrics = Metrics()

    metrics.of("a").requests[200] += 1
    metrics.of("a").requests[200] += 1
    metrics.of("a").requests[499] += 1
    metrics.of("b").requests[200] += 1

    counted = series(metrics)
    assert counted['inferfly_requests_total{model="a",status="200"}'] == 2
    assert counted['inferfly_requests_total{model="a",status="499"}'] == 1
    assert counted['inferfly_requests_total{model="b",status="200"}'] == 1


def test_tokens_are_counted_by_model_and_kind() -> None:
    metrics = Metrics()

    metrics.of("a").prompt_tokens += 7
    metrics.of("a").completion_tokens += 3

    counted = series(metrics)
    assert counted['inferfly_tokens_total{kind="prompt",model="a"}'] == 7
    assert counted['inferfly_tokens_total{kind="completion",model="a"}'] == 3


def test_times_are_in_seconds() -> None:
    metrics = Metrics()

    metrics.of("a").ttft.observe(20_000_000)
    metrics.of("a").duration.observe(200_000_000_000)

    counted = series(metrics)
    assert counted['inferfly_time_to_first_token_seconds_bucket{le="0.025",model="a"}'] == 1
    assert counted['inferfly_request_duration_seconds_bucket{le="120.0",model="a"}'] == 0
    assert counted['inferfly_request_duration_seconds_sum{model="a"}'] == 200


def test_the_instruments_of_a_model_are_made_once() -> None:
    metrics = Metrics()

    assert metrics.of("a") is metrics.of("a")


def test_labels_come_from_closed_sets_only() -> None:
    """Never key, account, path or text."""
    metrics = Metrics()
    metrics.of("a").requests[200] += 1
    metrics.refusals.labels("invalid_api_key").inc()
    metrics.open.set(1)

    labels = set(re.findall(r'(\w+)="', metrics.exposition().decode()))

    assert labels == {"model", "status", "kind", "reason", "le"}


def test_two_gateways_in_one_process_do_not_share_counts() -> None:
    one, other = Metrics(), Metrics()

    one.of("a").requests[200] += 1

    assert 'inferfly_requests_total{model="a",status="200"}' not in series(other)
