"""What crosses control's socket, in both directions. Imports nothing of ours."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

NAME_PATTERN = r"^[a-z0-9]([a-z0-9._-]{0,38}[a-z0-9])?$"
KEY_ID_PATTERN = r"^[0-9A-Za-z]{10}$"
EXPIRES_DAYS_DEFAULT = 90
EXPIRES_DAYS_MAX = 365
USAGE_DAYS_DEFAULT = 30
USAGE_DAYS_MAX = 3660
USAGE_LIMIT_MAX = 1000

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
"""Lower case letters, digits and `.`, `_`, `-`; at most 40; a letter or digit at both ends."""
ExpiresDays = Annotated[int, Field(ge=1, le=EXPIRES_DAYS_MAX)]
State = Literal["stopped", "loading", "ready", "draining", "failed"]
UsageGroup = Literal["account", "key", "model", "day"]


class Message(BaseModel):
    """Unknown fields are refused, and what was sent is never quoted in an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class ErrorDetail(Message):
    code: str
    message: str


class ErrorBody(Message):
    """Every answer of control that is not a success."""

    error: ErrorDetail


class EngineStatus(Message):
    name: str
    model: str
    state: State
    cause: str = ""
    """Why it is not ready, in one line; empty where it is."""
    cure: str = ""
    since_ms: int
    restarts: int


class ModelStatus(Message):
    name: str
    state: State
    """`ready` where at least one replica is."""
    endpoints: tuple[str, ...]
    max_context: int
    replicas: int
    replicas_ready: int


class Status(Message):
    ready: bool
    """The gateway is up and every model has at least one ready engine."""
    version: str
    gateway: Literal["up", "down"]
    supervisor: Literal["up", "unreachable"]
    """Where it is unreachable, the engines' states are the last known ones."""
    models: tuple[ModelStatus, ...]
    engines: tuple[EngineStatus, ...]


class NewAccount(Message):
    name: Name


class Account(Message):
    id: str
    name: str
    state: Literal["active", "restricted", "closing", "erased"]
    created_at_ms: int
    usable_keys: int
    """Keys that are neither revoked nor expired."""


class NewKey(Message):
    account: Name
    name: Name
    expires_days: ExpiresDays = EXPIRES_DAYS_DEFAULT


class Key(Message):
    key_id: str
    account: str
    name: str
    state: Literal["active", "expired", "revoked"]
    created_at_ms: int
    expires_at_ms: int
    revoked_at_ms: int | None
    last_used_day: str | None
    """UTC, YYYY-MM-DD. Kept no finer, and no longer than the detailed usage rows."""


class CreatedKey(Key):
    """The one message that carries a key's plaintext."""

    key: str = Field(repr=False)


class UsageTotals(Message):
    group: str
    """An account's name, a key's id, a model's name or a day (UTC, YYYY-MM-DD)."""
    requests: int
    failed: int
    prompt_tokens: int
    completion_tokens: int


class UsageReport(Message):
    by: UsageGroup
    days: int
    since_day: str
    rows: tuple[UsageTotals, ...]


class UsageRow(Message):
    """One request, as it stands in the ledger."""

    request_id: str
    ts_start_ms: int
    ts_end_ms: int
    prompt_tokens: int
    completion_tokens: int
    token_counts: Literal["exact", "partial", "interrupted"]
    model_id: str
    deployment_id: str
    http_status: int
    latency_total_ms: int
    latency_ttft_ms: int | None
    latency_itl_mean_us: int | None
    rl_requests_used: int
    rl_tokens_used: int
    api_key_id: str
