from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from sqlite_utils import Database

from appliance import apikey, clock
from appliance.catalog import EngineOptions
from appliance.domain import Endpoint, EngineState, LedgerRow, Limits
from appliance.store import database, manifest
from appliance.store.migrations import APPLIED, REGISTRY, USAGE

SETS = {"registry": REGISTRY, "usage": USAGE}
ULID = clock.ulid(1)
SHA = bytes(range(32))

ROWS: dict[tuple[str, str], dict[str, object]] = {
    ("registry", "account"): {"id": ULID, "slug": "default", "state": "active", "created_at_ms": 1},
    ("registry", "api_key"): {
        "key_id": "0123456789",
        "origin": "0123456789",
        "account_id": ULID,
        "name": "search",
        "sha256": SHA,
        "created_at_ms": 1,
        "expires_at_ms": 2,
        "revoked_at_ms": None,
    },
    ("registry", "model"): {
        "name": "tiny",
        "revision": "r1",
        "sha256": SHA,
        "serves_chat": 1,
        "serves_completions": 0,
        "max_context": 512,
        "quantization": None,
        "tensor_parallel": 1,
        "max_concurrent_sequences": 16,
        "replicas": 1,
        "created_at_s": 1,
        "serves_responses": 1,
        "serves_messages": 1,
        "serves_embeddings": 0,
        "serves_rerank": 0,
        "serves_score": 0,
        "serves_tokenize": 1,
        "images_max": 2,
        "queue_max": 256,
    },
    ("registry", "model_switch"): {"model": "tiny", "name": "enable_thinking"},
    ("registry", "api_key_scope"): {"key_id": "0123456789", "kind": "model", "value": "tiny"},
    ("registry", "usage_limit"): {
        "subject_kind": "key",
        "subject_id": "0123456789",
        **dict.fromkeys(Limits._fields, 1),
    },
    ("registry", "price"): {
        "model": "tiny",
        "input_micros_per_million": 12_500_000,
        "output_micros_per_million": 0,
    },
    ("registry", "engine"): {
        "name": "tiny",
        "model": "tiny",
        "socket": "run/engines/tiny/sock",
        "state": "ready",
        "since_ms": 1,
        "restarts": 0,
    },
    ("usage", "usage"): {
        "request_id": ULID,
        "ts_start_ms": 1,
        "ts_end_ms": 2,
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "token_counts": "exact",
        "model_id": "tiny",
        "deployment_id": "tiny",
        "http_status": 200,
        "latency_total_ms": 1,
        "latency_ttft_ms": None,
        "latency_itl_mean_us": None,
        "rl_requests_used": 1,
        "rl_tokens_used": 7,
        "api_key_id": "0123456789",
    },
    ("usage", "usage_day"): {
        "day": "2026-05-01",
        "api_key_id": "0123456789",
        "model_id": "tiny",
        "requests": 1,
        "failed": 0,
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "cost_micros": 0,
    },
}
"""A good row of every table, parents first."""
MIGRATION_ROW = {
    "id": 99,
    "migration_set": "usage",
    "name": "m009_x",
    "applied_at": "2026-01-01 00:00:00.000000+00:00",
}

PROMPTS = {
    "sentence": "Write a poem about the sea",
    "short": "hi there",
    "ten_characters": "what is it",
    "long_word": "a" * 300,
    "after_nul": "tiny\0Write a poem about the sea",
    "json": '{"messages":[]}',
    "other_script": "Напиши стихотворение",
    "bytes": b"Write a poem about the sea",
    "long_bytes": b"Write a poem about the sea" * 10,
}

ALL_ROWS = {
    **ROWS,
    ("registry", "_sqlite_migrations"): MIGRATION_ROW,
    ("usage", "_sqlite_migrations"): MIGRATION_ROW,
}
COLUMNS = [(store, table, column) for (store, table), row in ALL_ROWS.items() for column in row]


def _insert(db: Database, table: str, row: dict[str, object]) -> None:
    marks = ", ".join(f":{column}" for column in row)
    db.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", row)


def _filled(folder: Path, store: str) -> Database:
    db = database.open_writer(folder / f"{store}.db", SETS[store])
    for (owner, table), row in ROWS.items():
        if owner == store:
            _insert(db, table, row)
    return db


