from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.domain import Call
from appliance.errors import BadRequest
from appliance.gateway.schema.chat import parse as parse_chat
from appliance.gateway.schema.completions import parse as parse_completion
from appliance.privacy.content import Content

CANARY = "CANARY5d1fcanary"
SALT = "s" * 43

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
COMPLETION: dict[str, Any] = {"model": "m", "prompt": "Once"}

TOOL = {
    "type": "function",
    "function": {
        "name": "f",
        "description": "d",
        "parameters": {"type": "object", "x": [1, 2.5]},
        "strict": True,
    },
}
TOOL_CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"usage":{}}'}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True}}

SAMPLING: dict[str, Any] = {
    "temperature": 0.0,
    "top_p": 1.0,
    "n": 4,
    "stop": ["a", "b"],
    "seed": -(2**63),
    "presence_penalty": -2.0,
    "frequency_penalty": 2.0,
    "logit_bias": {"5": 1.5},
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.5,
    "min_tokens": 0,
    "ignore_eos": True,
    "stop_token_ids": [1, 2],
    "skip_special_tokens": False,
    "include_stop_str_in_output": True,
}
CHAT_ONLY: dict[str, Any] = {
    "max_tokens": 5,
    "max_completion_tokens": 5,
    "logprobs": True,
    "top_logprobs": 20,
    "tools": [TOOL],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "parallel_tool_calls": False,
    "response_format": SCHEMA,
    "stream": False,
}
COMPLETION_ONLY: dict[str, Any] = {"max_tokens": 5, "echo": True, "logprobs": 5, "stream": False}

DROPPED: dict[str, Any] = {
    "user": CANARY,
    "metadata": {CANARY: CANARY},
    "service_tier": "auto",
    "store": True,
    "safety_identifier": CANARY,
    "prompt_cache_key": CANARY,
    "prompt_cache_retention": "24h",
}
CHAT_DROPPED: dict[str, Any] = {
    "modalities": ["text"],
    "prediction": {"type": "content", "content": CANARY},
    "reasoning_effort": "low",
    "verbosity": "low",
}

NOT_OURS: dict[str, Any] = {
    "audio": {"voice": "alloy"},
    "function_call": "auto",
    "functions": [],
    "web_search_options": {},
    "moderation": {},
}
"""OpenAI's fields that this box refuses on chat."""

DANGEROUS = {
    "cache_salt": CANARY,
    "kv_transfer_params": {},
    "ec_transfer_params": {},
    "request_id": CANARY,
    "session_id": CANARY,
    "priority": 1,
    "prompt_logprobs": 1,
    "return_token_ids": True,
    "return_tokens_as_token_ids": True,
    "vllm_xargs": {},
    "mm_processor_kwargs": {},
    "media_io_kwargs": {},
    "structured_outputs": {"regex": CANARY},
    "guided_json": {},
    "guided_regex": CANARY,
    "chat_template": CANARY,
    "chat_template_kwargs": {},
    "add_generation_prompt": False,
    "continue_final_message": True,
    "documents": [],
    "bad_words": [CANARY],
    "allowed_token_ids": [1],
    "logits_processors": [],
    "truncate_prompt_tokens": 1,
    "use_beam_search": True,
    "spaces_between_special_tokens": True,
    "include_reasoning": True,
    "lora_request": {},
    "data_parallel_rank": 0,
}
"""vLLM's fields that reach across accounts, into logs or out of the box, or that nobody needs."""


