from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance import apikey, clock
from appliance.domain import Engine, EngineState, Price
from appliance.errors import Refused, StoreError
from appliance.store.keys import KeyRecord, KeyRow
from appliance.store.registry import EngineRow, Registry, RegistryReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from appliance.catalog import ModelSpec

LATER_MS = clock.now_ms() + 3_600_000


@pytest.fixture
def reader(registry: Registry, registry_db: Path) -> Iterator[RegistryReader]:
    opened = RegistryReader(registry_db)
    yield opened
    opened.close()


def _key(
    registry: Registry, account: str = "default", expires_at_ms: int = LATER_MS
) -> tuple[apikey.ApiKey, KeyRow]:
    registry.ensure_account(account)
    key = apikey.new()
    return key, registry.add_key(key, account=account, name="search", expires_at_ms=expires_at_ms)


CHANGES: dict[str, Callable[[Registry], object]] = {
    "key": _key,
    "rotation": lambda registry: registry.rotate_key(
        registry.api_keys()[0].key_id, apikey.new(), 1000, LATER_MS
    ),
    "revocation": lambda registry: registry.revoke_key(registry.api_keys()[0].key_id),
    "revoked line": lambda registry: registry.revoke_line(registry.api_keys()[0].key_id),
    "limits": lambda registry: registry.change_limits("model", "tiny", {"tokens_per_day": 7}),
    "limits lifted": lambda registry: registry.clear_limits("account", "default"),
    "price": lambda registry: registry.set_price("tiny", Price(1, 2)),
    "price cleared": lambda registry: registry.clear_price("tiny"),
    "models": lambda registry: registry.put_models([]),
    "engines": lambda registry: registry.put_engines([_engine("tiny", EngineState.READY)]),
}
"""What control can do to a registry with a key, a model, limits and a price. An account alone opens nothing."""


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_reader_learns_of_every_change(
    registry: Registry, reader: RegistryReader, spec: ModelSpec, change: Callable[[Registry], object]
) -> None:
    _key(registry)
    registry.put_models([spec])
    registry.change_limits("account", "default", {"tokens_per_day": 9})
    registry.set_price("tiny", Price(3, 4))
    before = reader.load()

    change(registry)

    assert reader.changed()
    assert reader.load() != before


def _engine(name: str, state: EngineState) -> EngineRow:
    return EngineRow(name, "tiny", f"run/engines/{name}/sock", state, since_ms=1, restarts=0)


def test_new_registry_routes_nothing(reader: RegistryReader) -> None:
    table = reader.load()

    assert (table.keys, table.models, table.engines) == ({}, {}, {})


def test_reader_sees_each_change_once(registry: Registry, reader: RegistryReader) -> None:
    assert reader.changed()
    reader.load()
    assert not reader.changed()

    _key(registry)

    assert reader.changed()
    assert reader.changed()
    reader.load()
    assert not reader.changed()


def test_new_key_can_be_looked_up_by_its_public_id(registry: Registry, reader: RegistryReader) -> None:
    key, _ = _key(registry)

    record = reader.load().keys[key.key_id]

    account = registry.accounts()[0]
    assert record == KeyRecord(key.key_id, account.id, key.sha256, LATER_MS, origin=key.key_id)


def test_plaintext_of_a_key_is_nowhere_in_the_files(registry: Registry, registry_db: Path) -> None:
    key, _ = _key(registry)

    written = b"".join(file.read_bytes() for file in registry_db.parent.iterdir())

    assert key.sha256 in written
    assert key.plaintext[-40:].encode() not in written
    assert key.plaintext[-10:].encode() not in written


