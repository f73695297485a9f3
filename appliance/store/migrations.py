"""The shape of every store, as append-only migrations.

A released migration never changes: the next shape is another function below the last one.
No column can hold a prompt. TEXT is an enum, an identifier or a short word of a closed alphabet, the only BLOB is
a SHA-256, and the rest are whole numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlite_utils import Migrations

if TYPE_CHECKING:
    from sqlite_utils import Database

REGISTRY: Final = Migrations("registry")
USAGE: Final = Migrations("usage")

_LOWER = "a-z0-9._-"
_PLAIN = "A-Za-z0-9_.-"
_BASE62 = "0-9A-Za-z"
_ULID = "0-9A-HJKMNP-TV-Z"


def _word(column: str, alphabet: str, least: int, most: int) -> str:
    """A CHECK: `column` has `least` to `most` characters, all of `alphabet`.

    length() and GLOB stop at a NUL, so the bytes are counted too: what follows a NUL must not slip in.
    """
    return (
        f"CHECK (length({column}) BETWEEN {least} AND {most}"
        f" AND length(CAST({column} AS BLOB)) = length({column})"
        f" AND {column} NOT GLOB '*[^{alphabet}]*')"
    )


def _sha256(column: str) -> str:
    return f"CHECK (length({column}) = 32)"


def _least(column: str, value: int = 0) -> str:
    return f"CHECK ({column} >= {value})"


APPLIED: Final = (
    f"""CREATE TABLE IF NOT EXISTS _sqlite_migrations (
  id INTEGER PRIMARY KEY NOT NULL,
  migration_set TEXT NOT NULL {_word("migration_set", "a-z", 1, 16)},
  name TEXT NOT NULL {_word("name", "a-z0-9_", 1, 64)},
  applied_at TEXT NOT NULL {_word("applied_at", "0-9 :.+-", 19, 32)},
  UNIQUE (migration_set, name)
) STRICT""",
)
"""sqlite-utils' own table of applied migrations, made before it would make a laxer one."""


@REGISTRY()
def m001_accounts_keys_models_engines(db: Database) -> None:
    """Who may call, with which key digests, and which models run where."""
    for statement in _REGISTRY_001:
        db.execute(statement)


@REGISTRY()
def m002_scopes_lines_limits_prices(db: Database) -> None:
    """What a key may reach and which line it belongs to, what may be used, what it costs, what models can do."""
    for statement in _REGISTRY_002:
        db.execute(statement)


@USAGE()
def m001_usage(db: Database) -> None:
    """One row per admitted request: the fields of `domain.LedgerRow`, in that order, and no others."""
    for statement in _USAGE_001:
        db.execute(statement)


@USAGE()
def m002_daily_totals(db: Database) -> None:
    """Totals that are kept while a row is written, and a table of rows that costs half as much to write.

    Days of rows from before are UTC's, and cost nothing: their prices are not known.
    """
    for statement in _USAGE_002:
        db.execute(statement)


