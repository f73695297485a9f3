"""`registry.db`: accounts, keys, limits, prices, models and engine states. Control writes it, the gateway reads it."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from appliance import clock
from appliance.domain import Engine, EngineState, Limits, Price, Subject, SubjectKind
from appliance.errors import Refused, StoreError
from appliance.store import database, keys, limits, models
from appliance.store.keys import EVERYTHING, KeyRecord, KeyRow, Scopes
from appliance.store.limits import LimitRow
from appliance.store.migrations import REGISTRY
from appliance.store.models import ModelRecord

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from sqlite_utils import Database

    from appliance.apikey import ApiKey
    from appliance.catalog import ModelSpec


AccountState = Literal["active", "restricted", "closing", "erased"]


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """All the gateway needs of the registry, read in one transaction.

    keys: not revoked, of active accounts, by key id; whether one has expired is for its user to see.
    engines: the ready ones, by model.
    """

    keys: Mapping[str, KeyRecord]
    models: Mapping[str, ModelRecord]
    engines: Mapping[str, tuple[Engine, ...]]
    limits: Mapping[Subject, Limits] = field(default_factory=dict[Subject, Limits])
    prices: Mapping[str, Price] = field(default_factory=dict[str, Price])
    """By model; one that is not here costs nothing."""
    lines: Mapping[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    """Every key's id, revoked ones too -> its origin and its account: whose use its ledger rows are."""
    by_digest: Mapping[bytes, KeyRecord] = field(init=False, repr=False)
    """The same keys by their SHA-256."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_digest", {key.sha256: key for key in self.keys.values()})


@dataclass(frozen=True, slots=True)
class AccountRow:
    id: str
    slug: str
    state: AccountState
    created_at_ms: int
    usable_keys: int
    """Keys that are neither revoked nor expired."""


@dataclass(frozen=True, slots=True)
class EngineRow:
    """One engine as the gateway may see it. `socket` is relative to the folder of `registry.db`."""

    name: str
    model: str
    socket: str
    state: EngineState
    since_ms: int
    restarts: int


_ENGINES_READY: Final = "SELECT name, model, socket FROM engine WHERE state = 'ready' ORDER BY name"


class RegistryReader:
    """The gateway's view of the registry. May be used from any thread, by one at a time."""

    def __init__(self, path: Path) -> None:
        self._folder = path.absolute().parent
        self._db = database.open_reader(path, REGISTRY)
        self._seen: int | None = None

    def changed(self) -> bool:
        """Whether anything was committed since the last `load()`. Microseconds; reads no table."""
        return self._version() != self._seen

    def load(self) -> RoutingTable:
        version = self._version()
        with self._db.atomic():
            usable = keys.usable(self._db, clock.now_ms())
            lines = keys.lines(self._db)
            allowed = limits.limits(self._db)
            prices = limits.prices(self._db)
            known = models.models(self._db)
            ready = [
                Engine(name, model, os.path.realpath(self._folder / socket))
                for name, model, socket in self._rows(_ENGINES_READY)
            ]
        self._seen = version
        engines = {name: tuple(engine for engine in ready if engine.model == name) for name in known}
        return RoutingTable(
            keys=usable,
            models=known,
            engines={name: some for name, some in engines.items() if some},
            limits=allowed,
            prices=prices,
            lines=lines,
        )

    def close(self) -> None:
        self._db.close()

    def _version(self) -> int:
        return self._db.execute("PRAGMA data_version").fetchone()[0]

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self._db.execute(sql).fetchall()


_ACCOUNTS: Final = """SELECT a.id, a.slug, a.state, a.created_at_ms,
  (SELECT count(*) FROM api_key k
   WHERE k.account_id = a.id AND k.revoked_at_ms IS NULL AND k.expires_at_ms > :now) AS usable_keys
FROM account a ORDER BY a.slug"""
_ACCOUNT_ADD: Final = "INSERT INTO account (id, slug, state, created_at_ms) VALUES (?, ?, 'active', ?)"
_ENGINE_PUT: Final = """INSERT INTO engine (name, model, socket, state, since_ms, restarts)
VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET model = excluded.model, socket = excluded.socket, state = excluded.state,
  since_ms = excluded.since_ms, restarts = excluded.restarts"""
_ENGINES: Final = "SELECT name, model, socket, state, since_ms, restarts FROM engine ORDER BY name"


