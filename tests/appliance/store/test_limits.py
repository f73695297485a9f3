from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance import apikey, clock
from appliance.domain import Limits, Price, Subject, SubjectKind
from appliance.errors import Refused
from appliance.store.keys import KeyRow
from appliance.store.limits import LimitRow
from appliance.store.registry import Registry, RegistryReader, RoutingTable

if TYPE_CHECKING:
    from appliance.catalog import ModelSpec

LATER_MS = clock.now_ms() + 3_600_000


@pytest.fixture
def registry(registry: Registry, spec: ModelSpec) -> Registry:
    registry.ensure_account("default")
    registry.put_models([spec])
    return registry


@pytest.fixture
def key(registry: Registry) -> KeyRow:
    return registry.add_key(apikey.new(), account="default", name="search", expires_at_ms=LATER_MS)


def _table(registry_db: Path) -> RoutingTable:
    reader = RegistryReader(registry_db)
    table = reader.load()
    reader.close()
    return table


def test_limits_reach_the_gateway_by_subject(registry: Registry, registry_db: Path, key: KeyRow) -> None:
    registry.change_limits("account", "default", {"requests_per_minute": 60, "cost_per_day_micros": 5})
    registry.change_limits("model", "tiny", {"concurrent_requests": 4})
    registry.change_limits("key", key.key_id, {"tokens_per_month": 10**12})

    account = registry.accounts()[0].id
    assert _table(registry_db).limits == {
        Subject("account", account): Limits(requests_per_minute=60, cost_per_day_micros=5),
        Subject("model", "tiny"): Limits(concurrent_requests=4),
        Subject("key", key.key_id): Limits(tokens_per_month=10**12),
    }


def test_limits_of_a_key_are_its_lines(registry: Registry, registry_db: Path, key: KeyRow) -> None:
    new = registry.rotate_key(key.key_id, apikey.new(), 1000, LATER_MS)

    row = registry.change_limits("key", new.key_id, {"tokens_per_day": 7})

    assert row == LimitRow("key", key.key_id, Limits(tokens_per_day=7))
    assert set(_table(registry_db).limits) == {Subject("key", key.key_id)}


def test_a_change_leaves_the_other_limits(registry: Registry) -> None:
    registry.change_limits("account", "default", {"tokens_per_day": 7, "tokens_per_month": 70})

    changed = registry.change_limits("account", "default", {"tokens_per_day": None, "requests_per_minute": 3})

    assert changed == LimitRow("account", "default", Limits(requests_per_minute=3, tokens_per_month=70))
    assert registry.limits() == [changed]


def test_a_subject_without_any_limit_is_not_listed(registry: Registry) -> None:
    registry.change_limits("account", "default", {"tokens_per_day": 7})

    registry.change_limits("account", "default", {"tokens_per_day": None})

    assert registry.limits() == []


@pytest.mark.parametrize(
    ("kind", "name", "cure"),
    [
        ("key", "0123456789", "keys list"),
        ("account", "nobody", "accounts list"),
        ("model", "other", "models"),
    ],
)
def test_limits_of_what_is_not_there_are_refused(
    registry: Registry, kind: SubjectKind, name: str, cure: str
) -> None:
    with pytest.raises(Refused, match=f"There is no {kind}.*`inferfly {cure}`"):
        registry.change_limits(kind, name, {"tokens_per_day": 7})

    assert registry.limits() == []


def test_cleared_limits_are_gone(registry: Registry, registry_db: Path, key: KeyRow) -> None:
    new = registry.rotate_key(key.key_id, apikey.new(), 1000, LATER_MS)
    registry.change_limits("key", key.key_id, {"tokens_per_day": 7})

    registry.clear_limits("key", new.key_id)

    assert _table(registry_db).limits == {}
    with pytest.raises(Refused, match=r"no limits.*inferfly limits list"):
        registry.clear_limits("key", new.key_id)


def test_limits_outlive_a_model_and_can_still_be_cleared(registry: Registry, registry_db: Path) -> None:
    registry.change_limits("model", "tiny", {"tokens_per_day": 7})
    registry.put_models([])
    kept = _table(registry_db).limits

    registry.clear_limits("model", "tiny")

    assert kept == {Subject("model", "tiny"): Limits(tokens_per_day=7)}
    assert registry.limits() == []


def test_prices_reach_the_gateway(registry: Registry, registry_db: Path) -> None:
    registry.set_price("tiny", Price(1, 2))
    registry.set_price("tiny", Price(12_500_000, 40_000_000))

    assert _table(registry_db).prices == registry.prices() == {"tiny": Price(12_500_000, 40_000_000)}


def test_a_price_outlives_its_model_until_it_is_cleared(registry: Registry) -> None:
    """A model that leaves models.yaml for a day must not come back for free."""
    registry.set_price("tiny", Price(1, 2))
    registry.put_models([])
    kept = registry.prices()

    registry.clear_price("tiny")

    assert kept == {"tiny": Price(1, 2)}
    assert registry.prices() == {}


def test_a_model_that_is_not_there_has_no_price(registry: Registry) -> None:
    with pytest.raises(Refused, match=r"no model of that name.*inferfly models"):
        registry.set_price("other", Price(1, 2))
    with pytest.raises(Refused, match=r"no price.*inferfly prices list"):
        registry.clear_price("tiny")