_REGISTRY_001: Final = (
    f"""CREATE TABLE account (
  id TEXT PRIMARY KEY NOT NULL {_word("id", _ULID, 26, 26)},
  slug TEXT NOT NULL UNIQUE {_word("slug", _LOWER, 1, 40)},
  state TEXT NOT NULL CHECK (state IN ('active', 'restricted', 'closing', 'erased')),
  created_at_ms INTEGER NOT NULL {_least("created_at_ms")}
) STRICT""",
    f"""CREATE TABLE api_key (
  key_id TEXT PRIMARY KEY NOT NULL {_word("key_id", _BASE62, 10, 10)},
  account_id TEXT NOT NULL REFERENCES account (id) {_word("account_id", _ULID, 26, 26)},
  name TEXT NOT NULL {_word("name", _LOWER, 1, 40)},
  sha256 BLOB NOT NULL UNIQUE {_sha256("sha256")},
  created_at_ms INTEGER NOT NULL {_least("created_at_ms")},
  expires_at_ms INTEGER NOT NULL CHECK (expires_at_ms > created_at_ms),
  revoked_at_ms INTEGER {_least("revoked_at_ms")}
) STRICT""",
    "CREATE INDEX api_key_account_id ON api_key (account_id)",
    f"""CREATE TABLE model (
  name TEXT PRIMARY KEY NOT NULL {_word("name", _LOWER, 1, 40)},
  revision TEXT NOT NULL {_word("revision", _PLAIN, 1, 64)},
  sha256 BLOB NOT NULL {_sha256("sha256")},
  serves_chat INTEGER NOT NULL CHECK (serves_chat IN (0, 1)),
  serves_completions INTEGER NOT NULL CHECK (serves_completions IN (0, 1)),
  max_context INTEGER NOT NULL {_least("max_context", 1)},
  quantization TEXT {_word("quantization", _LOWER, 1, 40)},
  tensor_parallel INTEGER NOT NULL {_least("tensor_parallel", 1)},
  max_concurrent_sequences INTEGER NOT NULL {_least("max_concurrent_sequences", 1)},
  replicas INTEGER NOT NULL {_least("replicas", 1)},
  created_at_s INTEGER NOT NULL {_least("created_at_s")}
) STRICT""",
    f"""CREATE TABLE engine (
  name TEXT PRIMARY KEY NOT NULL {_word("name", _LOWER, 1, 64)},
  model TEXT NOT NULL REFERENCES model (name) ON DELETE CASCADE {_word("model", _LOWER, 1, 40)},
  socket TEXT NOT NULL {_word("socket", "a-z0-9._/-", 1, 64)},
  state TEXT NOT NULL CHECK (state IN ('stopped', 'loading', 'ready', 'draining', 'failed')),
  since_ms INTEGER NOT NULL {_least("since_ms")},
  restarts INTEGER NOT NULL {_least("restarts")}
) STRICT""",
    "CREATE INDEX engine_model ON engine (model)",
)

_USAGE_001: Final = (
    f"""CREATE TABLE usage (
  request_id TEXT PRIMARY KEY NOT NULL {_word("request_id", _ULID, 26, 26)},
  ts_start_ms INTEGER NOT NULL {_least("ts_start_ms")},
  ts_end_ms INTEGER NOT NULL {_least("ts_end_ms")},
  prompt_tokens INTEGER NOT NULL {_least("prompt_tokens")},
  completion_tokens INTEGER NOT NULL {_least("completion_tokens")},
  token_counts TEXT NOT NULL CHECK (token_counts IN ('exact', 'partial', 'interrupted')),
  model_id TEXT NOT NULL {_word("model_id", _LOWER, 1, 40)},
  deployment_id TEXT NOT NULL {_word("deployment_id", _LOWER, 0, 64)},
  http_status INTEGER NOT NULL CHECK (http_status BETWEEN 100 AND 599),
  latency_total_ms INTEGER NOT NULL {_least("latency_total_ms")},
  latency_ttft_ms INTEGER {_least("latency_ttft_ms")},
  latency_itl_mean_us INTEGER {_least("latency_itl_mean_us")},
  rl_requests_used INTEGER NOT NULL {_least("rl_requests_used")},
  rl_tokens_used INTEGER NOT NULL {_least("rl_tokens_used")},
  api_key_id TEXT NOT NULL {_word("api_key_id", _BASE62, 10, 10)}
) STRICT""",
    "CREATE INDEX usage_ts_start_ms ON usage (ts_start_ms)",
    "CREATE INDEX usage_api_key_id ON usage (api_key_id, ts_start_ms)",
)

_ENDPOINTS = "'chat', 'completions', 'responses', 'messages', 'embeddings', 'rerank', 'score', 'tokenize'"
_LIMITS = (
    "requests_per_minute",
    "input_tokens_per_minute",
    "output_tokens_per_minute",
    "concurrent_requests",
    "tokens_per_day",
    "tokens_per_month",
    "cost_per_day_micros",
    "cost_per_month_micros",
)

