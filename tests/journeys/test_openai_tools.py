"""Tools by OpenAI's SDK: the model is made to call them, and the arguments are what the application's schema says."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionMessageParam, ChatCompletionMessageToolCallUnion

from tests.appliance_under_test import Appliance
from tests.journeys.test_openai_chat import Weather

MODEL = "twin"
MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "How is the weather?"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "tell_weather",
        "description": "Tell how the weather is.",
        "parameters": Weather.model_json_schema(),
    },
}
WAIT: Any = {
    "type": "function",
    "function": {
        "name": "wait",
        "parameters": {
            "type": "object",
            "properties": {"minutes": {"enum": [5, 10]}},
            "required": ["minutes"],
            "additionalProperties": False,
        },
    },
}
NAMED: Any = {"type": "function", "function": {"name": "tell_weather"}}
ONE: dict[str, Any] = {"parallel_tool_calls": False, "max_tokens": 300}
CALLS = [
    '<tool_call>\n{"name": "wait", "arguments": {"minutes": 5}}\n</tool_call>',
    '<tool_call>\n{"name": "tell_weather", "arguments": {"city": "Pune", "degrees": 31, "dry": true}}\n</tool_call>',
]
"""As the model's parser expects them. Random weights have to be forced to say so."""


def ask(client: openai.OpenAI, **more: Any) -> ChatCompletion:
    create: Any = client.chat.completions.create
    return create(**{"model": MODEL, "messages": MESSAGES} | ONE | more)


def said(text: str) -> dict[str, Any]:
    return {"structured_outputs": {"choice": [text]}}


def calls_of(answer: ChatCompletion) -> list[tuple[str, str]]:
    return [called(call) for call in answer.choices[0].message.tool_calls or ()]


def called(call: ChatCompletionMessageToolCallUnion) -> tuple[str, str]:
    assert call.type == "function"
    return call.function.name, call.function.arguments


def test_a_named_tool_is_called_with_arguments_that_fit(site_client: openai.OpenAI) -> None:
    answer = ask(site_client, tools=[WAIT, WEATHER], tool_choice=NAMED)

    ((name, arguments),) = calls_of(answer)
    assert name == "tell_weather"
    assert Weather.model_validate_json(arguments)
    assert answer.choices[0].finish_reason in {"tool_calls", "stop"}


def test_a_required_tool_is_called_with_arguments_that_fit(site_client: openai.OpenAI) -> None:
    answer = ask(site_client, tools=[WEATHER], tool_choice="required")

    ((name, arguments),) = calls_of(answer)
    assert name == "tell_weather"
    assert Weather.model_validate_json(arguments)
    assert answer.choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
def test_a_call_streams(site_client: openai.OpenAI, choice: Any) -> None:
    with site_client.chat.completions.stream(
        model=MODEL, messages=MESSAGES, tools=[WEATHER], tool_choice=choice, **ONE
    ) as stream:
        kinds = {event.type for event in stream}
        answer = stream.get_final_completion()

    ((name, arguments),) = [called(call) for call in answer.choices[0].message.tool_calls or ()]
    assert "tool_calls.function.arguments.done" in kinds
    assert name == "tell_weather"
    assert Weather.model_validate_json(arguments)


def test_only_an_allowed_tool_is_called(site_client: openai.OpenAI) -> None:
    allowed: Any = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [NAMED]}}

    answer = ask(site_client, tools=[WAIT, WEATHER], tool_choice=allowed)

    assert [name for name, _ in calls_of(answer)] == ["tell_weather"]


def test_a_model_may_call_a_tool_by_itself(site_client: openai.OpenAI) -> None:
    answer = ask(site_client, tools=[WEATHER, WAIT], max_tokens=300, extra_body=said(CALLS[0]))

    assert calls_of(answer) == [("wait", '{"minutes": 5}')]
    assert answer.choices[0].finish_reason == "tool_calls"


def test_calls_come_in_parallel(site_client: openai.OpenAI) -> None:
    answer = site_client.chat.completions.create(
        model=MODEL,
        messages=MESSAGES,
        tools=[WEATHER, WAIT],
        max_tokens=300,
        extra_body=said("\n".join(CALLS)),
    )

    assert [name for name, _ in calls_of(answer)] == ["wait", "tell_weather"]
    assert len({call.id for call in answer.choices[0].message.tool_calls or ()}) == 2


def test_parallel_calls_stream(site_client: openai.OpenAI) -> None:
    with site_client.chat.completions.stream(
        model=MODEL,
        messages=MESSAGES,
        tools=[WEATHER, WAIT],
        max_tokens=300,
        extra_body=said("\n".join(CALLS)),
    ) as stream:
        stream.until_done()
        answer = stream.get_final_completion()

    calls = [called(call) for call in answer.choices[0].message.tool_calls or ()]
    assert [name for name, _ in calls] == ["wait", "tell_weather"]
    assert Weather.model_validate_json(calls[1][1]).city == "Pune"


def test_a_model_may_answer_instead(site_client: openai.OpenAI) -> None:
    answer = ask(site_client, tools=[WEATHER], max_tokens=40, extra_body=said("It rains."))

    assert answer.choices[0].message.content == "It rains."
    assert calls_of(answer) == []


def test_a_call_and_its_result_are_sent_back(site_client: openai.OpenAI) -> None:
    first = ask(site_client, tools=[WEATHER], tool_choice=NAMED)
    message = first.choices[0].message
    result: Any = {"role": "tool", "tool_call_id": (message.tool_calls or [])[0].id, "content": "Sunny."}
    earlier: Any = message.model_dump(exclude_none=True)

    second = ask(site_client, messages=[*MESSAGES, earlier, result], tools=[WEATHER], tool_choice="none")

    assert calls_of(second) == []
    assert second.usage is not None
    assert first.usage is not None
    assert second.usage.prompt_tokens > first.usage.prompt_tokens


@pytest.mark.parametrize("choice", ["auto", "required", NAMED], ids=["auto", "required", "named"])
def test_a_model_that_cannot_call_tools_says_so(box: Appliance, client: openai.OpenAI, choice: Any) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(
            model=box.model, messages=MESSAGES, tools=[WEATHER], tool_choice=choice
        )

    assert refused.value.code == "unsupported_tool"
    assert "tool_parser" in str(refused.value)
