from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from appliance.errors import Refused

if TYPE_CHECKING:
    from tests.appliance.admin.conftest import FakeGateway


def test_bans_are_listed(gateway: FakeGateway, run: Callable[..., str], run_json: Callable[..., Any]) -> None:
    gateway.ban("10.1.2.3")

    assert run_json("bans", "list") == [
        {"source": "10.1.2.3", "since_ms": 1000, "until_ms": 61_000, "failures": 12}
    ]
    assert re.search(r"10\.1\.2\.3 +1970-01-01 00:00 +1970-01-01 00:01 +12", run("bans", "list"))


def test_a_lifted_ban_is_gone(gateway: FakeGateway, run: Callable[..., str]) -> None:
    gateway.ban("10.1.2.3")

    assert run("bans", "lift", "10.1.2.3") == "The ban of 10.1.2.3 is lifted.\n"
    assert gateway.bans == {}


@pytest.mark.parametrize(
    "source", ["10.9.9.9", "the whole world", ""], ids=["not banned", "words", "nothing"]
)
def test_what_is_not_banned_can_not_be_lifted(
    gateway: FakeGateway, run: Callable[..., str], source: str
) -> None:
    with pytest.raises(Refused, match="inferfly bans list"):
        run("bans", "lift", source)


def test_without_a_gateway_the_cure_is_told(run: Callable[..., str]) -> None:
    with pytest.raises(Refused, match=r"gateway does not answer.*inferfly status"):
        run("bans", "list")