def body(base: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps(base | fields).encode()


def sent_on(parsed: tuple[Call, Content]) -> dict[str, Any]:
    return json.loads(parsed[1].for_engine(SALT))


def refusal(raw: bytes, parse: Callable[[bytes], Any] = parse_chat) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        parse(raw)
    return caught.value


@pytest.mark.parametrize("name", [*SAMPLING, *CHAT_ONLY])
def test_an_allowed_field_of_chat_is_sent_on_as_it_came(name: str) -> None:
    value = (SAMPLING | CHAT_ONLY)[name]

    assert sent_on(parse_chat(body(CHAT, **{name: value}))) == CHAT | {name: value, "cache_salt": SALT}


@pytest.mark.parametrize("name", [*SAMPLING, *COMPLETION_ONLY])
def test_an_allowed_field_of_completions_is_sent_on_as_it_came(name: str) -> None:
    value = (SAMPLING | COMPLETION_ONLY)[name]

    assert sent_on(parse_completion(body(COMPLETION, **{name: value}))) == COMPLETION | {
        name: value,
        "cache_salt": SALT,
    }


@pytest.mark.parametrize("name", [*DROPPED, *CHAT_DROPPED])
@pytest.mark.parametrize(
    "value", [None, CANARY, {CANARY: [CANARY]}, 10**400], ids=["null", "text", "object", "huge"]
)
def test_a_dropped_field_of_chat_is_taken_and_not_sent_on(name: str, value: object) -> None:
    assert sent_on(parse_chat(body(CHAT, **{name: value}))) == CHAT | {"cache_salt": SALT}


@pytest.mark.parametrize("name", [*DROPPED, "best_of"])
def test_a_dropped_field_of_completions_is_taken_and_not_sent_on(name: str) -> None:
    value = (DROPPED | {"best_of": 1})[name]

    assert sent_on(parse_completion(body(COMPLETION, **{name: value}))) == COMPLETION | {"cache_salt": SALT}


@pytest.mark.parametrize("name", [*NOT_OURS, *DANGEROUS, "echo", "best_of", "prompt", "suffix", CANARY])
def test_any_other_field_of_chat_is_refused(name: str) -> None:
    error = refusal(body(CHAT, **{name: (NOT_OURS | DANGEROUS).get(name, CANARY)}))

    assert error.reason in ("unknown_field", "unsupported_field")
    assert CANARY not in str(error)


@pytest.mark.parametrize("name", [*DANGEROUS, "messages", "tools", "suffix", "max_completion_tokens", CANARY])
def test_any_other_field_of_completions_is_refused(name: str) -> None:
    error = refusal(body(COMPLETION, **{name: DANGEROUS.get(name, CANARY)}), parse_completion)

    assert error.reason in ("unknown_field", "unsupported_field")
    assert CANARY not in str(error)


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
    call, content = parse_chat(body(CHAT, stream=stream, stream_options=options))

    assert (call.stream, call.include_usage, call.continuous_usage) == (bool(stream), *asked)
    assert sent_on((call, content)).get("stream_options") == (
        {"include_usage": True, "continuous_usage_stats": True} if stream else None
    )


MESSAGES: dict[str, dict[str, Any]] = {
    "system": {"role": "system", "content": "x", "name": "n"},
    "user": {"role": "user", "content": "x\u0000\u2028\U0001f600", "name": "n-_1"},
    "parts": {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": ""}]},
    "assistant": {"role": "assistant", "content": "x", "refusal": "no"},
    "a tool call": {"role": "assistant", "tool_calls": [TOOL_CALL]},
    "a tool's answer": {"role": "tool", "content": "x", "tool_call_id": "call_1"},
}


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES.keys())
def test_a_message_is_sent_on_as_it_came(message: dict[str, Any]) -> None:
    assert sent_on(parse_chat(body(CHAT, messages=[message])))["messages"] == [message]


def test_a_developer_is_a_system_to_the_engine() -> None:
    sent = sent_on(parse_chat(body(CHAT, messages=[{"role": "developer", "content": "x", "name": "n"}])))

    assert sent["messages"] == [{"role": "system", "content": "x", "name": "n"}]


def test_what_an_answer_carried_may_come_back_and_is_dropped() -> None:
    """Applications append the message of an answer to the conversation as it is."""
    bookkeeping: dict[str, Any] = {
        "annotations": [],
        "audio": None,
        "function_call": None,
        "reasoning": CANARY,
        "tool_calls": None,
    }
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "x",
        "refusal": None,
        "reasoning_content": CANARY,
    } | bookkeeping

    sent = sent_on(parse_chat(body(CHAT, messages=[message])))

    assert sent["messages"] == [{"role": "assistant", "content": "x"}]


PICTURE = {"type": "image_url", "image_url": {"url": f"http://{CANARY}"}, "uuid": CANARY}

WRONG: dict[str, dict[str, Any]] = {
    "a picture": {"messages": [{"role": "user", "content": [PICTURE]}]},
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
    "too many logprobs": {"top_logprobs": 21},
}


