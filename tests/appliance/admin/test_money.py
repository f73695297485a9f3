from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.admin import money
from appliance.admin.contract import MONEY_PATTERN


@pytest.mark.parametrize(
    ("text", "micros", "shown"),
    [
        ("12.50", 12_500_000, "12.50"),
        ("40", 40_000_000, "40.00"),
        ("0", 0, "0.00"),
        ("0.000001", 1, "0.000001"),
        ("1500.5", 1_500_500_000, "1500.50"),
        ("999999999.999999", 999_999_999_999_999, "999999999.999999"),
    ],
)
def test_amounts_are_exact_both_ways(text: str, micros: int, shown: str) -> None:
    assert money.to_micros(text) == micros
    assert money.to_text(micros) == shown


@given(st.integers(0, 10**15 - 1))
def test_every_amount_survives_the_way_out_and_back(micros: int) -> None:
    text = money.to_text(micros)

    assert re.fullmatch(MONEY_PATTERN, text)
    assert money.to_micros(text) == micros
