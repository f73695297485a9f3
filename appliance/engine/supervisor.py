"""What control asks of whoever runs the engines: `inferfly up` here, systemd on an installed box."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from appliance.domain import EngineState


@dataclass(frozen=True, slots=True)
class UnitState:
    """One engine as its supervisor sees it."""

    state: EngineState
    since_ms: int
    pid: int | None
    restarts: int
    """Since the engine was last started by hand."""
    cause: str
    """Why it is not ready, in one line; empty where there is nothing to say."""
    cure: str


class Supervisor(Protocol):
    """Each verb returns once it is under way, not once it is done. Unknown engines are Refused."""

    async def start(self, engine: str) -> None:
        """Run it, if it does not run already. An engine that has failed gets a fresh row of tries."""
        ...

    async def stop(self, engine: str) -> None:
        """Drain and stop it."""
        ...

    async def restart(self, engine: str) -> None: ...
    async def states(self) -> dict[str, UnitState]: ...
