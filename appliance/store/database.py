"""Opening a store: sealed settings, migrations, and refusal of a file that is not what this release expects."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlite_utils import Database

from appliance.errors import StoreError
from appliance.store import manifest
from appliance.store.migrations import APPLIED, USAGE

if TYPE_CHECKING:
    from sqlite_utils import Migrations

BUSY_SECONDS_MAX: Final = 5.0
"""How long a statement waits for another process's write."""
QUICK_CHECK_BYTES_MAX: Final = 64 * 1024 * 1024
"""Files up to this size are read through at start; larger ones would hold it up."""

_SEALED: Final = (
    "PRAGMA secure_delete = ON",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA foreign_keys = ON",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
)
_SCHEMA: Final = (
    "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
)

_RESTORE: Final = "Stop the appliance, move the file aside and put back its last good copy, then start again."


def open_writer(
    path: Path, migrations: Migrations, *, busy_seconds_max: float = BUSY_SECONDS_MAX
) -> Database:
    """Open or create the store at `path` for its only writer, and bring it to this release's shape.

    The connection may be used from any thread, by one at a time. Raises StoreError.
    """
    _create_private(path)
    try:
        db = _connect(f"{path.absolute().as_uri()}?mode=rw", path, migrations, busy_seconds_max)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            _upgrade(db, path, migrations)
            _refuse_other_shape(db, path, migrations)
        except BaseException:
            db.close()
            raise
    except sqlite3.Error as error:
        raise _broken(path, error) from None
    return db


def open_usage(path: Path) -> sqlite3.Connection:
    """`usage.db` for the gateway, its only writer, as a plain connection: `with connection:` is one transaction."""
    return open_writer(path, USAGE).conn


def open_reader(path: Path, migrations: Migrations) -> Database:
    """Open the store at `path` without the means to change it. Its writer must have migrated it. Raises StoreError."""
    if not path.exists():
        raise StoreError(
            f"{path} is not there.",
            why="The part of the appliance that writes it has not started yet.",
            fix="Start the appliance with `inferfly up`.",
        )
    try:
        db = _connect(f"{path.absolute().as_uri()}?mode=ro", path, migrations, BUSY_SECONDS_MAX)
        try:
            db.execute("PRAGMA query_only = ON")
            _refuse_other_shape(db, path, migrations)
        except BaseException:
            db.close()
            raise
    except sqlite3.Error as error:
        raise _broken(path, error) from None
    return db


def close_writer(db: Database) -> None:
    """Fold the write-ahead log into the file, so that nothing deleted lingers in it, and close."""
    try:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        db.close()


def _create_private(path: Path) -> None:
    """Make the file with mode 0600 before SQLite sees it. Its -wal and -shm files take the same mode from it."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.fchmod(handle, 0o600)
        finally:
            os.close(handle)
    except OSError as error:
        raise StoreError(
            f"{path} can't be opened: {error.strerror}.",
            fix="Check that the state folder exists and belongs to the user that runs the appliance.",
        ) from None


def _connect(uri: str, path: Path, migrations: Migrations, busy_seconds_max: float) -> Database:
    connection = sqlite3.connect(uri, uri=True, timeout=busy_seconds_max, check_same_thread=False)
    try:
        db = Database(connection, execute_plugins=False)
        for statement in _SEALED:
            db.execute(statement)
        _refuse_damaged(db, path)
        _refuse_newer(db, path, migrations)
    except BaseException:
        connection.close()
        raise
    return db


def _migrate(db: Database, migrations: Migrations) -> None:
    for statement in APPLIED:
        db.execute(statement)
    migrations.apply(db)


def _upgrade(db: Database, path: Path, migrations: Migrations) -> None:
    """Apply what is pending. Each migration is one transaction: a failed one leaves the old shape and stays pending."""
    try:
        _migrate(db, migrations)
    except sqlite3.Error as error:
        raise StoreError(
            f"{path.name} could not be brought to the shape of this release ({error.sqlite_errorname}).",
            why="It was left as it was.",
            fix="Check free disk space and start again, or go back to the former release.",
        ) from None


def _refuse_damaged(db: Database, path: Path) -> None:
    db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if path.stat().st_size <= QUICK_CHECK_BYTES_MAX:
        (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise _damaged(path)


def _refuse_newer(db: Database, path: Path, migrations: Migrations) -> None:
    known = {migration.name for migration in migrations.pending(Database(memory=True))}
    unknown = [migration.name for migration in migrations.applied(db) if migration.name not in known]
    if unknown:
        raise StoreError(
            f"{path.name} was written by a newer release: {len(unknown)} migration(s) are not known to this one.",
            why="An older release could damage what a newer one wrote.",
            fix="Install the newer release again, or put back the copy of the state folder from before the upgrade.",
        )


def _refuse_other_shape(db: Database, path: Path, migrations: Migrations) -> None:
    """Compare every table, column, constraint, index, view and trigger with what a fresh store has."""
    if migrations.pending(db):
        raise StoreError(
            f"{path.name} was written by an older release and is not upgraded yet.",
            fix="Stop the appliance and start all of it again with this release: `inferfly up`.",
        )
    fresh = Database(memory=True)
    _migrate(fresh, migrations)
    strange = sorted(_objects(db) ^ _objects(fresh))
    columns = {
        table: [row[1] for row in db.execute(f"PRAGMA table_info([{table}])").fetchall()]
        for table in db.table_names()
    }
    declared = {table: list(columns) for table, columns in manifest.of(migrations.name).items()}
    if strange or columns != declared:
        where = f" It differs at: {strange[0][1][:64]}." if strange else ""
        raise StoreError(
            f"{path.name} does not have the shape of this release.{where}",
            why="It was changed by another program or by hand, and what it may hold is no longer known.",
            fix=_RESTORE,
        )


def _objects(db: Database) -> set[tuple[str, str, str, str]]:
    return {
        (kind, name, table, " ".join((sql or "").split()))
        for kind, name, table, sql in db.execute(_SCHEMA).fetchall()
    }


def _broken(path: Path, error: sqlite3.Error) -> StoreError:
    if error.sqlite_errorname in ("SQLITE_NOTADB", "SQLITE_CORRUPT"):
        return _damaged(path)
    return StoreError(
        f"{path.name} can't be opened ({error.sqlite_errorname}).",
        fix="Check free disk space and that no other program holds the file, then start again.",
    )


def _damaged(path: Path) -> StoreError:
    return StoreError(
        f"{path.name} is damaged.",
        why="SQLite does not recognise the file, or its pages contradict each other.",
        fix=_RESTORE,
    )
