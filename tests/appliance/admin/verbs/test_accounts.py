from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_account_is_created_and_listed(run: Callable[..., str], run_json: Callable[..., Any]) -> None:
    created = run_json("accounts", "create", "search-team")

    assert created["name"] == "search-team"
    assert [account["name"] for account in run_json("accounts", "list")] == ["default", "search-team"]
    assert "search-team" in run("accounts", "list")


def test_a_new_account_is_told_what_comes_next(run: Callable[..., str]) -> None:
    assert "inferfly keys create --account search-team" in run("accounts", "create", "search-team")
