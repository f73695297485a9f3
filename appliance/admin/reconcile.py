"""Keeps the registry's models and engine states true: models.yaml on one side, the supervisor on the other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance import clock, notify
from appliance.domain import EngineState
from appliance.engine.supervisor import Supervisor, UnitState
from appliance.errors import OperatorError, Refused, StoreError
from appliance.privacy.logs import log
from appliance.store.registry import EngineRow, Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.catalog import Catalog

POLL_SECONDS: Final = 0.2
SUPERVISOR_SECONDS_MAX: Final = 5.0

_RUNNING: Final = frozenset({EngineState.LOADING, EngineState.READY})


@dataclass(frozen=True, slots=True)
class View:
    """What is known of the engines of models.yaml, by name."""

    units: Mapping[str, UnitState]
    supervisor_reachable: bool


class Reconciler:
    """Asks the supervisor for every engine of models.yaml once, then writes down each change of state.

    An engine that already runs is left alone, so that a restart of control disturbs nobody.
    """

    def __init__(
        self, catalog: Catalog, registry: Registry, supervisor: Supervisor, socket_of: Callable[[str], str]
    ) -> None:
        """`socket_of` gives an engine's socket, relative to the folder of `registry.db`."""
        self._catalog = catalog
        self._registry = registry
        self._supervisor = supervisor
        self._socket_of = socket_of
        self._model_of = {name: spec.name for spec in catalog.models for name in spec.engine_names()}
        self._to_start = set(self._model_of)
        self._absent = _unit(EngineState.STOPPED, clock.now_ms(), 0)
        self._written: list[EngineRow] | None = None
        self._trouble = ""
        self.view = View(units={}, supervisor_reachable=False)

    async def start(self) -> None:
        """Bring the models up to date and look at the engines once, before anyone is told that control is ready."""
        await asyncio.to_thread(self._registry.put_models, self._catalog.models)
        known = {row.name: row for row in await asyncio.to_thread(self._registry.engines)}
        units = {
            name: _unit(known[name].state, known[name].since_ms, known[name].restarts)
            if name in known
            else self._absent
            for name in self._model_of
        }
        self.view = View(units, supervisor_reachable=False)
        await self.step()

    async def run(self, stop: asyncio.Event) -> None:
        """Poll until `stop` is set."""
        while not stop.is_set():
            notify.watchdog()
            await self.step()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), POLL_SECONDS)

    async def step(self) -> None:
        """Look once. Where the supervisor does not answer, the last known states stay."""
        try:
            async with asyncio.timeout(SUPERVISOR_SECONDS_MAX):
                found = await self._supervisor.states()
                await self._command(found)
        except (OSError, EOFError, ValueError, OperatorError) as error:
            self.view = View(self.view.units, supervisor_reachable=False)
            self._note("supervisor_unreachable", error)
            return
        units = {name: found.get(name, self._absent) for name in self._model_of}
        self.view = View(units, supervisor_reachable=True)
        try:
            await self._write([self._row(name, unit) for name, unit in units.items()])
        except StoreError as error:
            self._note("registry_write_failed", error)
            return
        self._trouble = ""

    async def _command(self, found: Mapping[str, UnitState]) -> None:
        """Start what models.yaml names, once; stop what it no longer names."""
        for name in sorted(self._to_start):
            if name not in found or found[name].state is EngineState.STOPPED:
                await self._start(name)
            self._to_start.discard(name)
        for name in sorted(found.keys() - self._model_of.keys()):
            if found[name].state in _RUNNING:
                await self._supervisor.stop(name)
                log("engine_stop_asked", engine=name)

    async def _start(self, name: str) -> None:
        try:
            await self._supervisor.start(name)
        except Refused:
            log("engine_start_refused", engine=name)
        else:
            log("engine_start_asked", engine=name)

    async def _write(self, rows: list[EngineRow]) -> None:
        """Write on change only: each commit makes the gateway read the registry again."""
        if rows == self._written:
            return
        await asyncio.to_thread(self._registry.put_engines, rows)
        self._written = rows

    def _row(self, name: str, unit: UnitState) -> EngineRow:
        return EngineRow(
            name, self._model_of[name], self._socket_of(name), unit.state, unit.since_ms, unit.restarts
        )

    def _note(self, trouble: str, error: Exception) -> None:
        """One log line per trouble, not one per poll."""
        if trouble != self._trouble:
            log("reconcile_failed", reason=trouble, error=type(error).__name__.lower())
        self._trouble = trouble


def _unit(state: EngineState, since_ms: int, restarts: int) -> UnitState:
    return UnitState(state=state, since_ms=since_ms, pid=None, restarts=restarts, cause="", cure="")