def _columns(db: Database, table: str) -> list[str]:
    return [row[1] for row in db.execute(f"PRAGMA table_info({table})").fetchall()]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Database]]:
    folder = tmp_path_factory.mktemp("stores")
    opened = {store: _filled(folder, store) for store in SETS}
    yield opened
    for db in opened.values():
        db.close()


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS.keys())
@pytest.mark.parametrize(("store", "table", "column"), COLUMNS, ids=[".".join(where) for where in COLUMNS])
def test_no_column_can_hold_a_prompt(
    stores: dict[str, Database], store: str, table: str, column: str, prompt: object
) -> None:
    db = stores[store]

    with pytest.raises(sqlite3.IntegrityError, match=r"CHECK constraint|cannot store|datatype mismatch"):
        db.execute(f"UPDATE {table} SET {column} = ?", (prompt,))


def test_every_column_is_among_those_tried(stores: dict[str, Database]) -> None:
    there = {
        (store, table, column)
        for store, db in stores.items()
        for table in db.table_names()
        for column in _columns(db, table)
    }

    assert there == set(COLUMNS)


@pytest.mark.parametrize("store", SETS)
def test_every_table_is_strict(stores: dict[str, Database], store: str) -> None:
    tables = (
        stores[store]
        .execute("SELECT name, strict FROM pragma_table_list WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'")
        .fetchall()
    )

    assert {name for name, strict in tables if not strict} == set()
    assert {name for name, _ in tables} == set(manifest.of(store))


def test_usage_holds_the_fields_of_a_ledger_row_and_no_others(stores: dict[str, Database]) -> None:
    columns = _columns(stores["usage"], "usage")

    assert tuple(columns) == LedgerRow._fields


def test_engine_table_knows_every_state(stores: dict[str, Database]) -> None:
    db = stores["registry"]

    kept = [db.execute("UPDATE engine SET state = ?", (state,)).rowcount for state in EngineState]

    assert kept == [1] * len(EngineState)


def test_model_table_takes_every_quantization_of_models_yaml(stores: dict[str, Database]) -> None:
    annotation = EngineOptions.model_fields["quantization"].annotation
    names = [name for choice in get_args(annotation) for name in get_args(choice)]

    kept = [
        stores["registry"].execute("UPDATE model SET quantization = ?", (name,)).rowcount for name in names
    ]

    assert names
    assert kept == [1] * len(names)


def test_request_refused_before_an_engine_was_chosen_can_be_written(stores: dict[str, Database]) -> None:
    row = {**ROWS["usage", "usage"], "request_id": clock.ulid(2), "deployment_id": ""}

    _insert(stores["usage"], "usage", row)


def test_every_new_key_fits(stores: dict[str, Database]) -> None:
    key = apikey.new()
    row = {**ROWS["registry", "api_key"], "key_id": key.key_id, "sha256": key.sha256}

    _insert(stores["registry"], "api_key", row)


def test_limits_are_those_of_the_domain(stores: dict[str, Database]) -> None:
    columns = _columns(stores["registry"], "usage_limit")

    assert tuple(columns) == ("subject_kind", "subject_id", *Limits._fields)


def test_a_model_may_serve_every_endpoint(stores: dict[str, Database]) -> None:
    served = {name for name in _columns(stores["registry"], "model") if name.startswith("serves_")}

    assert served == {f"serves_{endpoint}" for endpoint in get_args(Endpoint)}


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("model", "my-model.v2"),
        *(("endpoint", endpoint) for endpoint in get_args(Endpoint)),
        ("network", "10.1.0.0/16"),
        ("network", "2001:db8:1234:5678:9abc:def0:1234:5678/128"),
    ],
)
def test_scopes_of_every_kind_fit(stores: dict[str, Database], kind: str, value: str) -> None:
    db = stores["registry"]

    assert db.execute("UPDATE api_key_scope SET kind = ?, value = ?", (kind, value)).rowcount == 1


@pytest.mark.parametrize(
    ("kind", "value"),
    [("endpoint", "poems"), ("network", "lan"), ("network", "fe80::1-2"), ("model", "10.0.0.0/8")],
    ids=["no endpoint", "no network", "no address", "no model"],
)
def test_a_scope_holds_only_what_its_kind_allows(stores: dict[str, Database], kind: str, value: str) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="CHECK constraint"):
        stores["registry"].execute("UPDATE api_key_scope SET kind = ?, value = ?", (kind, value))


COUNTS = [
    name
    for name, value in ROWS["usage", "usage"].items()
    if isinstance(value, int | None) and name != "http_status"
]


@pytest.mark.parametrize("column", COUNTS)
def test_no_number_of_a_ledger_row_is_negative(stores: dict[str, Database], column: str) -> None:
    """One expression checks the sign of all of them."""
    with pytest.raises(sqlite3.IntegrityError, match="CHECK constraint"):
        stores["usage"].execute(f"UPDATE usage SET {column} = -1")


# From one release to the next

