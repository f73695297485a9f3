from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, cast

import httpx2
import msgspec
import openai
import pydantic
import pytest
from openai.types.responses import ParsedResponseOutputItem, Response

from appliance.domain import Call
from appliance.errors import BadRequest
from appliance.gateway.schema.responses import ResponsesBody, parse

CANARY = "CANARY5d1fcanary"
SALT = "s" * 43
BASE: dict[str, Any] = {"model": "m", "input": "Hello"}
CHAT: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": "Hello"}],
    "cache_salt": SALT,
}
TOOL: dict[str, Any] = {
    "type": "function",
    "name": "f",
    "description": "d",
    "parameters": {"type": "object", "x": [1, 2.5]},
    "strict": True,
}
CHAT_TOOL = {"type": "function", "function": {name: TOOL[name] for name in TOOL if name != "type"}}
SCHEMA = {"name": "n", "description": "d", "schema": {"type": "object"}, "strict": True}


ENGINE_CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":2}'}}
ENGINE_ANSWER = json.dumps(
    {
        "choices": [
            {"message": {"content": '{"a":1}', "tool_calls": [ENGINE_CALL]}, "finish_reason": "tool_calls"}
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1},
    }
).encode()


def body(**fields: Any) -> bytes:
    return json.dumps(BASE | fields).encode()


def sent_on(**fields: Any) -> dict[str, Any]:
    return json.loads(parse(body(**fields))[1].for_engine(SALT))


def answer(**fields: Any) -> dict[str, Any]:
    """A whole answer to such a request."""
    content = parse(body(**fields))[1]
    content.for_engine(SALT)
    translator = content.translator("01KAT")
    assert translator is not None
    return json.loads(translator.whole(ENGINE_ANSWER))


def refusal(raw: bytes) -> BadRequest:
    """Why it was refused, without a word of it."""
    with pytest.raises(BadRequest) as caught:
        parse(raw)
    error = caught.value
    assert CANARY not in str(error) + str(error.param) + error.reason
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None
    return error


SENT_ON: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "instructions": (
        {"instructions": "Be brief."},
        {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]},
    ),
    "no instructions": ({"instructions": ""}, {}),
    "a limit": ({"max_output_tokens": 5}, {"max_completion_tokens": 5}),
    "sampling": ({"temperature": 0.0, "top_p": 0.5}, {"temperature": 0.0, "top_p": 0.5}),
    "a stream": (
        {"stream": True, "stream_options": {"include_obfuscation": True}},
        {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}},
    ),
    "logprobs": (
        {"include": ["message.output_text.logprobs"], "top_logprobs": 3},
        {"logprobs": True, "top_logprobs": 3},
    ),
    "logprobs of the chosen only": ({"include": ["message.output_text.logprobs"]}, {"logprobs": True}),
    "logprobs that are not to be shown": ({"top_logprobs": 3, "include": []}, {}),
    "tools": (
        {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False},
        {"tools": [CHAT_TOOL], "tool_choice": "required", "parallel_tool_calls": False},
    ),
    "a named tool": (
        {"tools": [TOOL], "tool_choice": {"type": "function", "name": "f"}},
        {"tools": [CHAT_TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}},
    ),
    "a bare tool": (
        {"tools": [{"type": "function", "name": "f", "parameters": None, "strict": None}]},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
    ),
    "a choice of no tools": ({"tools": [], "tool_choice": "auto", "parallel_tool_calls": True}, {}),
    "text": ({"text": {"format": {"type": "text"}, "verbosity": "low"}}, {}),
    "an object": (
        {"text": {"format": {"type": "json_object"}}},
        {"response_format": {"type": "json_object"}},
    ),
    "a schema": (
        {"text": {"format": {"type": "json_schema"} | SCHEMA}},
        {"response_format": {"type": "json_schema", "json_schema": SCHEMA}},
    ),
    "a summary": ({"reasoning": {"summary": "auto", "generate_summary": None}}, {}),
    "harmless refusals": ({"truncation": "disabled", "background": False, "store": True}, {}),
    "nulls": (
        dict.fromkeys(
            [
                *["instructions", "max_output_tokens", "temperature", "top_p", "top_logprobs", "tools"],
                *["tool_choice", "parallel_tool_calls", "text", "reasoning", "include", "metadata", "stream"],
                *["stream_options", "background", "context_management", "conversation"],
                *["previous_response_id", "prompt", "truncation"],
            ]
        ),
        {},
    ),
}


@pytest.mark.parametrize(("fields", "chat"), SENT_ON.values(), ids=SENT_ON.keys())
def test_a_request_becomes_a_chat(fields: dict[str, Any], chat: dict[str, Any]) -> None:
    assert sent_on(**fields) == CHAT | chat


