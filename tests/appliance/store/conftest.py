from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.catalog import ModelSpec
from appliance.store.registry import Registry


@pytest.fixture
def registry_db(tmp_path: Path) -> Path:
    return tmp_path / "registry.db"


@pytest.fixture
def usage_db(tmp_path: Path) -> Path:
    return tmp_path / "usage.db"


@pytest.fixture
def registry(registry_db: Path) -> Iterator[Registry]:
    opened = Registry(registry_db)
    yield opened
    opened.close()


@pytest.fixture
def spec() -> ModelSpec:
    return ModelSpec.model_validate(
        {
            "name": "tiny",
            "source": {"path": "models/tiny"},
            "revision": "r1",
            "digest": "sha256:" + "ab" * 32,
            "licence": "Apache-2.0",
            "endpoints": ["chat"],
            "replicas": 2,
            "engine": {"max_context": 512},
        }
    )
