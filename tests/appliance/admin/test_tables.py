from __future__ import annotations

import re

import pytest

from appliance.admin import tables
from appliance.admin.contract import (
    Ban,
    EngineStatus,
    Key,
    ModelStatus,
    Price,
    Status,
    SubjectLimits,
    UsageReport,
    UsageRow,
    UsageTotals,
)

LONG = "a" * 40
BIG = 123_456_789_012


def _report(*rows: UsageTotals, priced: bool) -> UsageReport:
    return UsageReport(
        by="account",
        days=1,
        since_day="2026-01-01",
        timezone="Asia/Kolkata",
        currency="INR",
        priced=priced,
        rows=rows,
    )


def _key() -> Key:
    return Key(
        key_id="k" * 10,
        origin="k" * 10,
        account=LONG,
        name=LONG,
        state="revoked",
        created_at_ms=BIG,
        expires_at_ms=BIG,
        revoked_at_ms=BIG,
        last_used_day="2026-01-01",
        models=(),
        endpoints=(),
        networks=(),
    )


def test_tables_fit_eighty_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the longest names and large numbers, nothing of them lost."""
    monkeypatch.setenv("COLUMNS", "80")
    engine = EngineStatus(name=LONG + "-64", model=LONG, state="draining", since_ms=BIG, restarts=999)
    model = ModelStatus(
        name=LONG,
        state="draining",
        endpoints=("chat", "completions"),
        max_context=10**7,
        replicas=64,
        replicas_ready=64,
    )
    totals = UsageTotals(
        group=LONG, requests=BIG, failed=BIG, prompt_tokens=BIG, completion_tokens=BIG, cost="0.00"
    )
    row = UsageRow(
        request_id="0" * 26,
        ts_start_ms=BIG,
        ts_end_ms=BIG,
        prompt_tokens=10**6,
        completion_tokens=10**6,
        token_counts="interrupted",
        model_id=LONG,
        deployment_id=LONG,
        http_status=200,
        latency_total_ms=10**6,
        latency_ttft_ms=None,
        latency_itl_mean_us=None,
        rl_requests_used=1,
        rl_tokens_used=1,
        api_key_id="k" * 10,
    )

    tables.show_status(
        Status(ready=False, version="1", gateway="up", supervisor="up", models=(model,), engines=(engine,))
    )
    tables.show_models([model])
    tables.show_keys([_key()])
    tables.show_usage(_report(totals, priced=False))
    tables.show_requests([row])

    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert shown.count("…") == 0
    assert re.sub(r"[^a]", "", shown).count("a" * 40) == 6


def test_tables_of_limits_prices_and_bans_fit_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    limits = SubjectLimits(
        kind="account", name=LONG, currency="INR", input_tokens_per_minute=10**15, cost_per_month="9" * 9
    )
    price = Price(model=LONG, currency="INR", input_per_million="9" * 9, output_per_million="9" * 9)
    ban = Ban(source="2001:db8:1234:5678:9abc:def0:1234:5678/128", since_ms=BIG, until_ms=BIG, failures=10**6)

    tables.show_limits([limits])
    tables.show_prices([price])
    tables.show_bans([ban])

    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert shown.count("…") == 0
    assert "1,000,000,000,000,000" in shown


def test_costs_fit_beside_what_they_are_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Millions of requests, milliards of tokens."""
    monkeypatch.setenv("COLUMNS", "80")
    tokens = 9_876_543_210
    row = UsageTotals(
        group="b" * 40,
        requests=9_876_543,
        failed=98_765,
        prompt_tokens=tokens,
        completion_tokens=tokens,
        cost="123456.123456",
    )

    tables.show_usage(_report(row, priced=True))

    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert "123456.123456" in shown
    assert shown.count("b") == 40
    assert shown.count("…") == 0


def test_days_of_totals_say_where_they_begin(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show_usage(_report(priced=False))

    assert capsys.readouterr().out.startswith("Since 2026-01-01 (Asia/Kolkata):")
