from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from appliance.admin.reconcile import Reconciler
from appliance.domain import EngineState
from appliance.engine.supervisor import UnitState
from appliance.store.registry import Registry, RegistryReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.catalog import Catalog
    from appliance.settings import Settings
    from tests.fakes.control import FakeSupervisor

STARTS = ["start pair-1", "start pair-2", "start tiny"]


def _unit(state: EngineState, since_ms: int = 1) -> UnitState:
    return UnitState(state=state, since_ms=since_ms, pid=None, restarts=0, cause="", cure="")


@pytest.fixture
def registry(settings: Settings) -> Iterator[Registry]:
    opened = Registry(settings.registry_db)
    yield opened
    opened.close()


@pytest.fixture
def reader(registry: Registry, settings: Settings) -> Iterator[RegistryReader]:
    opened = RegistryReader(settings.registry_db)
    yield opened
    opened.close()


@pytest.fixture
def reconciler(registry: Registry, catalog: Catalog, supervisor: FakeSupervisor) -> Reconciler:
    return Reconciler(catalog, registry, supervisor, lambda name: f"run/engines/{name}/sock")


async def test_every_engine_of_models_yaml_is_started(
    reconciler: Reconciler, supervisor: FakeSupervisor
) -> None:
    await reconciler.start()

    assert supervisor.asked == STARTS


async def test_models_are_in_the_registry_before_control_is_ready(
    reconciler: Reconciler, reader: RegistryReader
) -> None:
    await reconciler.start()

    assert set(reader.load().models) == {"tiny", "pair"}


@pytest.mark.parametrize("state", [state for state in EngineState if state is not EngineState.STOPPED])
async def test_running_and_failed_engines_are_left_alone(
    reconciler: Reconciler, supervisor: FakeSupervisor, state: EngineState
) -> None:
    """Control was restarted: an engine that runs goes on, one given up stays so until somebody acts."""
    supervisor.units = {"tiny": _unit(state)}

    await reconciler.start()

    assert supervisor.asked == ["start pair-1", "start pair-2"]


async def test_stopped_engine_is_started(reconciler: Reconciler, supervisor: FakeSupervisor) -> None:
    supervisor.units = {name: _unit(EngineState.STOPPED) for name in ("tiny", "pair-1", "pair-2")}

    await reconciler.start()

    assert supervisor.asked == STARTS


async def test_engine_stopped_later_is_not_started_again(
    reconciler: Reconciler, supervisor: FakeSupervisor
) -> None:
    """Who stops engines, such as an appliance that is shutting down, must not fight control."""
    await reconciler.start()
    supervisor.units["tiny"] = _unit(EngineState.STOPPED)

    await reconciler.step()

    assert supervisor.asked == STARTS


async def test_engine_that_models_yaml_no_longer_names_is_stopped(
    reconciler: Reconciler, supervisor: FakeSupervisor
) -> None:
    supervisor.units["old"] = _unit(EngineState.READY)

    await reconciler.start()
    await reconciler.step()

    assert supervisor.asked == [*STARTS, "stop old"]


async def test_gateway_sees_an_engine_become_ready(
    reconciler: Reconciler, supervisor: FakeSupervisor, reader: RegistryReader, settings: Settings
) -> None:
    await reconciler.start()
    assert reader.load().engines == {}
    supervisor.units["tiny"] = _unit(EngineState.READY)

    await reconciler.step()

    engines = reader.load().engines
    assert [engine.socket for engine in engines["tiny"]] == [str(settings.engine_socket("tiny"))] or engines[
        "tiny"
    ]


async def test_nothing_is_written_while_nothing_changes(
    reconciler: Reconciler, supervisor: FakeSupervisor, reader: RegistryReader
) -> None:
    await reconciler.start()
    await reconciler.step()
    reader.load()

    await reconciler.step()

    assert not reader.changed()


async def test_last_known_states_stay_while_the_supervisor_is_away(
    reconciler: Reconciler, supervisor: FakeSupervisor, reader: RegistryReader
) -> None:
    await reconciler.start()
    supervisor.units["tiny"] = _unit(EngineState.READY)
    await reconciler.step()

    supervisor.down = True
    await reconciler.step()

    assert not reconciler.view.supervisor_reachable
    assert reconciler.view.units["tiny"].state is EngineState.READY
    assert set(reader.load().engines) == {"tiny"}


async def test_restarted_control_knows_the_last_states_even_without_a_supervisor(
    reconciler: Reconciler,
    registry: Registry,
    catalog: Catalog,
    supervisor: FakeSupervisor,
    reader: RegistryReader,
) -> None:
    await reconciler.start()
    supervisor.units["tiny"] = _unit(EngineState.READY, since_ms=77)
    await reconciler.step()

    supervisor.down = True
    successor = Reconciler(catalog, registry, supervisor, lambda name: f"run/engines/{name}/sock")
    await successor.start()

    assert successor.view.units["tiny"] == _unit(EngineState.READY, since_ms=77)
    assert set(reader.load().engines) == {"tiny"}


async def test_engines_are_started_once_the_supervisor_is_there(
    reconciler: Reconciler, supervisor: FakeSupervisor
) -> None:
    supervisor.down = True
    await reconciler.start()
    assert supervisor.asked == []

    supervisor.down = False
    await reconciler.step()

    assert supervisor.asked == STARTS


async def test_engine_that_the_supervisor_does_not_know_keeps_nobody_waiting(
    reconciler: Reconciler, supervisor: FakeSupervisor
) -> None:
    supervisor.unknown = {"pair-1"}

    await reconciler.start()

    assert supervisor.asked == STARTS
    assert reconciler.view.supervisor_reachable


async def test_polling_ends_when_told(reconciler: Reconciler) -> None:
    stop = asyncio.Event()
    await reconciler.start()

    polling = asyncio.create_task(reconciler.run(stop))
    await asyncio.sleep(0)
    stop.set()

    await asyncio.wait_for(polling, 5)


async def test_registry_that_can_not_be_written_is_tried_again(
    reconciler: Reconciler, registry: Registry, supervisor: FakeSupervisor, reader: RegistryReader
) -> None:
    await reconciler.start()
    supervisor.units["tiny"] = _unit(EngineState.READY)
    registry._db.execute("PRAGMA query_only = ON")
    await reconciler.step()
    assert reader.load().engines == {}

    registry._db.execute("PRAGMA query_only = OFF")
    await reconciler.step()

    assert set(reader.load().engines) == {"tiny"}
