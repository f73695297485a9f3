from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from appliance.domain import EngineState
from appliance.engine.supervisor import UnitState
from tests.fakes.control import until

if TYPE_CHECKING:
    from tests.fakes.control import Control


def test_status_is_zero_when_ready(
    control: Control, gateway: object, run: Callable[..., str], run_json: Callable[..., Any]
) -> None:
    ready = UnitState(EngineState.READY, 1, 1, 0, "", "")
    control.supervisor.units |= dict.fromkeys(("tiny", "pair-1", "pair-2"), ready)
    assert until(lambda: control.client.status().ready)

    assert run_json("status")["ready"] is True
    assert "Ready" in run("status")


def test_status_is_three_while_not_ready(run: Callable[..., str], run_json: Callable[..., Any]) -> None:
    assert run_json("status", code=3)["ready"] is False
    assert "Not ready" in run("status", code=3)


def test_status_shows_cause_and_cure(control: Control, run: Callable[..., str]) -> None:
    cause = "18 GB needed, 12 GB free."
    control.supervisor.units["tiny"] = UnitState(EngineState.FAILED, 1, None, 5, cause, "Lower max_context.")
    assert until(lambda: control.client.status().engines[0].state == "failed")

    assert f"tiny: {cause} Lower max_context." in run("status", code=3)


def test_status_says_when_states_are_old(control: Control, run: Callable[..., str]) -> None:
    control.supervisor.down = True
    assert until(lambda: control.client.status().supervisor == "unreachable")

    assert "last known" in run("status", code=3)


def test_models_lists_what_applications_can_ask_for(
    run: Callable[..., str], run_json: Callable[..., Any]
) -> None:
    names = [(model["name"], model["endpoints"], model["replicas"]) for model in run_json("models")]
    of_all_that_write = ["chat", "completions", "responses", "messages", "tokenize"]

    assert names == [("tiny", of_all_that_write, 1), ("pair", ["chat"], 2)]
    assert re.search(r"pair +loading +chat +512 +0/2", run("models"))
