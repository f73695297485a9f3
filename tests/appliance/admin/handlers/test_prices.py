from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.domain import Price
from appliance.store.registry import RegistryReader

if TYPE_CHECKING:
    from tests.fakes.control import Control


def test_a_price_reaches_the_gateway_as_whole_numbers(control: Control) -> None:
    control.client.set_price("tiny", input_per_million="12.50", output_per_million="0.000001")

    reader = RegistryReader(control.settings.registry_db)
    prices = reader.load().prices
    reader.close()
    assert prices == {"tiny": Price(12_500_000, 1)}


@pytest.mark.parametrize(
    "body",
    [
        b'{"input_per_million": 12.5, "output_per_million": "1"}',
        b'{"input_per_million": "1"}',
        b'{"input_per_million": "1", "output_per_million": "\xd9\xa1"}',
    ],
    ids=["a float", "one of two", "digits of another script"],
)
def test_what_is_no_price_is_refused(control: Control, body: bytes) -> None:
    status, _ = control.ask("PUT", "/v1/prices/tiny", body)

    assert status == 400
    assert control.client.prices() == []


def test_a_cleared_price_is_nothing(control: Control) -> None:
    control.client.set_price("tiny", input_per_million="1", output_per_million="1")

    cleared = control.client.clear_price("tiny")

    assert (cleared.input_per_million, cleared.output_per_million) == ("0.00", "0.00")
    assert control.client.prices() == []