class Registry:
    """Control's way to read and change the registry: its only writer. Any thread may call it; calls take turns."""

    def __init__(self, path: Path) -> None:
        self._db = database.open_writer(path, REGISTRY)
        self._turn = threading.Lock()

    def close(self) -> None:
        with self._turn:
            database.close_writer(self._db)

    def add_account(self, slug: str) -> AccountRow:
        """Raises Refused where the name is taken."""
        now = clock.now_ms()
        account = AccountRow(clock.ulid(now), slug, "active", now, usable_keys=0)
        with self._write() as db:
            try:
                db.execute(_ACCOUNT_ADD, (account.id, slug, now))
            except sqlite3.IntegrityError as error:
                raise _taken(error) from None
        return account

    def ensure_account(self, slug: str) -> None:
        """Have an account of this name, whether it is new or not."""
        if all(account.slug != slug for account in self.accounts()):
            self.add_account(slug)

    def accounts(self) -> list[AccountRow]:
        with self._turn:
            return [
                AccountRow(*row) for row in self._db.execute(_ACCOUNTS, {"now": clock.now_ms()}).fetchall()
            ]

    def add_key(
        self, key: ApiKey, *, account: str, name: str, expires_at_ms: int, scopes: Scopes = EVERYTHING
    ) -> KeyRow:
        """Keep the digest of a new key, the first of its line.

        Raises Refused where there is no active account of that name, or no model that its scopes name.
        """
        new = KeyRow(key.key_id, key.key_id, account, name, clock.now_ms(), expires_at_ms, None, scopes)
        with self._write() as db:
            limits.require_models(db, scopes.models)
            keys.add(db, key, new)
            return keys.row(db, key.key_id)

    def rotate_key(self, key_id: str, new: ApiKey, grace_ms: int, expires_at_ms: int) -> KeyRow:
        """Make `new` the key's successor: same account, name, scopes and line. Until the grace is over both work.

        Raises Refused where there is no such key, or it no longer works.
        """
        with self._write() as db:
            old = keys.row(db, key_id)
            return keys.rotate(
                db, old, new, now_ms=clock.now_ms(), grace_ms=grace_ms, expires_at_ms=expires_at_ms
            )

    def revoke_key(self, key_id: str) -> KeyRow:
        """From now on the key is refused; others of its line are not. Raises Refused where there is none."""
        with self._write() as db:
            keys.revoke(db, key_id, clock.now_ms())
            return keys.row(db, key_id)

    def revoke_line(self, key_id: str) -> list[KeyRow]:
        """From now on the key and all that it was rotated from and into are refused. Raises Refused."""
        with self._write() as db:
            origin = keys.row(db, key_id).origin
            keys.revoke_line(db, key_id, clock.now_ms())
            return [row for row in keys.rows(db) if row.origin == origin]

    def api_keys(self) -> list[KeyRow]:
        with self._turn:
            return keys.rows(self._db)

    def limits(self) -> list[LimitRow]:
        with self._turn:
            return limits.rows(self._db)

    def change_limits(self, kind: SubjectKind, name: str, changes: Mapping[str, int | None]) -> LimitRow:
        """Set limits of a key by id, of an account or a model by name; None lifts one. Raises Refused."""
        with self._write() as db:
            return limits.change(db, kind, name, changes)

    def clear_limits(self, kind: SubjectKind, name: str) -> None:
        """Raises Refused where there are none."""
        with self._write() as db:
            limits.clear(db, kind, name)

    def prices(self) -> dict[str, Price]:
        """By model."""
        with self._turn:
            return limits.prices(self._db)

    def set_price(self, model: str, price: Price) -> None:
        """Raises Refused where there is no such model."""
        with self._write() as db:
            limits.set_price(db, model, price)

    def clear_price(self, model: str) -> None:
        """Raises Refused where it has none."""
        with self._write() as db:
            limits.clear_price(db, model)

    def put_models(self, specs: Iterable[ModelSpec]) -> None:
        """Make the table say what models.yaml says. A model that stays keeps its creation date."""
        with self._write() as db:
            models.put(db, specs, clock.now_ms() // 1000)

    def put_engines(self, engines: Iterable[EngineRow]) -> None:
        """Make the table hold exactly these engines."""
        rows = {engine.name: engine for engine in engines}
        with self._write() as db:
            for (name,) in db.execute("SELECT name FROM engine").fetchall():
                if name not in rows:
                    db.execute("DELETE FROM engine WHERE name = ?", (name,))
            for row in rows.values():
                db.execute(
                    _ENGINE_PUT, (row.name, row.model, row.socket, row.state, row.since_ms, row.restarts)
                )

    def engines(self) -> list[EngineRow]:
        with self._turn:
            rows = self._db.execute(_ENGINES).fetchall()
        return [
            EngineRow(name, model, socket, EngineState(state), *rest)
            for name, model, socket, state, *rest in rows
        ]

    @contextmanager
    def _write(self) -> Generator[Database]:
        """One transaction. Raises StoreError where the machine does not let it be written."""
        try:
            with self._turn, self._db.atomic():
                yield self._db
        except sqlite3.OperationalError as error:
            raise StoreError(
                f"The registry could not be written ({error.sqlite_errorname}).",
                fix="Check free disk space and that no other program holds registry.db.",
            ) from None


def _taken(error: sqlite3.IntegrityError) -> Refused | sqlite3.IntegrityError:
    if error.sqlite_errorname == "SQLITE_CONSTRAINT_UNIQUE":
        return Refused(
            "There is an account of that name already.", fix="`inferfly accounts list` shows them."
        )
    return error