@pytest.mark.parametrize("state", ["restricted", "closing", "erased"])
def test_keys_of_an_account_that_is_not_active_are_gone(
    registry: Registry, registry_db: Path, reader: RegistryReader, state: str
) -> None:
    _key(registry, "frozen")
    kept, _ = _key(registry, "default")
    with sqlite3.connect(registry_db) as connection:
        connection.execute("UPDATE account SET state = ? WHERE slug = 'frozen'", (state,))
    connection.close()

    assert set(reader.load().keys) == {kept.key_id}
    with pytest.raises(Refused, match="no active account"):
        registry.add_key(apikey.new(), account="frozen", name="more", expires_at_ms=LATER_MS)


def test_key_needs_an_account_that_is_there(registry: Registry) -> None:
    with pytest.raises(Refused, match="no active account"):
        registry.add_key(apikey.new(), account="nobody", name="search", expires_at_ms=LATER_MS)

    assert registry.api_keys() == []


def test_account_name_is_taken_once(registry: Registry) -> None:
    registry.add_account("default")

    with pytest.raises(Refused, match="already"):
        registry.add_account("default")

    assert [account.slug for account in registry.accounts()] == ["default"]


def test_first_account_is_made_once(registry: Registry) -> None:
    registry.ensure_account("default")
    registry.ensure_account("default")

    assert [account.slug for account in registry.accounts()] == ["default"]


def test_account_counts_the_keys_that_still_work(registry: Registry) -> None:
    _key(registry)
    revoked, _ = _key(registry)
    registry.revoke_key(revoked.key_id)
    soon = clock.now_ms() + 1
    _key(registry, expires_at_ms=soon + 1)
    while clock.now_ms() <= soon + 1:
        threading.Event().wait(0.001)

    assert [account.usable_keys for account in registry.accounts()] == [1]


def test_only_ready_engines_are_routed_to(
    registry: Registry, registry_db: Path, reader: RegistryReader, spec: ModelSpec
) -> None:
    registry.put_models([spec])
    registry.put_engines([_engine(f"tiny-{number}", state) for number, state in enumerate(EngineState)])

    name = f"tiny-{list(EngineState).index(EngineState.READY)}"
    socket = str(registry_db.parent / "run" / "engines" / name / "sock")
    assert reader.load().engines == {"tiny": (Engine(name, "tiny", socket),)}


def test_replicas_come_in_the_order_of_their_names(
    registry: Registry, reader: RegistryReader, spec: ModelSpec
) -> None:
    registry.put_models([spec])
    registry.put_engines([_engine("tiny-2", EngineState.READY), _engine("tiny-1", EngineState.READY)])

    assert [engine.name for engine in reader.load().engines["tiny"]] == ["tiny-1", "tiny-2"]


def test_engines_that_are_no_longer_wanted_are_gone(registry: Registry, spec: ModelSpec) -> None:
    registry.put_models([spec])
    registry.put_engines([_engine("tiny-1", EngineState.READY), _engine("tiny-2", EngineState.READY)])

    registry.put_engines([_engine("tiny-2", EngineState.FAILED)])

    assert registry.engines() == [_engine("tiny-2", EngineState.FAILED)]


def test_engines_go_with_their_model(registry: Registry, spec: ModelSpec) -> None:
    registry.put_models([spec])
    registry.put_engines([_engine("tiny-1", EngineState.READY)])

    registry.put_models([spec.model_copy(update={"name": "new"})])

    assert registry.engines() == []


def test_threads_may_share_the_registry(registry: Registry) -> None:
    registry.ensure_account("default")

    threads = [threading.Thread(target=_key, args=(registry,)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(registry.api_keys()) == 16


def test_full_disk_is_said_and_nothing_half_done_is_left(
    registry: Registry, registry_db: Path, spec: ModelSpec
) -> None:
    registry._db.execute("PRAGMA max_page_count = 1")

    with pytest.raises(StoreError, match=r"could not be written \(SQLITE_FULL\)"):
        registry.put_models([spec.model_copy(update={"name": f"m{number}"}) for number in range(500)])

    reader = RegistryReader(registry_db)
    models = reader.load().models
    reader.close()
    assert models == {}
