"""`registry.db`: accounts, key digests, models and engine states. Control writes it, the gateway reads it."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Any, Final, Literal

from appliance import clock
from appliance.domain import Engine, EngineState, Limits, Price, Subject
from appliance.errors import Refused, StoreError
from appliance.store import database
from appliance.store.migrations import REGISTRY

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from sqlite_utils import Database

    from appliance.apikey import ApiKey
    from appliance.catalog import ModelSpec


AccountState = Literal["active", "restricted", "closing", "erased"]


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What the gateway knows of a key that may be used."""

    key_id: str
    account_id: str
    sha256: bytes = field(repr=False)
    expires_at_ms: int | None
    origin: str = ""
    """Id of the first key of its line: limits and counts stay with it when the key is rotated."""
    models: frozenset[str] | None = None
    """Models it may use; None: all."""
    endpoints: frozenset[str] | None = None
    """API families it may use; None: all."""
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Where it may be used from; empty: anywhere."""


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """What the gateway knows of a model."""

    name: str
    endpoints: frozenset[str]
    max_context: int
    created_at_s: int
    images_max: int = 0
    """Images in one request; 0: it takes none."""
    switches: frozenset[str] = frozenset()
    """What callers may set in `chat_template_kwargs`."""
    sequences_max: int = 16
    """Requests that one replica works on at the same time."""
    queue_max: int = 256
    """Requests that wait in the gateway when all replicas are busy."""


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """All the gateway needs of the registry, read in one transaction.

    keys: not revoked, of active accounts, by key id. engines: the ready ones, by model.
    """

    keys: Mapping[str, KeyRecord]
    models: Mapping[str, ModelRecord]
    engines: Mapping[str, tuple[Engine, ...]]
    limits: Mapping[Subject, Limits] = field(default_factory=dict[Subject, Limits])
    prices: Mapping[str, Price] = field(default_factory=dict[str, Price])
    """By model; one that is not here costs nothing."""
    lines: Mapping[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    """Every key's id, revoked ones too -> its origin and its account: whose use its ledger rows are."""


@dataclass(frozen=True, slots=True)
class AccountRow:
    id: str
    slug: str
    state: AccountState
    created_at_ms: int
    usable_keys: int
    """Keys that are neither revoked nor expired."""


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key as its administrator sees it: nothing of its secret."""

    key_id: str
    account: str
    name: str
    created_at_ms: int
    expires_at_ms: int
    revoked_at_ms: int | None


@dataclass(frozen=True, slots=True)
class EngineRow:
    """One engine as the gateway may see it. `socket` is relative to the folder of `registry.db`."""

    name: str
    model: str
    socket: str
    state: EngineState
    since_ms: int
    restarts: int


_KEYS_USABLE: Final = """SELECT k.key_id, k.account_id, k.sha256, k.expires_at_ms
FROM api_key k JOIN account a ON a.id = k.account_id
WHERE k.revoked_at_ms IS NULL AND a.state = 'active'"""
_MODELS: Final = (
    "SELECT name, serves_chat, serves_completions, max_context, created_at_s FROM model ORDER BY name"
)
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
            keys = {row[0]: KeyRecord(*row) for row in self._rows(_KEYS_USABLE)}
            models = {row[0]: _model_record(*row) for row in self._rows(_MODELS)}
            ready = [
                Engine(name, model, os.path.realpath(self._folder / socket))
                for name, model, socket in self._rows(_ENGINES_READY)
            ]
        self._seen = version
        engines = {name: tuple(engine for engine in ready if engine.model == name) for name in models}
        return RoutingTable(
            keys=keys, models=models, engines={name: some for name, some in engines.items() if some}
        )

    def close(self) -> None:
        self._db.close()

    def _version(self) -> int:
        return self._db.execute("PRAGMA data_version").fetchone()[0]

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self._db.execute(sql).fetchall()


def _model_record(name: str, chat: int, completions: int, max_context: int, created_at_s: int) -> ModelRecord:
    endpoints = frozenset(n for n, serves in (("chat", chat), ("completions", completions)) if serves)
    return ModelRecord(name, endpoints, max_context, created_at_s)


_ACCOUNTS: Final = """SELECT a.id, a.slug, a.state, a.created_at_ms,
  (SELECT count(*) FROM api_key k
   WHERE k.account_id = a.id AND k.revoked_at_ms IS NULL AND k.expires_at_ms > :now) AS usable_keys
