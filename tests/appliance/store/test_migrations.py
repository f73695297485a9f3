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
from appliance.domain import EngineState, LedgerRow
from appliance.store import database, manifest
from appliance.store.migrations import REGISTRY, USAGE

SETS = {"registry": REGISTRY, "usage": USAGE}
ULID = clock.ulid(1)
SHA = bytes(range(32))

ROWS: dict[tuple[str, str], dict[str, object]] = {
    ("registry", "account"): {"id": ULID, "slug": "default", "state": "active", "created_at_ms": 1},
    ("registry", "api_key"): {
        "key_id": "0123456789",
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


@pytest.mark.parametrize(
    ("store", "released"),
    [
        ("registry", "cb066f1cc12ddcb0"),
        ("usage", "0ef834133823cfc4"),
    ],
)
def test_released_shape_never_changes_under_its_name(
    stores: dict[str, Database], store: str, released: str
) -> None:
    """A change of shape is a new migration, and a new line here; never an edit of an old one."""
    shape = "\n".join(
        sorted(sql for (sql,) in stores[store].execute("SELECT sql FROM sqlite_schema WHERE sql NOT NULL"))
    )

    assert hashlib.sha256(shape.encode()).hexdigest()[:16] == released
