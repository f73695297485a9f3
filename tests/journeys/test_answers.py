from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pytest
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletionMessageParam

from appliance.domain import LedgerRow
from tests.appliance_under_test import Appliance

MESSAGES: list[ChatCompletionMessageParam] = [
    {"role": "system", "content": "You are brief."},
    {"role": "user", "content": "Name three colours."},
]
PROMPT = "The sky is"


def test_a_chat_is_answered(box: Appliance, client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=box.model, messages=MESSAGES, max_tokens=16)

    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in {"stop", "length"}
    assert answer.model == box.model


def test_a_chat_streams(box: Appliance, client: openai.OpenAI) -> None:
    with client.chat.completions.create(
        model=box.model, messages=MESSAGES, max_tokens=16, stream=True
    ) as stream:
        chunks = list(stream)

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert len(chunks) > 4
    assert chunks[-1].choices[0].finish_reason in {"stop", "length"}


def test_a_completion_is_answered(box: Appliance, client: openai.OpenAI) -> None:
    answer = client.completions.create(model=box.model, prompt=PROMPT, max_tokens=16)

    assert answer.choices[0].text
    assert answer.choices[0].finish_reason in {"stop", "length"}


def test_a_completion_streams(box: Appliance, client: openai.OpenAI) -> None:
    with client.completions.create(model=box.model, prompt=PROMPT, max_tokens=16, stream=True) as stream:
        chunks = list(stream)

    assert "".join(chunk.choices[0].text for chunk in chunks)
    assert len(chunks) > 4


def test_usage_is_in_a_stream_only_if_asked_for(box: Appliance, client: openai.OpenAI) -> None:
    with client.chat.completions.create(
        model=box.model, messages=MESSAGES, max_tokens=4, stream=True
    ) as stream:
        chunks = list(stream)

    assert [chunk.usage for chunk in chunks] == [None] * len(chunks)
    assert all(chunk.choices for chunk in chunks)


def test_running_usage_is_on_every_event_if_asked_for(box: Appliance, client: openai.OpenAI) -> None:
    with client.chat.completions.create(
        model=box.model,
        messages=MESSAGES,
        max_tokens=8,
        stream=True,
        extra_body={
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
            "ignore_eos": True,
        },
    ) as stream:
        counts = [chunk.usage.completion_tokens for chunk in stream if chunk.usage]

    assert counts == sorted(counts)
    assert counts[-1] == 8


def test_the_model_is_listed(box: Appliance, client: openai.OpenAI) -> None:
    listed = client.models.list().data

    assert [(model.id, model.object) for model in listed] == [("smollm2-135m-instruct", "model")]


def test_fields_of_openai_that_mean_nothing_here_are_accepted(box: Appliance, client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=box.model,
        messages=MESSAGES,
        max_completion_tokens=4,
        user="someone",
        metadata={"ticket": "7"},
        service_tier="auto",
        store=False,
        parallel_tool_calls=False,
        seed=7,
    )

    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 4


def test_sampling_fields_of_vllm_are_obeyed(box: Appliance, client: openai.OpenAI) -> None:
    extras = {"ignore_eos": True, "min_tokens": 12, "top_k": 20, "min_p": 0.05, "repetition_penalty": 1.1}

    answer = client.completions.create(model=box.model, prompt=PROMPT, max_tokens=12, extra_body=extras)

    assert answer.usage is not None
    assert answer.usage.completion_tokens == 12


def chat(client: openai.OpenAI, model: str, **more: Any) -> Any:
    create: Any = client.chat.completions.with_raw_response.create
    return create(model=model, messages=MESSAGES, **more)


def completion(client: openai.OpenAI, model: str, **more: Any) -> Any:
    create: Any = client.completions.with_raw_response.create
    return create(model=model, prompt=PROMPT, **more)


@pytest.mark.parametrize("ask", [chat, completion])
def test_the_row_of_an_answer_is_its_usage(
    box: Appliance, client: openai.OpenAI, ask: Callable[..., Any]
) -> None:
    raw = ask(client, box.model, max_tokens=9)
    usage = raw.parse().usage

    row = box.row(raw.headers["x-request-id"])
    assert facts(row) == ("exact", 200, usage.prompt_tokens, usage.completion_tokens)


@pytest.mark.parametrize("ask", [chat, completion])
def test_the_row_of_a_stream_is_its_usage(
    box: Appliance, client: openai.OpenAI, ask: Callable[..., Any]
) -> None:
    raw = ask(client, box.model, max_tokens=9, stream=True, stream_options={"include_usage": True})
    with raw.parse() as stream:
        usage: CompletionUsage = list(stream)[-1].usage

    row = box.row(raw.headers["x-request-id"])
    assert facts(row) == ("exact", 200, usage.prompt_tokens, usage.completion_tokens)
    assert row.latency_ttft_ms is not None
    assert row.latency_ttft_ms <= row.latency_total_ms


def test_a_row_names_key_and_model(box: Appliance, client: openai.OpenAI) -> None:
    raw = chat(client, box.model, max_tokens=2)

    row = box.row(raw.headers["x-request-id"])
    assert row.api_key_id == box.key.removeprefix("ifk_live_")[:10]
    assert (row.model_id, row.deployment_id) == (box.model, box.model)
    assert row.ts_start_ms <= row.ts_end_ms
    assert row.rl_tokens_used == row.prompt_tokens + row.completion_tokens


def facts(row: LedgerRow) -> tuple[str, int, int, int]:
    return row.token_counts, row.http_status, row.prompt_tokens, row.completion_tokens
