from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from appliance.errors import BadRequest
from appliance.gateway import shape

CANARY = "CANARY5d1fcanary"
LONG = "x" * 10_000
RUN = "\\\\" * shape.BACKSLASHES_MAX


def refusal(body: bytes) -> str:
    """Why a text is refused; nothing if it passes."""
    try:
        shape.check(body)
    except BadRequest as error:
        return str(error)
    return ""


def repeats_a_key(text: str) -> bool:
    """What `check` has to find out, slowly and plainly."""
    twice = False

    def look(pairs: list[tuple[str, Any]]) -> None:
        nonlocal twice
        twice = twice or len({key for key, _ in pairs}) < len(pairs)

    json.loads(text, object_pairs_hook=look)
    return twice


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def in_other_surroundings(text: str) -> list[str]:
    """The same text where few quotes are, where many are, and behind many backslashes: each is read another way."""
    return [
        text,
        f'["{LONG}",{text}]',
        f'["{LONG}\\"",{text}]',
        f'["{LONG}{RUN}",{text}]',
        f'["{LONG}{RUN}\\"",{text}]',
        f'[{"0," * 600}"\\"",{text}]',
    ]


QUOTED: dict[str, str] = {
    "plain": '{"a":1,"a":2}',
    "deep inside": '{"x":[{"y":{"a":1,"b":{},"a":2}}]}',
    "an escape": r'{"a":1,"\u0061":2}',
    "escapes written differently": r'{"\u00e9\/":1,"é/":2}',
    "a quote": r'{"a\"b":1,"a\"b":2}',
    "backslashes": r'{"a\\":1,"a\\":2}',
    "a colon": '{"a:":1,"a:":2}',
    "nothing": '{"":1,"":2}',
    "far apart": '{"a":1,"b":"' + LONG + '","a":2}',
    "blanks": '{"a"\n:1 ,\t"a"\r\n:2}',
    "hidden by a colon of a value": r'{"a":1,"a":2,"b":"\u003a"}',
    "long": '{"' + LONG + '":1,"' + LONG + '":2}',
}


@pytest.mark.parametrize("text", QUOTED.values(), ids=QUOTED.keys())
def test_a_key_given_twice_is_refused(text: str) -> None:
    told = {refusal(each.encode()) for each in in_other_surroundings(text)}

    assert told == {"The body has an object with the same key twice."}


DISTINCT: dict[str, str] = {
    "siblings": '[{"a":1},{"a":2}]',
    "nested": '{"a":{"a":{"a":1}}}',
    "values": '{"a":"a","b":"a"}',
    "JSON in a string": json.dumps({"a": '{"a":1,"a":2}', "b": '"a":"a"'}),
    "a quote": r'{"a\"":1,"a":2,"b\"":3}',
    "backslashes": r'{"a\\":1,"a":2,"a\\\\":3}',
    "case": '{"a":1,"A":2}',
    "a colon in a value": '{"a":"b:c:d","b":"\\u003a"}',
    "brackets in a value": '{"a":"' + "[" * 100 + '"}',
    "digits in a value": '{"a":"' + "1" * 100 + '"}',
    "one long key": '{"' + LONG + '":1,"a":2}',
}


@pytest.mark.parametrize("text", DISTINCT.values(), ids=DISTINCT.keys())
def test_keys_that_differ_pass(text: str) -> None:
    assert {refusal(each.encode()) for each in in_other_surroundings(text)} == {""}


AT_THE_LIMIT: dict[str, str] = {
    "depth": "[" * 32 + "]" * 32,
    "depth with mixed brackets": '{"a":[' * 16 + "1" + "]}" * 16,
    "depth among many": '{"a":[' + ("[" * 30 + "]" * 30 + ",") * 100 + "1]}",
    "values": "[" + "1," * 99_999 + "1]",
    "containers": "[" + "[]," * 19_998 + "[]]",
    "strings": "[" + '"x",' * 19_999 + '"x"]',
    "a string": '["' + "x" * 4 * 1024 * 1024 + '"]',
    "an integer": f"[{2**64 - 1}]",
    "a fraction": "[0.0000012345678901234567, 1.2345678901234568e-300]",
    "blanks": "[" + " " * (1024 * 1024 - 2) + "]",
    "escaped quotes": '["' + '\\"' * 400_000 + '"]',
    "text of 8 MiB": '{"a":"' + "\\n line" * 490_000 + '","b":"' + "x" * 4 * 1024 * 1024 + '"}',
    "few quotes in 8 MiB": '{"a":"'
    + ("x" * 600 + '\\"') * 6900
    + '","b":"'
    + ("x" * 600 + '\\"') * 6900
    + '"}',
}


@pytest.mark.parametrize("text", AT_THE_LIMIT.values(), ids=AT_THE_LIMIT.keys())
def test_what_is_just_within_the_limits_passes(text: str) -> None:
    assert refusal(text.encode()) == ""


