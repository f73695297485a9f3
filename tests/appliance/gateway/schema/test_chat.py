from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import BadRequest
from appliance.gateway.schema.chat import parse
from tests.bodies import (
    CANARY,
    CHAT,
    CHAT_DROPPED,
    DANGEROUS,
    DROPPED,
    SALT,
    SAMPLING,
    TOOL,
    body,
    refusal,
    sent_on,
)

TOOL_CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"usage":{}}'}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True}}

CHAT_ONLY: dict[str, Any] = {
    "max_tokens": 5,
    "max_completion_tokens": 5,
    "logprobs": True,
    "top_logprobs": 20,
    "tools": [TOOL],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "parallel_tool_calls": False,
    "response_format": SCHEMA,
    "reasoning_effort": "xhigh",
    "chat_template_kwargs": {"enable_thinking": False, "effort": "low", "budget": 5},
    "include_reasoning": False,
    "thinking_token_budget": -1,
}
TOGETHER: dict[str, dict[str, Any]] = {"top_logprobs": {"logprobs": True}, "tool_choice": {"tools": [TOOL]}}
"""Fields that stand only beside another."""


NOT_OURS: dict[str, Any] = {
    "audio": {"voice": "alloy"},
    "function_call": "auto",
    "functions": [],
    "web_search_options": {},
}
"""OpenAI's fields that this box refuses on chat."""


@pytest.mark.parametrize("name", [*SAMPLING, *CHAT_ONLY])
def test_an_allowed_field_is_sent_on_as_it_came(name: str) -> None:
    fields = CHAT | {name: (SAMPLING | CHAT_ONLY)[name]} | TOGETHER.get(name, {})

    assert sent_on(parse(body(fields))) == fields | {"cache_salt": SALT}


@pytest.mark.parametrize("name", [*DROPPED, *CHAT_DROPPED])
@pytest.mark.parametrize(
    "value", [None, CANARY, {CANARY: [CANARY]}, 10**400], ids=["null", "text", "object", "huge"]
)
def test_a_dropped_field_is_taken_and_not_sent_on(name: str, value: object) -> None:
    assert sent_on(parse(body(CHAT, **{name: value}))) == CHAT | {"cache_salt": SALT}


def test_only_text_may_be_asked_for() -> None:
    assert sent_on(parse(body(CHAT, modalities=["text"]))) == CHAT | {"cache_salt": SALT}
    assert refusal(body(CHAT, modalities=["text", "audio"]), parse).param == "modalities[1]"


@pytest.mark.parametrize(
    "name", [*NOT_OURS, *DANGEROUS, "echo", "best_of", "prompt", "suffix", "truncate_prompt_tokens"]
)
def test_any_other_field_is_refused(name: str) -> None:
    error = refusal(body(CHAT, **{name: (NOT_OURS | DANGEROUS).get(name, CANARY)}), parse)

    assert error.reason in ("unknown_field", "unsupported_field")


@pytest.mark.parametrize(
    ("name", "value"),
    [("functions", [{"name": "f"}]), ("function_call", "auto"), ("audio", {}), ("web_search_options", {})],
)
def test_a_field_of_openai_that_is_not_here_is_refused_with_its_reason(name: str, value: object) -> None:
    error = refusal(body(CHAT, **{name: value}), parse)

    assert (error.reason, error.param) == ("unsupported_field", name)
    assert len(str(error).split(". ")) == 2


@pytest.mark.parametrize("stream", [True, False, None], ids=str)
@pytest.mark.parametrize(
    ("options", "asked"),
    [
        (None, (False, False)),
        ({}, (False, False)),
        ({"include_usage": True}, (True, False)),
        ({"include_usage": True, "continuous_usage_stats": True}, (True, True)),
        ({"continuous_usage_stats": True, "include_obfuscation": True}, (False, False)),
    ],
    ids=["none", "empty", "total", "running", "running without total"],
)
def test_the_engine_is_always_asked_for_running_usage_of_a_stream(
    stream: bool | None,  # noqa: FBT001  # null is a third case
    options: dict[str, bool] | None,
    asked: tuple[bool, bool],
) -> None:
    call, content = parse(body(CHAT, stream=stream, stream_options=options))

    assert (call.stream, call.include_usage, call.continuous_usage) == (bool(stream), *asked)
    assert sent_on((call, content)).get("stream_options") == (
        {"include_usage": True, "continuous_usage_stats": True} if stream else None
    )