_REGISTRY_002: Final = (
    f"""CREATE TABLE api_key_002 (
  key_id TEXT PRIMARY KEY NOT NULL {_word("key_id", _BASE62, 10, 10)},
  origin TEXT NOT NULL {_word("origin", _BASE62, 10, 10)},
  account_id TEXT NOT NULL REFERENCES account (id) {_word("account_id", _ULID, 26, 26)},
  name TEXT NOT NULL {_word("name", _LOWER, 1, 40)},
  sha256 BLOB NOT NULL UNIQUE {_sha256("sha256")},
  created_at_ms INTEGER NOT NULL {_least("created_at_ms")},
  expires_at_ms INTEGER NOT NULL CHECK (expires_at_ms > created_at_ms),
  revoked_at_ms INTEGER {_least("revoked_at_ms")}
) STRICT""",
    """INSERT INTO api_key_002
SELECT key_id, key_id, account_id, name, sha256, created_at_ms, expires_at_ms, revoked_at_ms FROM api_key""",
    "DROP TABLE api_key",
    "ALTER TABLE api_key_002 RENAME TO api_key",
    "CREATE INDEX api_key_account_id ON api_key (account_id)",
    f"""CREATE TABLE api_key_scope (
  key_id TEXT NOT NULL REFERENCES api_key (key_id) ON DELETE CASCADE {_word("key_id", _BASE62, 10, 10)},
  kind TEXT NOT NULL CHECK (kind IN ('model', 'endpoint', 'network')),
  value TEXT NOT NULL {_word("value", "a-z0-9._:/-", 1, 43)}
    CHECK (kind <> 'model' OR value NOT GLOB '*[^{_LOWER}]*')
    CHECK (kind <> 'endpoint' OR value IN ({_ENDPOINTS}))
    CHECK (kind <> 'network' OR value NOT GLOB '*[^0-9a-f.:/]*'),
  PRIMARY KEY (key_id, kind, value)
) STRICT, WITHOUT ROWID""",
    f"""CREATE TABLE usage_limit (
  subject_kind TEXT NOT NULL CHECK (subject_kind IN ('key', 'account', 'model')),
  subject_id TEXT NOT NULL {_word("subject_id", _PLAIN, 1, 40)},
  {", ".join(f"{name} INTEGER {_least(name, 1)}" for name in _LIMITS)},
  PRIMARY KEY (subject_kind, subject_id)
) STRICT, WITHOUT ROWID""",
    f"""CREATE TABLE price (
  model TEXT PRIMARY KEY NOT NULL {_word("model", _LOWER, 1, 40)},
  input_micros_per_million INTEGER NOT NULL {_least("input_micros_per_million")},
  output_micros_per_million INTEGER NOT NULL {_least("output_micros_per_million")}
) STRICT, WITHOUT ROWID""",
    *(
        f"ALTER TABLE model ADD COLUMN {name} INTEGER NOT NULL DEFAULT 0 CHECK ({name} IN (0, 1))"
        for name in (
            "serves_responses",
            "serves_messages",
            "serves_embeddings",
            "serves_rerank",
            "serves_score",
            "serves_tokenize",
        )
    ),
    f"ALTER TABLE model ADD COLUMN images_max INTEGER NOT NULL DEFAULT 0 {_least('images_max')}",
    f"ALTER TABLE model ADD COLUMN queue_max INTEGER NOT NULL DEFAULT 256 {_least('queue_max')}",
    f"""CREATE TABLE model_switch (
  model TEXT NOT NULL REFERENCES model (name) ON DELETE CASCADE {_word("model", _LOWER, 1, 40)},
  name TEXT NOT NULL {_word("name", _LOWER, 1, 40)},
  PRIMARY KEY (model, name)
) STRICT, WITHOUT ROWID""",
)
"""Scopes, limits and prices name models without a reference: an entry that leaves models.yaml for a day must
neither widen a key's scope nor lift a limit nor make tokens free."""

