from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.store.models import ModelRecord
from appliance.store.registry import Registry, RegistryReader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.catalog import ModelSpec


def _models(registry_db: Path) -> Mapping[str, ModelRecord]:
    reader = RegistryReader(registry_db)
    models = reader.load().models
    reader.close()
    return models


def test_models_are_those_of_models_yaml(registry: Registry, registry_db: Path, spec: ModelSpec) -> None:
    registry.put_models([spec, spec.model_copy(update={"name": "old"})])
    created = _models(registry_db)["tiny"].created_at_s
    engine = spec.engine.model_copy(update={"max_concurrent_sequences": 4, "max_queued_requests": 9})
    changes = {
        "endpoints": ("messages", "score"),
        "images_max": 3,
        "switches": ("think", "deep"),
        "engine": engine,
    }

    registry.put_models([spec.model_copy(update=changes)])

    assert _models(registry_db) == {
        "tiny": ModelRecord(
            name="tiny",
            endpoints=frozenset({"messages", "score"}),
            max_context=512,
            created_at_s=created,
            images_max=3,
            switches=frozenset({"think", "deep"}),
            sequences_max=4,
            queue_max=9,
        )
    }


def test_a_switch_that_models_yaml_no_longer_has_is_gone(
    registry: Registry, registry_db: Path, spec: ModelSpec
) -> None:
    registry.put_models([spec.model_copy(update={"switches": ("think", "deep")})])

    registry.put_models([spec.model_copy(update={"switches": ("deep",)})])

    assert _models(registry_db)["tiny"].switches == {"deep"}


def test_model_that_stays_keeps_its_creation_date(
    registry: Registry, registry_db: Path, spec: ModelSpec
) -> None:
    registry.put_models([spec])
    with sqlite3.connect(registry_db) as connection:
        connection.execute("UPDATE model SET created_at_s = 7")
    connection.close()

    registry.put_models([spec.model_copy(update={"revision": "r2"})])

    assert _models(registry_db)["tiny"].created_at_s == 7