SIZES: dict[str, tuple[dict[str, Any], tuple[int, int | None]]] = {
    "one": ({}, (1, None)),
    "several": ({"n": 3, "max_tokens": 7}, (3, 7)),
    "both names": ({"max_tokens": 7, "max_completion_tokens": 9}, (1, 9)),
}


@pytest.mark.parametrize(("fields", "size"), SIZES.values(), ids=SIZES.keys())
def test_how_much_is_asked_for_is_known_before_it_is_sent(
    fields: dict[str, Any], size: tuple[int, int | None]
) -> None:
    call = parse(body(CHAT, **fields))[0]

    assert (call.endpoint, call.choices, call.output_tokens_max) == ("chat", *size)


def test_the_template_variables_that_are_set_are_known_before_they_are_sent() -> None:
    call = parse(body(CHAT, chat_template_kwargs={"enable_thinking": False, "x": 1}))[0]

    assert call.switches == ("enable_thinking", "x")


MESSAGES: dict[str, dict[str, Any]] = {
    "system": {"role": "system", "content": "x", "name": "n"},
    "user": {"role": "user", "content": "x\u0000\u2028\U0001f600", "name": "n-_1"},
    "parts": {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": ""}]},
    "assistant": {"role": "assistant", "content": "x", "refusal": "no"},
    "assistant's parts": {
        "role": "assistant",
        "content": [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "b"}],
    },
    "assistant's thoughts": {"role": "assistant", "content": "x", "reasoning": "y"},
    "a tool call": {"role": "assistant", "tool_calls": [TOOL_CALL]},
    "a tool's answer": {"role": "tool", "content": "x", "tool_call_id": "call_1"},
}


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES.keys())
def test_a_message_is_sent_on_as_it_came(message: dict[str, Any]) -> None:
    assert sent_on(parse(body(CHAT, messages=[message])))["messages"] == [message]


def test_a_developer_is_a_system_to_the_engine() -> None:
    sent = sent_on(parse(body(CHAT, messages=[{"role": "developer", "content": "x", "name": "n"}])))

    assert sent["messages"] == [{"role": "system", "content": "x", "name": "n"}]


def test_what_an_answer_carried_may_come_back() -> None:
    """Applications append the message of an answer to the conversation as it is."""
    bookkeeping: dict[str, Any] = {
        "annotations": [CANARY],
        "audio": None,
        "function_call": None,
        "tool_calls": None,
        "refusal": None,
        "reasoning": None,
    }

    sent = sent_on(parse(body(CHAT, messages=[{"role": "assistant", "content": "x"} | bookkeeping])))

    assert sent["messages"] == [{"role": "assistant", "content": "x"}]


@pytest.mark.parametrize(
    "thoughts",
    [
        {"reasoning": "y"},
        {"reasoning_content": "y"},
        {"reasoning": None, "reasoning_content": "y"},
        {"reasoning": "y", "reasoning_content": "y"},
    ],
    ids=["new", "old", "old beside null", "both"],
)
def test_thoughts_are_sent_on_by_the_name_that_templates_know(thoughts: dict[str, Any]) -> None:
    sent = sent_on(parse(body(CHAT, messages=[{"role": "assistant", "content": "x"} | thoughts])))

    assert sent["messages"] == [{"role": "assistant", "content": "x", "reasoning": "y"}]


PNG = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ"
    "AAAADUlEQVR4nGNgYGD4DwABBAEAX+XDSwAAAABJRU5ErkJggg=="
)


