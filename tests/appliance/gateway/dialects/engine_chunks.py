"""What vLLM 0.32 says on a chat, as bytes, and how tests read what the translator makes of it."""

from __future__ import annotations

import json
from typing import Any

from appliance.gateway.dialects.response_items import Echo, ReasoningConfig, TextConfig
from appliance.gateway.dialects.responses import ResponsesTranslator

CANARY = "CANARY5d1fcanary"
REQUEST_ID = "01KAT000000000000000000000"
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
TOOL = {
    "type": "function",
    "name": "f",
    "description": None,
    "parameters": {"type": "object"},
    "strict": True,
}
ECHO = Echo(
    model="m",
    instructions="Be brief.",
    max_output_tokens=50,
    metadata={"team": "a"},
    parallel_tool_calls=True,
    reasoning=ReasoningConfig("low"),
    temperature=0.5,
    text=TextConfig({"type": "text"}),
    tool_choice="auto",
    tools=[TOOL],
    top_logprobs=0,
    top_p=None,
)

Delta = dict[str, Any]


def translator() -> ResponsesTranslator:
    return ResponsesTranslator(REQUEST_ID, ECHO)


def sse(chunk: dict[str, Any]) -> bytes:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return b"data: %b\n\n" % json.dumps(head | chunk, ensure_ascii=False).encode()


def chunk(delta: Delta, finish_reason: str | None = None, logprobs: list[Any] | None = None) -> bytes:
    """One event of vLLM 0.32: serving.py, chat_completion_stream_generator."""
    choice = {
        "index": 0,
        "delta": delta,
        "logprobs": None if logprobs is None else {"content": logprobs},
        "finish_reason": finish_reason,
    }
    return sse({"choices": [choice], "usage": USAGE})


ROLE = chunk({"role": "assistant", "content": ""})
TOTAL = sse({"choices": [], "usage": USAGE})


def call(index: int, arguments: str | None = None, **head: Any) -> Delta:
    function = {"name": "f", "arguments": arguments or ""} if head else {"arguments": arguments}
    return {"tool_calls": [{"index": index, "function": function} | head]}


def first_call(index: int, arguments: str = "") -> Delta:
    return call(index, arguments, id=f"call_{index}", type="function")


LONG = [{"reasoning": "hm"}, {"content": "a"}, {"content": "b"}, first_call(0, "{"), call(0, "}")]
"""Some of everything."""


def stream(*deltas: Delta, finish_reason: str = "stop", told: ResponsesTranslator | None = None) -> bytes:
    told = told or translator()
    pieces = [ROLE, *map(chunk, deltas), chunk({"content": ""}, finish_reason), TOTAL]
    return b"".join([told.event(piece) for piece in pieces] + [told.end()])


def events_of(raw: bytes) -> list[dict[str, Any]]:
    """The data of each event, whose name has to be its type."""
    assert raw.endswith(b"\n\n")
    pairs = [event.split(b"\n") for event in raw[:-2].split(b"\n\n")]
    events = [json.loads(data.removeprefix(b"data: ")) for _, data in pairs]
    assert [name for name, _ in pairs] == [b"event: " + event["type"].encode() for event in events]
    return events


def final(raw: bytes) -> dict[str, Any]:
    return events_of(raw)[-1]["response"]


def completion(message: Delta, finish_reason: str = "stop", logprobs: list[Any] | None = None) -> bytes:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": None, "refusal": None} | message,
        "logprobs": None if logprobs is None else {"content": logprobs},
        "finish_reason": finish_reason,
        "stop_reason": None,
    }
    return json.dumps({"id": "chatcmpl-1", "choices": [choice], "usage": USAGE, "model": "m"}).encode()


def whole(message: Delta, finish_reason: str = "stop", logprobs: list[Any] | None = None) -> dict[str, Any]:
    return json.loads(translator().whole(completion(message, finish_reason, logprobs)))


def text_part(text: str) -> dict[str, Any]:
    """A part of a message, without logprobs."""
    return {"type": "output_text", "text": text, "logprobs": [], "annotations": []}
