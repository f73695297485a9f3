from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from appliance.errors import BadRequest, EngineLost, RequestError, TooManyRequests
from tests.appliance.gateway.dialects.engine_chunks import (
    CANARY,
    LONG,
    REQUEST_ID,
    ROLE,
    TOTAL,
    USAGE,
    Delta,
    call,
    chunk,
    completion,
    events_of,
    final,
    first_call,
    sse,
    stream,
    text_part,
    translator,
    whole,
)

SDK_EVENT: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)

HELLO_LOGPROBS = [
    {
        "token": "Hello",
        "logprob": -0.5,
        "bytes": [72],
        "top_logprobs": [{"token": "Hi", "logprob": -1.0, "bytes": [72, 105]}],
    }
]


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_reasoning_is_known_by_either_of_its_names(name: str) -> None:
    assert whole({name: "hm", "content": "a"})["output"][0]["content"] == [
        {"type": "reasoning_text", "text": "hm"}
    ]
    assert (
        final(stream({name: "hm"}, {"content": "a"}))["output"]
        == whole({name: "hm", "content": "a"})["output"]
    )


def test_a_call_keeps_the_engines_id_for_the_callers_answer_to_it() -> None:
    output = final(stream(first_call(0, '{"a":1}'), finish_reason="tool_calls"))["output"]

    assert output == [
        {
            "type": "function_call",
            "id": f"fc_{REQUEST_ID}_0",
            "call_id": "call_0",
            "name": "f",
            "arguments": '{"a":1}',
            "status": "completed",
        }
    ]


def test_a_call_without_an_id_gets_one() -> None:
    named = {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]}

    assert final(stream(named))["output"][0]["call_id"] == f"call_{REQUEST_ID}_0"
    assert whole(named)["output"] == final(stream(named))["output"]


