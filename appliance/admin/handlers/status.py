"""How the appliance is: its models, its engines and its gateway."""

from __future__ import annotations

import asyncio
import http.client
from pathlib import Path
from typing import TYPE_CHECKING, Final

from litestar import get
from litestar.di import NamedDependency

from appliance import __version__
from appliance.admin.client import UnixConnection
from appliance.admin.contract import EngineStatus, ModelStatus, State, Status
from appliance.admin.handlers import Plane
from appliance.domain import EngineState

if TYPE_CHECKING:
    from appliance.admin.reconcile import View
    from appliance.catalog import Catalog, ModelSpec

GATEWAY_SECONDS_MAX: Final = 0.5

_BEST_FIRST: Final = (
    EngineState.READY,
    EngineState.LOADING,
    EngineState.DRAINING,
    EngineState.FAILED,
    EngineState.STOPPED,
)


@get("/v1/status")
async def status(plane: NamedDependency[Plane]) -> Status:
    gateway_up = await asyncio.to_thread(_answers, plane.gateway_socket)
    return describe(plane.catalog, plane.reconciler.view, gateway_up=gateway_up)


def describe(catalog: Catalog, view: View, *, gateway_up: bool) -> Status:
    """Ready means: an application that asks for any model of models.yaml now gets an answer."""
    models = tuple(_model(spec, view) for spec in catalog.models)
    return Status(
        ready=gateway_up and all(model.replicas_ready for model in models),
        version=__version__,
        gateway="up" if gateway_up else "down",
        supervisor="up" if view.supervisor_reachable else "unreachable",
        models=models,
        engines=tuple(_engine(name, spec, view) for spec in catalog.models for name in spec.engine_names()),
    )


def _model(spec: ModelSpec, view: View) -> ModelStatus:
    states = [view.units[name].state for name in spec.engine_names()]
    best: State = next(state for state in _BEST_FIRST if state in states).value
    return ModelStatus(
        name=spec.name,
        state=best,
        endpoints=spec.endpoints,
        max_context=spec.engine.max_context,
        replicas=spec.replicas,
        replicas_ready=states.count(EngineState.READY),
    )


def _engine(name: str, spec: ModelSpec, view: View) -> EngineStatus:
    unit = view.units[name]
    return EngineStatus(
        name=name,
        model=spec.name,
        state=unit.state.value,
        cause=unit.cause,
        cure=unit.cure,
        since_ms=unit.since_ms,
        restarts=unit.restarts,
    )


def _answers(gateway_socket: Path) -> bool:
    connection = UnixConnection(gateway_socket, GATEWAY_SECONDS_MAX)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
