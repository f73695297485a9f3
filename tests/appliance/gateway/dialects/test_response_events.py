from __future__ import annotations

from typing import Any

import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter, ValidationError

from appliance.gateway.dialects import response_events
from appliance.gateway.dialects.response_events import EventWriter
from tests.appliance.gateway.dialects.engine_chunks import (
    LONG,
    REQUEST_ID,
    events_of,
    stream,
    text_part,
    whole,
)

SDK_EVENT: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)
MESSAGE = f"msg_{REQUEST_ID}_0"
HERE = {"item_id": MESSAGE, "output_index": 0, "content_index": 0}
OPEN: dict[str, Any] = {
    "type": "message",
    "id": MESSAGE,
    "status": "in_progress",
    "role": "assistant",
    "content": [],
}
GOLDEN_TEXT: list[dict[str, Any]] = [
    {"type": "response.output_item.added", "output_index": 0, "item": OPEN},
    {"type": "response.content_part.added", "part": text_part("")} | HERE,
    {"type": "response.output_text.delta", "delta": "He", "logprobs": []} | HERE,
    {"type": "response.output_text.delta", "delta": "llo", "logprobs": []} | HERE,
    {"type": "response.output_text.done", "text": "Hello", "logprobs": []} | HERE,
    {"type": "response.content_part.done", "part": text_part("Hello")} | HERE,
    {
        "type": "response.output_item.done",
        "output_index": 0,
        "item": OPEN | {"status": "completed", "content": [text_part("Hello")]},
    },
]


def test_a_text_is_told_as_the_protocol_tells_it() -> None:
    created, in_progress, *told, completed = events_of(stream({"content": "He"}, {"content": "llo"}))

    assert told == [event | {"sequence_number": number} for number, event in enumerate(GOLDEN_TEXT, 2)]
    assert [created["type"], in_progress["type"], completed["type"]] == [
        "response.created",
        "response.in_progress",
        "response.completed",
    ]
    assert created["response"] == in_progress["response"]
    assert (created["response"]["status"], created["response"]["output"]) == ("in_progress", [])
    assert completed["response"]["output"] == [told[-1]["item"]]


@pytest.mark.parametrize("finish_reason", ["stop", "tool_calls", "length"])
def test_openais_sdk_knows_every_event_and_response(finish_reason: str) -> None:
    events = events_of(stream(*LONG, finish_reason=finish_reason))

    assert [SDK_EVENT.validate_python(event).type for event in events] == [event["type"] for event in events]
    assert Response.model_validate(events[-1]["response"]).output_text == "ab"
    assert Response.model_validate(whole({"content": "ab"}, finish_reason)).output_text == "ab"


@pytest.mark.parametrize(
    "event", GOLDEN_TEXT, ids=[f"{number} {event['type']}" for number, event in enumerate(GOLDEN_TEXT)]
)
@pytest.mark.parametrize("field", ["sequence_number", "output_index"])
def test_openais_sdk_would_miss_a_field(event: dict[str, Any], field: str) -> None:
    event = event | {"sequence_number": 1}
    del event[field]

    with pytest.raises(ValidationError):
        SDK_EVENT.validate_python(event)


def test_what_was_taken_is_not_told_again_and_numbers_go_on() -> None:
    writer = EventWriter()
    where = {"item_id": "i", "output_index": 0}

    writer.put(response_events.ReasoningDelta(item_id="i", output_index=0, delta="a\n\nb"))
    first = writer.take()
    writer.put(response_events.ReasoningDelta(item_id="i", output_index=0, delta="c"))
    second = writer.take()

    kind = {"type": "response.reasoning_text.delta", "content_index": 0} | where
    assert events_of(first) == [kind | {"sequence_number": 0, "delta": "a\n\nb"}]
    assert events_of(second) == [kind | {"sequence_number": 1, "delta": "c"}]
    assert writer.take() == b""
