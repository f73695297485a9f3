from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.domain import EngineState
from appliance.engine.supervisor import UnitState
from tests.fakes.control import until

if TYPE_CHECKING:
    from tests.fakes.control import Control

ENGINES = ("tiny", "pair-1", "pair-2")


def _ready(since_ms: int = 1) -> UnitState:
    return UnitState(EngineState.READY, since_ms, 1, 0, "", "")


def test_ready_once_gateway_and_every_model_are(control: Control, gateway: None) -> None:
    assert not control.client.status().ready

    control.supervisor.units |= {"tiny": _ready(), "pair-1": _ready()}

    assert until(lambda: control.client.status().ready)
    status = control.client.status()
    assert (status.gateway, status.supervisor) == ("up", "up")
    assert [(model.name, model.state, model.replicas_ready) for model in status.models] == [
        ("tiny", "ready", 1),
        ("pair", "ready", 1),
    ]


def test_not_ready_without_a_gateway(control: Control) -> None:
    control.supervisor.units |= {name: _ready() for name in ENGINES}
    assert until(lambda: all(engine.state == "ready" for engine in control.client.status().engines))

    status = control.client.status()

    assert status.gateway == "down"
    assert not status.ready


def test_not_ready_while_a_model_has_no_engine(control: Control, gateway: None) -> None:
    control.supervisor.units["tiny"] = _ready()
    assert until(lambda: control.client.status().engines[0].state == "ready")

    assert not control.client.status().ready


def test_status_says_why_an_engine_failed_and_what_to_do(control: Control) -> None:
    control.supervisor.units["tiny"] = UnitState(
        EngineState.FAILED, 42, None, 5, "No memory.", "Lower max_context."
    )

    assert until(lambda: control.client.status().engines[0].state == "failed")
    engine = control.client.status().engines[0]
    assert (engine.cause, engine.cure, engine.since_ms, engine.restarts) == (
        "No memory.",
        "Lower max_context.",
        42,
        5,
    )


def test_status_says_when_the_supervisor_is_away(control: Control) -> None:
    control.supervisor.down = True

    assert until(lambda: control.client.status().supervisor == "unreachable")