def picture(**image_url: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": image_url}


def test_pictures_are_counted_and_sent_on_without_their_detail() -> None:
    words = {"type": "text", "text": "x"}
    content = [words, picture(url=PNG, detail="high"), picture(url=PNG)]

    call, parsed = parse(body(CHAT, messages=[{"role": "user", "content": content}]))

    assert call.images == 2
    assert sent_on((call, parsed))["messages"][0]["content"] == [words, picture(url=PNG), picture(url=PNG)]


def test_more_than_eight_pictures_are_refused() -> None:
    error = refusal(body(CHAT, messages=[{"role": "user", "content": [picture(url=PNG)] * 5}] * 2), parse)

    assert (error.reason, error.param) == ("too_many_images", "messages")


def test_only_users_send_pictures() -> None:
    error = refusal(body(CHAT, messages=[{"role": "system", "content": [picture(url=PNG)]}]), parse)

    assert error.reason == "invalid_value"


ELSEWHERE = picture(url=f"http://{CANARY}")

WRONG: dict[str, dict[str, Any]] = {
    "a picture elsewhere": {"messages": [{"role": "user", "content": [ELSEWHERE]}]},
    "a picture with a uuid": {
        "messages": [{"role": "user", "content": [picture(url=PNG) | {"uuid": CANARY}]}]
    },
    "a field in a picture": {"messages": [{"role": "user", "content": [picture(url=PNG, x=CANARY)]}]},
    "speech": {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
    "a file": {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": CANARY}}]}]},
    "another role": {"messages": [{"role": CANARY, "content": "x"}]},
    "no role": {"messages": [{"content": CANARY}]},
    "a field in a message": {"messages": [{"role": "user", "content": "x", CANARY: 1}]},
    "a field in a part": {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "x", "uuid": CANARY}]}]
    },
    "a name in words": {"messages": [{"role": "user", "content": "x", "name": f"{CANARY} x"}]},
    "an old function call": {"messages": [{"role": "assistant", "function_call": {"name": CANARY}}]},
    "spoken words": {"messages": [{"role": "assistant", "audio": {"id": CANARY}}]},
    "no messages": {"messages": []},
    "messages as text": {"messages": CANARY},
    "a tool that is none": {"tools": [{"type": "mcp", "server_url": CANARY}]},
    "a tool's name in words": {"tools": [{"type": "function", "function": {"name": f"{CANARY} x"}}]},
    "too many tools": {"tools": [TOOL] * 65},
    "a choice of no tool": {"tool_choice": CANARY},
    "another kind of choice": {"tool_choice": {"type": CANARY}},
    "another format": {"response_format": {"type": CANARY}},
    "a grammar": {"response_format": {"type": "structural_tag", "structures": [CANARY]}},
    "a bias of a word": {"logit_bias": {CANARY: 1}},
    "a bias too strong": {"logit_bias": {"5": 101}},
    "a stop too long": {"stop": [CANARY * 5]},
    "too many stops": {"stop": [CANARY] * 5},
    "an empty stop": {"stop": ""},
    "too many choices": {"n": 5},
    "no choice": {"n": 0},
    "too hot": {"temperature": 2.1},
    "heat in words": {"temperature": CANARY},
    "a huge seed": {"seed": 10**30},
    "a huger seed": {"seed": 10**4000},
    "no token": {"max_tokens": 0},
    "half a token": {"max_tokens": 1.5},
    "true as a number": {"max_tokens": True},
    "one as a truth": {"stream": 1},
    "a model's name too long": {"model": CANARY * 20},
    "no model": {"model": None},
    "a field of stream options": {"stream_options": {CANARY: True}},
    "too many logprobs": {"logprobs": True, "top_logprobs": 21},
    "logprobs without logprobs": {"top_logprobs": 1},
    "no tools": {"tools": []},
    "a choice without tools": {"tool_choice": "required"},
    "an effort of another name": {"reasoning_effort": CANARY},
    "a variable in words": {"chat_template_kwargs": {f"{CANARY} x": True}},
    "a variable with a line end": {"chat_template_kwargs": {"x\n": True}},
    "a variable without a name": {"chat_template_kwargs": {"": True}},
    "a sentence for a variable": {"chat_template_kwargs": {"x": f"{CANARY} x"}},
    "a list for a variable": {"chat_template_kwargs": {"x": [CANARY]}},
    "a huge number for a variable": {"chat_template_kwargs": {"x": 10**10}},
    "too many variables": {"chat_template_kwargs": {"x" * (length + 1): True for length in range(17)}},
    "a name with a line end": {"messages": [{"role": "user", "content": "x", "name": "n\n"}]},
    "too many words not to use": {"bad_words": ["x"] * 17},
    "too many biases": {"logit_bias": {str(token): 1 for token in range(1025)}},
}


