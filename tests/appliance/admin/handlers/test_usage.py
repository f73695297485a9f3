from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest

from appliance import clock
from appliance.admin.handlers.usage import by_account
from appliance.store.usage import Totals
from tests.fakes.control import use

if TYPE_CHECKING:
    from appliance.admin.contract import UsageGroup
    from tests.fakes.control import Control

DAY_MS = 86_400_000


def test_usage_is_added_up_by_account(control: Control) -> None:
    control.client.create_account("search")
    keys = [
        control.client.create_key(account=account, name="a") for account in ("default", "default", "search")
    ]
    now = clock.now_ms()
    for key in keys:
        use(control.settings, key.key_id, now)
    use(control.settings, "0000000000", now)

    rows = control.client.usage(by="account", days=1).rows

    assert [(row.group, row.requests, row.prompt_tokens, row.completion_tokens) for row in rows] == [
        ("default", 2, 20, 4),
        ("search", 1, 10, 2),
        ("unknown", 1, 10, 2),
    ]


@pytest.mark.parametrize(("by", "groups"), [("key", ["k" * 10]), ("model", ["tiny"]), ("day", None)])
def test_usage_by_key_model_and_day(control: Control, by: UsageGroup, groups: list[str] | None) -> None:
    now = clock.now_ms()
    use(control.settings, "k" * 10, now)
    today = dt.datetime.fromtimestamp(now / 1000, control.settings.zone).date().isoformat()

    report = control.client.usage(by=by, days=1)

    assert [row.group for row in report.rows] == (groups or [today])


def test_usage_reaches_back_over_whole_days_of_the_site(control: Control) -> None:
    today = dt.datetime.fromtimestamp(clock.now_ms() / 1000, control.settings.zone).date()
    midnight = int(dt.datetime.combine(today, dt.time(), control.settings.zone).timestamp() * 1000)
    use(control.settings, "k" * 10, midnight - DAY_MS - 1)
    use(control.settings, "k" * 10, midnight - DAY_MS)

    assert sum(row.requests for row in control.client.usage(by="model", days=2).rows) == 1
    assert sum(row.requests for row in control.client.usage(by="model", days=3).rows) == 2


def test_costs_are_added_up_in_the_sites_currency(control: Control) -> None:
    for cost_micros in (1_000_000, 500_001):
        use(control.settings, "k" * 10, clock.now_ms(), cost_micros=cost_micros)

    report = control.client.usage(by="model", days=1)

    assert (report.currency, report.timezone, report.priced) == ("INR", "Asia/Kolkata", True)
    assert [row.cost for row in report.rows] == ["1.500001"]


def test_usage_says_whether_anything_has_a_price(control: Control) -> None:
    use(control.settings, "k" * 10, clock.now_ms())
    before = control.client.usage(by="model", days=1).priced

    control.client.set_price("tiny", input_per_million="0", output_per_million="1")

    assert not before
    assert control.client.usage(by="model", days=1).priced


def test_newest_requests_are_ledger_rows(control: Control) -> None:
    now = clock.now_ms()
    use(control.settings, "k" * 10, now - 1)
    use(control.settings, "k" * 10, now)

    rows = control.client.newest_requests(1)

    assert [(row.ts_start_ms, row.model_id, row.token_counts) for row in rows] == [(now, "tiny", "exact")]


def test_sums_are_exact() -> None:
    keys = [Totals("a", 1, 2, 3, 4, 5), Totals("b", 10, 20, 30, 40, 50), Totals("c", 5, 5, 5, 5, 5)]

    assert by_account(keys, {"a": "one", "b": "one", "c": "two"}) == [
        Totals("one", 11, 22, 33, 44, 55),
        Totals("two", 5, 5, 5, 5, 5),
    ]