_USAGE_002: Final = (
    f"""CREATE TABLE usage_002 (
  request_id TEXT PRIMARY KEY NOT NULL,
  ts_start_ms INTEGER NOT NULL,
  ts_end_ms INTEGER NOT NULL,
  prompt_tokens INTEGER NOT NULL,
  completion_tokens INTEGER NOT NULL,
  token_counts TEXT NOT NULL,
  model_id TEXT NOT NULL,
  deployment_id TEXT NOT NULL,
  http_status INTEGER NOT NULL,
  latency_total_ms INTEGER NOT NULL,
  latency_ttft_ms INTEGER,
  latency_itl_mean_us INTEGER,
  rl_requests_used INTEGER NOT NULL,
  rl_tokens_used INTEGER NOT NULL,
  api_key_id TEXT NOT NULL,
  CHECK (token_counts = 'exact' OR token_counts = 'partial' OR token_counts = 'interrupted'),
  CHECK (http_status BETWEEN 100 AND 599),
  CHECK ((ts_start_ms | ts_end_ms | prompt_tokens | completion_tokens | latency_total_ms
    | ifnull(latency_ttft_ms, 0) | ifnull(latency_itl_mean_us, 0) | rl_requests_used | rl_tokens_used) >= 0),
  CHECK (length(CAST(request_id || api_key_id || model_id AS BLOB)) = 36 + length(model_id)
    AND length(request_id) = 26 AND request_id NOT GLOB '*[^0-Z]*'
    AND length(api_key_id) = 10 AND api_key_id NOT GLOB '*[^{_BASE62}]*'
    AND length(model_id) BETWEEN 1 AND 40 AND model_id NOT GLOB '*[^{_LOWER}]*'),
  CHECK (deployment_id = model_id OR (length(deployment_id) <= 64
    AND length(CAST(deployment_id AS BLOB)) = length(deployment_id)
    AND deployment_id NOT GLOB '*[^{_LOWER}]*'))
) STRICT, WITHOUT ROWID""",
    "INSERT INTO usage_002 SELECT * FROM usage ORDER BY request_id",
    f"""CREATE TABLE usage_day (
  day TEXT NOT NULL CHECK (day GLOB '{"-".join("[0-9]" * width for width in (4, 2, 2))}'
    AND length(CAST(day AS BLOB)) = 10),
  api_key_id TEXT NOT NULL {_word("api_key_id", _BASE62, 10, 10)},
  model_id TEXT NOT NULL {_word("model_id", _LOWER, 1, 40)},
  requests INTEGER NOT NULL {_least("requests")},
  failed INTEGER NOT NULL {_least("failed")},
  prompt_tokens INTEGER NOT NULL {_least("prompt_tokens")},
  completion_tokens INTEGER NOT NULL {_least("completion_tokens")},
  cost_micros INTEGER NOT NULL {_least("cost_micros")},
  PRIMARY KEY (day, api_key_id, model_id)
) STRICT, WITHOUT ROWID""",
    """INSERT INTO usage_day
SELECT strftime('%Y-%m-%d', ts_start_ms / 1000, 'unixepoch') AS day, api_key_id, model_id,
  count(*), sum(http_status >= 400), sum(prompt_tokens), sum(completion_tokens), 0
FROM usage GROUP BY day, api_key_id, model_id""",
    "DROP TABLE usage",
    "ALTER TABLE usage_002 RENAME TO usage",
)
"""A row is written for every request, so its checks are few expressions: the sign of all numbers is that of their
bits joined by `|`, the bytes of three words are counted together, a deployment that is called like its model is
not read twice, and a request id's alphabet is one range of ASCII, `0` to `Z`, that has no space and no lower case.
The request id is a ULID, whose order is that of time: the table needs no other index.
"""
