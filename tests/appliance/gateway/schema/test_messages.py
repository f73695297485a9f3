from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.domain import Call
from appliance.errors import BadRequest
from appliance.gateway.schema.messages import parse, parse_count_tokens
from appliance.privacy.content import Content
from tests.bodies import PIXEL

CANARY = "CANARY5d1fcanary"
SALT = "s" * 43

HELLO: dict[str, Any] = {"role": "user", "content": "Hello"}
BASE: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": [HELLO]}
COUNT: dict[str, Any] = {"model": "m", "messages": [HELLO]}
SENT: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": [HELLO], "cache_salt": SALT}

CACHE = {"type": "ephemeral", "ttl": "1h"}
WORDS: dict[str, Any] = {"type": "text", "text": "Words"}
IMAGE: dict[str, Any] = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
}
CALL: dict[str, Any] = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": [1]}}
RESULT: dict[str, Any] = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "4"}
TOOL: dict[str, Any] = {"name": "f", "input_schema": {"type": "object", "x": [1, 2.5]}}
CHAT_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "f", "parameters": {"type": "object", "x": [1, 2.5]}},
}

FORCED_TOOL: dict[str, Any] = CHAT_TOOL | {"function": CHAT_TOOL["function"] | {"strict": True}}
"""Only of a strict tool does vLLM check the arguments."""


def body(base: dict[str, Any] = BASE, **fields: Any) -> bytes:
    return json.dumps(base | fields).encode()


def sent_on(parsed: tuple[Call, Content]) -> dict[str, Any]:
    return json.loads(parsed[1].for_engine(SALT))


def refusal(raw: bytes, parse: Callable[[bytes], Any] = parse) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        parse(raw)
    return caught.value


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(content)}


def assistant(*content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(content)}


NULLABLE = [
    *("system", "tools", "tool_choice", "thinking", "output_config", "container", "context_management"),
    *("mcp_servers", "stream", "stop_sequences", "temperature", "top_p", "top_k", "metadata"),
]
FIELDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing more": ({}, {}),
    "a stream": (
        {"stream": True},
        {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}},
    ),
    "no stream": ({"stream": False}, {"stream": False}),
    "sampling": (
        {"temperature": 1.0, "top_p": 0.5, "top_k": 0},
        {"temperature": 1.0, "top_p": 0.5, "top_k": 0},
    ),
    "stop sequences": ({"stop_sequences": ["a"] * 16}, {"stop": ["a"] * 16}),
    "no stop sequence": ({"stop_sequences": []}, {}),
    "a tool": ({"tools": [TOOL]}, {"tools": [CHAT_TOOL]}),
    "a tool with all it may have": (
        {
            "tools": [
                TOOL
                | {"type": "custom", "description": "d", "strict": True, "cache_control": CACHE}
                | {"allowed_callers": ["direct"], "defer_loading": True, "eager_input_streaming": True}
                | {"input_examples": [{CANARY: 1}]}
            ]
        },
        {
            "tools": [
                {"type": "function", "function": CHAT_TOOL["function"] | {"description": "d", "strict": True}}
            ]
        },
    ),
    "no tools": ({"tools": [], "tool_choice": {"type": "auto"}}, {}),
    "a free choice": (
        {"tools": [TOOL], "tool_choice": {"type": "auto"}},
        {"tools": [CHAT_TOOL], "tool_choice": "auto"},
    ),
    "any tool": (
        {"tools": [TOOL], "tool_choice": {"type": "any", "disable_parallel_tool_use": False}},
        {"tools": [FORCED_TOOL], "tool_choice": "required"},
    ),
    "one tool, once": (
        {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True}},
        {
            "tools": [FORCED_TOOL],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "parallel_tool_calls": False,
        },
    ),
    "no tool now": (
        {"tools": [TOOL], "tool_choice": {"type": "none"}},
        {"tools": [CHAT_TOOL], "tool_choice": "none"},
    ),
    "an answer in JSON": (
        {"output_config": {"effort": "max", "format": {"type": "json_schema", "schema": {"a": 1}}}},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": {"a": 1}},
            }
        },
    ),
    "a system prompt": (
        {"system": "Be brief."},
        {"messages": [{"role": "system", "content": "Be brief."}, HELLO]},
    ),
    "a system prompt in blocks": (
        {
            "system": [
                {"type": "text", "text": "x-anthropic-billing-header: cch=1;"},
                {"type": "text", "text": "Be", "cache_control": CACHE},
                {"type": "text", "text": "brief.", "citations": None},
            ]
        },
        {"messages": [{"role": "system", "content": "Be\nbrief."}, HELLO]},
    ),
    "no system prompt": ({"system": ""}, {}),
    "thinking with a budget": ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, {}),
    "thinking as it likes": ({"thinking": {"type": "adaptive", "display": "omitted"}}, {}),
    "thinking between tools": ({"thinking": {"type": "between_tools"}}, {}),
    "no thinking": ({"thinking": {"type": "disabled"}}, {}),
    "what means nothing here": (
        {
            "metadata": {"user_id": CANARY},
            "service_tier": "auto",
            "cache_control": CACHE,
            "diagnostics": {"previous_message_id": CANARY},
            "inference_geo": "eu",
            "speed": "fast",
            "user_profile_id": CANARY,
        },
        {},
    ),
    "null everywhere": (
        dict.fromkeys(NULLABLE),
        {},
    ),
}


