from __future__ import annotations

import re

import pytest

from appliance.admin import tables
from appliance.admin.contract import (
    EngineStatus,
    Key,
    ModelStatus,
    Status,
    UsageReport,
    UsageRow,
    UsageTotals,
)

LONG = "a" * 40
BIG = 123_456_789_012


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
    key = Key(
        key_id="k" * 10,
        account=LONG,
        name=LONG,
        state="revoked",
        created_at_ms=BIG,
        expires_at_ms=BIG,
        revoked_at_ms=BIG,
        last_used_day="2026-01-01",
    )
    totals = UsageTotals(group=LONG, requests=BIG, failed=BIG, prompt_tokens=BIG, completion_tokens=BIG)
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
    tables.show_keys([key])
    tables.show_usage(UsageReport(by="account", days=1, since_day="2026-01-01", rows=(totals,)))
    tables.show_requests([row])

    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert shown.count("…") == 0
    assert re.sub(r"[^a]", "", shown).count("a" * 40) == 6
