"""Anthropic's own SDK, unmodified, asks through our parser and reads what our translator writes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, cast

import anthropic
import httpx2
import pytest
from anthropic.types import Message, MessageTokensCount, RawMessageStreamEvent
from anthropic.types.shared import ErrorResponse
from pydantic import TypeAdapter

from appliance import errors
from appliance.errors import RequestError
from appliance.gateway.dialects.messages import error_body
from appliance.gateway.schema.messages import parse, parse_count_tokens
from appliance.privacy.content import Translator
from tests.bodies import PIXEL

USAGE = {"prompt_tokens": 5, "total_tokens": 8, "completion_tokens": 3}
CALL = {"id": "call_1", "type": "function", "index": 0, "function": {"name": "add", "arguments": '{"a":2}'}}
TOOL: Any = {
    "name": "add",
    "description": "Adds.",
    "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}}},
}
IMAGE: Any = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
}
HELLO: Any = {"role": "user", "content": "2+2?"}
THINK: Any = {"type": "enabled", "budget_tokens": 1024}


def event(choices: list[Any]) -> bytes:
    return b"data: %b\n\n" % json.dumps({"model": "m", "choices": choices, "usage": USAGE}).encode()


STREAM = [
    event([{"delta": {"role": "assistant", "content": ""}}]),
    event([{"delta": {"reasoning": "2 and "}}]),
    event([{"delta": {"reasoning": "2"}}]),
    event([{"delta": {"content": "I ask"}}]),
    event([{"delta": {"tool_calls": [CALL | {"function": {"name": "add", "arguments": ""}}]}}]),
    event([{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":2}'}}]}}]),
    event([{"delta": {}, "finish_reason": "tool_calls", "stop_reason": None}]),
    event([]),
]
WHOLE = json.dumps(
    {
        "model": "m",
        "choices": [
            {
                "message": {"reasoning": "2 and 2", "content": "I ask", "tool_calls": [CALL]},
                "finish_reason": "tool_calls",
            }
        ],
        "usage": USAGE,
    }
).encode()
COUNT = b'{"count":7,"max_model_len":99,"tokens":[]}'


class Appliance:
    """An engine that says the same to everyone, behind our parser and our translator."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        """What the engine was sent."""

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        counts = request.url.path == "/v1/messages/count_tokens"
        call, content = (parse_count_tokens if counts else parse)(request.content)
        self.bodies.append(json.loads(content.for_engine("s" * 43)))
        translator = content.translator("R")
        assert translator is not None
        if call.stream:
            return stream_of(translator, STREAM, translator.end)
        return httpx2.Response(200, content=translator.whole(COUNT if counts else WHOLE))


def stream_of(translator: Translator, events: list[bytes], end: Callable[[], bytes]) -> httpx2.Response:
    told = b"".join(map(translator.event, events)) + end()
    return httpx2.Response(200, content=told, headers={"content-type": "text/event-stream"})


def client(answer: Callable[[httpx2.Request], httpx2.Response]) -> anthropic.Anthropic:
    transport = httpx2.MockTransport(answer)
    return anthropic.Anthropic(
        base_url="http://appliance",
        api_key="k",
        max_retries=0,
        http_client=httpx2.Client(transport=transport),
    )


@pytest.fixture
def appliance() -> Appliance:
    return Appliance()


@pytest.fixture
def sdk(appliance: Appliance) -> Iterator[anthropic.Anthropic]:
    with client(appliance.answer) as sdk:
        yield sdk


def test_the_sdk_puts_a_stream_together(sdk: anthropic.Anthropic) -> None:
    with sdk.messages.stream(
        model="m", max_tokens=2048, messages=[HELLO], tools=[TOOL], thinking=THINK
    ) as stream:
        streamed = stream.get_final_message()

    whole = sdk.messages.create(model="m", max_tokens=2048, messages=[HELLO], tools=[TOOL], thinking=THINK)
    assert streamed.to_dict(exclude_none=True) == whole.to_dict(exclude_none=True)
    assert [block.type for block in streamed.content] == ["thinking", "text", "tool_use"]
    assert (streamed.stop_reason, streamed.usage.input_tokens, streamed.usage.output_tokens) == (
        "tool_use",
        5,
        3,
    )


def test_the_sdk_sends_an_answer_back_with_its_tools_result(
    sdk: anthropic.Anthropic, appliance: Appliance
) -> None:
    answer = sdk.messages.create(model="m", max_tokens=2048, messages=[HELLO], tools=[TOOL], thinking=THINK)
    call = answer.content[-1]
    assert call.type == "tool_use"

    result: Any = {
        "type": "tool_result",
        "tool_use_id": call.id,
        "content": [{"type": "text", "text": "4"}, IMAGE],
    }
    sdk.messages.create(
        model="m",
        max_tokens=9,
        messages=[HELLO, cast("Any", answer.to_param()), {"role": "user", "content": [result]}],
    )

    assert appliance.bodies[-1]["messages"] == [
        HELLO,
        {
            "role": "assistant",
            "content": "I ask",
            "tool_calls": [{key: CALL[key] for key in ("id", "type", "function")}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "4"},
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}],
        },
    ]


def test_the_sdk_counts(sdk: anthropic.Anthropic) -> None:
    count = sdk.messages.count_tokens(model="m", messages=[HELLO], tools=[TOOL], system="S")

    assert count == MessageTokensCount(input_tokens=7)


def test_what_is_told_is_of_the_sdks_types() -> None:
    """Checked as pydantic does, which the SDK itself leaves out."""
    translator = parse(
        json.dumps({"model": "m", "max_tokens": 9, "messages": [HELLO], "thinking": THINK}).encode()
    )[1].translator("R")
    assert translator is not None
    told = b"".join(map(translator.event, STREAM)) + translator.end()
    data = [line.removeprefix("data: ") for line in told.decode().split("\n") if line.startswith("data: ")]
    adapter: TypeAdapter[RawMessageStreamEvent] = TypeAdapter(RawMessageStreamEvent)

    typed = [adapter.validate_json(event, strict=True) for event in data if event != '{"type":"ping"}']
    message = Message.model_validate_json(translator.whole(WHOLE), strict=True)

    assert [json.loads(event) for event in data if event != '{"type":"ping"}'] == [
        event.model_dump(mode="json", exclude_unset=True) for event in typed
    ]
    assert message.model_dump(mode="json", exclude_unset=True) == json.loads(translator.whole(WHOLE))


def test_the_sdk_raises_what_ends_a_stream() -> None:
    error = errors.EngineLost()

    def answer(request: httpx2.Request) -> httpx2.Response:
        translator = parse(request.content)[1].translator("R")
        assert translator is not None
        return stream_of(translator, STREAM[:3], lambda: translator.fail(error))

    with (
        client(answer) as sdk,
        pytest.raises(anthropic.APIStatusError) as caught,
        sdk.messages.stream(model="m", max_tokens=9, messages=[HELLO]) as stream,
    ):
        stream.until_done()

    assert cast("dict[str, Any]", caught.value.body)["error"] == {
        "type": "api_error",
        "message": error.message,
    }


RAISED: dict[type[RequestError], type[anthropic.APIStatusError]] = {
    errors.BadRequest: anthropic.BadRequestError,
    errors.InvalidKey: anthropic.AuthenticationError,
    errors.UnknownModel: anthropic.NotFoundError,
    errors.TooManyRequests: anthropic.RateLimitError,
    errors.EngineFault: anthropic.InternalServerError,
    errors.NotReady: anthropic.InternalServerError,
}


@pytest.mark.parametrize(("error", "raised"), RAISED.items(), ids=[error.__name__ for error in RAISED])
def test_the_sdk_raises_a_refusal(error: type[RequestError], raised: type[anthropic.APIStatusError]) -> None:
    body = error_body(error(), "R")

    with (
        client(lambda _: httpx2.Response(error.status, content=body)) as sdk,
        pytest.raises(raised) as caught,
    ):
        sdk.messages.create(model="m", max_tokens=9, messages=[HELLO])

    assert ErrorResponse.model_validate_json(body, strict=True).error.message == error.message
    assert cast("dict[str, Any]", caught.value.body)["request_id"] == "R"