@pytest.mark.parametrize(("asked", "written"), FIELDS.values(), ids=FIELDS.keys())
def test_a_field_is_sent_on_in_the_words_of_a_chat(asked: dict[str, Any], written: dict[str, Any]) -> None:
    assert sent_on(parse(body(**asked))) == SENT | written


def test_an_answer_may_be_counted_last() -> None:
    _, content = parse_count_tokens(body(COUNT, messages=[HELLO, assistant(WORDS)]))

    assert sent_on((_, content))["messages"] == [HELLO, {"role": "assistant", "content": "Words"}]


def test_the_call_tells_the_shape() -> None:
    turns = [HELLO, assistant(CALL), user(IMAGE, RESULT | {"content": [IMAGE]})]

    call, _ = parse(body(messages=turns, stream=True))

    assert call == Call(endpoint="messages", model="m", stream=True, output_tokens_max=9, images=2)


def test_counting_generates_nothing() -> None:
    call, content = parse_count_tokens(
        body(COUNT, system="S", tools=[TOOL], tool_choice={"type": "any"}, thinking={"type": "adaptive"})
    )

    assert call == Call(endpoint="messages", model="m", output_tokens_max=0)
    assert sent_on((call, content)) == {
        "model": "m",
        "messages": [{"role": "system", "content": "S"}, HELLO],
        "tools": [CHAT_TOOL],
        "add_generation_prompt": True,
    }


