from __future__ import annotations

import base64
import gzip
import json
import random
import struct
import urllib.parse
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.privacy.canaries import LENGTH, Canaries
from tests.privacy.scanner import Finding, Scanner

WORD = Canaries().at("prompt")
IDS = [41, 7, 500, 2, 88, 19, 300, 12]
PLANTED: dict[str, tuple[str, Callable[[], bytes]]] = {
    "raw": ("raw", WORD.encode),
    "cut off": ("fragment", WORD[:11].encode),
    "end only": ("fragment", WORD[-11:].encode),
    "reversed": ("reversed", WORD[::-1].encode),
    "header name": ("lower case", lambda: WORD.lower().encode()),
    "hex": ("hex", lambda: WORD.encode().hex().encode()),
    "HEX": ("hex", lambda: WORD.encode().hex().upper().encode()),
    "url": ("url", lambda: "".join(f"%{ord(letter):02X}" for letter in WORD).encode()),
    "json": ("json", lambda: "".join(f"\\u{ord(letter):04x}" for letter in WORD).encode()),
    "utf-16le": ("utf-16le", lambda: WORD.encode("utf-16-le")),
    "utf-16be": ("utf-16be", lambda: WORD.encode("utf-16-be")),
    "base64": ("base64", lambda: base64.b64encode(WORD.encode())),
    "base64 + 1": ("base64", lambda: base64.b64encode(b"?" + WORD.encode() + b"!!")),
    "base64 + 2": ("base64", lambda: base64.b64encode(b"??" + WORD.encode() + b"!")),
    "gzip": ("raw", lambda: gzip.compress(WORD.encode())),
    "zlib": ("raw", lambda: zlib.compress(WORD.encode())),
    "zlib, packed hard": ("raw", lambda: zlib.compress(WORD.encode(), 9)),
    "gzip in gzip": ("raw", lambda: gzip.compress(gzip.compress(b"...." + WORD.encode()))),
    "base64 in zlib": ("base64", lambda: zlib.compress(base64.b64encode(WORD.encode()))),
    "tokens, printed": ("token ids", lambda: str(IDS).encode()),
    "tokens, JSON": ("token ids", lambda: json.dumps(IDS, separators=(",", ":")).encode()),
    "tokens, int32": ("token ids, int32", lambda: struct.pack("<8i", *IDS)),
    "tokens, int64": ("token ids, int64", lambda: struct.pack("<8q", *IDS)),
}


def scanner() -> Scanner:
    return Scanner({"prompt": WORD}, {"prompt": IDS})


def cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED)
@settings(deadline=None)
@given(seed=st.integers(), before=st.integers(0, 300), after=st.integers(0, 300), chunk=st.integers(1, 700))
def test_each_form_is_found_wherever_it_lies_and_however_it_is_cut(
    planted: tuple[str, Callable[[], bytes]], seed: int, before: int, after: int, chunk: int
) -> None:
    form, build = planted
    noise = random.Random(seed)
    data = noise.randbytes(before) + build() + noise.randbytes(after)

    found = scanner().scan("a place", cut(data, chunk))

    assert Finding("a place", "prompt", form, 1) in found


@settings(deadline=None)
@given(noise=st.binary(max_size=2000), chunk=st.integers(1, 700))
def test_noise_holds_nothing(noise: bytes, chunk: int) -> None:
    assert scanner().scan("a place", cut(noise, chunk)) == []


@settings(deadline=None)
@given(count=st.integers(1, 9), chunk=st.integers(1, 100), gap=st.integers(0, 40))
def test_each_one_is_counted_once(count: int, chunk: int, gap: int) -> None:
    data = (WORD.encode() + b"." * gap) * count

    found = scanner().scan("a place", cut(data, chunk))

    assert Finding("a place", "prompt", "raw", count) in found


@settings(deadline=None, max_examples=40)
@given(chunk=st.integers(1, 5000), size=st.integers(0, 5000))
def test_a_word_deep_inside_a_compressed_stream_is_found(chunk: int, size: int) -> None:
    plain = random.Random(size).randbytes(size) + WORD.encode() + b"." * size

    found = scanner().scan("a place", cut(b"head" + gzip.compress(plain) + b"foot", chunk))

    assert Finding("a place", "prompt", "raw", 1) in found


@settings(deadline=None)
@given(text=st.text(alphabet=st.characters(codec="utf-8"), min_size=24, max_size=60))
def test_answers_of_any_script_are_found_as_json_and_urls_write_them(text: str) -> None:
    written = json.dumps(text).encode() + b"|" + urllib.parse.quote(text, safe="").encode()

    found = Scanner({"answer": text}).scan("a place", [written])

    assert sum(finding.count for finding in found) >= 2


def test_a_word_across_the_chunks_of_a_file_is_found(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_bytes(bytes(1024 * 1024 - 16) + WORD.encode() + bytes(1024 * 1024))

    assert Finding("data", "prompt", "raw", 1) in scanner().scan_file("data", file)


def test_a_file_that_has_gone_holds_nothing(tmp_path: Path) -> None:
    assert scanner().scan_file("data", tmp_path / "gone") == []


def test_a_finding_never_shows_the_word() -> None:
    shown = repr(scanner().scan("a place", [build() for _, build in PLANTED.values()]))

    assert all(WORD[at : at + 6].lower() not in shown.lower() for at in range(LENGTH - 5))


def test_canaries_differ_by_place_and_run() -> None:
    first, second = Canaries(), Canaries()

    assert len({first.at("a"), first.at("b"), second.at("a"), second.at("b")}) == 4


def test_a_canary_stays_where_it_is() -> None:
    canaries = Canaries()

    assert canaries.at("a") == canaries.at("a")


def test_the_whole_pieces_of_an_answer_are_looked_for() -> None:
    canaries = Canaries()
    canaries.answered("short\nThe quick brown fox jumps over it�A lazy dog sleeps in the warm sun\n")

    assert sorted(canaries.words.values()) == [
        "A lazy dog sleeps in the warm sun",
        "The quick brown fox jumps over it",
    ]


def test_canaries_do_not_print_themselves() -> None:
    canaries = Canaries()

    assert canaries.at("a") not in repr(canaries)
