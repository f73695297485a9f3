"""Every Prometheus instrument of the gateway, its unit and its bounded labels: never key, account, path or text."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4"
"""Litestar adds the charset."""

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class ModelMetrics:
    """The instruments of one model, their labelled children kept: looking one up costs more than using it."""

    __slots__ = ("_model", "_requests", "by_status", "completion_tokens", "duration", "prompt_tokens", "ttft")

    def __init__(self, metrics: Metrics, model: str) -> None:
        self.prompt_tokens = metrics.tokens.labels(model, "prompt")
        self.completion_tokens = metrics.tokens.labels(model, "completion")
        self.duration = metrics.duration.labels(model)
        self.ttft = metrics.ttft.labels(model)
        self.by_status: dict[int, Counter] = {}
        self._requests = metrics.requests
        self._model = model

    def request(self, status: int) -> None:
        child = self.by_status.get(status)
        if child is None:
            child = self.by_status[status] = self._requests.labels(self._model, str(status))
        child.inc()


class Metrics:
    """What the gateway counts. `model` is a name from models.yaml; `status` and `reason` come from our own code."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "inferfly_requests", "Admitted requests that ended.", ["model", "status"], registry=self.registry
        )
        self.refusals = Counter(
            "inferfly_refusals", "Requests refused before admission.", ["reason"], registry=self.registry
        )
        self.tokens = Counter("inferfly_tokens", "Tokens metered.", ["model", "kind"], registry=self.registry)
        self.open = Gauge("inferfly_requests_open", "Requests in flight.", registry=self.registry)
        self.ttft = Histogram(
            "inferfly_time_to_first_token_seconds",
            "From admission to the first streamed event.",
            ["model"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.duration = Histogram(
            "inferfly_request_duration_seconds",
            "From admission to the end of the answer.",
            ["model"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._models: dict[str, ModelMetrics] = {}

    def of(self, model: str) -> ModelMetrics:
        found = self._models.get(model)
        if found is None:
            found = self._models[model] = ModelMetrics(self, model)
        return found

    def exposition(self) -> bytes:
        """All of it in Prometheus's text format."""
        return generate_latest(self.registry)