@pytest.mark.parametrize("fields", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_value_is_refused_without_a_word_of_it(fields: dict[str, Any]) -> None:
    assert refusal(body(CHAT, **fields), parse).reason in (
        "invalid_value",
        "unknown_field",
        "unsupported_field",
        "unsupported_image",
    )


def test_a_refusal_names_the_field_and_its_limit() -> None:
    error = refusal(body(CHAT, temperature=3), parse)

    assert (str(error), error.param) == ("`temperature`: expected `float` <= 2.0.", "temperature")


GOOD = body(CHAT)


def test_a_schema_too_deep_to_send_on_is_refused() -> None:
    """What can just be read may be too deep to be written, on a deeper stack: a refusal, not an error of ours."""
    outcomes = [deep_schema(depth) for depth in range(800, 1010)]

    assert outcomes[0] == "sent on"
    assert set(outcomes) == {"sent on", "invalid_json"}


def deep_schema(depth: int) -> str:
    deep = b'{"a":' * depth + b"1" + b"}" * depth
    raw = GOOD[:-1] + b',"tools":[{"type":"function","function":{"name":"f","parameters":' + deep + b"}}]}"
    try:
        written = parse(raw)[1].for_engine(SALT)
    except BadRequest as error:
        return error.reason
    return "sent on" if deep in written else "changed"


def test_of_a_field_given_twice_one_counts_for_us_and_for_the_engine() -> None:
    call, content = parse(GOOD[:-1] + b',"model":"other","stream":true,"stream":false}')

    assert (call.model, call.stream) == ("other", False)
    assert sent_on((call, content)) == CHAT | {"model": "other", "stream": False, "cache_salt": SALT}


def test_null_is_the_same_as_nothing() -> None:
    nothing = dict.fromkeys(
        [*SAMPLING, *CHAT_ONLY, *DROPPED, *CHAT_DROPPED, *NOT_OURS, "cache_salt", "modalities"]
    )

    assert sent_on(parse(body(CHAT, **nothing))) == CHAT | {"cache_salt": SALT}


def test_numbers_in_a_schema_stay_as_they_are() -> None:
    numbers = {"int": 2**63, "big": 10**40, "float": 1.5e300, "small": -0.25}
    tool = {"type": "function", "function": {"name": "f", "parameters": numbers}}

    assert sent_on(parse(body(CHAT, tools=[tool])))["tools"] == [tool]


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.just(CANARY),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=6) | st.just(CANARY), inner, max_size=4)
    ),
    max_leaves=12,
)
known_fields = st.sampled_from([*CHAT, *SAMPLING, *CHAT_ONLY, *DROPPED, "stream_options", "modalities"])


@given(st.dictionaries(known_fields | st.just(CANARY), anything, max_size=5))
@settings(max_examples=400, deadline=None)
def test_whatever_is_asked_is_sent_on_or_refused_without_a_word_of_it(fields: dict[str, Any]) -> None:
    try:
        written = sent_on(parse(json.dumps(CHAT | fields).encode()))
    except BadRequest as error:
        written = f"{error} {error.param} {error.reason}"

    assert isinstance(written, dict) or CANARY not in written


valid: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "model": st.text(min_size=1, max_size=20),
        "messages": st.lists(
            st.fixed_dictionaries(
                {"role": st.sampled_from(["system", "user"]), "content": st.text(max_size=30)}
            ),
            min_size=1,
            max_size=4,
        ),
    },
    optional={
        "temperature": st.floats(0, 2),
        "seed": st.integers(-(2**63), 2**63 - 1),
        "stop": st.lists(st.text(min_size=1, max_size=64), max_size=4),
        "logit_bias": st.dictionaries(st.integers(0, 10_000_000).map(str), st.floats(-100, 100), max_size=4),
        "user": anything,
        "metadata": anything,
        "tools": st.lists(
            st.fixed_dictionaries(
                {
                    "type": st.just("function"),
                    "function": st.fixed_dictionaries(
                        {"name": st.just("f"), "parameters": st.dictionaries(st.text(), anything, max_size=3)}
                    ),
                }
            ),
            min_size=1,
            max_size=2,
        ),
    },
)


@given(valid)
@settings(max_examples=80, deadline=None)
def test_a_good_body_is_sent_on_whole(fields: dict[str, Any]) -> None:
    kept = {name: value for name, value in fields.items() if name not in ("user", "metadata")}

    written = parse(json.dumps(fields).encode())[1].for_engine(SALT)

    assert msgspec.json.decode(written) == json.loads(json.dumps(kept)) | {"cache_salt": SALT}