@pytest.mark.parametrize(
    "deltas",
    [[{"content": "He"}], [{"reasoning": "h"}], [{"content": "a"}, first_call(0, "{")]],
    ids=["text", "reasoning", "call"],
)
def test_an_answer_cut_by_its_limit_is_incomplete(deltas: list[Delta]) -> None:
    event = events_of(stream(*deltas, finish_reason="length"))[-1]

    assert (event["type"], event["response"]["status"]) == ("response.incomplete", "incomplete")
    assert event["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert event["response"]["completed_at"] is None
    assert [item["status"] for item in event["response"]["output"]] == [
        *["completed"] * (len(deltas) - 1),
        "incomplete",
    ]


def test_a_whole_answer_cut_by_its_limit_is_incomplete() -> None:
    response = whole({"reasoning": "hm", "content": "He"}, finish_reason="length")

    assert (response["status"], response["incomplete_details"]["reason"]) == (
        "incomplete",
        "max_output_tokens",
    )
    assert [item["status"] for item in response["output"]] == ["completed", "incomplete"]


def test_logprobs_go_with_the_text_they_belong_to() -> None:
    told = translator()
    raw = told.event(chunk({"content": "Hello"}, None, HELLO_LOGPROBS))
    raw += told.event(chunk({"content": ""}, "stop", [{"token": "", "bytes": None}])) + told.event(TOTAL)
    rest: dict[str, Any] = {"token": "", "logprob": -9999.0, "bytes": [], "top_logprobs": []}

    events = events_of(raw + told.end())

    assert [event["logprobs"] for event in events if event["type"].endswith("text.delta")] == [
        HELLO_LOGPROBS,
        [rest],
    ]
    assert events[-1]["response"]["output"][0]["content"][0]["logprobs"] == [*HELLO_LOGPROBS, rest]
    assert whole({"content": "Hello"}, logprobs=HELLO_LOGPROBS)["output"][0]["content"][0]["logprobs"] == (
        HELLO_LOGPROBS
    )


@pytest.mark.parametrize(
    "beside", [{"reasoning": "hm"}, {"tool_calls": [{"function": {"name": "f"}}]}], ids=str
)
def test_logprobs_that_cover_more_than_the_text_are_left_out(beside: Delta) -> None:
    """A whole answer's list has every token, and nothing tells which are the text's."""
    response = whole({"content": "Hello"} | beside, logprobs=HELLO_LOGPROBS)

    parts = [part for item in response["output"] for part in item.get("content", [])]
    assert text_part("Hello") in parts


ERRORS: list[tuple[RequestError, str]] = [
    (EngineLost(), "server_error"),
    (TooManyRequests(), "rate_limit_exceeded"),
    (BadRequest(param="input"), "invalid_prompt"),
]


@pytest.mark.parametrize(("error", "code"), ERRORS, ids=["lost", "too many", "bad"])
@pytest.mark.parametrize(
    "begun",
    [[], [ROLE], [chunk({"content": "He"})], [chunk({"content": "a"}), chunk(first_call(0, "{"))]],
    ids=["nothing", "role", "text", "call"],
)
def test_a_failure_is_told_in_both_of_the_protocols_ways(
    error: RequestError, code: str, begun: list[bytes]
) -> None:
    told = translator()
    raw = b"".join([told.event(event) for event in begun]) + told.fail(error)

    events = events_of(raw)
    failed, last = events[-2:]

    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    assert (failed["type"], failed["response"]["status"]) == ("response.failed", "failed")
    assert failed["response"]["error"] == {"code": code, "message": str(error)}
    assert {item["status"] for item in failed["response"]["output"]} <= {"completed", "incomplete"}
    assert last["type"] == "error"
    assert last["error"] == {
        "message": str(error),
        "type": error.type,
        "param": error.param,
        "code": error.reason,
    }
    assert [SDK_EVENT.validate_python(event).type for event in events] == [event["type"] for event in events]


def test_a_failure_keeps_what_was_said() -> None:
    told = translator()
    told.event(chunk({"content": "He"}))

    failed = events_of(told.fail(EngineLost()))[0]["response"]

    assert failed["output"][0]["content"] == [text_part("He")]
    assert failed["usage"]["output_tokens"] == 3


NOT_UNDERSTOOD: dict[str, bytes] = {
    "no JSON": b"data: {" + CANARY.encode() + b"\n\n",
    "another shape": b'data: {"choices":"%b"}\n\n' % CANARY.encode(),
    "no choices": b'data: {"object":"%b"}\n\n' % CANARY.encode(),
    "bad UTF-8": b'data: {"choices":[{"delta":{"content":"\xff%b"}}]}\n\n' % CANARY.encode(),
    "deep": b'data: {"x":' + b"[" * 100_000,
    "a comment": b": " + CANARY.encode() + b"\n\n",
    "an end by abort": chunk({"content": CANARY}, "abort"),
    "an unknown end": chunk({}, CANARY),
    "a call without a name": chunk({"tool_calls": [{"index": 0, "function": {"arguments": CANARY}}]}),
    "a call of nothing": chunk({"tool_calls": [{"index": 0, "id": CANARY}]}),
    "usage in words": sse({"choices": [], "usage": {"prompt_tokens": CANARY, "completion_tokens": 1}}),
}


def fault(caught: pytest.ExceptionInfo[ValueError]) -> ValueError:
    """The exception, which has to be a plain one that says nothing of the answer."""
    error = caught.value
    assert type(error) is ValueError
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None
    assert CANARY not in str(error)
    return error


@pytest.mark.parametrize("event", NOT_UNDERSTOOD.values(), ids=NOT_UNDERSTOOD.keys())
def test_an_event_that_is_not_understood_raises_without_a_word_of_it(event: bytes) -> None:
    told = translator()

    with pytest.raises(ValueError, match="engine") as caught:
        told.event(event)

    assert fault(caught)
    assert [event["type"] for event in events_of(told.fail(EngineLost()))[-2:]] == [
        "response.failed",
        "error",
    ]


WHOLE_NOT_UNDERSTOOD: dict[str, bytes] = {
    "no JSON": b"{" + CANARY.encode(),
    "no choice": json.dumps({"choices": [], "usage": USAGE}).encode(),
    "no usage": b'{"choices":[{"message":{"content":"%b"},"finish_reason":"stop"}]}' % CANARY.encode(),
    "an end by abort": completion({"content": CANARY}, "abort"),
    "a call without a name": completion({"tool_calls": [{"function": {"arguments": CANARY}}]}),
}


@pytest.mark.parametrize("body", WHOLE_NOT_UNDERSTOOD.values(), ids=WHOLE_NOT_UNDERSTOOD.keys())
def test_a_whole_answer_that_is_not_understood_raises_without_a_word_of_it(body: bytes) -> None:
    with pytest.raises(ValueError, match="engine") as caught:
        translator().whole(body)

    assert fault(caught)


def test_a_call_that_the_engine_had_left_is_not_taken_up_again() -> None:
    told = translator()
    told.event(chunk(first_call(0)))
    told.event(chunk(first_call(1)))

    with pytest.raises(ValueError, match="went back"):
        told.event(chunk(call(0, "{}")))


@pytest.mark.parametrize(
    "events",
    [[], [ROLE, TOTAL], [sse({"choices": [{"delta": {}, "finish_reason": "stop"}]})]],
    ids=["nothing", "no reason", "no usage"],
)
def test_a_stream_that_ends_without_its_end_raises(events: list[bytes]) -> None:
    told = translator()
    assert all(told.event(event) is not None for event in events)

    with pytest.raises(ValueError, match="ended without"):
        told.end()


@pytest.fixture
def served() -> dict[str, bytes]:
    """What OpenAI's client gets as the body of an event stream, under `body`."""
    return {"body": b""}


@pytest.fixture
def client(served: dict[str, bytes]) -> Iterator[openai.OpenAI]:
    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(
            200, headers={"content-type": "text/event-stream; charset=utf-8"}, content=served["body"]
        )

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    with openai.OpenAI(api_key="k", base_url="http://box/v1", http_client=http) as client:
        yield client


def test_openais_client_assembles_the_stream(client: openai.OpenAI, served: dict[str, bytes]) -> None:
    served["body"] = stream(*LONG, finish_reason="tool_calls")

    with client.responses.stream(model="m", input="x") as told:
        response = told.get_final_response()

    assert response.output_text == "ab"
    assert [item.type for item in response.output] == ["reasoning", "message", "function_call"]
    assert response.usage is not None
    assert response.usage.total_tokens == 10


def test_openais_client_raises_a_failure(client: openai.OpenAI, served: dict[str, bytes]) -> None:
    told = translator()
    served["body"] = told.event(chunk({"content": "He"})) + told.fail(EngineLost())

    with pytest.raises(openai.APIError, match=r"The model stopped while it was answering\."):
        list(client.responses.create(model="m", input="x", stream=True))
