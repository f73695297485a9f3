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


@USAGE()
def m001_usage(db: Database) -> None:
    """One row per admitted request: the fields of `domain.LedgerRow`, in that order, and no others."""
    for statement in _USAGE_001:
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
