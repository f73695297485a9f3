from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from appliance.admin.contract import LimitChanges
from appliance.errors import Refused

if TYPE_CHECKING:
    from tests.fakes.control import Control

EVERY = {name: "7.5" if name.startswith("cost") else "7" for name in LimitChanges.model_fields}


def test_every_limit_can_be_set_and_lifted(run_json: Callable[..., Any]) -> None:
    options = [(f"--{name.replace('_', '-')}", value) for name, value in EVERY.items()]
    given = [word for option in options for word in option]
    lifted = [word for option, _ in options[1:] for word in (option, "none")]

    after_set = run_json("limits", "set", "model", "tiny", *given)
    after_lift = run_json("limits", "set", "model", "tiny", *lifted)

    assert {name: str(after_set[name]) for name in EVERY} == {
        name: value.replace("7.5", "7.50") for name, value in EVERY.items()
    }
    assert [name for name in EVERY if after_lift[name] is not None] == ["requests_per_minute"]


def test_limits_are_listed_with_their_currency(run: Callable[..., str]) -> None:
    run("limits", "set", "account", "default", "--cost-per-month", "1500.50", "--tokens-per-day", "1000000")

    shown = run("limits", "list")

    assert re.search(r"account +default +tokens per day +1,000,000", shown)
    assert re.search(r"account +default +cost per month +1500\.50 INR", shown)


def test_cleared_limits_are_gone(run: Callable[..., str], run_json: Callable[..., Any]) -> None:
    run("limits", "set", "account", "default", "--tokens-per-day", "7")

    told = run("limits", "clear", "account", "default")

    assert told == "The account default has no limits now.\n"
    assert run_json("limits", "list") == []


def test_a_key_is_named_by_any_id_of_its_line(control: Control, run_json: Callable[..., Any]) -> None:
    first = control.client.create_key(account="default", name="a")
    second = control.client.rotate_key(first.key_id)

    limits = run_json("limits", "set", "key", second.key_id, "--requests-per-minute", "3")

    assert (limits["name"], limits["requests_per_minute"]) == (first.key_id, 3)


@pytest.mark.parametrize(
    ("kind", "name", "cure"),
    [
        ("key", "0123456789", "inferfly keys list"),
        ("account", "nobody", "inferfly accounts list"),
        ("model", "other", "inferfly models"),
        ("model", "no/model", "inferfly models"),
    ],
)
def test_what_is_not_there_is_refused_with_the_cure(
    run: Callable[..., str], kind: str, name: str, cure: str
) -> None:
    with pytest.raises(Refused, match=cure):
        run("limits", "set", kind, name, "--tokens-per-day", "7")


@pytest.mark.parametrize(
    "options",
    [[], ["--tokens-per-day", "many"], ["--tokens-per-day", "1.5"], ["--tokens-per-day", "-1"]],
    ids=["none named", "a word", "a fraction", "negative"],
)
def test_wrong_use_is_code_two(run: Callable[..., str], options: list[str]) -> None:
    run("limits", "set", "account", "default", *options, code=2)


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (["--tokens-per-day", "0"], "whole number from 1"),
        (["--cost-per-day", "1,5"], "written like 12.50"),
        (["--cost-per-day", "0.00"], "more than nothing"),
        (["--cost-per-day", "1e9"], "written like 12.50"),
    ],
)
def test_a_limit_that_can_not_be_is_explained(run: Callable[..., str], options: list[str], rule: str) -> None:
    with pytest.raises(Refused, match=rule):
        run("limits", "set", "account", "default", *options)
