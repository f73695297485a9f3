from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from appliance.admin.contract import LimitChanges
from appliance.domain import Limits, Subject
from appliance.store.registry import RegistryReader

if TYPE_CHECKING:
    from tests.fakes.control import Control


def test_limits_reach_the_gateway(control: Control) -> None:
    control.client.change_limits("model", "tiny", {"cost_per_day": "1500.50", "requests_per_minute": 60})

    reader = RegistryReader(control.settings.registry_db)
    limits = reader.load().limits
    reader.close()
    assert limits == {
        Subject("model", "tiny"): Limits(requests_per_minute=60, cost_per_day_micros=1_500_500_000)
    }


def test_every_limit_of_the_gateway_can_be_set() -> None:
    names = {name.replace("cost_per_day", "cost_per_day_micros") for name in LimitChanges.model_fields}

    assert {name.replace("cost_per_month", "cost_per_month_micros") for name in names} == set(Limits._fields)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/limits/planet/earth", b"{}"),
        ("/v1/limits/model/.", b"{}"),
        ("/v1/limits/model/tiny", b'{"tokens_per_day": -1}'),
        ("/v1/limits/model/tiny", b'{"tokens_per_day": 1e99}'),
        ("/v1/limits/model/tiny", b'{"cost_per_day": 1.5}'),
        ("/v1/limits/model/tiny", b'{"cost_per_day": "0"}'),
        ("/v1/limits/model/tiny", b'{"words": "a prompt"}'),
    ],
)
def test_what_is_no_limit_is_refused_and_not_quoted(control: Control, path: str, body: bytes) -> None:
    status, answer = control.ask("PATCH", path, body)

    assert status in {400, 404}
    assert set(json.loads(answer)["error"]) == {"code", "message"}
    assert b"prompt" not in answer
    assert control.client.limits() == []


def test_clearing_answers_with_what_is_left(control: Control) -> None:
    control.client.change_limits("account", "default", {"tokens_per_day": 7})

    cleared = control.client.clear_limits("account", "default")

    assert cleared.model_dump(exclude_none=True) == {"kind": "account", "name": "default", "currency": "INR"}
