"""Anthropic's own SDK against the appliance: messages, streams, tools, counts, and its errors by class."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest
from anthropic.types import Message, MessageParam

from tests.appliance_under_test import Appliance
from tests.journeys.test_openai_chat import WORDS, Weather

MODEL = "twin"
HELLO: list[MessageParam] = [{"role": "user", "content": "Hello!"}]
TOOL: Any = {
    "name": "tell_weather",
    "description": "Tell how the weather is.",
    "input_schema": Weather.model_json_schema(),
}
FORMAT: Any = {"format": {"type": "json_schema", "schema": {"const": WORDS}}}


def test_a_message_is_answered(claude: anthropic.Anthropic) -> None:
    answer = claude.messages.create(
        model=MODEL, max_tokens=8, messages=HELLO, system="Be brief.", output_config=FORMAT
    )

    (block,) = answer.content
    assert block.type == "text"
    assert block.text.startswith('"red')
    assert (answer.role, answer.model, answer.stop_reason) == ("assistant", MODEL, "max_tokens")
    assert answer.usage.output_tokens == 8


def test_a_message_streams(claude: anthropic.Anthropic) -> None:
    with claude.messages.stream(model=MODEL, max_tokens=8, messages=HELLO, output_config=FORMAT) as stream:
        text = "".join(stream.text_stream)
        answer = stream.get_final_message()

    (block,) = answer.content
    assert block.type == "text"
    assert block.text == text
    assert text.startswith('"red')
    assert (answer.stop_reason, answer.usage.output_tokens) == ("max_tokens", 8)
    assert answer.usage.input_tokens > 0


def test_the_events_of_a_stream_come_in_the_order_of_the_api(claude: anthropic.Anthropic) -> None:
    with claude.messages.create(
        model=MODEL, max_tokens=60, messages=HELLO, output_config=FORMAT, stream=True
    ) as stream:
        kinds = [event.type for event in stream]

    deltas = kinds.count("content_block_delta")
    assert kinds == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * deltas,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert deltas > 2


def test_a_stop_sequence_is_told(claude: anthropic.Anthropic) -> None:
    answer = claude.messages.create(
        model=MODEL, max_tokens=60, messages=HELLO, output_config=FORMAT, stop_sequences=["green"]
    )

    (block,) = answer.content
    assert block.type == "text"
    assert block.text == '"red '
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", "green")


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "tell_weather"}])
def test_a_tool_is_used(claude: anthropic.Anthropic, choice: Any) -> None:
    choice = {**choice, "disable_parallel_tool_use": True}

    answer = claude.messages.create(
        model=MODEL, max_tokens=300, messages=HELLO, tools=[TOOL], tool_choice=choice
    )

    (block,) = answer.content
    assert block.type == "tool_use"
    assert block.name == "tell_weather"
    assert Weather.model_validate(block.input)
    assert answer.stop_reason == "tool_use"


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "tell_weather"}])
def test_a_use_of_a_tool_streams(claude: anthropic.Anthropic, choice: Any) -> None:
    choice = {**choice, "disable_parallel_tool_use": True}

    with claude.messages.stream(
        model=MODEL, max_tokens=300, messages=HELLO, tools=[TOOL], tool_choice=choice
    ) as stream:
        answer = stream.get_final_message()

    (block,) = answer.content
    assert block.type == "tool_use"
    assert Weather.model_validate(block.input)
    assert answer.stop_reason == "tool_use"


def test_a_tools_result_is_sent_back(claude: anthropic.Anthropic) -> None:
    choice: Any = {"type": "tool", "name": "tell_weather", "disable_parallel_tool_use": True}
    first = claude.messages.create(
        model=MODEL, max_tokens=300, messages=HELLO, tools=[TOOL], tool_choice=choice
    )
    (block,) = first.content
    assert block.type == "tool_use"
    result: Any = {"type": "tool_result", "tool_use_id": block.id, "content": "Sunny."}
    turns: Any = [*HELLO, first.to_param(), {"role": "user", "content": [result]}]

    second = claude.messages.create(
        model=MODEL, max_tokens=4, messages=turns, tools=[TOOL], tool_choice={"type": "none"}
    )

    assert second.content[0].type == "text"
    assert second.usage.input_tokens > first.usage.input_tokens


def test_counted_tokens_are_those_that_are_charged(claude: anthropic.Anthropic) -> None:
    asked: Any = {"model": MODEL, "messages": HELLO, "system": "Be brief.", "tools": [TOOL]}

    counted = claude.messages.count_tokens(**asked)

    create: Any = claude.messages.create
    answer: Message = create(max_tokens=1, tool_choice={"type": "none"}, **asked)
    assert counted.input_tokens == answer.usage.input_tokens > 0


def test_a_wrong_key(site: Appliance) -> None:
    with (
        site.anthropic_sdk("ifk_live_wrong") as claude,
        pytest.raises(anthropic.AuthenticationError) as refused,
    ):
        claude.messages.create(model=MODEL, max_tokens=1, messages=HELLO)

    assert kind_of(refused.value) == "authentication_error"


def test_an_unknown_model(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as refused:
        claude.messages.create(model="no-such-model", max_tokens=1, messages=HELLO)

    assert kind_of(refused.value) == "not_found_error"


def test_a_bad_request(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError) as refused:
        claude.messages.create(model=MODEL, max_tokens=1, messages=HELLO, extra_body={"temperature": 9})

    assert kind_of(refused.value) == "invalid_request_error"


def test_a_prompt_longer_than_the_context_is_refused_with_its_id(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError) as refused:
        claude.messages.create(
            model=MODEL, max_tokens=1, messages=[{"role": "user", "content": "long " * 900}]
        )

    assert refused.value.request_id
    assert "context" in str(refused.value)


def test_a_picture_is_refused_by_a_model_that_cannot_see(claude: anthropic.Anthropic) -> None:
    dot = "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
    source: Any = {"type": "base64", "media_type": "image/gif", "data": dot}
    seen: Any = [{"role": "user", "content": [{"type": "image", "source": source}]}]

    with pytest.raises(anthropic.BadRequestError) as refused:
        claude.messages.create(model=MODEL, max_tokens=1, messages=seen)

    assert "does not take images" in str(refused.value)


def kind_of(refused: anthropic.APIStatusError) -> str:
    body: Any = refused.body
    return body["error"]["type"]
