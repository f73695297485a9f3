"""Keys in the registry: added, rotated, revoked and listed, each with what it may be used for."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING, Final, cast

from appliance.domain import Endpoint
from appliance.errors import Refused

if TYPE_CHECKING:
    from sqlite_utils import Database

    from appliance.apikey import ApiKey


@dataclass(frozen=True, slots=True)
class Scopes:
    """What a key may be used for. An empty one restricts nothing."""

    models: tuple[str, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    networks: tuple[str, ...] = ()
    """Where it may be used from, as CIDR text."""


EVERYTHING: Final = Scopes()


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key as its administrator sees it: nothing of its secret."""

    key_id: str
    origin: str
    """Id of the first key of its line; its own where it is the first."""
    account: str
    name: str
    created_at_ms: int
    expires_at_ms: int
    revoked_at_ms: int | None
    scopes: Scopes = EVERYTHING


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


EXPIRED_KNOWN_MS: Final = 86_400_000
_NO_ACCOUNT: Final = "There is no active account of that name."
_ADD: Final = """INSERT INTO api_key (key_id, origin, account_id, name, sha256, created_at_ms, expires_at_ms)
SELECT ?, ?, id, ?, ?, ?, ? FROM account WHERE slug = ? AND state = 'active'"""
_SCOPE_ADD: Final = "INSERT OR IGNORE INTO api_key_scope (key_id, kind, value) VALUES (?, ?, ?)"
_ALL: Final = """SELECT k.key_id, k.origin, a.slug, k.name, k.created_at_ms, k.expires_at_ms, k.revoked_at_ms
FROM api_key k JOIN account a ON a.id = k.account_id ORDER BY k.created_at_ms, k.key_id"""
_USABLE: Final = """SELECT k.key_id, k.account_id, k.sha256, k.expires_at_ms, k.origin
FROM api_key k JOIN account a ON a.id = k.account_id
WHERE k.revoked_at_ms IS NULL AND k.expires_at_ms > ? AND a.state = 'active'"""
_LINES: Final = "SELECT key_id, origin, account_id FROM api_key"
_SCOPES: Final = "SELECT key_id, kind, value FROM api_key_scope ORDER BY key_id, kind, value"
_SHORTEN: Final = """UPDATE api_key SET expires_at_ms = min(expires_at_ms, max(:until, created_at_ms + 1))
WHERE key_id = :key_id"""
_REVOKE: Final = "UPDATE api_key SET revoked_at_ms = coalesce(revoked_at_ms, ?) WHERE key_id = ?"
_REVOKE_LINE: Final = """UPDATE api_key SET revoked_at_ms = coalesce(revoked_at_ms, ?)
WHERE origin = (SELECT origin FROM api_key WHERE key_id = ?)"""


def usable(db: Database, now_ms: int) -> dict[str, KeyRecord]:
    """Keys that are not revoked, of active accounts; also those that expired within the last day.

    What began with a key before it expired may end: only a revoked key stops it.
    """
    scopes = _scopes(db)
    rows = db.execute(_USABLE, (now_ms - EXPIRED_KNOWN_MS,)).fetchall()
    found = (_record(row, scopes.get(row[0], EVERYTHING)) for row in rows)
    return {record.key_id: record for record in found}


def lines(db: Database) -> dict[str, tuple[str, str]]:
    """Every key's id -> its origin and its account's id, whether it can still be used or not."""
    return {key_id: (origin, account_id) for key_id, origin, account_id in db.execute(_LINES).fetchall()}


def rows(db: Database) -> list[KeyRow]:
    """All keys, oldest first."""
    scopes = _scopes(db)
    return [KeyRow(*row, scopes=scopes.get(row[0], EVERYTHING)) for row in db.execute(_ALL).fetchall()]


def row(db: Database, key_id: str) -> KeyRow:
    """Raises Refused."""
    for found in rows(db):
        if found.key_id == key_id:
            return found
    raise Refused("There is no key with that id.", fix="`inferfly keys list` shows them.")


def add(db: Database, key: ApiKey, new: KeyRow) -> None:
    """Keep the digest of a new key. Raises Refused where its account or a model of its scopes is not there."""
    values = (key.key_id, new.origin, new.name, key.sha256, new.created_at_ms, new.expires_at_ms, new.account)
    if not db.execute(_ADD, values).rowcount:
        raise Refused(_NO_ACCOUNT, fix="`inferfly accounts list` shows them.")
    scopes = new.scopes
    for kind, chosen in (
        ("model", scopes.models),
        ("endpoint", scopes.endpoints),
        ("network", scopes.networks),
    ):
        for value in chosen:
            db.execute(_SCOPE_ADD, (key.key_id, kind, value))


def rotate(
    db: Database, old: KeyRow, key: ApiKey, *, now_ms: int, grace_ms: int, expires_at_ms: int
) -> KeyRow:
    """A successor with the same account, name, scopes and origin. The old key ends after the grace, or before."""
    if old.revoked_at_ms is not None or old.expires_at_ms <= now_ms:
        raise Refused(
            "That key no longer works.",
            why="It is revoked or expired, and only a key that works has a successor.",
            fix="Make a new one with `inferfly keys create`.",
        )
    new = KeyRow(key.key_id, old.origin, old.account, old.name, now_ms, expires_at_ms, None, old.scopes)
    add(db, key, new)
    db.execute(_SHORTEN, {"until": now_ms + grace_ms, "key_id": old.key_id})
    return new


def revoke(db: Database, key_id: str, now_ms: int) -> None:
    """One revoked before keeps its date."""
    db.execute(_REVOKE, (now_ms, key_id))


def revoke_line(db: Database, key_id: str, now_ms: int) -> None:
    """The key and all that it was rotated from and into."""
    db.execute(_REVOKE_LINE, (now_ms, key_id))


def _scopes(db: Database) -> dict[str, Scopes]:
    """By key; keys without any are left out."""
    found: dict[str, dict[str, list[str]]] = {}
    for key_id, kind, value in db.execute(_SCOPES).fetchall():
        found.setdefault(key_id, {"model": [], "endpoint": [], "network": []})[kind].append(value)
    return {
        key_id: Scopes(
            tuple(kinds["model"]),
            cast("tuple[Endpoint, ...]", tuple(kinds["endpoint"])),
            tuple(kinds["network"]),
        )
        for key_id, kinds in found.items()
    }


def _record(row: tuple[str, str, bytes, int, str], scopes: Scopes) -> KeyRecord:
    return KeyRecord(
        *row,
        models=frozenset(scopes.models) or None,
        endpoints=frozenset(scopes.endpoints) or None,
        networks=tuple(ip_network(network) for network in scopes.networks),
    )
