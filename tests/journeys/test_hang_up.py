from __future__ import annotations

import itertools

import openai

from tests.appliance_under_test import Appliance
from tests.processes import await_true

READ = 10
ABORTED_SECONDS_MAX = 1.0
STEPS_UNDERWAY = 3
"""Tokens that the engine may have made while the last ones were on their way to the caller."""


def test_a_hang_up_ends_generation_and_is_charged_as_far_as_it_came(
    box: Appliance, client: openai.OpenAI
) -> None:
    await_true(lambda: box.engine_counts()["num_requests_running"] == 0, 5, "an idle engine")
    before = box.engine_counts()
    raw = client.completions.with_raw_response.create(
        model=box.model, prompt="Once", max_tokens=1500, stream=True, extra_body={"ignore_eos": True}
    )
    stream = raw.parse()
    read = len(list(itertools.islice(stream, READ)))

    stream.close()

    await_true(
        lambda: box.engine_counts()["num_requests_running"] == 0, ABORTED_SECONDS_MAX, "generation has ended"
    )
    row = box.row(raw.headers["x-request-id"])
    after = box.engine_counts()
    # Each of the watcher's own one-token probes counts one prompt token.
    probes = after["prompt_tokens"] - before["prompt_tokens"] - row.prompt_tokens
    made = after["generation_tokens"] - before["generation_tokens"] - probes
    assert (row.token_counts, row.http_status) == ("partial", 499)
    assert read <= row.completion_tokens <= made <= row.completion_tokens + STEPS_UNDERWAY


def test_a_hang_up_before_the_answer_ends_generation(box: Appliance) -> None:
    """An answer that doesn't stream is abandoned just the same."""
    with box.sdk() as client:
        hasty = client.with_options(timeout=1.0)
        try:
            hasty.completions.create(
                model=box.model, prompt="Once", max_tokens=1800, extra_body={"ignore_eos": True}
            )
        except openai.APITimeoutError:
            timed_out = True
        else:
            timed_out = False

    assert timed_out
    await_true(
        lambda: box.engine_counts()["num_requests_running"] == 0, ABORTED_SECONDS_MAX, "generation has ended"
    )
