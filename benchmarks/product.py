"""Our own gateway as a target: the real product on a state folder with one account, key, model and engine."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance import __version__, apikey, clock
from appliance.catalog import ModelSpec
from appliance.domain import EngineState
from appliance.settings import Settings
from appliance.store.registry import EngineRow, Registry
from appliance.store.usage import UsageReader
from benchmarks import launch
from benchmarks.peers import Target

if TYPE_CHECKING:
    from pathlib import Path

NAME = "inferfly"
MODEL = "scripted"
ENGINE_SOCKET = "engine.sock"
"""Relative to the state folder, as the registry has it."""
YEAR_MS = 365 * 86_400_000


@dataclass(frozen=True, slots=True)
class Metered:
    """What the ledger says was served."""

    requests: int
    completion_tokens: int


def target(home: Path) -> Target:
    """Prepare the state folder that `inferfly gateway` will find."""
    key, port = apikey.new(), launch.free_port()
    now = clock.now_ms()
    registry = Registry(Settings(home=home).registry_db)
    registry.add_account("default")
    registry.add_key(key, account="default", name="benchmark", expires_at_ms=now + YEAR_MS)
    registry.put_models([_model()])
    registry.put_engines([EngineRow(MODEL, MODEL, ENGINE_SOCKET, EngineState.READY, now, 0)])
    registry.close()
    return Target(
        name=NAME,
        version=__version__,
        argv=(sys.executable, "-m", "appliance", "gateway", "--home", str(home)),
        port=port,
        key=key.plaintext,
        env={"INFERFLY_PORT": str(port)},
    )


def unknown_key() -> str:
    """A key in good shape that no account has: the dearest kind to refuse."""
    return apikey.new().plaintext


def metered(home: Path) -> Metered:
    """Read the ledger of a gateway that has stopped."""
    usage = UsageReader(Settings(home=home).usage_db)
    groups = usage.totals("key", since_ms=0)
    usage.close()
    return Metered(sum(group.requests for group in groups), sum(group.completion_tokens for group in groups))


def _model() -> ModelSpec:
    return ModelSpec.model_validate(
        {
            "name": MODEL,
            "source": {"path": "/nonexistent"},
            "revision": "1",
            "digest": "sha256:" + 64 * "0",
            "licence": "none",
            "endpoints": ("chat",),
            "engine": {"max_context": 262_144, "max_concurrent_sequences": 1024},
        }
    )
