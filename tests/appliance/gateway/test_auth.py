from __future__ import annotations

import pytest

from appliance import apikey
from appliance.domain import Caller
from appliance.errors import InvalidKey
from appliance.gateway.auth import identify
from appliance.store.registry import KeyRecord

FAR_MS = 4_000_000_000_000
KEY = apikey.new()
OTHER = apikey.new()
KEYS = {KEY.key_id: KeyRecord(KEY.key_id, "account", KEY.sha256, FAR_MS)}

Headers = list[tuple[bytes, bytes]]


def bearer(value: str | bytes, scheme: str = "Bearer") -> Headers:
    text = value.encode() if isinstance(value, str) else value
    return [(b"host", b"x"), (b"authorization", scheme.encode() + b" " + text)]


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
@pytest.mark.parametrize("pad", ["", " "], ids=["plain", "padded"])
def test_a_good_key_is_its_holder(scheme: str, pad: str) -> None:
    assert identify(bearer(pad + KEY.plaintext + pad, scheme), KEYS) == Caller("account", KEY.key_id)


def changed(text: str, at: int) -> str:
    return text[:at] + ("a" if text[at] != "a" else "b") + text[at + 1 :]


REFUSED: dict[str, Headers] = {
    "no header": [(b"host", b"x")],
    "an empty header": [(b"authorization", b"")],
    "no scheme": [(b"authorization", KEY.plaintext.encode())],
    "another scheme": bearer(KEY.plaintext, "Basic"),
    "no key": bearer(""),
    "two headers": bearer(KEY.plaintext) + bearer(KEY.plaintext),
    "a key that nobody holds": bearer(OTHER.plaintext),
    "a mistyped id": bearer(changed(KEY.plaintext, 12)),
    "a mistyped secret": bearer(changed(KEY.plaintext, 30)),
    "a cut key": bearer(KEY.plaintext[:-1]),
    "two keys in one": bearer(f"{KEY.plaintext}, {OTHER.plaintext}"),
    "bytes that are no text": bearer(b"\xff\xfe" + KEY.plaintext.encode()),
    "letters beyond ASCII": bearer("ifk_live_" + "é" * 50),
    "a NUL": bearer(KEY.plaintext + "\0"),
    "a long one": bearer("x" * 100_000),
}


@pytest.mark.parametrize("headers", REFUSED.values(), ids=REFUSED.keys())
def test_anything_else_is_refused_in_the_same_words(headers: Headers) -> None:
    with pytest.raises(InvalidKey) as caught:
        identify(headers, KEYS)

    assert str(caught.value) == InvalidKey.message


def test_the_id_of_a_key_with_the_secret_of_another_is_refused() -> None:
    """The checksum of the mix is right; only the digest tells."""
    body = KEY.plaintext[:20] + OTHER.plaintext[20:-6]
    mix = body + apikey._checksum(body)
    assert apikey.parse(mix) == KEY.key_id

    with pytest.raises(InvalidKey):
        identify(bearer(mix), KEYS)


@pytest.mark.parametrize("expires_at_ms", [0, 1_700_000_000_000], ids=["never valid", "past"])
def test_an_expired_key_is_refused(expires_at_ms: int) -> None:
    keys = {KEY.key_id: KeyRecord(KEY.key_id, "account", KEY.sha256, expires_at_ms)}

    with pytest.raises(InvalidKey):
        identify(bearer(KEY.plaintext), keys)


def test_a_key_without_an_end_is_good() -> None:
    keys = {KEY.key_id: KeyRecord(KEY.key_id, "account", KEY.sha256, None)}

    assert identify(bearer(KEY.plaintext), keys).key_id == KEY.key_id
