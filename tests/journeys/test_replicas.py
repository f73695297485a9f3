"""A model on two engines, one of which is killed under load: nobody is left without an answer or an error."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import openai

from appliance.clock import now_ms
from tests.appliance_under_test import Appliance
from tests.processes import await_true

TWIN = "twin"
STREAMS = 6
WHOLE = 6
TOKENS = 400
BACK_SECONDS_MAX = 120
ROWS_SECONDS_MAX = 5
LONG: dict[str, Any] = {
    "model": TWIN,
    "prompt": "one two",
    "max_tokens": TOKENS,
    "extra_body": {"ignore_eos": True},
}


class Ending(NamedTuple):
    """How a request ended, as its caller saw it."""

    request_id: str
    code: str
    """`whole`, or the error's."""


def streamed(client: openai.OpenAI, begun: threading.Semaphore) -> Ending:
    raw: Any = client.completions.with_raw_response.create(stream=True, **LONG)
    request_id = raw.headers["x-request-id"]
    try:
        with raw.parse() as stream:
            for _ in stream:
                begun.release()
    except openai.APIError as error:
        return Ending(request_id, error.code or "")
    return Ending(request_id, "whole")


def whole(client: openai.OpenAI) -> Ending:
    try:
        create: Any = client.completions.with_raw_response.create
        raw = create(**LONG)
    except openai.APIStatusError as error:
        return Ending(error.response.headers["x-request-id"], error.code or "")
    return Ending(raw.headers["x-request-id"], "whole")


def test_one_of_two_engines_is_killed_under_load(site: Appliance) -> None:
    began_ms = now_ms()
    begun = [threading.Semaphore(0) for _ in range(STREAMS)]
    with site.sdk() as client, ThreadPoolExecutor(STREAMS + WHOLE) as threads:
        streams = [threads.submit(streamed, client, one) for one in begun]
        others = [threads.submit(whole, client) for _ in range(WHOLE)]
        assert all(one.acquire(timeout=60) for one in begun)

        os.kill(site.vllm("twin-1").pid, signal.SIGKILL)

        endings = [one.result(timeout=90) for one in streams]
        answers = [one.result(timeout=90) for one in others]

    assert {ending.code for ending in endings} == {"whole", "engine_lost"}, "one engine's streams, not all"
    assert {answer.code for answer in answers} == {"whole"}, "what had not begun went to the other engine"
    await_true(lambda: len(site.rows_since(began_ms)) >= STREAMS + WHOLE, ROWS_SECONDS_MAX, "the rows")
    rows = {row.request_id: row for row in site.rows_since(began_ms)}
    assert sorted(rows) == sorted(one.request_id for one in endings + answers), "one row each"
    lost = [rows[ending.request_id] for ending in endings if ending.code == "engine_lost"]
    assert {(row.http_status, row.token_counts) for row in lost} == {(502, "partial")}
    assert all(0 < row.completion_tokens < TOKENS for row in lost)
    await_true(site.ready, BACK_SECONDS_MAX, "the engine is back")
