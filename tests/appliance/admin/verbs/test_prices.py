from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from appliance.errors import Refused


def test_a_price_is_set_listed_and_cleared(run: Callable[..., str], run_json: Callable[..., Any]) -> None:
    price = {
        "input_per_million": "12.50",
        "output_per_million": "40.00",
        "model": "tiny",
        "currency": "INR",
    }

    was_set = run_json("prices", "set", "tiny", "--input-per-million", "12.5", "--output-per-million", "40")
    listed, shown = run_json("prices", "list"), run("prices", "list")
    told = run("prices", "clear", "tiny")

    assert was_set == price
    assert listed == [price]
    assert re.search(r"tiny +12\.50 +40\.00 +INR", shown)
    assert told == "The model tiny has no price now.\n"
    assert run_json("prices", "list") == []


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        (["set", "other", "--input-per-million", "1", "--output-per-million", "1"], "inferfly models"),
        (["set", "a/b", "--input-per-million", "1", "--output-per-million", "1"], "inferfly models"),
        (["set", "tiny", "--input-per-million", "-1", "--output-per-million", "1"], "written like 12.50"),
        (["clear", "tiny"], "inferfly prices list"),
    ],
    ids=["no such model", "no name", "negative", "no price"],
)
def test_what_can_not_be_is_refused_with_the_cure(
    run: Callable[..., str], arguments: list[str], cure: str
) -> None:
    with pytest.raises(Refused, match=cure):
        run("prices", *arguments)


def test_both_prices_are_asked_for(run: Callable[..., str]) -> None:
    run("prices", "set", "tiny", "--input-per-million", "1", code=2)
