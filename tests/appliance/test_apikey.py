from __future__ import annotations

import hashlib
import random
import re
import string

from hypothesis import given
from hypothesis import strategies as st

from appliance import apikey

PRINTABLE = string.digits + string.ascii_letters + string.punctuation + " "


def _typo(rng: random.Random, text: str) -> str:
    place = rng.randrange(len(text))
    wrong = rng.choice(PRINTABLE.replace(text[place], ""))
    return text[:place] + wrong + text[place + 1 :]


def _swapped(text: str, place: int) -> str:
    return text[:place] + text[place + 1] + text[place] + text[place + 2 :]


def test_key_has_the_documented_shape() -> None:
    key = apikey.new()

    assert re.fullmatch(r"ifk_live_[0-9A-Za-z]{10}[0-9A-Za-z]{34}[0-9A-Za-z]{6}", key.plaintext)


def test_new_key_is_recognised_and_gives_its_public_id() -> None:
    key = apikey.new()

    assert apikey.parse(key.plaintext) == key.key_id
    assert key.plaintext.startswith("ifk_live_" + key.key_id)


def test_format_never_changes() -> None:
    """Keys already handed out must stay good: this one was made by hand."""
    assert apikey.parse("ifk_live_0123456789abcdefghijABCDEFGHIJabcdefghijABCD45eUhC") == "0123456789"


def test_twenty_thousand_single_typos_are_all_caught() -> None:
    rng = random.Random(20_000)
    keys = [apikey.new().plaintext for _ in range(200)]

    missed = [text for text in (_typo(rng, rng.choice(keys)) for _ in range(20_000)) if apikey.parse(text)]

    assert missed == []


def test_swapped_neighbours_are_caught() -> None:
    text = apikey.new().plaintext
    swaps = {_swapped(text, place) for place in range(len(text) - 1)} - {text}

    assert [swap for swap in swaps if apikey.parse(swap)] == []


def test_cut_and_lengthened_keys_are_caught() -> None:
    text = apikey.new().plaintext
    others = [text[:cut] for cut in range(len(text))] + [text + "a", text + "\n", " " + text]

    assert [other for other in others if apikey.parse(other)] == []


@given(st.text())
def test_no_other_text_is_a_key(text: str) -> None:
    assert apikey.parse(text) is None


def test_digest_is_the_sha256_of_the_whole_key() -> None:
    key = apikey.new()

    assert key.sha256 == hashlib.sha256(key.plaintext.encode()).digest()
    assert apikey.digest(key.plaintext) == key.sha256


def test_printing_a_key_shows_neither_plaintext_nor_digest() -> None:
    key = apikey.new()

    assert repr(key) == f"ApiKey(key_id='{key.key_id}')"


def test_keys_do_not_repeat() -> None:
    assert len({apikey.new().plaintext for _ in range(1000)}) == 1000


def test_key_id_is_ten_base62_characters() -> None:
    assert apikey.is_key_id(apikey.new().key_id)
    assert not apikey.is_key_id("0123-56789")
    assert not apikey.is_key_id("0123456789a")
