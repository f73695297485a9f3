from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance import apikey, clock
from appliance.errors import Refused
from appliance.store.keys import EVERYTHING, KeyRow, Scopes
from appliance.store.registry import Registry, RegistryReader, RoutingTable

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.catalog import ModelSpec

HOUR_MS = 3_600_000
LATER_MS = clock.now_ms() + 100 * HOUR_MS
SCOPES = Scopes(("tiny",), ("chat", "embeddings"), ("10.1.0.0/16", "2001:db8::/32"))

DAY_MS = 86_400_000


@pytest.fixture
def registry(registry: Registry, spec: ModelSpec) -> Registry:
    registry.ensure_account("default")
    registry.put_models([spec])
    return registry


def _add(registry: Registry, scopes: Scopes = EVERYTHING, expires_at_ms: int = LATER_MS) -> KeyRow:
    return registry.add_key(
        apikey.new(), account="default", name="search", expires_at_ms=expires_at_ms, scopes=scopes
    )


def _rotate(registry: Registry, old: KeyRow, grace_ms: int = HOUR_MS) -> KeyRow:
    return registry.rotate_key(old.key_id, apikey.new(), grace_ms, LATER_MS + HOUR_MS)


def _table(registry_db: Path) -> RoutingTable:
    reader = RegistryReader(registry_db)
    table = reader.load()
    reader.close()
    return table


def test_a_key_is_limited_to_its_scopes(registry: Registry, registry_db: Path) -> None:
    added = _add(registry, SCOPES)

    record = _table(registry_db).keys[added.key_id]

    assert record.models == {"tiny"}
    assert record.endpoints == {"chat", "embeddings"}
    assert record.networks == (ip_network("10.1.0.0/16"), ip_network("2001:db8::/32"))
    assert registry.api_keys() == [added]


def test_a_key_without_scopes_may_use_everything(registry: Registry, registry_db: Path) -> None:
    added = _add(registry)

    record = _table(registry_db).keys[added.key_id]

    assert (record.models, record.endpoints, record.networks) == (None, None, ())


def test_a_key_can_not_be_limited_to_a_model_that_is_not_there(registry: Registry) -> None:
    with pytest.raises(Refused, match=r"no model of that name.*inferfly models"):
        _add(registry, Scopes(models=("other",)))

    assert registry.api_keys() == []


def test_a_model_that_leaves_widens_no_key(registry: Registry, registry_db: Path) -> None:
    added = _add(registry, SCOPES)

    registry.put_models([])

    assert _table(registry_db).keys[added.key_id].models == {"tiny"}


def test_a_rotated_key_and_its_successor_both_work_meanwhile(registry: Registry, registry_db: Path) -> None:
    old = _add(registry, SCOPES)

    new = _rotate(registry, old)

    found = _table(registry_db).keys
    assert set(found) == {old.key_id, new.key_id}
    assert found[new.key_id].networks == found[old.key_id].networks
    assert (new.account, new.name, new.scopes, new.origin) == (old.account, old.name, old.scopes, old.origin)
    assert new.expires_at_ms == LATER_MS + HOUR_MS


def test_a_rotated_key_ends_with_its_grace(registry: Registry, registry_db: Path) -> None:
    old = _add(registry)
    before_ms = clock.now_ms()

    _rotate(registry, old)

    expires_at_ms = _table(registry_db).keys[old.key_id].expires_at_ms
    assert expires_at_ms is not None
    assert before_ms + HOUR_MS <= expires_at_ms <= clock.now_ms() + HOUR_MS


def test_a_grace_never_prolongs_a_key(registry: Registry, registry_db: Path) -> None:
    old = _add(registry, expires_at_ms=clock.now_ms() + HOUR_MS)

    _rotate(registry, old, grace_ms=2 * HOUR_MS)

    assert _table(registry_db).keys[old.key_id].expires_at_ms == old.expires_at_ms


def test_without_a_grace_a_rotated_key_ends_at_once(registry: Registry, registry_db: Path) -> None:
    old = _add(registry)
    _rotate(registry, old, grace_ms=0)

    assert (_table(registry_db).keys[old.key_id].expires_at_ms or 0) <= clock.now_ms() + 1


def test_a_line_keeps_its_first_id_over_many_rotations(registry: Registry, registry_db: Path) -> None:
    first = _add(registry)
    second = _rotate(registry, first)
    third = _rotate(registry, second)
    registry.revoke_key(first.key_id)

    lines = _table(registry_db).lines

    account = registry.accounts()[0].id
    assert lines == {key.key_id: (first.key_id, account) for key in (first, second, third)}


@pytest.mark.parametrize(
    "ending",
    ["UPDATE api_key SET revoked_at_ms = 2", "UPDATE api_key SET created_at_ms = 1, expires_at_ms = 2"],
    ids=["revoked", "expired"],
)
def test_a_key_that_no_longer_works_has_no_successor(
    registry: Registry, registry_db: Path, ending: str
) -> None:
    old = _add(registry)
    with sqlite3.connect(registry_db) as connection:
        connection.execute(ending)
    connection.close()

    with pytest.raises(Refused, match=r"no longer works.*inferfly keys create"):
        _rotate(registry, old)

    assert len(registry.api_keys()) == 1


def test_a_key_that_is_not_there_can_not_be_rotated(registry: Registry) -> None:
    with pytest.raises(Refused, match="no key with that id"):
        registry.rotate_key("0123456789", apikey.new(), 0, LATER_MS)


def test_a_key_that_expired_lately_is_known_so_that_what_began_with_it_may_end(
    registry: Registry, registry_db: Path
) -> None:
    _add(registry, expires_at_ms=clock.now_ms() + 2)
    threading.Event().wait(0.005)

    (record,) = _table(registry_db).keys.values()

    assert (record.expires_at_ms or 0) < clock.now_ms()


def test_a_key_that_expired_long_ago_is_gone_for_the_gateway(registry: Registry, registry_db: Path) -> None:
    key = _add(registry)
    with closing(sqlite3.connect(registry_db)) as db, db:
        db.execute("UPDATE api_key SET created_at_ms = 1, expires_at_ms = ?", (clock.now_ms() - 2 * DAY_MS,))

    table = _table(registry_db)

    assert table.keys == {}
    assert set(table.lines) == {key.key_id}


def test_revoking_one_key_of_a_line_leaves_the_other(registry: Registry, registry_db: Path) -> None:
    old = _add(registry)
    new = _rotate(registry, old)

    registry.revoke_key(old.key_id)

    assert set(_table(registry_db).keys) == {new.key_id}


def test_revoking_a_line_revokes_all_of_it_and_nothing_else(registry: Registry, registry_db: Path) -> None:
    old, other = _add(registry), _add(registry)
    new = _rotate(registry, old)

    revoked = registry.revoke_line(new.key_id)

    assert {key.key_id for key in revoked} == {old.key_id, new.key_id}
    assert all(key.revoked_at_ms for key in revoked)
    assert set(_table(registry_db).keys) == {other.key_id}


def test_second_revocation_keeps_the_first_date(registry: Registry) -> None:
    added = _add(registry)

    first, second = registry.revoke_key(added.key_id), registry.revoke_key(added.key_id)

    assert first.revoked_at_ms is not None
    assert first == second
    assert registry.revoke_line(added.key_id) == [first]


@pytest.mark.parametrize("revoke", [Registry.revoke_key, Registry.revoke_line], ids=["one", "line"])
def test_unknown_key_can_not_be_revoked(
    registry: Registry, revoke: Callable[[Registry, str], object]
) -> None:
    with pytest.raises(Refused, match="no key with that id"):
        revoke(registry, "0123456789")
