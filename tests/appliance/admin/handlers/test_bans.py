from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.errors import Refused

if TYPE_CHECKING:
    from tests.appliance.admin.conftest import FakeGateway
    from tests.fakes.control import Control


def test_a_source_is_one_segment_of_the_gateways_address(control: Control, gateway: FakeGateway) -> None:
    gateway.ban("2001:db8::/64")

    control.client.lift_ban("2001:db8::/64")

    assert gateway.asked[-1] == "DELETE /bans/2001%3Adb8%3A%3A%2F64"
    assert gateway.bans == {}


@pytest.mark.parametrize("body", [b"hello", b"{}", b'[{"source": 1}]'], ids=["no JSON", "no list", "no ban"])
def test_an_answer_of_another_release_is_said_to_be_one(
    control: Control, gateway: FakeGateway, body: bytes
) -> None:
    gateway.body = body

    with pytest.raises(Refused, match="does not understand"):
        control.client.bans()


@pytest.mark.parametrize("source", ["", "a%20b", "x" * 65])
def test_what_is_no_source_never_reaches_the_gateway(
    control: Control, gateway: FakeGateway, source: str
) -> None:
    status, _ = control.ask("DELETE", f"/v1/bans?source={source}")

    assert status == 400
    assert gateway.asked == []
