from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlite_utils import Migrations

from appliance.errors import StoreError
from appliance.store import database
from appliance.store.migrations import REGISTRY, USAGE

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlite_utils import Database


def _tamper(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def _made(path: Path) -> Path:
    database.open_writer(path, REGISTRY).close()
    return path


def test_new_store_has_the_whole_shape(registry_db: Path) -> None:
    db = database.open_writer(registry_db, REGISTRY)
    tables = set(db.table_names())
    db.close()

    assert tables == {
        "account",
        "api_key",
        "api_key_scope",
        "usage_limit",
        "price",
        "model",
        "model_switch",
        "engine",
        "_sqlite_migrations",
    }


def test_opening_again_keeps_what_is_there(registry_db: Path) -> None:
    _made(registry_db)
    _tamper(registry_db, "INSERT INTO account VALUES ('00000000000000000000000000', 'kept', 'active', 1)")

    db = database.open_writer(registry_db, REGISTRY)
    kept = db.execute("SELECT slug FROM account").fetchall()
    db.close()

    assert kept == [("kept",)]


def test_settings_are_sealed(registry_db: Path) -> None:
    db = database.open_writer(registry_db, REGISTRY)
    names = ["journal_mode", "secure_delete", "temp_store", "foreign_keys", "synchronous", "trusted_schema"]
    found = [db.execute(f"PRAGMA {name}").fetchone()[0] for name in names]
    db.close()

    assert found == ["wal", 1, 2, 1, 2, 0]


def test_only_the_owner_may_read_the_files(registry_db: Path) -> None:
    """Whatever the umask, and for the write-ahead log and its index too."""
    former = os.umask(0)
    db = database.open_writer(registry_db, REGISTRY)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in registry_db.parent.iterdir()}
    db.close()
    os.umask(former)

    assert modes == {"registry.db": 0o600, "registry.db-wal": 0o600, "registry.db-shm": 0o600}


def test_file_that_others_could_read_is_closed_to_them(registry_db: Path) -> None:
    _made(registry_db).chmod(0o644)

    database.open_writer(registry_db, REGISTRY).close()

    assert stat.S_IMODE(registry_db.stat().st_mode) == 0o600


def test_deleted_value_is_gone_from_the_bytes(registry_db: Path) -> None:
    db = database.open_writer(registry_db, REGISTRY)
    with db.atomic():
        db.execute(
            "INSERT INTO account VALUES ('00000000000000000000000000', 'soon-gone-account', 'active', 1)"
        )
    with db.atomic():
        db.execute("DELETE FROM account")
    database.close_writer(db)

    assert b"soon-gone-account" not in b"".join(file.read_bytes() for file in registry_db.parent.iterdir())


def test_closing_empties_the_write_ahead_log_even_while_others_read(registry_db: Path) -> None:
    db = database.open_writer(registry_db, REGISTRY)
    reader = database.open_reader(registry_db, REGISTRY)
    with db.atomic():
        db.execute(
            "INSERT INTO account VALUES ('00000000000000000000000000', 'soon-gone-account', 'active', 1)"
        )

    database.close_writer(db)

    left = (registry_db.parent / "registry.db-wal").stat().st_size
    reader.close()
    assert left == 0


def test_reader_can_not_write(registry_db: Path) -> None:
    db = database.open_reader(_made(registry_db), REGISTRY)

    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        db.execute("DELETE FROM account")

    db.close()


def test_reader_of_a_missing_store_says_what_to_start(registry_db: Path) -> None:
    with pytest.raises(StoreError, match=r"is not there.*inferfly up"):
        database.open_reader(registry_db, REGISTRY)

    assert not registry_db.exists()


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"No such file or directory.*state folder"):
        database.open_writer(tmp_path / "none" / "registry.db", REGISTRY)


def test_symbolic_link_is_not_followed(registry_db: Path, tmp_path: Path) -> None:
    registry_db.symlink_to(tmp_path / "elsewhere.db")

    with pytest.raises(StoreError, match="can't be opened"):
        database.open_writer(registry_db, REGISTRY)

    assert not (tmp_path / "elsewhere.db").exists()


@pytest.mark.parametrize("opener", [database.open_writer, database.open_reader])
def test_file_that_is_no_database_is_refused_untouched(
    registry_db: Path, opener: Callable[[Path, Migrations], Database]
) -> None:
    registry_db.write_bytes(b"not a database " * 1000)

    with pytest.raises(StoreError, match=r"damaged.*last good copy"):
        opener(registry_db, REGISTRY)

    assert registry_db.read_bytes() == b"not a database " * 1000


