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


Endpoint = Literal[
    "chat", "completions", "responses", "messages", "embeddings", "rerank", "score", "tokenize"
]
"""API families, as models.yaml and the scopes of keys name them. `messages` is Anthropic's, with its count_tokens;
`tokenize` includes detokenize."""


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
    origin: str = ""
    """Id of the first key of its line: a key keeps its limits and counts when it is rotated."""


class Call(NamedTuple):
    """The shape of one request, never its words. A tuple, because one is made for every request."""

    endpoint: Endpoint
    model: str
    stream: bool = False
    include_usage: bool = False
    """Whether the caller asked to see a stream's total usage; the engine is always asked."""
    continuous_usage: bool = False
    """Whether the caller asked to see the running usage in each event."""
    choices: int = 1
    """Answers asked for: `n` for each of the prompts."""
    output_tokens_max: int | None = 0
    """Most tokens of one answer, as asked for; None: as many as the context has room for; 0: generates nothing."""
    images: int = 0
    switches: tuple[str, ...] = ()
    """Names in `chat_template_kwargs`: each has to be one that the model declares."""


class Limits(NamedTuple):
    """What a key, an account or a model may use. None: no limit. Costs are millionths of the site's currency."""

    requests_per_minute: int | None = None
    input_tokens_per_minute: int | None = None
    output_tokens_per_minute: int | None = None
    concurrent_requests: int | None = None
    tokens_per_day: int | None = None
    tokens_per_month: int | None = None
    cost_per_day_micros: int | None = None
    cost_per_month_micros: int | None = None


SubjectKind = Literal["key", "account", "model"]


class Subject(NamedTuple):
    """What limits are set for and use is counted by. A key's id is that of the first key of its line (`origin`)."""

    kind: SubjectKind
    id: str


class Price(NamedTuple):
    """What a model's tokens cost, in millionths of the site's currency per million tokens."""

    input_micros_per_million: int = 0
    output_micros_per_million: int = 0

    def cost_micros(self, prompt_tokens: int, completion_tokens: int) -> int:
        """Millionths of the site's currency, rounded up."""
        whole = (
            prompt_tokens * self.input_micros_per_million + completion_tokens * self.output_micros_per_million
        )
        return -(-whole // 1_000_000)


@dataclass(frozen=True, slots=True)
class Engine:
    """One running replica of a model, reached over its unix socket."""

    name: str
    model: str
    socket: str


class Usage(NamedTuple):
    """Token counts as the engine reported them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class Used(NamedTuple):
    """What a request that has ended counts for."""

    prompt_tokens: int
    completion_tokens: int
    cost_micros: int


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
    hold: object = None
    """What is reserved of the caller's limits; `admission` knows what it is."""
    head: bytes = b""
    """What the answer's headers tell of the caller's limits, as they stand on the wire."""


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