FROM account a ORDER BY a.slug"""
_ACCOUNT_ADD: Final = "INSERT INTO account (id, slug, state, created_at_ms) VALUES (?, ?, 'active', ?)"
_KEYS: Final = """SELECT k.key_id, a.slug, k.name, k.created_at_ms, k.expires_at_ms, k.revoked_at_ms
FROM api_key k JOIN account a ON a.id = k.account_id ORDER BY k.created_at_ms, k.key_id"""
_KEY_ADD: Final = """INSERT INTO api_key (key_id, account_id, name, sha256, created_at_ms, expires_at_ms)
SELECT ?, id, ?, ?, ?, ? FROM account WHERE slug = ? AND state = 'active'"""
_KEY_REVOKE: Final = "UPDATE api_key SET revoked_at_ms = coalesce(revoked_at_ms, ?) WHERE key_id = ?"
_MODEL_PUT: Final = """INSERT INTO model (
  name, revision, sha256, serves_chat, serves_completions, max_context, quantization, tensor_parallel,
  max_concurrent_sequences, replicas, created_at_s)
VALUES (
  :name, :revision, :sha256, :chat, :completions, :max_context, :quantization, :tensor_parallel,
  :sequences, :replicas, :created_at_s)
ON CONFLICT (name) DO UPDATE SET revision = excluded.revision, sha256 = excluded.sha256,
  serves_chat = excluded.serves_chat, serves_completions = excluded.serves_completions,
  max_context = excluded.max_context, quantization = excluded.quantization,
  tensor_parallel = excluded.tensor_parallel, max_concurrent_sequences = excluded.max_concurrent_sequences,
  replicas = excluded.replicas"""
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

    def add_key(self, key: ApiKey, *, account: str, name: str, expires_at_ms: int) -> KeyRow:
        """Keep the digest of a new key. Raises Refused where there is no active account of that name."""
        now = clock.now_ms()
        with self._write() as db:
            added = db.execute(_KEY_ADD, (key.key_id, name, key.sha256, now, expires_at_ms, account)).rowcount
        if not added:
            raise Refused(
                "There is no active account of that name.", fix="`inferfly accounts list` shows them."
            )
        return KeyRow(key.key_id, account, name, now, expires_at_ms, None)

    def revoke_key(self, key_id: str) -> KeyRow:
        """From now on the key is refused. One revoked before keeps its date. Raises Refused."""
        with self._write() as db:
            db.execute(_KEY_REVOKE, (clock.now_ms(), key_id))
        for key in self.api_keys():
            if key.key_id == key_id:
                return key
        raise Refused("There is no key with that id.", fix="`inferfly keys list` shows them.")

    def api_keys(self) -> list[KeyRow]:
        with self._turn:
            return [KeyRow(*row) for row in self._db.execute(_KEYS).fetchall()]

    def put_models(self, models: Iterable[ModelSpec]) -> None:
        """Make the table say what models.yaml says. A model that stays keeps its creation date."""
        now_s = clock.now_ms() // 1000
        specs = {spec.name: spec for spec in models}
        with self._write() as db:
            for (name,) in db.execute("SELECT name FROM model").fetchall():
                if name not in specs:
                    db.execute("DELETE FROM model WHERE name = ?", (name,))
            for spec in specs.values():
                db.execute(_MODEL_PUT, _model_values(spec, now_s))

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


def _model_values(spec: ModelSpec, created_at_s: int) -> dict[str, str | int | bytes | None]:
    return {
        "name": spec.name,
        "revision": spec.revision,
        "sha256": bytes.fromhex(spec.digest.removeprefix("sha256:")),
        "chat": "chat" in spec.endpoints,
        "completions": "completions" in spec.endpoints,
        "max_context": spec.engine.max_context,
        "quantization": spec.engine.quantization,
        "tensor_parallel": spec.engine.tensor_parallel,
        "sequences": spec.engine.max_concurrent_sequences,
        "replicas": spec.replicas,
        "created_at_s": created_at_s,
    }


def _taken(error: sqlite3.IntegrityError) -> Refused | sqlite3.IntegrityError:
    if error.sqlite_errorname == "SQLITE_CONSTRAINT_UNIQUE":
        return Refused(
            "There is an account of that name already.", fix="`inferfly accounts list` shows them."
        )
    return error
