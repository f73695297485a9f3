"""Each part is killed at the worst moment. What was admitted has exactly one row, and the part comes back."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import openai
import pytest

from appliance.clock import now_ms
from tests.appliance_under_test import Appliance
from tests.processes import await_true

STREAMS = 16
"""As many as the engine works on at once: more would wait in the gateway."""
PART_BACK_SECONDS_MAX = 20
NOTICED_SECONDS_MAX = 5
ROWS_SECONDS_MAX = 5
ENGINE_BACK_SECONDS_MAX = 120
LONG: dict[str, Any] = {"max_tokens": 480, "stream": True, "extra_body": {"ignore_eos": True}}


@dataclass
class Ending:
    """How one stream went, as its caller saw it."""

    request_id: str
    events: int
    error: BaseException | None


def stream_to_the_end(client: openai.OpenAI, model: str, begun: threading.Semaphore) -> Ending:
    """`begun` counts what has come: the answer's head, then its events."""
    create: Any = client.completions.with_raw_response.create
    raw = create(model=model, prompt="one two", **LONG)
    ending = Ending(raw.headers["x-request-id"], 0, None)
    begun.release()
    try:
        with raw.parse() as stream:
            for _ in stream:
                ending.events += 1
                begun.release()
    except (openai.APIError, httpx.HTTPError) as error:
        ending.error = error
    return ending


def stream_until(appliance: Appliance, streams: int, kill: int, *, events: int = 1) -> list[Ending]:
    """Open streams, kill -9 process `kill` once `events` things have come of each, and see how they end."""
    model = appliance.model
    with appliance.sdk() as client, ThreadPoolExecutor(streams) as threads:
        begun = [threading.Semaphore(0) for _ in range(streams)]
        running = [threads.submit(stream_to_the_end, client, model, one) for one in begun]
        for one in begun:
            assert all(one.acquire(timeout=60) for _ in range(events))
        os.kill(kill, signal.SIGKILL)
        return [one.result(timeout=60) for one in running]


def test_an_engine_killed_mid_stream(sturdy: Appliance) -> None:
    """Its caller gets an error the SDK raises, the row has the tokens so far, and the engine comes back."""
    (ending,) = stream_until(sturdy, 1, sturdy.vllm("tiny").pid, events=3)

    assert isinstance(ending.error, openai.APIError)
    assert ending.error.code == "engine_lost"
    row = sturdy.row(ending.request_id)
    assert (row.token_counts, row.http_status) == ("partial", 502)
    assert row.completion_tokens >= ending.events > 0
    await_true(lambda: not sturdy.ready(), NOTICED_SECONDS_MAX, "the gateway knows")
    assert refusal_of_a_model_away(sturdy) == (503, "model_not_ready", "5")
    await_true(sturdy.ready, ENGINE_BACK_SECONDS_MAX, "the engine is back")
    with sturdy.sdk() as client:
        assert client.completions.create(model=sturdy.model, prompt="one", max_tokens=2).usage


def refusal_of_a_model_away(appliance: Appliance) -> tuple[int, str | None, str]:
    with appliance.sdk() as client, pytest.raises(openai.InternalServerError) as refused:
        client.completions.create(model=appliance.model, prompt="one", max_tokens=2)
    return refused.value.status_code, refused.value.code, refused.value.response.headers["retry-after"]


def test_a_gateway_killed_under_load(sturdy: Appliance) -> None:
    began_ms = now_ms()

    endings = stream_until(sturdy, STREAMS, sturdy.part("inferfly gateway").pid)

    await_true(sturdy.ready, PART_BACK_SECONDS_MAX, "the gateway is back")
    await_true(lambda: len(sturdy.rows_since(began_ms)) >= STREAMS, ROWS_SECONDS_MAX, "the rows")
    rows = sturdy.rows_since(began_ms)
    assert sorted(row.request_id for row in rows) == sorted(ending.request_id for ending in endings)
    assert {row.token_counts for row in rows} <= {"interrupted", "exact"}
    assert [row.token_counts for row in rows].count("interrupted") > STREAMS // 2
    events = {ending.request_id: ending.events for ending in endings}
    assert all(row.completion_tokens >= events[row.request_id] for row in rows)
    assert all(row.http_status == 500 for row in rows if row.token_counts == "interrupted")


def test_the_engine_abandons_what_a_killed_gateway_asked_for(sturdy: Appliance) -> None:
    stream_until(sturdy, 4, sturdy.part("inferfly gateway").pid)

    await_true(sturdy.ready, PART_BACK_SECONDS_MAX, "the gateway is back")
    await_true(lambda: sturdy.engine_counts()["num_requests_running"] == 0, 2, "generation has ended")


def test_control_killed(sturdy: Appliance) -> None:
    """Applications notice nothing: only administration waits for it to come back."""
    control = sturdy.part("inferfly control")
    os.kill(control.pid, signal.SIGKILL)

    with sturdy.sdk() as client:
        answer = client.completions.create(model="tiny", prompt="one", max_tokens=2)

    assert answer.usage
    await_true(lambda: sturdy.cli("status").returncode == 0, PART_BACK_SECONDS_MAX, "control is back")
    assert sturdy.part("inferfly control").pid != control.pid
    assert sturdy.new_key()["key"].startswith("ifk_live_")


def test_the_watcher_of_an_engine_killed(sturdy: Appliance) -> None:
    """Its vLLM goes with it, so that no engine ever runs without anyone who could stop it."""
    vllm = sturdy.vllm("tiny")
    os.kill(vllm.parent, signal.SIGKILL)

    await_true(lambda: not vllm.lives(), 5, "vLLM is gone")
    await_true(lambda: not sturdy.ready(), NOTICED_SECONDS_MAX, "the gateway knows")
    await_true(sturdy.ready, ENGINE_BACK_SECONDS_MAX, "the engine is back")
    assert sturdy.vllm("tiny").pid != vllm.pid
