from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from appliance import clock
from tests.fakes.control import use

if TYPE_CHECKING:
    from tests.fakes.control import Control


def test_usage_of_an_unused_box_is_empty(run: Callable[..., str], run_json: Callable[..., Any]) -> None:
    report = run_json("usage", "--by", "model", "--days", "7")

    assert (report["by"], report["days"], report["rows"]) == ("model", 7, [])
    assert run_json("usage", "--limit", "5") == []
    assert "REQUESTS" in run("usage")
    assert "STARTED" in run("usage", "--limit", "5")


def test_costs_are_shown_once_there_is_a_price(control: Control, run: Callable[..., str]) -> None:
    use(control.settings, "k" * 10, clock.now_ms())
    before = run("usage", "--by", "model")

    control.client.set_price("tiny", input_per_million="1", output_per_million="1")

    assert "COST" not in before
    assert "COST INR" in run("usage", "--by", "model")


def test_what_was_paid_is_shown_though_the_price_is_gone(
    control: Control, run: Callable[..., str], run_json: Callable[..., Any]
) -> None:
    use(control.settings, "k" * 10, clock.now_ms(), cost_micros=1_500_250)

    assert "1.50025" in run("usage", "--by", "key")
    assert run_json("usage", "--by", "day")["rows"][0]["cost"] == "1.50025"


@pytest.mark.parametrize("arguments", [["--by", "prompt"], ["--days", "0"]], ids=["no such group", "no days"])
def test_wrong_use_is_code_two(run: Callable[..., str], arguments: list[str]) -> None:
    run("usage", *arguments, code=2)