def test_overwritten_page_is_refused(registry_db: Path) -> None:
    _made(registry_db)
    size = registry_db.stat().st_size
    with registry_db.open("r+b") as file:
        file.seek(size - 4096)
        file.write(b"\xff" * 4096)

    with pytest.raises(StoreError, match="damaged"):
        database.open_writer(registry_db, REGISTRY)


def test_cut_file_is_refused(registry_db: Path) -> None:
    _made(registry_db)
    os.truncate(registry_db, 4096 * 2)

    with pytest.raises(StoreError, match="damaged"):
        database.open_writer(registry_db, REGISTRY)


def test_store_of_a_newer_release_is_refused_untouched(registry_db: Path) -> None:
    _made(registry_db)
    _tamper(
        registry_db,
        "CREATE TABLE extra (x INTEGER) STRICT",
        "INSERT INTO _sqlite_migrations VALUES (9, 'registry', 'm099_extra', '2030-01-01 00:00:00+00:00')",
    )
    before = registry_db.read_bytes()

    with pytest.raises(StoreError, match=r"newer release.*Install the newer release"):
        database.open_writer(registry_db, REGISTRY)

    assert registry_db.read_bytes() == before


@pytest.mark.parametrize(
    "tampering",
    [
        ["ALTER TABLE account ADD COLUMN note TEXT"],
        ["CREATE TABLE notes (body TEXT)"],
        ["CREATE VIEW notes AS SELECT slug FROM account"],
        ["CREATE TRIGGER spy AFTER INSERT ON account BEGIN SELECT 1; END"],
        ["CREATE INDEX more ON account (state)"],
        ["DROP INDEX api_key_account_id"],
        ["DROP TABLE engine"],
        [
            "PRAGMA writable_schema = ON",
            "UPDATE sqlite_schema SET sql = replace(sql, 'BETWEEN 1 AND 40', 'BETWEEN 1 AND 9999')",
        ],
    ],
    ids=["column", "table", "view", "trigger", "index", "no_index", "no_table", "laxer_check"],
)
@pytest.mark.parametrize("opener", [database.open_writer, database.open_reader])
def test_other_shape_is_refused(
    registry_db: Path, tampering: list[str], opener: Callable[[Path, Migrations], Database]
) -> None:
    _made(registry_db)
    _tamper(registry_db, *tampering)

    with pytest.raises(StoreError, match=r"does not have the shape of this release"):
        opener(registry_db, REGISTRY)


def test_reader_refuses_a_store_that_waits_for_its_upgrade(registry_db: Path) -> None:
    sqlite3.connect(registry_db).close()
    registry_db.touch()

    with pytest.raises(StoreError, match=r"older release.*inferfly up"):
        database.open_reader(registry_db, REGISTRY)


def _half_done(db: Database) -> None:
    db.execute("CREATE TABLE half (x INTEGER) STRICT")
    db.execute("INSERT INTO nowhere VALUES (1)")


def test_failed_migration_leaves_the_old_shape_and_stays_pending(usage_db: Path) -> None:
    database.open_usage(usage_db).close()
    next_release = Migrations("usage")
    next_release(name="m001_usage")(_half_done)  # these two are applied already: not run again
    next_release(name="m002_daily_totals")(_half_done)
    next_release(name="m003_half")(_half_done)

    with pytest.raises(StoreError, match=r"could not be brought.*left as it was"):
        database.open_writer(usage_db, next_release)

    db = database.open_writer(usage_db, USAGE)
    tables, pending = db.table_names(), [each.name for each in next_release.pending(db)]
    db.close()
    assert sorted(tables) == ["_sqlite_migrations", "usage", "usage_day"]
    assert pending == ["m003_half"]


def test_usage_connection_makes_one_transaction_of_a_with_block(usage_db: Path) -> None:
    connection = database.open_usage(usage_db)
    insert = (
        "INSERT INTO usage VALUES (?, 1, 2, 3, 4, 'exact', 'm', 'm', 200, 1, NULL, NULL, 1, 7, '0123456789')"
    )

    with pytest.raises(sqlite3.IntegrityError), connection:
        connection.executemany(insert, [("0" * 26,), ("not a ulid",)])

    assert connection.execute("SELECT count(*) FROM usage").fetchone() == (0,)
    connection.close()


def test_locked_store_is_reported_as_such(registry_db: Path) -> None:
    _made(registry_db)
    holder = sqlite3.connect(registry_db)
    holder.execute("PRAGMA locking_mode = EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")

    with pytest.raises(StoreError, match="SQLITE_BUSY"):
        database.open_writer(registry_db, REGISTRY, busy_seconds_max=0.05)

    holder.close()
