"""The Responses API by OpenAI's SDK: whole, in events, with tools, with a schema, turn after turn."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from openai.types.responses import Response

from tests.journeys.test_openai_chat import WORDS, Weather

MODEL = "twin"
TOOL: Any = {
    "type": "function",
    "name": "tell_weather",
    "parameters": Weather.model_json_schema(),
    "strict": True,
}
NAMED: Any = {"type": "function", "name": "tell_weather"}
FORMAT: Any = {
    "format": {
        "type": "json_schema",
        "name": "weather",
        "schema": Weather.model_json_schema(),
        "strict": True,
    }
}
ONLY_WORDS: Any = {"format": {"type": "json_schema", "name": "words", "schema": {"const": WORDS}}}
"""The model is random: it might end at once, or say nothing that can be read."""
ONE: dict[str, Any] = {"parallel_tool_calls": False, "max_output_tokens": 300}


def ask(client: openai.OpenAI, **more: Any) -> Response:
    create: Any = client.responses.create
    return create(**{"model": MODEL, "input": "Hello!"} | ONE | more)


def test_a_response_is_whole(site_client: openai.OpenAI) -> None:
    answer = site_client.responses.create(
        model=MODEL,
        input="Hello!",
        instructions="Be brief.",
        max_output_tokens=8,
        metadata={"ticket": "7"},
        text=ONLY_WORDS,
    )

    assert answer.output_text.startswith('"red')
    assert (answer.object, answer.status) == ("response", "incomplete")
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert (answer.instructions, answer.metadata) == ("Be brief.", {"ticket": "7"})
    assert answer.usage is not None
    assert answer.usage.output_tokens == 8
    assert answer.usage.total_tokens == answer.usage.input_tokens + 8


def test_a_response_streams_in_the_order_of_the_api(site_client: openai.OpenAI) -> None:
    with site_client.responses.create(
        model=MODEL, input="Hello!", max_output_tokens=200, text=FORMAT, stream=True
    ) as stream:
        events = list(stream)

    kinds = [event.type for event in events]
    deltas = kinds.count("response.output_text.delta")
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * deltas,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert deltas > 4
    assert [event.sequence_number for event in events] == list(range(len(events)))


def test_the_sdks_helper_puts_a_stream_together(site_client: openai.OpenAI) -> None:
    with site_client.responses.stream(
        model=MODEL, input="Hello!", max_output_tokens=200, text_format=Weather
    ) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        answer = stream.get_final_response()

    assert text == answer.output_text
    assert isinstance(answer.output_parsed, Weather)


def test_a_stream_that_runs_out_of_tokens_says_so(site_client: openai.OpenAI) -> None:
    with site_client.responses.create(
        model=MODEL, input="Hello!", max_output_tokens=8, text=ONLY_WORDS, stream=True
    ) as stream:
        last = list(stream)[-1]

    assert last.type == "response.incomplete"
    assert last.response.usage is not None
    assert last.response.usage.output_tokens == 8


def test_a_response_fits_its_schema(site_client: openai.OpenAI) -> None:
    answer = site_client.responses.create(model=MODEL, input="Hello!", max_output_tokens=200, text=FORMAT)

    assert answer.status == "completed"
    assert Weather.model_validate_json(answer.output_text)


def test_the_sdk_parses_a_response(site_client: openai.OpenAI) -> None:
    answer = site_client.responses.parse(
        model=MODEL, input="Hello!", max_output_tokens=200, text_format=Weather
    )

    assert isinstance(answer.output_parsed, Weather)


@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
def test_a_function_is_called(site_client: openai.OpenAI, choice: Any) -> None:
    answer = ask(site_client, tools=[TOOL], tool_choice=choice)

    (call,) = answer.output
    assert call.type == "function_call"
    assert call.name == "tell_weather"
    assert Weather.model_validate_json(call.arguments)


@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
def test_a_call_streams(site_client: openai.OpenAI, choice: Any) -> None:
    with site_client.responses.stream(
        model=MODEL, input="Hello!", tools=[TOOL], tool_choice=choice, **ONE
    ) as stream:
        kinds = [event.type for event in stream]
        answer = stream.get_final_response()

    (call,) = answer.output
    assert call.type == "function_call"
    assert Weather.model_validate_json(call.arguments)
    assert kinds.count("response.function_call_arguments.done") == 1
    assert kinds.index("response.output_item.added") < kinds.index("response.function_call_arguments.delta")


def test_a_conversation_goes_on(site_client: openai.OpenAI) -> None:
    """Nothing is stored: the application sends back what the model said, as the SDK gave it."""
    first = ask(site_client, tools=[TOOL], tool_choice=NAMED)
    (call,) = first.output
    assert call.type == "function_call"
    history: Any = [
        {"role": "user", "content": "Hello!"},
        *[item.model_dump() for item in first.output],
        {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny."},
        {"role": "user", "content": "And now?"},
    ]

    second = ask(site_client, input=history, tools=[TOOL], tool_choice="none")

    assert [item.type for item in second.output] == ["message"]
    assert second.usage is not None
    assert first.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens


def test_log_probabilities_are_told_if_asked_for(site_client: openai.OpenAI) -> None:
    answer = site_client.responses.create(
        model=MODEL,
        input="Hello!",
        max_output_tokens=4,
        text=ONLY_WORDS,
        include=["message.output_text.logprobs"],
        top_logprobs=2,
    )

    (message,) = answer.output
    assert message.type == "message"
    (part,) = message.content
    assert part.type == "output_text"
    assert len(part.logprobs or ()) == 4


@pytest.mark.parametrize(
    ("field", "value"), [("previous_response_id", "resp_1"), ("background", True), ("conversation", "conv_1")]
)
def test_what_needs_a_memory_is_refused(site_client: openai.OpenAI, field: str, value: Any) -> None:
    asked: dict[str, Any] = {field: value}
    with pytest.raises(openai.BadRequestError) as refused:
        site_client.responses.create(model=MODEL, input="Hello!", **asked)

    assert (refused.value.code, refused.value.param) == ("unsupported_field", field)


def test_no_response_can_be_fetched_later(site_client: openai.OpenAI) -> None:
    answer = site_client.responses.create(model=MODEL, input="Hello!", max_output_tokens=2, store=True)

    with pytest.raises(openai.NotFoundError):
        site_client.responses.retrieve(answer.id)
