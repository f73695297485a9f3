from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from appliance import apikey
from appliance.__main__ import cli
from appliance.errors import Refused

if TYPE_CHECKING:
    from tests.fakes.control import Control

Run = Callable[..., str]
RunJson = Callable[..., Any]
CREATE = ("keys", "create", "--account", "default", "--name", "search")


def test_created_key_is_one_object_with_the_plaintext(run_json: RunJson) -> None:
    created = run_json(*CREATE)

    assert apikey.parse(created["key"]) == created["key_id"]


def test_created_key_is_printed_whole_and_once(run: Run, run_json: RunJson) -> None:
    shown = run(*CREATE, "--expires-days", "7")

    key = shown.splitlines()[0]
    assert apikey.parse(key)
    assert "only time" in shown
    assert key not in run("keys", "list") + json.dumps(run_json("keys", "list"))


def test_a_keys_scopes_are_shown_whole(run: Run, run_json: RunJson) -> None:
    models = ("--model", "tiny", "--model", "pair")
    others = ("--endpoint", "chat", "--network", "10.1.0.0/16", "--network", "2001:DB8::1")

    created = run_json(*CREATE, *models, *others)

    (listed,) = run_json("keys", "list")
    scopes = {
        "models": ["pair", "tiny"],
        "endpoints": ["chat"],
        "networks": ["10.1.0.0/16", "2001:db8::1/128"],
    }
    assert {name: created[name] for name in scopes} == {name: listed[name] for name in scopes} == scopes
    only = "only models pair, tiny; endpoints chat; from 10.1.0.0/16, 2001:db8::1/128."
    assert f"{created['key_id']}: {only}" in " ".join(run("keys", "list").split())


def test_keys_list_can_be_one_account(run: Run, run_json: RunJson) -> None:
    run("accounts", "create", "search-team")
    run("keys", "create", "--account", "default", "--name", "one")
    run("keys", "create", "--account", "search-team", "--name", "two")

    assert [key["name"] for key in run_json("keys", "list", "--account", "search-team")] == ["two"]


def test_a_rotated_key_has_a_successor_of_the_same_line(
    control: Control, run: Run, run_json: RunJson
) -> None:
    old = control.client.create_key(account="default", name="search")

    new = run_json("keys", "rotate", old.key_id, "--grace-hours", "1", "--expires-days", "7")

    assert apikey.parse(new["key"]) == new["key_id"] != old.key_id
    assert (new["origin"], new["account"], new["name"]) == (old.key_id, "default", "search")
    assert f"{new['key_id']}: of the line of {old.key_id}." in run("keys", "list")


def test_the_successor_is_printed_whole_and_once(control: Control, run: Run) -> None:
    old = control.client.create_key(account="default", name="search")

    shown = run("keys", "rotate", old.key_id)

    assert apikey.parse(shown.splitlines()[0])
    assert shown.splitlines()[0] not in run("keys", "list")


def test_revoking_asks_and_names_the_key(control: Control) -> None:
    created = control.client.create_key(account="default", name="search")

    result = CliRunner().invoke(
        cli, ["keys", "revoke", created.key_id, "--home", str(control.settings.home)], input="n\n"
    )

    assert result.exit_code == 1
    assert f"{created.key_id} (search of default)" in result.stderr
    assert control.client.list_keys()[0].state == "active"


def test_confirmed_revocation_stops_the_key(control: Control, run: Run) -> None:
    created = control.client.create_key(account="default", name="search")

    run("keys", "revoke", created.key_id, typed="y\n")

    assert control.client.list_keys()[0].state == "revoked"


def test_revocation_without_a_question(control: Control, run_json: RunJson) -> None:
    created = control.client.create_key(account="default", name="search")

    revoked = run_json("keys", "revoke", created.key_id, "--yes")

    assert (revoked["key_id"], revoked["state"]) == (created.key_id, "revoked")


def test_revoking_one_key_leaves_its_successor(control: Control, run: Run) -> None:
    old = control.client.create_key(account="default", name="search")
    control.client.rotate_key(old.key_id)

    run("keys", "revoke", old.key_id, "--yes")

    assert [key.state for key in control.client.list_keys()] == ["revoked", "active"]


def test_revoking_a_line_names_and_revokes_all_of_it(control: Control) -> None:
    old = control.client.create_key(account="default", name="search")
    new = control.client.rotate_key(old.key_id)

    result = CliRunner().invoke(
        cli,
        ["keys", "revoke", new.key_id, "--line", "--home", str(control.settings.home)],
        input="y\n",
    )

    assert f"{new.key_id} and {old.key_id} (search of default)" in result.stderr
    assert result.stdout.count("Revoked the key") == 2
    assert [key.state for key in control.client.list_keys()] == ["revoked", "revoked"]


def test_a_revoked_line_is_a_list_in_json(control: Control, run_json: RunJson) -> None:
    old = control.client.create_key(account="default", name="search")

    revoked = run_json("keys", "revoke", old.key_id, "--line", "--yes")

    assert [key["state"] for key in revoked] == ["revoked"]


@pytest.mark.parametrize(
    "arguments",
    [["revoke"], ["revoke", "--yes"], ["revoke", "--line", "--yes"], ["rotate"]],
    ids=["asked", "unasked", "line", "rotate"],
)
def test_unknown_key_is_refused_before_any_question(run: Run, arguments: list[str]) -> None:
    with pytest.raises(Refused, match="no key with that id"):
        run("keys", *arguments, "0123456789")


@pytest.mark.parametrize(
    ("option", "cure"),
    [
        (["--model", "other"], "inferfly models"),
        (["--network", "lan"], "written like 10.1.0.0/16"),
        (["--network", "10.0.0.5/8"], "no bits beyond its mask"),
        (["--model", "a b"], "model's name has"),
    ],
)
def test_a_scope_that_can_not_be_is_refused_with_the_cure(run: Run, option: list[str], cure: str) -> None:
    with pytest.raises(Refused, match=cure):
        run(*CREATE, *option)


@pytest.mark.parametrize(
    "arguments",
    [
        [*CREATE, "--expires-days", "366"],
        ["keys", "create", "--account", "default"],
        [*CREATE, "--endpoint", "poems"],
        ["keys", "rotate", "0123456789", "--grace-hours", "-1"],
    ],
    ids=["too_long", "no_name", "no_such_endpoint", "no_grace"],
)
def test_wrong_use_of_a_verb_is_code_two(run: Run, arguments: list[str]) -> None:
    run(*arguments, code=2)