FIRST: dict[tuple[str, str], tuple[str, ...]] = {
    ("registry", "account"): ("id", "slug", "state", "created_at_ms"),
    ("registry", "api_key"): (
        "key_id",
        "account_id",
        "name",
        "sha256",
        "created_at_ms",
        "expires_at_ms",
        "revoked_at_ms",
    ),
    ("registry", "model"): (
        "name",
        "revision",
        "sha256",
        "serves_chat",
        "serves_completions",
        "max_context",
        "quantization",
        "tensor_parallel",
        "max_concurrent_sequences",
        "replicas",
        "created_at_s",
    ),
    ("registry", "engine"): ("name", "model", "socket", "state", "since_ms", "restarts"),
    ("usage", "usage"): LedgerRow._fields,
}
"""Tables and columns of release 0.1.0."""
MAY_1_MS = 1_777_593_600_000
"""2026-05-01 00:00 UTC."""


def _applied_up_to(path: Path, store: str, after: str | None) -> Database:
    """A database as it was before the migration `after`."""
    db = Database(path)
    db.execute("PRAGMA foreign_keys = ON")
    for statement in APPLIED:
        db.execute(statement)
    SETS[store].apply(db, stop_before=after or ())
    return db


def _of_first_release(path: Path, store: str, second: str) -> Database:
    db = _applied_up_to(path, store, second)
    for (owner, table), columns in FIRST.items():
        if owner == store:
            row = {column: ROWS[owner, table][column] for column in columns}
            _insert(db, table, row)
    return db


def test_a_registry_of_the_first_release_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    _of_first_release(path, "registry", "m002_scopes_lines_limits_prices").close()

    db = database.open_writer(path, REGISTRY)

    assert db.execute("SELECT key_id, origin, account_id, name FROM api_key").fetchall() == [
        ("0123456789", "0123456789", ULID, "search")
    ]
    assert db.execute(
        "SELECT serves_chat, serves_embeddings, images_max, queue_max FROM model"
    ).fetchall() == [(1, 0, 0, 256)]
    assert db.execute("SELECT name, socket FROM engine").fetchall() == [("tiny", "run/engines/tiny/sock")]
    assert db.execute("PRAGMA foreign_key_check").fetchall() == []
    db.close()


def test_a_ledger_of_the_first_release_keeps_its_rows_and_gains_totals(tmp_path: Path) -> None:
    path = tmp_path / "usage.db"
    old = _of_first_release(path, "usage", "m002_daily_totals")
    rows = [
        {
            **ROWS["usage", "usage"],
            "request_id": clock.ulid(start_ms),
            "ts_start_ms": start_ms,
            "http_status": status,
            "deployment_id": deployment,
        }
        for start_ms, status, deployment in [
            (MAY_1_MS - 1, 200, ""),
            (MAY_1_MS, 200, "tiny-2"),
            (MAY_1_MS, 502, "tiny"),
        ]
    ]
    for row in rows:
        _insert(old, "usage", row)
    old.commit()
    old.close()

    db = database.open_writer(path, USAGE)

    kept = db.execute("SELECT * FROM usage").fetchall()
    totals = db.execute("SELECT * FROM usage_day ORDER BY day").fetchall()
    db.close()
    expected = [ROWS["usage", "usage"], *rows]
    assert sorted(kept) == sorted(tuple(row.values()) for row in expected)
    assert totals == [
        ("1970-01-01", "0123456789", "tiny", 1, 0, 3, 4, 0),
        ("2026-04-30", "0123456789", "tiny", 1, 0, 3, 4, 0),
        ("2026-05-01", "0123456789", "tiny", 2, 1, 6, 8, 0),
    ]


@pytest.mark.parametrize(
    ("store", "next_one", "released"),
    [
        ("registry", "m002_scopes_lines_limits_prices", "cb066f1cc12ddcb0"),
        ("registry", None, "d585787f38c104e6"),
        ("usage", "m002_daily_totals", "0ef834133823cfc4"),
        ("usage", None, "0772d59628faae00"),
    ],
    ids=["registry 1", "registry 2", "usage 1", "usage 2"],
)
def test_released_shape_never_changes_under_its_name(
    tmp_path: Path, store: str, next_one: str | None, released: str
) -> None:
    """A change of shape is a new migration, and a new line here; never an edit of an old one."""
    db = _applied_up_to(tmp_path / "new.db", store, next_one)
    shape = "\n".join(
        sorted(sql for (sql,) in db.execute("SELECT sql FROM sqlite_schema WHERE sql NOT NULL"))
    )
    db.close()

    assert hashlib.sha256(shape.encode()).hexdigest()[:16] == released
