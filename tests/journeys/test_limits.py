"""Limits, rotation, revocation and bans, set by the command line and met by the SDKs of applications."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.appliance_under_test import Appliance
from tests.processes import await_true

TWIN = "twin"
GUESSES = 20
"""INFERFLY_GUESSES_MAX, as it comes."""
CUT_SECONDS_MAX = 1.0
STREAMED_SECONDS_MAX = 10
HELLO: Any = [{"role": "user", "content": "Hello!"}]

Limited = Callable[..., str]
"""Gives the key of a new account that has these limits."""


@pytest.fixture
def limited(site: Appliance) -> Limited:
    def make(*limits: str) -> str:
        account = f"limited-{time.monotonic_ns()}"
        site.asked("accounts", "create", account)
        site.asked("limits", "set", "account", account, *limits)
        return site.new_key(account)["key"]

    return make


def complete(site: Appliance, key: str, **more: Any) -> Any:
    with site.sdk(key) as client:
        create: Any = client.completions.with_raw_response.create
        return create(**{"model": TWIN, "prompt": "one", "max_tokens": 2} | more)


def refused(site: Appliance, key: str, **more: Any) -> openai.RateLimitError:
    with pytest.raises(openai.RateLimitError) as caught:
        complete(site, key, **more)
    return caught.value


def test_requests_per_minute(site: Appliance, limited: Limited) -> None:
    key = limited("--requests-per-minute", "2")

    first, second = complete(site, key), complete(site, key)
    third = refused(site, key)

    left = [answer.headers["x-ratelimit-remaining-requests"] for answer in (first, second)]
    assert left == ["1", "0"]
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert (third.code, third.type) == ("rate_limit_exceeded", "requests")
    assert 1 <= int(third.response.headers["retry-after"]) <= 60


def test_output_tokens_per_minute(site: Appliance, limited: Limited) -> None:
    """What a request may use at most counts until it has ended."""
    key = limited("--output-tokens-per-minute", "10")

    answer = complete(site, key, max_tokens=8)
    second = refused(site, key, max_tokens=8)

    assert answer.headers["x-ratelimit-limit-tokens"] == "10"
    assert (second.code, second.type) == ("rate_limit_exceeded", "tokens")


def test_requests_at_the_same_time(site: Appliance, limited: Limited) -> None:
    key = limited("--concurrent-requests", "1")
    with (
        site.sdk(key) as client,
        client.completions.create(
            model=TWIN, prompt="one", max_tokens=1800, stream=True, extra_body={"ignore_eos": True}
        ) as stream,
    ):
        next(iter(stream))
        second = refused(site, key)

    assert second.code == "rate_limit_exceeded"
    await_true(lambda: accepted(site, key), 2, "the place is free again")


def accepted(site: Appliance, key: str) -> bool:
    try:
        complete(site, key)
    except openai.RateLimitError:
        return False
    return True


def test_a_budget_of_tokens(site: Appliance, limited: Limited) -> None:
    refusal = refused(site, limited("--tokens-per-day", "100"), max_tokens=2000)

    assert (refusal.code, refusal.type) == ("insufficient_quota", "insufficient_quota")
    assert int(refusal.response.headers["retry-after"]) <= 86400


def test_a_budget_of_money(site: Appliance, limited: Limited) -> None:
    key = limited("--cost-per-day", "0.01")
    site.asked("prices", "set", TWIN, "--input-per-million", "0", "--output-per-million", "1000")
    site.new_key()  # by the time that it works the price is known, too
    try:
        cheap = complete(site, key, max_tokens=5)
        dear = refused(site, key, max_tokens=500)
        site.row(cheap.headers["x-request-id"])
        (cost,) = [
            row["cost"]
            for row in site.asked("usage", "--by", "account")["rows"]
            if row["group"].startswith("limited-") and row["cost"] not in (None, "0.00", "0")
        ]
    finally:
        site.asked("prices", "clear", TWIN)

    assert dear.code == "insufficient_quota"
    assert float(cost) == pytest.approx(0.005)


def test_anthropics_sdk_sees_a_limit(site: Appliance, limited: Limited) -> None:
    key = limited("--requests-per-minute", "1")
    asked: Any = {"model": TWIN, "max_tokens": 2, "messages": HELLO}
    with site.anthropic_sdk(key) as claude:
        claude.messages.create(**asked)
        with pytest.raises(anthropic.RateLimitError) as refusal:
            claude.messages.create(**asked)

    body: Any = refusal.value.body
    assert body["error"]["type"] == "rate_limit_error"
    assert int(refusal.value.response.headers["retry-after"]) <= 60


def test_every_endpoint_counts(site: Appliance, limited: Limited) -> None:
    key = limited("--requests-per-minute", "3")
    with site.sdk(key) as client, site.http(key) as http:
        client.embeddings.create(model="minilm", input="one")
        client.responses.create(model=TWIN, input="one", max_output_tokens=1)
        http.post("/tokenize", json={"model": TWIN, "prompt": "one"}).raise_for_status()

        assert http.post("/tokenize", json={"model": TWIN, "prompt": "one"}).status_code == 429


def test_a_rotated_key_keeps_its_counts(site: Appliance) -> None:
    made = site.new_key()
    old = made["key"]
    site.asked("limits", "set", "key", made["key_id"], "--requests-per-minute", "2")

    new = site.asked("keys", "rotate", made["key_id"])["key"]

    await_true(lambda: site.accepts(new), 5, "the new key works")
    complete(site, old)
    complete(site, new)
    assert refused(site, new).code == "rate_limit_exceeded"
    assert refused(site, old).code == "rate_limit_exceeded"


def test_a_rotated_key_ends_with_its_grace(site: Appliance) -> None:
    made = site.new_key()

    new = site.asked("keys", "rotate", made["key_id"], "--grace-hours", "0")["key"]

    await_true(lambda: site.accepts(new), 5, "the new key works")
    assert not site.accepts(made["key"])


def test_a_key_has_its_scope(site: Appliance) -> None:
    scope = ("--model", "minilm", "--endpoint", "embeddings")
    made = site.asked("keys", "create", "--account", "default", "--name", "narrow", *scope)
    await_true(lambda: site.accepts(made["key"]), 5, "the new key works")

    with site.sdk(made["key"]) as client, site.http(made["key"]) as http:
        listed = [model.id for model in client.models.list()]
        client.embeddings.create(model="minilm", input="one")
        other = http.post("/v1/score", json={"model": "minilm", "text_1": "one", "text_2": "two"})
        with pytest.raises(openai.NotFoundError):
            client.completions.create(model=TWIN, prompt="one")

    assert listed == ["minilm"]
    assert (other.status_code, other.json()["error"]["code"]) == (403, "permission_denied")


def test_a_revoked_keys_stream_is_cut(box: Appliance) -> None:
    made = box.new_key()
    with box.sdk(made["key"]) as client:
        raw = client.completions.with_raw_response.create(
            model=box.model, prompt="Once", max_tokens=1900, stream=True, extra_body={"ignore_eos": True}
        )
        stream = iter(raw.parse())
        next(stream)
        box.asked("keys", "revoke", made["key_id"], "--yes")
        revoked = time.monotonic()
        with pytest.raises(openai.APIError) as cut:
            list(stream)

    assert time.monotonic() - revoked < CUT_SECONDS_MAX
    assert cut.value.code == "key_revoked"
    row = box.row(raw.headers["x-request-id"])
    assert (row.token_counts, row.http_status) == ("partial", 401)
    assert row.completion_tokens > 0


def test_who_guesses_keys_is_banned_until_it_is_lifted(site: Appliance) -> None:
    try:
        with ThreadPoolExecutor(GUESSES) as threads:
            guesses = list(threads.map(guess, repeat(site), range(GUESSES)))
        bans = site.asked("bans", "list")
        good = refused(site, site.key)
    finally:
        lifted = site.cli("bans", "lift", "127.0.0.1")

    assert set(guesses) <= {401, 429}
    assert [ban["source"] for ban in bans] == ["127.0.0.1"]
    assert good.code == "too_many_wrong_keys"
    assert int(good.response.headers["retry-after"]) > 800
    assert lifted.returncode == 0
    assert accepted(site, site.key)


def guess(site: Appliance, number: int) -> int:
    headers = {"Authorization": f"Bearer ifk_live_{number:050}"}
    return httpx.get(f"{site.base_url}/models", headers=headers, verify=site.verify, timeout=30).status_code
