from __future__ import annotations

import datetime as dt
import json
import sqlite3
from ipaddress import ip_network
from typing import TYPE_CHECKING, get_args

import pytest

from appliance import apikey, clock, domain
from appliance.admin import contract
from appliance.store.registry import RegistryReader
from tests.fakes.control import bytes_under, use

if TYPE_CHECKING:
    from tests.fakes.control import Control

DAY_MS = 86_400_000


def test_created_key_opens_the_gateway_and_only_its_digest_stays(control: Control) -> None:
    created = control.client.create_key(account="default", name="search")

    reader = RegistryReader(control.settings.registry_db)
    record = reader.load().keys[created.key_id]
    reader.close()
    assert apikey.parse(created.key) == created.key_id
    assert record.sha256 == apikey.digest(created.key)
    assert created.key[-40:].encode() not in bytes_under(control.settings.home)


def test_key_expires_after_ninety_days_unless_told(control: Control) -> None:
    long = control.client.create_key(account="default", name="a")
    short = control.client.create_key(account="default", name="a", expires_days=1)

    assert long.expires_at_ms - long.created_at_ms == pytest.approx(90 * DAY_MS, abs=60_000)
    assert short.expires_at_ms - short.created_at_ms == pytest.approx(DAY_MS, abs=60_000)


def test_listed_keys_tell_nothing_of_the_secret(control: Control) -> None:
    created = control.client.create_key(account="default", name="search")

    _, listed = control.ask("GET", "/v1/keys")

    assert created.key_id.encode() in listed
    assert created.key[19:29].encode() not in listed
    assert created.key[-4:].encode() not in listed
    assert apikey.digest(created.key).hex().encode() not in listed


def test_keys_say_whether_they_still_work(control: Control) -> None:
    active, revoked, expired = (control.client.create_key(account="default", name=name) for name in "are")
    control.client.revoke_key(revoked.key_id)
    with sqlite3.connect(control.settings.registry_db) as connection:
        connection.execute(
            "UPDATE api_key SET created_at_ms = 1, expires_at_ms = 2 WHERE key_id = ?", (expired.key_id,)
        )
    connection.close()

    states = {key.key_id: key.state for key in control.client.list_keys()}

    assert states == {active.key_id: "active", revoked.key_id: "revoked", expired.key_id: "expired"}


def test_keys_of_one_account(control: Control) -> None:
    control.client.create_account("search")
    control.client.create_key(account="default", name="a")
    created = control.client.create_key(account="search", name="b")

    assert [key.key_id for key in control.client.list_keys("search")] == [created.key_id]


def test_last_use_of_a_key_is_shown_to_the_day(control: Control) -> None:
    created = control.client.create_key(account="default", name="a")
    use(control.settings, created.key_id, clock.now_ms())

    last_used = control.client.list_keys()[0].last_used_day

    assert last_used == dt.datetime.now(control.settings.zone).date().isoformat()


def test_scopes_reach_the_gateway(control: Control) -> None:
    created = control.client.create_key(
        account="default", name="a", models=["tiny"], endpoints=["chat"], networks=["10.1.0.0/16", "::1"]
    )

    reader = RegistryReader(control.settings.registry_db)
    record = reader.load().keys[created.key_id]
    reader.close()
    assert (record.models, record.endpoints) == ({"tiny"}, {"chat"})
    assert set(record.networks) == {ip_network("10.1.0.0/16"), ip_network("::1/128")}


@pytest.mark.parametrize(
    "scope",
    [
        {"endpoints": ["poems"]},
        {"networks": ["10.0.0.5/8"]},
        {"networks": ["fe80::1%eth0"]},
        {"networks": ["10.1.0.0/16"] * 101},
        {"models": ["a b"]},
    ],
    ids=["no endpoint", "bits beyond the mask", "a zone", "too many", "no name"],
)
def test_what_is_no_scope_is_refused_and_not_quoted(control: Control, scope: dict[str, list[str]]) -> None:
    body = json.dumps({"account": "default", "name": "a", **scope}).encode()

    status, answer = control.ask("POST", "/v1/keys", body)

    assert (status, control.client.list_keys()) == (400, [])
    assert b"10." not in answer


def test_endpoints_and_kinds_are_those_of_the_domain() -> None:
    """The contract imports nothing of ours, so that both sides of the socket can be of different releases."""
    assert get_args(contract.Endpoint) == get_args(domain.Endpoint)
    assert get_args(contract.SubjectKind) == get_args(domain.SubjectKind)


def test_a_successor_has_a_date_of_its_own(control: Control) -> None:
    old = control.client.create_key(account="default", name="a", expires_days=2)

    new = control.client.rotate_key(old.key_id, grace_hours=3, expires_days=5)

    ends = {key.key_id: key.expires_at_ms - clock.now_ms() for key in control.client.list_keys()}
    assert ends[new.key_id] == pytest.approx(5 * DAY_MS, abs=60_000)
    assert ends[old.key_id] == pytest.approx(DAY_MS / 8, abs=60_000)
