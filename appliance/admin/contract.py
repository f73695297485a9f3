"""What crosses control's socket, in both directions. Imports nothing of ours."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

NAME_PATTERN = r"^[a-z0-9]([a-z0-9._-]{0,38}[a-z0-9])?$"
KEY_ID_PATTERN = r"^[0-9A-Za-z]{10}$"
SUBJECT_PATTERN = r"^[0-9A-Za-z]([0-9A-Za-z._-]{0,38}[0-9A-Za-z])?$"
SOURCE_PATTERN = r"^[0-9A-Za-z.:/_-]{1,64}$"
MONEY_PATTERN = r"^[0-9]{1,9}(\.[0-9]{1,6})?$"
SCOPES_MAX = 100
COUNT_MAX = 10**15
GRACE_HOURS_DEFAULT = 24
GRACE_HOURS_MAX = 30 * 24
EXPIRES_DAYS_DEFAULT = 90
EXPIRES_DAYS_MAX = 365
USAGE_DAYS_DEFAULT = 30
USAGE_DAYS_MAX = 3660
USAGE_LIMIT_MAX = 1000

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
"""Lower case letters, digits and `.`, `_`, `-`; at most 40; a letter or digit at both ends."""
ExpiresDays = Annotated[int, Field(ge=1, le=EXPIRES_DAYS_MAX)]
GraceHours = Annotated[int, Field(ge=0, le=GRACE_HOURS_MAX)]
Count = Annotated[int, Field(ge=1, le=COUNT_MAX)]
Money = Annotated[str, StringConstraints(pattern=MONEY_PATTERN)]
"""An amount of the site's currency as decimal text, such as `12.50`: never a float, which would round."""
Endpoint = Literal[
    "chat", "completions", "responses", "messages", "embeddings", "rerank", "score", "tokenize"
]
SubjectKind = Literal["key", "account", "model"]
State = Literal["stopped", "loading", "ready", "draining", "failed"]
UsageGroup = Literal["account", "key", "model", "day"]


def _network(text: str) -> str:
    """The one way to write it. Bits beyond the mask are refused: 10.0.0.5/8 would open more than it says."""
    try:
        return str(ip_network(text))
    except ValueError:
        raise ValueError("not a network") from None


def _something(text: str) -> str:
    if not text.strip("0."):
        raise ValueError("nothing")
    return text


Budget = Annotated[Money, AfterValidator(_something)]
Network = Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f.:/]{2,43}$"), AfterValidator(_network)]
"""A network in CIDR notation, or one address."""


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


class Scopes(Message):
    """What a key may be used for. An empty one restricts nothing."""

    models: Annotated[tuple[Name, ...], Field(max_length=SCOPES_MAX)] = ()
    endpoints: Annotated[tuple[Endpoint, ...], Field(max_length=SCOPES_MAX)] = ()
    networks: Annotated[tuple[Network, ...], Field(max_length=SCOPES_MAX)] = ()


class NewKey(Scopes):
    account: Name
    name: Name
    expires_days: ExpiresDays = EXPIRES_DAYS_DEFAULT


class Rotation(Message):
    """How a key hands over to its successor."""

    grace_hours: GraceHours = GRACE_HOURS_DEFAULT
    """How long the old key still works."""
    expires_days: ExpiresDays = EXPIRES_DAYS_DEFAULT
    """Of the new key."""


class Key(Message):
    key_id: str
    origin: str
    """Id of the first key of its line: limits and totals of use stay with it when the key is rotated."""
    account: str
    name: str
    state: Literal["active", "expired", "revoked"]
    created_at_ms: int
    expires_at_ms: int
    revoked_at_ms: int | None
    last_used_day: str | None
    """YYYY-MM-DD in the site's time zone. Kept no finer."""
    models: tuple[str, ...]
    """Models it may use; empty: all."""
    endpoints: tuple[str, ...]
    """API families it may use; empty: all."""
    networks: tuple[str, ...]
    """Where it may be used from; empty: anywhere."""


class CreatedKey(Key):
    """The one message that carries a key's plaintext."""

    key: str = Field(repr=False)


class LimitChanges(Message):
    """A limit that is left out stays as it is; null lifts it."""

    requests_per_minute: Count | None = None
    input_tokens_per_minute: Count | None = None
    output_tokens_per_minute: Count | None = None
    concurrent_requests: Count | None = None
    tokens_per_day: Count | None = None
    tokens_per_month: Count | None = None
    cost_per_day: Budget | None = None
    cost_per_month: Budget | None = None


class SubjectLimits(LimitChanges):
    """What a key, an account or a model may use. Null: as much as it likes."""

    kind: SubjectKind
    name: str
    """The account's or model's name; of a key, the id of the first of its line."""
    currency: str


class NewPrice(Message):
    input_per_million: Money
    output_per_million: Money


class Price(NewPrice):
    """What a model's tokens cost."""

    model: str
    currency: str


class Ban(Message):
    """A network address that is refused for having tried too many wrong keys."""

    source: str
    since_ms: int
    until_ms: int
    failures: int


class Lifted(Message):
    source: str


class UsageTotals(Message):
    group: str
    """An account's name, a key's id, a model's name or a day (YYYY-MM-DD) of the site's time zone."""
    requests: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    cost: Money


class UsageReport(Message):
    by: UsageGroup
    days: int
    since_day: str
    timezone: str
    """Where the days begin at midnight."""
    currency: str
    priced: bool
    """Whether any model has a price, or anything had one."""
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
