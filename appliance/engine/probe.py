"""Asks one engine, over its unix socket, whether it serves and whether it moves."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import httpx

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.catalog import ModelSpec

METRIC: Final = re.compile(rb"^vllm:([a-z_]+?)(?:_total)?\{[^}]*\} ([0-9.eE+]+)$", re.MULTILINE)
"""One sample of vLLM's own metrics. Their labels hold no quoted braces: all are ours."""

BUSY: Final = (b"num_requests_running", b"num_requests_waiting")
MOVING: Final = (
    b"prompt_tokens",
    b"generation_tokens",
    b"iteration_tokens_total_count",
    b"kv_cache_usage_perc",
)
"""What changes while an engine works. A long prompt moves the last two before it yields its first token."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """What an engine's metrics said at one moment."""

    requests: int
    """Running and waiting."""
    fingerprint: tuple[float, ...]


class Probe:
    """Every question is bounded by `seconds`; no answer in time counts as none."""

    def __init__(self, socket_path: Path, spec: ModelSpec) -> None:
        self._path, self._question = _least_work(spec)
        self._client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(socket_path)),
            base_url="http://engine",
            trust_env=False,
        )

    async def healthy(self, seconds: float) -> bool:
        try:
            return (await self._client.get("/health", timeout=seconds)).is_success
        except httpx.HTTPError:
            return False

    async def answers(self, seconds: float) -> bool:
        """Whether it does the least that can be asked of it. One that refuses because it is full answers, too."""
        try:
            response = await self._client.post(self._path, json=self._question, timeout=seconds)
        except httpx.HTTPError:
            return False
        return response.is_success or response.status_code == HTTPStatus.SERVICE_UNAVAILABLE

    async def pulse(self, seconds: float) -> Pulse | None:
        """None where the engine does not answer."""
        try:
            response = await self._client.get("/metrics", timeout=seconds)
        except httpx.HTTPError:
            return None
        return read_pulse(response.content) if response.is_success else None

    async def close(self) -> None:
        await self._client.aclose()


def _least_work(spec: ModelSpec) -> tuple[str, dict[str, Any]]:
    """Where to ask an engine of this model for one token of work, and how."""
    if not spec.pools:
        return "/v1/completions", {"model": spec.name, "prompt": [1], "max_tokens": 1, "temperature": 0}
    if "embeddings" in spec.endpoints:
        return "/v1/embeddings", {"model": spec.name, "input": [1]}
    return "/score", {"model": spec.name, "text_1": "a", "text_2": "a"}


def read_pulse(metrics: bytes) -> Pulse:
    """Sum each metric over an engine's ranks."""
    sums: dict[bytes, float] = {}
    for name, value in METRIC.findall(metrics):
        sums[name] = sums.get(name, 0.0) + float(value)
    return Pulse(
        requests=round(sum(sums.get(name, 0.0) for name in BUSY)),
        fingerprint=tuple(sums.get(name, 0.0) for name in MOVING),
    )
