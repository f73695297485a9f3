from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.fakes.control import running

if TYPE_CHECKING:
    from appliance.catalog import Catalog
    from appliance.settings import Settings
    from tests.fakes.control import Control, FakeSupervisor


def test_first_account_is_there_and_survives_a_restart(
    settings: Settings, catalog: Catalog, supervisor: FakeSupervisor
) -> None:
    with running(settings, catalog, supervisor) as control:
        first = control.client.accounts()
    with running(settings, catalog, supervisor) as control:
        second = control.client.accounts()

    assert [account.name for account in first] == ["default"]
    assert first == second


def test_new_account_is_active_and_has_no_keys(control: Control) -> None:
    created = control.client.create_account("search-team")

    assert (created.name, created.state, created.usable_keys) == ("search-team", "active", 0)
    assert created in control.client.accounts()


def test_account_holds_nothing_of_a_person(control: Control) -> None:
    """An application's account needs no name, mail address or country of anybody."""
    control.client.create_account("search-team")

    _, listed = control.ask("GET", "/v1/accounts")

    assert set(json.loads(listed)[0]) == {"id", "name", "state", "created_at_ms", "usable_keys"}
