from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner

from appliance import apikey
from appliance.__main__ import COMMANDS, cli
from appliance.admin import verbs
from appliance.domain import EngineState
from appliance.engine.supervisor import UnitState
from appliance.errors import ControlUnreachable, Refused

if TYPE_CHECKING:
    from appliance.settings import Settings
    from tests.fakes.control import Control

OURS = {name: place for name, place in COMMANDS.items() if place.startswith("appliance.admin.verbs:")}


def _run(control: Control, *arguments: str, typed: str | None = None, code: int = 0) -> str:
    """Run one verb against the running control; an operator's error is raised, as `main()` would see it."""
    result = CliRunner().invoke(cli, [*arguments, "--home", str(control.settings.home)], input=typed)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout


def _json(control: Control, *arguments: str, code: int = 0) -> Any:
    return json.loads(_run(control, *arguments, "--json", code=code))


def _ready(control: Control) -> None:
    for name in ("tiny", "pair-1", "pair-2"):
        control.supervisor.units[name] = UnitState(EngineState.READY, 1, 1, 0, "", "")
    end = time.monotonic() + 5
    while not control.client.status().ready and time.monotonic() < end:
        time.sleep(0.02)


def test_status_is_zero_when_ready(control: Control, gateway: None) -> None:
    _ready(control)

    assert _json(control, "status")["ready"] is True
    assert "Ready" in _run(control, "status")


def test_status_is_three_while_not_ready(control: Control) -> None:
    assert _json(control, "status", code=3)["ready"] is False
    assert "Not ready" in _run(control, "status", code=3)


def test_status_shows_cause_and_cure(control: Control) -> None:
    cause = "18 GB needed, 12 GB free."
    control.supervisor.units["tiny"] = UnitState(EngineState.FAILED, 1, None, 5, cause, "Lower max_context.")
    end = time.monotonic() + 5
    while control.client.status().engines[0].state != "failed" and time.monotonic() < end:
        time.sleep(0.02)

    assert f"tiny: {cause} Lower max_context." in _run(control, "status", code=3)


def test_status_says_when_states_are_old(control: Control) -> None:
    control.supervisor.down = True
    end = time.monotonic() + 5
    while control.client.status().supervisor == "up" and time.monotonic() < end:
        time.sleep(0.02)

    assert "last known" in _run(control, "status", code=3)


def test_models_lists_what_applications_can_ask_for(control: Control) -> None:
    names = [(model["name"], model["endpoints"], model["replicas"]) for model in _json(control, "models")]

    assert names == [("tiny", ["chat", "completions"], 1), ("pair", ["chat"], 2)]
    assert re.search(r"pair +loading +chat +512 +0/2", _run(control, "models"))


def test_created_key_is_one_object_with_the_plaintext(control: Control) -> None:
    created = _json(control, "keys", "create", "--account", "default", "--name", "search")

    assert apikey.parse(created["key"]) == created["key_id"]


def test_created_key_is_printed_whole_and_once(control: Control) -> None:
    shown = _run(control, "keys", "create", "--account", "default", "--name", "search", "--expires-days", "7")

    key = shown.splitlines()[0]
    assert apikey.parse(key)
    assert "only time" in shown
    assert key not in _run(control, "keys", "list") + json.dumps(_json(control, "keys", "list"))


def test_keys_list_can_be_one_account(control: Control) -> None:
    _run(control, "accounts", "create", "search-team")
    _run(control, "keys", "create", "--account", "default", "--name", "one")
    _run(control, "keys", "create", "--account", "search-team", "--name", "two")

    assert [key["name"] for key in _json(control, "keys", "list", "--account", "search-team")] == ["two"]


def test_revoking_asks_and_names_the_key(control: Control) -> None:
    created = control.client.create_key(account="default", name="search")

    result = CliRunner().invoke(
        cli, ["keys", "revoke", created.key_id, "--home", str(control.settings.home)], input="n\n"
    )

    assert result.exit_code == 1
    assert f"{created.key_id} (search of default)" in result.stderr
    assert control.client.list_keys()[0].state == "active"


def test_confirmed_revocation_stops_the_key(control: Control) -> None:
    created = control.client.create_key(account="default", name="search")

    _run(control, "keys", "revoke", created.key_id, typed="y\n")

    assert control.client.list_keys()[0].state == "revoked"


def test_revocation_without_a_question(control: Control) -> None:
    created = control.client.create_key(account="default", name="search")

    revoked = _json(control, "keys", "revoke", created.key_id, "--yes")

    assert (revoked["key_id"], revoked["state"]) == (created.key_id, "revoked")


@pytest.mark.parametrize("extra", [[], ["--yes"]], ids=["asked", "unasked"])
def test_unknown_key_is_refused_before_any_question(control: Control, extra: list[str]) -> None:
    with pytest.raises(Refused, match="no key with that id"):
        _run(control, "keys", "revoke", "0123456789", *extra)


def test_account_is_created_and_listed(control: Control) -> None:
    created = _json(control, "accounts", "create", "search-team")

    assert created["name"] == "search-team"
    assert [account["name"] for account in _json(control, "accounts", "list")] == ["default", "search-team"]
    assert "search-team" in _run(control, "accounts", "list")


def test_usage_of_an_unused_box_is_empty(control: Control) -> None:
    report = _json(control, "usage", "--by", "model", "--days", "7")

    assert (report["by"], report["days"], report["rows"]) == ("model", 7, [])
    assert _json(control, "usage", "--limit", "5") == []
    assert "REQUESTS" in _run(control, "usage")
    assert "STARTED" in _run(control, "usage", "--limit", "5")


@pytest.mark.parametrize(
    "arguments",
    [
        ["keys", "create", "--account", "default", "--name", "a", "--expires-days", "366"],
        ["keys", "create", "--account", "default"],
        ["usage", "--by", "prompt"],
        ["usage", "--days", "0"],
    ],
    ids=["too_long", "no_name", "no_such_group", "no_days"],
)
def test_wrong_use_of_a_verb_is_code_two(control: Control, arguments: list[str]) -> None:
    _run(control, *arguments, code=2)


def test_without_control_every_verb_says_how_to_start_it(settings: Settings) -> None:
    result = CliRunner().invoke(cli, ["status", "--home", str(settings.home)])

    assert isinstance(result.exception, ControlUnreachable)
    assert result.exception.exit_code == 69


def _leaves(name: str, command: click.Command) -> list[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        return [leaf for sub, found in command.commands.items() for leaf in _leaves(f"{name} {sub}", found)]
    return [(name, command)]


VERBS = dict(leaf for name in OURS for leaf in _leaves(name, getattr(verbs, name)))


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_an_example_and_the_common_options(name: str) -> None:
    shown = CliRunner().invoke(cli, [*name.split(), "--help"], terminal_width=80)

    assert shown.exit_code == 0
    assert f"Example: inferfly {name}" in shown.output
    assert "--json" in shown.output
    assert "--home" in shown.output
    assert max(map(len, shown.output.splitlines())) <= 80