TOO_MUCH: dict[str, tuple[str, str]] = {
    "depth": ("[" * 33 + "]" * 33, "is nested over 32 levels deep"),
    "depth with mixed brackets": ('{"a":[' * 17 + "1" + "]}" * 17, "is nested over 32 levels deep"),
    "depth among many": (
        '{"a":[' + ("[" * 31 + "]" * 31 + ",") * 100 + "1]}",
        "is nested over 32 levels deep",
    ),
    "depth with gaps": ("[[]," * 33 + "1" + "]" * 33, "is nested over 32 levels deep"),
    "depth without end": ("[" * 10_000, "is nested over 32 levels deep"),
    "values": ("[" + "1," * 100_000 + "1]", "has over 100000 values"),
    "keys": ("{" + '"a":1,' * 20_000 + '"a":1}', "has over 20000 strings"),
    "containers": ("[" + "[]," * 19_999 + "[]]", "has over 20000 lists and objects"),
    "strings": ("[" + '"x",' * 20_000 + '"x"]', "has over 20000 strings"),
    "strings with escapes": ("[" + '"\\n",' * 20_000 + '"x"]', "has over 20000 strings"),
    "a string": ('["' + "x" * (4 * 1024 * 1024 + 1) + '"]', "has a string of over 4194304 bytes"),
    "short strings": (
        "[" + ('"' + "x" * 250 + '",') * 7000 + "1]",
        "has over 1048576 bytes of short strings",
    ),
    "an integer": (f"[{10**20}]", "has a number of over 20 digits"),
    "an integer among fractions": (f"[0.{10**20},{10**20}]", "has a number of over 20 digits"),
    "a fraction": (f"[0.{10**24}]", "has a number of over 20 digits"),
    "an exponent": (f"[1e{10**20}]", "has a number of over 20 digits"),
    "blanks": ("[" + " " * 1024 * 1024 + "]", "has over 1048576 bytes outside of its strings"),
    "dense text": (
        '["' + ("x" * 20 + '\\"') * 160_000 + '"]',
        "has too many quotes and backslashes within strings",
    ),
    "dense escapes": ('["' + '\\"' * 400_001 + '"]', "has too many quotes and backslashes within strings"),
    "backslashes": ('["' + "\\\\" * 260_000 + '\\""]', "has over 500000 backslashes"),
}


@pytest.mark.parametrize(("text", "why"), TOO_MUCH.values(), ids=TOO_MUCH.keys())
def test_what_is_too_much_is_refused(text: str, why: str) -> None:
    assert refusal(text.encode()) == f"The body {why}."


def test_a_refusal_is_a_400_that_quotes_nothing() -> None:
    with pytest.raises(BadRequest) as caught:
        shape.check(f'{{"{CANARY}":1,"{CANARY}":2}}'.encode())

    assert (caught.value.reason, caught.value.param) == ("invalid_json", None)
    assert CANARY not in str(caught.value)


pieces = st.sampled_from(
    [*'{}[]",:\\a \n0', '"a"', '":', '\\"', "\\\\", "\\u0061", '{"', '"}', "null", "1.5e3", "é", "\\n"]
)


@given(st.lists(pieces, max_size=24).map("".join))
@example('{"a\\\\":0,"a":0}')
@settings(max_examples=500, deadline=None)
def test_broken_text_is_left_to_the_decoder_and_whole_text_is_judged_right(text: str) -> None:
    told = refusal(text.encode())

    assert not is_json(text) or bool(told) == repeats_a_key(text)


words = st.text(alphabet='ab"\\:,{}[] 0\n\u00e9\u20ac\U0001f600', max_size=6)
trees: st.SearchStrategy[str] = st.recursive(
    st.sampled_from(["1", "-0.5e-3", "true", "null", '""'])
    | st.builds(json.dumps, words, ensure_ascii=st.booleans()),
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda items: f"[{' , '.join(items)}]")
        | st.lists(
            st.tuples(st.builds(json.dumps, words, ensure_ascii=st.booleans()), inner), max_size=4
        ).map(lambda pairs: "{" + ",".join(f"{key}:{value}" for key, value in pairs) + "}")
    ),
    max_leaves=20,
)


@given(trees)
@settings(max_examples=300, deadline=None)
def test_it_finds_what_a_slow_reader_finds(text: str) -> None:
    twice = repeats_a_key(text)

    assert [bool(refusal(each.encode())) for each in in_other_surroundings(text)] == [twice] * 6


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_any_bytes_pass_or_are_refused(body: bytes) -> None:
    assert refusal(body) in ("", "The body has an object with the same key twice.")


@given(
    st.sampled_from([b"", LONG.encode()]), st.lists(st.binary(max_size=30), max_size=150), st.integers(1, 100)
)
def test_a_text_is_cut_at_its_quotes_whichever_way(first: bytes, pieces: list[bytes], cuts_max: int) -> None:
    body = b'"'.join([first, *pieces])

    assert shape._split(body, cuts_max) == body.split(b'"', cuts_max)
