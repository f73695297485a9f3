"""OpenAI's SDK for Python asks for what chats and completions can do beyond an answer."""

from __future__ import annotations

from typing import Any, Literal

import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionMessageParam
from pydantic import BaseModel, ConfigDict, Field

MODEL = "twin"
MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "How is the weather?"}]
ON: dict[str, Any] = {"ignore_eos": True}
WORDS = "red green blue"
ONLY_WORDS: dict[str, Any] = {"structured_outputs": {"choice": [WORDS]}}
"""The model is random: what is tested of its text has to be forced."""


class Weather(BaseModel):
    model_config = ConfigDict(extra="forbid")

    city: Literal["Pune", "Delhi"]
    degrees: int = Field(ge=-9, le=50)
    dry: bool


FORMAT: Any = {
    "type": "json_schema",
    "json_schema": {"name": "weather", "schema": Weather.model_json_schema(), "strict": True},
}


def text_of(answer: ChatCompletion) -> str:
    return answer.choices[0].message.content or ""


def test_several_answers_at_once(site_client: openai.OpenAI) -> None:
    answer = site_client.chat.completions.create(
        model=MODEL, messages=MESSAGES, max_tokens=20, n=3, extra_body=ON
    )

    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) > 1
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 60


def test_several_answers_stream(site_client: openai.OpenAI) -> None:
    with site_client.chat.completions.create(
        model=MODEL, messages=MESSAGES, max_tokens=20, n=2, stream=True, extra_body=ON
    ) as stream:
        choices = [chunk.choices[0] for chunk in stream]

    ends = [choice.index for choice in choices if choice.finish_reason]
    assert sorted(ends) == [0, 1]
    assert {choice.index for choice in choices if choice.delta.content} == {0, 1}


def test_the_same_seed_gives_the_same_answer(site_client: openai.OpenAI) -> None:
    first, again, other = (
        site_client.chat.completions.create(
            model=MODEL, messages=MESSAGES, max_tokens=40, temperature=1, seed=seed, extra_body=ON
        )
        for seed in (7, 7, 8)
    )

    assert text_of(first) == text_of(again)
    assert text_of(first) != text_of(other)


def test_a_stop_string_ends_an_answer_before_it(site_client: openai.OpenAI) -> None:
    answer = site_client.chat.completions.create(
        model=MODEL, messages=MESSAGES, max_tokens=40, stop=["green"], extra_body=ONLY_WORDS
    )

    assert text_of(answer) == "red "
    assert answer.choices[0].finish_reason == "stop"


def test_a_completion_stops_too(site_client: openai.OpenAI) -> None:
    answer = site_client.completions.create(
        model=MODEL, prompt="Colours:", max_tokens=40, stop="green", extra_body=ONLY_WORDS
    )

    assert answer.choices[0].text == "red "


def test_a_chat_tells_log_probabilities(site_client: openai.OpenAI) -> None:
    answer = site_client.chat.completions.create(
        model=MODEL, messages=MESSAGES, max_tokens=4, logprobs=True, top_logprobs=3, extra_body=ON
    )

    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert [len(token.top_logprobs) in {3, 4} for token in logprobs.content] == [True] * 4
    assert all(token.logprob <= 0 for token in logprobs.content)


def test_a_completion_tells_log_probabilities(site_client: openai.OpenAI) -> None:
    answer = site_client.completions.create(
        model=MODEL, prompt="one", max_tokens=4, logprobs=2, extra_body=ON
    )

    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert len(logprobs.tokens or ()) == len(logprobs.token_logprobs or ()) == 4


def test_several_prompts_are_completed_at_once(site_client: openai.OpenAI) -> None:
    answer = site_client.completions.create(model=MODEL, prompt=["one", "two"], max_tokens=3, echo=True)

    assert [choice.text[:3] for choice in answer.choices] == ["one", "two"]


def test_an_answer_fits_its_schema(site_client: openai.OpenAI) -> None:
    answer = site_client.chat.completions.create(
        model=MODEL, messages=MESSAGES, max_tokens=200, response_format=FORMAT
    )

    assert answer.choices[0].finish_reason == "stop"
    assert Weather.model_validate_json(text_of(answer))


def test_a_streamed_answer_fits_its_schema(site_client: openai.OpenAI) -> None:
    with site_client.chat.completions.create(
        model=MODEL, messages=MESSAGES, max_tokens=200, response_format=FORMAT, stream=True
    ) as stream:
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    assert Weather.model_validate_json(text)


def test_the_sdk_parses_an_answer(site_client: openai.OpenAI) -> None:
    answer = site_client.chat.completions.parse(
        model=MODEL, messages=MESSAGES, max_tokens=200, response_format=Weather
    )

    assert isinstance(answer.choices[0].message.parsed, Weather)


def test_the_sdks_helper_puts_a_stream_together(site_client: openai.OpenAI) -> None:
    with site_client.chat.completions.stream(
        model=MODEL, messages=MESSAGES, max_tokens=200, response_format=Weather
    ) as stream:
        kinds = {event.type for event in stream}
        answer = stream.get_final_completion()

    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert isinstance(answer.choices[0].message.parsed, Weather)


def test_models_are_listed_and_found(site_client: openai.OpenAI) -> None:
    listed = [model.id for model in site_client.models.list()]
    found = site_client.models.retrieve(MODEL)

    assert listed == ["minilm", MODEL]
    assert (found.id, found.object) == (MODEL, "model")


def test_a_model_that_is_not_there_is_not_found(site_client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        site_client.models.retrieve("no-such-model")

    assert refused.value.code == "model_not_found"
