from __future__ import annotations

from pathlib import Path

import pytest

from appliance.store import database, manifest
from appliance.store.migrations import REGISTRY, USAGE


@pytest.mark.parametrize("migrations", [REGISTRY, USAGE], ids=lambda each: each.name)
def test_manifest_declares_exactly_the_columns_there_are(
    tmp_path: Path, migrations: database.Migrations
) -> None:
    db = database.open_writer(tmp_path / "new.db", migrations)
    there = {
        table: [row[1] for row in db.execute(f"PRAGMA table_info({table})").fetchall()]
        for table in db.table_names()
    }
    db.close()

    assert there == {table: list(columns) for table, columns in manifest.of(migrations.name).items()}


def test_key_digest_is_erased_but_never_exported() -> None:
    column = manifest.of("registry")["api_key"]["sha256"]

    assert column.erasable
    assert not column.exportable


def test_everything_known_of_a_request_goes_with_the_detailed_period() -> None:
    columns = manifest.of("usage")["usage"].values()

    assert {column.retention for column in columns} == {"usage_detail"}
    assert all(column.erasable and column.exportable for column in columns)
