from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.domain import Call
from appliance.errors import BadRequest
from appliance.gateway import shape
from appliance.gateway.schema import chat, completions, embeddings, rerank, score, tokenize
from appliance.gateway.schema.chat import parse
from appliance.privacy.content import Content
from tests.bodies import CANARY, CHAT, SALT, Parse, body, refusal

PARSERS: list[Parse] = [
    chat.parse,
    completions.parse,
    embeddings.parse,
    rerank.parse,
    score.parse,
    tokenize.parse_tokenize,
    tokenize.parse_detokenize,
]
GOOD = body(CHAT)


def parse_checked(raw: bytes) -> tuple[Call, Content]:
    shape.check(raw)
    return parse(raw)


def schema_of(value: bytes) -> bytes:
    """A body with something anywhere in a tool's schema, where any JSON may stand."""
    function = b'{"name":"f","parameters":{"x":' + value + b"}}"
    return GOOD[:-1] + b',"tools":[{"type":"function","function":' + function + b"}]}"


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
    "NaN in a schema": schema_of(b"NaN"),
    "a lone surrogate as a key": schema_of(b'{"\\udfff":1}'),
    "no UTF-8 as a key": schema_of(b'{"\xff":1}'),
    "a deep dropped field": GOOD[:-1] + b',"user":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.mark.parametrize("raw", NOT_JSON.values(), ids=NOT_JSON.keys())
@pytest.mark.parametrize("read", [parse, parse_checked], ids=["alone", "behind the check of its shape"])
def test_what_is_no_json_is_refused(read: Parse, raw: bytes) -> None:
    error = refusal(raw, read)

    assert (error.reason, error.param) == ("invalid_json", None)


@pytest.mark.parametrize("number", [b"1e999", b"1" * 5000], ids=["beyond all floats", "without end"])
def test_a_number_that_nothing_can_hold_is_refused(number: bytes) -> None:
    assert refusal(schema_of(number), parse).reason == "invalid_value"


@pytest.mark.parametrize(
    "raw",
    [b"null", b"[]", b"5", b'"CANARY"', b"[" * 1_000_000, b'{"model":' * 1_000_000],
    ids=["null", "list", "number", "text", "deep lists", "deep objects"],
)
def test_json_that_is_no_object_is_refused(raw: bytes) -> None:
    assert refusal(raw, parse).reason == "invalid_value"


@given(st.binary(max_size=300), st.sampled_from(PARSERS))
@settings(max_examples=300, deadline=None)
def test_any_bytes_end_in_a_refusal(raw: bytes, parse: Parse) -> None:
    assert refusal(raw, parse).status == 400


pieces = st.sampled_from(
    [
        *(b"1", b"-0", b"1e5", b"1E-400", b"1e400", b"0.1", b"1" * 25, b"9" * 400, b"true", b"null", b"NaN"),
        *(
            b'"a"',
            b'"\\ud83d\\ude00"',
            b'"\\ud800"',
            b'"\xc3\xa9"',
            b'"\xff"',
            b'"\\u0000"',
            b'{"a":1}',
            b"[[]]",
        ),
        *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b" "),
    ]
)


@given(st.lists(pieces, max_size=12).map(b"".join))
@settings(max_examples=500, deadline=None)
def test_what_passes_can_be_written_again(value: bytes) -> None:
    try:
        shape.check(schema_of(value))
        parsed = parse(schema_of(value))
    except BadRequest:
        return

    assert json.loads(parsed[1].for_engine(SALT))["tools"]
