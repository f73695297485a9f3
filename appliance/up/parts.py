"""How each part of the appliance is started: its command, environment, log and sockets."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import appliance
from appliance.up.children import Part

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from appliance.catalog import Catalog
    from appliance.settings import Settings

PASSED_ON: Final = ("PATH", "LANG", "LC_ALL", "TZ")
"""The only variables of the operator's that reach a part; its settings come from Settings."""
STOP_SECONDS: Final = 10.0
"""What a part gets beyond its time to drain before it is killed."""


@dataclass(frozen=True, slots=True)
class Parts:
    """All children of `up`, and what it needs to tell people about them."""

    control: Part
    gateway: Part
    engines: Mapping[str, Part]
    models: tuple[str, ...]
    model_of: Mapping[str, str]


def parts(settings: Settings, catalog: Catalog, listening: socket.socket) -> Parts:
    drain = settings.drain_seconds_max + STOP_SECONDS
    model_of = {name: spec.name for spec in catalog.models for name in spec.engine_names()}
    return Parts(
        control=_part(settings, "control", ("control",), stop_seconds_max=STOP_SECONDS),
        gateway=_part(settings, "gateway", ("gateway",), stop_seconds_max=drain, listening=listening),
        engines={
            # vLLM gets STOP_SECONDS of its own once it is idle.
            name: _part(settings, f"engine-{name}", ("engine", name), stop_seconds_max=drain + STOP_SECONDS)
            for name in model_of
        },
        models=tuple(spec.name for spec in catalog.models),
        model_of=model_of,
    )


def _part(
    settings: Settings,
    name: str,
    verb: tuple[str, ...],
    *,
    stop_seconds_max: float,
    listening: socket.socket | None = None,
) -> Part:
    return Part(
        name=name,
        argv=(sys.executable, "-P", "-m", "appliance", *verb),
        environment=environment(settings),
        log=settings.home / "logs" / f"{name}.log",
        notify=settings.run / f"notify-{name}",
        stop_seconds_max=stop_seconds_max,
        listening=listening,
    )


def environment(settings: Settings) -> dict[str, str]:
    """A part's environment, built from nothing: every part works with the very settings of `up`."""
    given = {f"INFERFLY_{name.upper()}": str(value) for name, value in settings if value is not None}
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {"PYTHONPATH": str(Path(appliance.__file__).parents[1])} | passed_on | given
