"""Every Prometheus instrument of the gateway, its unit and its bounded labels: never key, account, path or text.

What is counted for each request is counted in plain integers, and put into Prometheus's words when it is asked for:
an update of the client library's own instruments costs more than all of a request's arithmetic.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE: Final = "text/plain; version=0.0.4"
"""Litestar adds the charset."""

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_BOUNDS_NS: Final = [round(seconds * 1e9) for seconds in _SECONDS]


class Times:
    """A histogram of durations."""

    __slots__ = ("_counts", "_sum_ns")

    def __init__(self) -> None:
        self._counts = [0] * (len(_BOUNDS_NS) + 1)
        self._sum_ns = 0

    def observe(self, ns: int) -> None:
        """One more duration, in nanoseconds."""
        self._counts[bisect_left(_BOUNDS_NS, ns)] += 1
        self._sum_ns += ns

    def add_to(self, family: HistogramMetricFamily, model: str) -> None:
        buckets: list[tuple[str, float]] = []
        total = 0
        for bound, count in zip([*map(str, _SECONDS), "+Inf"], self._counts, strict=True):
            total += count
            buckets.append((bound, total))
        family.add_metric([model], buckets, self._sum_ns / 1e9)


class ModelMetrics:
    """What is counted for one model."""

    __slots__ = ("completion_tokens", "duration", "prompt_tokens", "requests", "ttft")

    def __init__(self) -> None:
        self.requests: Tally[int] = Tally()
        """By status."""
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.ttft = Times()
        self.duration = Times()


class Metrics(Collector):
    """What the gateway counts. `model` is a name from models.yaml; `status` and `reason` come from our own code."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.refusals = Counter(
            "inferfly_refusals", "Requests refused before admission.", ["reason"], registry=self.registry
        )
        self.open = Gauge("inferfly_requests_open", "Requests in flight.", registry=self.registry)
        self.waiting = Gauge(
            "inferfly_requests_waiting", "Requests in a model's queue.", ["model"], registry=self.registry
        )
        self.connections = Gauge(
            "inferfly_connections", "Connections of callers that are open.", registry=self.registry
        )
        self.banned = Gauge("inferfly_sources_banned", "Sources banned right now.", registry=self.registry)
        self._models: dict[str, ModelMetrics] = {}
        self.registry.register(self)

    def of(self, model: str) -> ModelMetrics:
        found = self._models.get(model)
        if found is None:
            found = self._models[model] = ModelMetrics()
        return found

    def exposition(self) -> bytes:
        """All of it in Prometheus's text format."""
        return generate_latest(self.registry)

    def collect(self) -> Iterator[Metric]:
        """What was counted for each model."""
        requests = CounterMetricFamily(
            "inferfly_requests", "Admitted requests that ended.", labels=["model", "status"]
        )
        tokens = CounterMetricFamily("inferfly_tokens", "Tokens metered.", labels=["model", "kind"])
        ttft = HistogramMetricFamily(
            "inferfly_time_to_first_token_seconds",
            "From admission to the first streamed event.",
            labels=["model"],
        )
        duration = HistogramMetricFamily(
            "inferfly_request_duration_seconds", "From admission to the end of the answer.", labels=["model"]
        )
        for model, found in self._models.items():
            for status, count in found.requests.items():
                requests.add_metric([model, str(status)], count)
            tokens.add_metric([model, "prompt"], found.prompt_tokens)
            tokens.add_metric([model, "completion"], found.completion_tokens)
            found.ttft.add_to(ttft, model)
            found.duration.add_to(duration, model)
        yield from (requests, tokens, ttft, duration)
