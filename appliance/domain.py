"""The nouns that travel along the request path: who asks, what shape, which engine, how many tokens."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal, NamedTuple

TokenCounts = Literal["exact", "partial", "interrupted"]
"""How a ledger row knows its token counts.

exact: the engine reported final usage.
partial: the stream was cut; the engine's own running usage up to the cut.
interrupted: the gateway died; the running usage found in the journal at the next start.
"""


class EngineState(enum.StrEnum):
    """Where one engine is in its life."""

    STOPPED = "stopped"
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever holds a good API key. Exists only if the key was good."""

    account_id: str
    key_id: str


@dataclass(frozen=True, slots=True)
class Call:
    """The shape of one request, never its words.

    `include_usage` and `continuous_usage` are what the caller asked to see in a stream;
    the engine is always asked for both.
    """

    endpoint: Literal["chat", "completions"]
    model: str
    stream: bool
    include_usage: bool
    continuous_usage: bool


@dataclass(frozen=True, slots=True)
class Engine:
    """One running replica of a model, reached over its unix socket."""

    name: str
    model: str
    socket: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts as the engine reported them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class LedgerRow(NamedTuple):
    """One admitted request, as it stands in `usage.db`. Times are milliseconds since the epoch.

    Latencies are milliseconds but `latency_itl_mean_us`, the mean gap between streamed events in microseconds.
    `latency_ttft_ms` and `latency_itl_mean_us` are None where the request had no stream or no token.
    """

    request_id: str
    ts_start_ms: int
    ts_end_ms: int
    prompt_tokens: int
    completion_tokens: int
    token_counts: TokenCounts
    model_id: str
    deployment_id: str
    http_status: int
    latency_total_ms: int
    latency_ttft_ms: int | None
    latency_itl_mean_us: int | None
    rl_requests_used: int
    rl_tokens_used: int
    api_key_id: str


class Reservation(NamedTuple):
    """An admitted request: held from `admit` until `charge` settles it."""

    slot: int
    """Its place in the journal."""
    request_id: str
    caller: Caller
    call: Call
    ts_start_ms: int
    started_ns: int
    """Monotonic nanoseconds, for latencies."""


class Outcome(NamedTuple):
    """How an admitted request ended."""

    status: int
    """HTTP status as the caller saw it; 499 if it left early; the error's, if a stream ended with an error event."""
    usage: bytes
    """The engine's last `usage` object, as JSON; empty if there was none."""
    counts: TokenCounts
    first_ns: int
    """Monotonic time of the first event of a stream; 0 if there was none."""
    last_ns: int