@pytest.mark.parametrize("fields", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_value_is_refused_without_a_word_of_it(fields: dict[str, Any]) -> None:
    error = refusal(body(CHAT, **fields))

    assert CANARY.lower() not in f"{error} {error.param} {error.reason}".lower()
    assert error.reason in ("invalid_value", "unknown_field", "unsupported_field")


def test_a_refusal_names_the_field_and_its_limit() -> None:
    error = refusal(body(CHAT, temperature=3))

    assert (str(error), error.param) == ("`temperature`: expected `float` <= 2.0.", "temperature")


GOOD = body(CHAT)
NOT_JSON = {
    "nothing": b"",
    "words": CANARY.encode(),
    "cut": GOOD[:-1],
    "more behind": GOOD + CANARY.encode(),
    "a byte order mark": b"\xef\xbb\xbf" + GOOD,
    "UTF-16": GOOD.decode().encode("utf-16"),
    "bytes that are no UTF-8": GOOD.replace(b"Hello", b"\xff\xfe"),
    "a lone surrogate": GOOD.replace(b"Hello", b"\\ud800"),
    "half a pair": GOOD.replace(b"Hello", b"\\udc00\\ud800"),
    "a raw control character": GOOD.replace(b"Hello", b"a\nb"),
    "NaN": body(CHAT, temperature=float("nan")),
    "infinity": body(CHAT, temperature=float("inf")),
    "a comment": GOOD[:-1] + b"/*x*/}",
    "a comma too many": GOOD[:-1] + b",}",
    "a deep dropped field": GOOD[:-1] + b',"user":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.mark.parametrize("raw", NOT_JSON.values(), ids=NOT_JSON.keys())
def test_what_is_no_json_is_refused(raw: bytes) -> None:
    error = refusal(raw)

    assert (error.reason, error.param) == ("invalid_json", None)
    assert CANARY not in str(error)


@pytest.mark.parametrize(
    "raw",
    [b"null", b"[]", b"5", b'"CANARY"', b"[" * 1_000_000, b'{"model":' * 1_000_000],
    ids=["null", "list", "number", "text", "deep lists", "deep objects"],
)
def test_json_that_is_no_object_is_refused(raw: bytes) -> None:
    assert refusal(raw).reason == "invalid_value"


def test_a_schema_too_deep_to_send_on_is_refused() -> None:
    """What can just be read may be too deep to be written, on a deeper stack: a refusal, not an error of ours."""
    outcomes = [deep_schema(depth) for depth in range(800, 1010)]

    assert outcomes[0] == "sent on"
    assert set(outcomes) == {"sent on", "invalid_json"}


def deep_schema(depth: int) -> str:
    deep = b'{"a":' * depth + b"1" + b"}" * depth
    raw = GOOD[:-1] + b',"tools":[{"type":"function","function":{"name":"f","parameters":' + deep + b"}}]}"
    try:
        written = parse_chat(raw)[1].for_engine(SALT)
    except BadRequest as error:
        return error.reason
    return "sent on" if deep in written else "changed"


def test_of_a_field_given_twice_one_counts_for_us_and_for_the_engine() -> None:
    call, content = parse_chat(GOOD[:-1] + b',"model":"other","stream":true,"stream":false}')

    assert (call.model, call.stream) == ("other", False)
    assert sent_on((call, content)) == CHAT | {"model": "other", "stream": False, "cache_salt": SALT}


def test_null_is_the_same_as_nothing() -> None:
    nothing = dict.fromkeys([*SAMPLING, *CHAT_ONLY, *DROPPED, *CHAT_DROPPED, "cache_salt"])

    assert sent_on(parse_chat(body(CHAT, **nothing))) == CHAT | {"cache_salt": SALT}


def test_numbers_in_a_schema_stay_as_they_are() -> None:
    numbers = {"int": 2**63, "big": 10**40, "float": 1.5e300, "small": -0.25}
    tool = {"type": "function", "function": {"name": "f", "parameters": numbers}}

    assert sent_on(parse_chat(body(CHAT, tools=[tool])))["tools"] == [tool]


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
Parse = Callable[[bytes], tuple[Call, Content]]
ENDPOINTS: list[tuple[Parse, dict[str, Any]]] = [(parse_chat, CHAT), (parse_completion, COMPLETION)]
known_fields = st.sampled_from([*CHAT, *SAMPLING, *CHAT_ONLY, *DROPPED, "stream_options", "prompt"])


@given(st.dictionaries(known_fields | st.just(CANARY), anything, max_size=5), st.sampled_from(ENDPOINTS))
@settings(max_examples=250, deadline=None)
def test_whatever_is_asked_is_sent_on_or_refused_without_a_word_of_it(
    fields: dict[str, Any], endpoint: tuple[Parse, dict[str, Any]]
) -> None:
    parse, base = endpoint

    try:
        written = sent_on(parse(json.dumps(base | fields).encode()))
    except BadRequest as error:
        written = f"{error} {error.param} {error.reason}"

    assert isinstance(written, dict) or CANARY not in written


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_bytes_end_in_a_refusal(raw: bytes) -> None:
    assert refusal(raw).status == 400
    assert refusal(raw, parse_completion).status == 400


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
            max_size=2,
        ),
    },
)


@given(valid)
@settings(max_examples=80, deadline=None)
def test_a_good_body_is_sent_on_whole(fields: dict[str, Any]) -> None:
    kept = {name: value for name, value in fields.items() if name not in ("user", "metadata")}

    written = parse_chat(json.dumps(fields).encode())[1].for_engine(SALT)

    assert msgspec.json.decode(written) == json.loads(json.dumps(kept)) | {"cache_salt": SALT}
