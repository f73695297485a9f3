from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from typing import Any

import openai
import pytest

from tests.appliance_under_test import Appliance
from tests.processes import await_true

READ = 10
ABORTED_SECONDS_MAX = 5.0
"""Far less than what was asked for takes; how soon it really ended is in the engine's count."""
STEPS_UNDERWAY = 3
"""Tokens of one answer that the engine may have made while the last ones were on their way to the caller."""
STORY = "Write a very long story of a journey by sea."

Stream = tuple[str, Iterator[object]]
"""Id of the request, and what comes of it."""
Open = Callable[[Appliance, int], AbstractContextManager[Stream]]
"""Asks for so many answers at once."""


@contextlib.contextmanager
def completion(box: Appliance, choices: int) -> Generator[Stream]:
    with box.sdk() as client:
        raw: Any = client.completions.with_raw_response.create(
            model=box.model,
            prompt="Once",
            max_tokens=1500,
            n=choices,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        with raw.parse() as stream:
            yield raw.headers["x-request-id"], stream


@contextlib.contextmanager
def chat(box: Appliance, choices: int) -> Generator[Stream]:
    with box.sdk() as client:
        raw: Any = client.chat.completions.with_raw_response.create(
            model=box.model,
            messages=[{"role": "user", "content": STORY}],
            max_tokens=1500,
            n=choices,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        with raw.parse() as stream:
            yield raw.headers["x-request-id"], (chunk for chunk in stream if chunk.choices[0].delta.content)


@contextlib.contextmanager
def response(box: Appliance, _choices: int) -> Generator[Stream]:
    with box.sdk() as client:
        raw: Any = client.responses.with_raw_response.create(
            model=box.model, input=STORY, max_output_tokens=1500, stream=True
        )
        with raw.parse() as stream:
            yield (
                raw.headers["x-request-id"],
                (event for event in stream if event.type.endswith("text.delta")),
            )


@contextlib.contextmanager
def message(box: Appliance, _choices: int) -> Generator[Stream]:
    with (
        box.anthropic_sdk() as claude,
        claude.messages.stream(
            model=box.model, max_tokens=1500, messages=[{"role": "user", "content": STORY}]
        ) as stream,
    ):
        yield stream.response.headers["request-id"], stream.text_stream


def idle(box: Appliance) -> bool:
    return box.engine_counts()["num_requests_running"] == 0


@pytest.mark.parametrize(
    ("opened", "choices"),
    [(completion, 1), (chat, 1), (response, 1), (message, 1), (completion, 2), (chat, 2)],
    ids=["completions", "chat", "responses", "messages", "two completions", "two chats"],
)
def test_a_hang_up_ends_generation_and_is_charged_as_far_as_it_came(
    box: Appliance, opened: Open, choices: int
) -> None:
    """The engine's running count is in the row: of all answers that were under way, not of one."""
    await_true(lambda: idle(box), 5, "an idle engine")
    before = box.engine_counts()

    with opened(box, choices) as (request_id, stream):
        read = len(list(itertools.islice(stream, READ * choices)))

    await_true(lambda: idle(box), ABORTED_SECONDS_MAX, "generation has ended")
    row = box.row(request_id)
    after = box.engine_counts()
    # Each of the watcher's own one-token probes counts one prompt token; the engine counts a prompt for each answer.
    probes = after["prompt_tokens"] - before["prompt_tokens"] - row.prompt_tokens * choices
    made = after["generation_tokens"] - before["generation_tokens"] - probes
    assert (row.token_counts, row.http_status) == ("partial", 499)
    assert read <= row.completion_tokens <= made <= row.completion_tokens + STEPS_UNDERWAY * choices


def test_a_hang_up_before_the_answer_ends_generation(box: Appliance) -> None:
    """An answer that doesn't stream is abandoned just the same."""
    with box.sdk() as client, pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=1.0).completions.create(
            model=box.model, prompt="Once", max_tokens=1800, extra_body={"ignore_eos": True}
        )

    await_true(lambda: idle(box), ABORTED_SECONDS_MAX, "generation has ended")
