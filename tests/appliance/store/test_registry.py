from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance import apikey, clock
from appliance.domain import Engine, EngineState
from appliance.errors import Refused, StoreError
from appliance.store.registry import EngineRow, KeyRecord, KeyRow, ModelRecord, Registry, RegistryReader

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    assert record == KeyRecord(key.key_id, account.id, key.sha256, LATER_MS)


def test_plaintext_of_a_key_is_nowhere_in_the_files(registry: Registry, registry_db: Path) -> None:
    key, _ = _key(registry)

    written = b"".join(file.read_bytes() for file in registry_db.parent.iterdir())

    assert key.sha256 in written
    assert key.plaintext[-40:].encode() not in written
    assert key.plaintext[-10:].encode() not in written


def test_revoked_key_is_gone_for_the_gateway(registry: Registry, reader: RegistryReader) -> None:
    key, _ = _key(registry)
    other, _ = _key(registry)

    registry.revoke_key(key.key_id)

    assert set(reader.load().keys) == {other.key_id}


def test_second_revocation_keeps_the_first_date(registry: Registry) -> None:
    key, _ = _key(registry)

    first, second = registry.revoke_key(key.key_id), registry.revoke_key(key.key_id)

    assert first.revoked_at_ms is not None
    assert first == second


def test_unknown_key_can_not_be_revoked(registry: Registry) -> None:
    with pytest.raises(Refused, match="no key with that id"):
        registry.revoke_key("0123456789")


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


def test_models_are_those_of_models_yaml(registry: Registry, reader: RegistryReader, spec: ModelSpec) -> None:
    registry.put_models([spec, spec.model_copy(update={"name": "old"})])
    created = reader.load().models["tiny"].created_at_s

    registry.put_models([spec.model_copy(update={"endpoints": ("completions",)})])

    assert reader.load().models == {"tiny": ModelRecord("tiny", frozenset({"completions"}), 512, created)}


def test_model_that_stays_keeps_its_creation_date(
    registry: Registry, registry_db: Path, spec: ModelSpec
) -> None:
    registry.put_models([spec])
    with sqlite3.connect(registry_db) as connection:
        connection.execute("UPDATE model SET created_at_s = 7")
    connection.close()
    registry.put_models([spec.model_copy(update={"revision": "r2"})])

    reader = RegistryReader(registry_db)
    created = reader.load().models["tiny"].created_at_s
    reader.close()
    assert created == 7


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