WITHOUT_THOUGHTS: dict[str, dict[str, Any]] = {
    "not asked": {},
    "disabled": {"thinking": {"type": "disabled"}},
    "omitted": {"thinking": {"type": "adaptive", "display": "omitted"}},
}
WITH_THOUGHTS: dict[str, dict[str, Any]] = {
    "enabled": {"thinking": {"type": "enabled", "budget_tokens": 2048}},
    "adaptive": {"thinking": {"type": "adaptive", "display": "summarized"}},
    "between tools": {"thinking": {"type": "between_tools"}},
}
ANSWER = {
    "model": "m",
    "choices": [{"message": {"content": "4", "reasoning": "2+2"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 4},
}


def answered(fields: dict[str, Any]) -> list[str]:
    translator = parse(body(**fields))[1].translator("R")
    assert translator is not None
    message = json.loads(translator.whole(json.dumps(ANSWER).encode()))
    return [block["type"] for block in message["content"]]


@pytest.mark.parametrize("fields", WITHOUT_THOUGHTS.values(), ids=WITHOUT_THOUGHTS.keys())
def test_thoughts_stay_out_of_an_answer_unless_asked_for(fields: dict[str, Any]) -> None:
    assert answered(fields) == ["text"]


@pytest.mark.parametrize("fields", WITH_THOUGHTS.values(), ids=WITH_THOUGHTS.keys())
def test_thoughts_are_shown_to_who_asks_for_them(fields: dict[str, Any]) -> None:
    assert answered(fields) == ["thinking", "text"]


def test_a_count_is_answered_in_anthropics_words() -> None:
    translator = parse_count_tokens(body(COUNT))[1].translator("R")

    assert translator is not None
    assert translator.whole(b'{"count":7,"max_model_len":99,"tokens":[1,2]}') == b'{"input_tokens":7}'


SERVER_TOOL: dict[str, Any] = {"type": "web_search_20250305", "name": "web_search", "max_uses": 5}
NOT_HERE: dict[str, tuple[dict[str, Any], str, str]] = {
    "a container": ({"container": CANARY}, "container", "`container`"),
    "servers of tools": ({"mcp_servers": [{"name": CANARY}]}, "mcp_servers", "`mcp_servers`"),
    "context editing": ({"context_management": {CANARY: 1}}, "context_management", "`context_management`"),
    "a server's tool": ({"tools": [TOOL, SERVER_TOOL]}, "tools", "Only tools of your own"),
    "a server's tool of few words": (
        {"tools": [{"type": CANARY, "name": "f", "input_schema": {}}]},
        "tools",
        "Only tools of your own",
    ),
    "an answer that has begun": (
        {"messages": [HELLO, assistant({"type": "text", "text": CANARY})]},
        "messages",
        "The last message has to be the user's",
    ),
    "nobody who asks": (
        {"messages": [{"role": "system", "content": CANARY}]},
        "messages",
        "The last message has to be the user's",
    ),
    "an image elsewhere": (
        {"messages": [user({"type": "image", "source": {"type": "url", "url": CANARY}})]},
        "messages",
        "Images are taken only as a base64 source",
    ),
    "an image in a file": (
        {"messages": [user({"type": "image", "source": {"type": "file", "file_id": CANARY}})]},
        "messages",
        "Images are taken only as a base64 source",
    ),
    "a document": (
        {"messages": [user({"type": "document", "source": {"data": CANARY}, "title": CANARY})]},
        "messages",
        "Documents are not supported",
    ),
    "a document as a result": (
        {
            "messages": [
                HELLO,
                assistant(CALL),
                user(RESULT | {"content": [{"type": "document", CANARY: 1}]}),
            ]
        },
        "messages",
        "Documents are not supported",
    ),
    "a tool that is not there": (
        {"tools": [TOOL], "tool_choice": {"type": "tool", "name": CANARY}},
        "tool_choice",
        "is not in `tools`",
    ),
    "a tool of none": ({"tool_choice": {"type": "any"}}, "tool_choice", "`tools` is empty"),
}


@pytest.mark.parametrize(("fields", "param", "words"), NOT_HERE.values(), ids=NOT_HERE.keys())
def test_what_is_not_served_is_refused_with_its_reason(
    fields: dict[str, Any], param: str, words: str
) -> None:
    error = refusal(body(**fields))

    assert error.param == param
    assert words in str(error)
    assert CANARY not in f"{error} {error.param} {error.reason}"


WRONG: dict[str, dict[str, Any]] = {
    "an unknown field": {CANARY: 1},
    "a salt": {"cache_salt": CANARY},
    "a field of vLLM's": {"chat_template_kwargs": {CANARY: 1}},
    "a field of OpenAI's": {"n": 2},
    "no model": {"model": None},
    "no tokens": {"max_tokens": 0},
    "no limit": {"max_tokens": None},
    "too hot": {"temperature": 1.1},
    "no top_p": {"top_p": 0},
    "a negative top_k": {"top_k": -1},
    "a long stop sequence": {"stop_sequences": [CANARY * 9]},
    "too many stop sequences": {"stop_sequences": ["a"] * 17},
    "too many tools": {"tools": [TOOL] * 65},
    "an unknown choice": {"tool_choice": {"type": CANARY}},
    "an unknown way to think": {"thinking": {"type": CANARY}},
    "an unknown format": {"output_config": {"format": {"type": CANARY}}},
    "an unknown field of a tool": {"tools": [TOOL | {CANARY: 1}]},
    "a tool without a name": {"tools": [TOOL | {"name": ""}]},
    "a tool's name with spaces": {"tools": [TOOL | {"name": f"{CANARY} {CANARY}"}]},
    "a line end in a tool's name": {"tools": [TOOL | {"name": "f\n"}]},
    "a tool without a schema": {"tools": [{"name": CANARY}]},
    "no messages": {"messages": []},
    "an unknown side": {"messages": [{"role": CANARY, "content": ""}]},
    "no content": {"messages": [user()]},
    "an unknown block": {"messages": [user({"type": CANARY})]},
    "an image that is no image": {
        "messages": [
            user({"type": "image", "source": {"type": "base64", "media_type": CANARY, "data": PIXEL}})
        ]
    },
    "the assistant's image": {"messages": [assistant(IMAGE), HELLO]},
    "the assistant's result": {"messages": [assistant(RESULT), HELLO]},
    "a call by the user": {"messages": [user(CALL)]},
    "a call with a list": {"messages": [HELLO, assistant(CALL | {"input": [CANARY]}), HELLO]},
    "a server's call": {"messages": [HELLO, assistant(CALL | {"type": "server_tool_use"}), HELLO]},
}


@pytest.mark.parametrize("fields", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_value_is_refused_without_a_word_of_it(fields: dict[str, Any]) -> None:
    error = refusal(body(**fields))

    assert CANARY.lower() not in f"{error} {error.param} {error.reason}".lower()
    assert error.reason in ("invalid_value", "unknown_field", "unsupported_field", "unsupported_value")


def test_a_count_takes_no_field_of_an_answer() -> None:
    assert refusal(body(COUNT, max_tokens=5), parse_count_tokens).reason == "unknown_field"


WHOLE = body(COUNT)
NOT_JSON = {
    "nothing": b"",
    "words": CANARY.encode(),
    "cut": WHOLE[:-1],
    "no UTF-8": WHOLE.replace(b"Hello", b"\xff"),
    "too deep": b'{"model":' * 1_000_000,
    "a list": b"[]",
}


@pytest.mark.parametrize("parse", [parse, parse_count_tokens])
@pytest.mark.parametrize("raw", NOT_JSON.values(), ids=NOT_JSON.keys())
def test_what_is_no_json_object_is_refused(raw: bytes, parse: Callable[[bytes], Any]) -> None:
    error = refusal(raw, parse)

    assert error.reason in ("invalid_json", "invalid_value")
    assert CANARY not in str(error)


@pytest.mark.parametrize(("parse", "base"), [(parse, BASE), (parse_count_tokens, COUNT)])
@pytest.mark.parametrize(
    "deep",
    [
        b',"tools":[{"name":"f","input_schema":%b}]}',
        b',"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"1","name":"f","input":%b}]}'
        b',{"role":"user","content":""}]}',
    ],
    ids=["a schema", "a tool's input"],
)
def test_what_can_be_read_can_be_sent_on(
    deep: bytes, parse: Callable[[bytes], tuple[Call, Content]], base: dict[str, Any]
) -> None:
    """However deep it is: what is too deep is refused by reading it."""
    outcomes = {outcome(parse, body(base)[:-1] + deep % nested(depth)) for depth in (10, *range(800, 1010))}

    assert outcomes == {"sent on", "invalid_json"}


def nested(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


def outcome(parse: Callable[[bytes], tuple[Call, Content]], raw: bytes) -> str:
    try:
        parse(raw)[1].for_engine(SALT)
    except BadRequest as error:
        return error.reason
    return "sent on"


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.just(CANARY),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([CANARY, "type", "text", "content", "name"]), inner, max_size=4)
    ),
    max_leaves=12,
)
known_fields = st.sampled_from([*BASE, *(name for asked, _ in FIELDS.values() for name in asked)])


@given(st.dictionaries(known_fields | st.just(CANARY), anything, max_size=5))
@settings(max_examples=250, deadline=None)
def test_whatever_is_asked_is_sent_on_or_refused_without_a_word_of_it(fields: dict[str, Any]) -> None:
    try:
        written = sent_on(parse(body(**fields)))
    except BadRequest as error:
        written = f"{error} {error.param} {error.reason}"

    assert isinstance(written, dict) or CANARY not in written


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_bytes_end_in_a_refusal(raw: bytes) -> None:
    assert refusal(raw).status == 400
    assert refusal(raw, parse_count_tokens).status == 400