def test_the_effort_is_passed_on() -> None:
    request = msgspec.json.decode(body(reasoning={"effort": "low"}), type=ResponsesBody)

    assert json.loads(msgspec.json.encode(request.chat([])))["reasoning_effort"] == "low"


DROPPED = [
    *["max_tool_calls", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"],
    *["safety_identifier", "service_tier", "store", "user"],
]


@pytest.mark.parametrize("name", DROPPED)
@pytest.mark.parametrize("value", [None, CANARY, {CANARY: [CANARY]}], ids=["null", "text", "object"])
def test_a_dropped_field_is_taken_and_goes_nowhere(name: str, value: object) -> None:
    assert sent_on(**{name: value}) == CHAT
    assert CANARY not in json.dumps(answer(**{name: value}))


@pytest.mark.parametrize(
    "included",
    [
        *["reasoning.encrypted_content", "file_search_call.results", "web_search_call.action.sources"],
        *["web_search_call.results", "computer_call_output.output.image_url"],
        *["code_interpreter_call.outputs", "message.input_image.image_url"],
    ],
)
def test_asking_for_more_of_what_is_not_there_is_harmless(included: str) -> None:
    assert sent_on(include=[included]) == CHAT


def test_the_shape_of_a_request_is_known() -> None:
    call, _ = parse(body(stream=True, max_output_tokens=9))

    assert call == Call("responses", "m", stream=True, choices=1, output_tokens_max=9)
    assert parse(body())[0] == Call("responses", "m", output_tokens_max=None)


ECHOED: dict[str, dict[str, Any]] = {
    "nothing": {},
    "all": {
        "instructions": "Be brief.",
        "max_output_tokens": 9,
        "metadata": {"k" * 64: "v" * 512},
        "parallel_tool_calls": False,
        "temperature": 0.5,
        "text": {"format": {"type": "json_schema"} | SCHEMA},
        "tool_choice": {"type": "function", "name": "f"},
        "tools": [TOOL],
        "top_logprobs": 2,
        "top_p": 0.5,
    },
    "a word of choice": {"tool_choice": "required", "tools": [TOOL]},
    "a bare tool": {
        "tools": [{"type": "function", "name": "f", "description": None, "parameters": None, "strict": None}]
    },
}
DEFAULTS: dict[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": None,
}


@pytest.mark.parametrize("fields", ECHOED.values(), ids=ECHOED.keys())
def test_an_answer_repeats_the_request(fields: dict[str, Any]) -> None:
    response = answer(**fields, store=True, reasoning={"effort": "low", "summary": "auto"})

    assert {name: response[name] for name in DEFAULTS} == DEFAULTS | fields
    assert response["reasoning"] == {"effort": "low", "summary": None}
    assert (response["store"], response["id"], response["model"]) == (False, "resp_01KAT", "m")
    assert Response.model_validate(response).output_text == '{"a":1}'


class Parsed(pydantic.BaseModel):
    a: int


WAYS_BACK: dict[str, Callable[[ParsedResponseOutputItem[Parsed]], Any]] = {
    "as it is": lambda item: item,
    "as a dict": lambda item: item.to_dict(mode="json"),
    "as pydantic dumps it": lambda item: item.model_dump(mode="json"),
}


@pytest.mark.parametrize("back", WAYS_BACK.values(), ids=WAYS_BACK.keys())
def test_an_answer_to_openais_client_can_be_sent_back(
    back: Callable[[ParsedResponseOutputItem[Parsed]], Any],
) -> None:
    """What it makes of types and tools is understood, and so is what it adds to an answer."""
    sent: list[dict[str, Any]] = []

    def serve(request: httpx2.Request) -> httpx2.Response:
        content = parse(request.content)[1]
        sent.append(json.loads(content.for_engine(SALT)))
        translator = content.translator("01KAT")
        assert translator is not None
        return httpx2.Response(
            200, headers={"content-type": "application/json"}, content=translator.whole(ENGINE_ANSWER)
        )

    http = httpx2.Client(transport=httpx2.MockTransport(serve))
    tool = openai.pydantic_function_tool(Parsed, name="f")["function"] | {"type": "function"}
    with openai.OpenAI(api_key="k", base_url="http://box/v1", http_client=http) as client:
        first = client.responses.parse(model="m", input="x", text_format=Parsed, tools=[cast("Any", tool)])
        client.responses.create(model="m", input=[back(item) for item in first.output])

    assert first.output_parsed == Parsed(a=1)
    assert sent[0]["response_format"]["json_schema"]["strict"]
    assert sent[0]["tools"][0]["function"]["strict"]
    assert sent[1]["messages"] == [
        {"role": "assistant", "content": [{"type": "text", "text": '{"a":1}'}], "tool_calls": [ENGINE_CALL]}
    ]


def test_metadata_stays_in_the_gateway() -> None:
    assert sent_on(metadata={CANARY: CANARY}) == CHAT


NOT_SERVED: dict[str, tuple[dict[str, Any], str, str]] = {
    "an earlier answer": ({"previous_response_id": CANARY}, "previous_response_id", "unsupported_field"),
    "a conversation": ({"conversation": CANARY}, "conversation", "unsupported_field"),
    "a conversation's id": ({"conversation": {"id": CANARY}}, "conversation", "unsupported_field"),
    "a stored prompt": ({"prompt": {"id": CANARY}}, "prompt", "unsupported_field"),
    "compaction": ({"context_management": [{"type": CANARY}]}, "context_management", "unsupported_field"),
    "work in the background": ({"background": True}, "background", "unsupported_field"),
    "truncation": ({"truncation": "auto"}, "truncation", "unsupported_field"),
    "a choice of a hosted tool": ({"tool_choice": {"type": CANARY}}, "tool_choice", "unsupported_tool"),
}


@pytest.mark.parametrize(("fields", "param", "code"), NOT_SERVED.values(), ids=NOT_SERVED.keys())
def test_what_is_not_served_is_refused_by_name(fields: dict[str, Any], param: str, code: str) -> None:
    error = refusal(body(**fields))

    assert (error.param, error.reason) == (param, code)


@pytest.mark.parametrize(
    "kind",
    [
        *["web_search", "web_search_preview", "file_search", "code_interpreter", "computer_use_preview"],
        *["mcp", "image_generation", "local_shell", "shell", "apply_patch", "custom", CANARY],
    ],
)
def test_a_tool_that_this_box_would_have_to_run_is_refused(kind: str) -> None:
    error = refusal(body(tools=[TOOL, {"type": kind, "server_url": CANARY}]))

    assert (error.param, error.reason) == ("tools", "unsupported_tool")


WRONG: dict[str, dict[str, Any]] = {
    "no model": {"model": None},
    "no input": {"input": None},
    "a tool's name in words": {"tools": [TOOL | {"name": f"{CANARY} x"}]},
    "a field of a tool": {"tools": [TOOL | {CANARY: True}]},
    "too many tools": {"tools": [TOOL] * 65},
    "another choice": {"tool_choice": CANARY},
    "another format": {"text": {"format": {"type": CANARY}}},
    "a format without its schema": {"text": {"format": {"type": "json_schema", "name": CANARY}}},
    "another effort": {"reasoning": {"effort": CANARY}},
    "something to include": {"include": [CANARY]},
    "too much metadata": {"metadata": {str(number): CANARY for number in range(17)}},
    "a long key": {"metadata": {CANARY * 5: "v"}},
    "a long value": {"metadata": {"k": CANARY * 33}},
    "metadata in numbers": {"metadata": {"k": 5}},
    "no token": {"max_output_tokens": 0},
    "too hot": {"temperature": 2.1},
    "too many logprobs": {"top_logprobs": 21},
    "a stream's option": {"stream_options": {"include_usage": True}},
    "an unknown field": {CANARY: CANARY},
    "vLLM's salt": {"cache_salt": CANARY},
    "a chat's messages": {"messages": [{"role": "user", "content": CANARY}]},
}


@pytest.mark.parametrize("fields", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_value_is_refused_without_a_word_of_it(fields: dict[str, Any]) -> None:
    assert refusal(body(**fields)).status == 400


RAW: dict[str, bytes] = {
    "not JSON": b"{" + CANARY.encode(),
    "bad UTF-8": b'{"model":"m","input":"%b\xff"}' % CANARY.encode(),
    "bad UTF-8 in an item": b'{"model":"m","input":[{"role":"user","content":"%b\xff"}]}' % CANARY.encode(),
    "deep": b'{"model":"m","input":' + b"[" * 100_000,
    "deep in an item": b'{"model":"m","input":[{"x":' + b"[" * 100_000,
}


@pytest.mark.parametrize("raw", RAW.values(), ids=RAW.keys())
def test_a_broken_body_is_refused_without_a_word_of_it(raw: bytes) -> None:
    assert refusal(raw).reason == "invalid_json"


def test_no_words_show_when_what_was_parsed_is_printed() -> None:
    call, content = parse(body(input=CANARY, instructions=CANARY, metadata={"k": CANARY}))
    translator = content.translator("01KAT")

    assert CANARY not in f"{call!r} {content!r} {translator!r}"
