from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from appliance import apikey
from appliance.domain import Caller
from appliance.errors import InvalidKey
from appliance.gateway.auth import identify
from appliance.store.registry import KeyRecord

FAR_MS = 4_000_000_000_000
HERE = "127.0.0.1"
KEY = apikey.new()
OTHER = apikey.new()
RECORD = KeyRecord(KEY.key_id, "account", KEY.sha256, FAR_MS)
KEYS = {KEY.sha256: RECORD}

Headers = dict[bytes, bytes]


def bearer(value: str | bytes, scheme: str = "Bearer") -> Headers:
    text = value.encode() if isinstance(value, str) else value
    return {b"host": b"x", b"authorization": scheme.encode() + b" " + text}


def plain(value: str | bytes) -> Headers:
    return {b"x-api-key": value.encode() if isinstance(value, str) else value}


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
@pytest.mark.parametrize("pad", ["", " "], ids=["plain", "padded"])
def test_a_good_key_is_its_holder(scheme: str, pad: str) -> None:
    found = identify(bearer(pad + KEY.plaintext + pad, scheme), HERE, KEYS)

    assert found == Caller("account", KEY.key_id, KEY.key_id)


def test_a_good_key_may_come_as_anthropics_sdks_send_it() -> None:
    assert identify(plain(KEY.plaintext), HERE, KEYS).key_id == KEY.key_id


def test_a_rotated_key_is_of_its_line() -> None:
    """Limits and counts are those of the line's first key."""
    keys = {KEY.sha256: replace(RECORD, origin="first-one0")}

    assert identify(bearer(KEY.plaintext), HERE, keys) == Caller("account", KEY.key_id, "first-one0")


def changed(text: str, at: int) -> str:
    return text[:at] + ("a" if text[at] != "a" else "b") + text[at + 1 :]


REFUSED: dict[str, Headers] = {
    "no header": {b"host": b"x"},
    "an empty header": {b"authorization": b""},
    "no scheme": {b"authorization": KEY.plaintext.encode()},
    "another scheme": bearer(KEY.plaintext, "Basic"),
    "no key": bearer(""),
    "the key in both headers": bearer(KEY.plaintext) | plain(KEY.plaintext),
    "a good key beside an empty one": bearer(KEY.plaintext) | plain(""),
    "another scheme beside a good key": bearer("x", "Basic") | plain(KEY.plaintext),
    "a key that nobody holds": bearer(OTHER.plaintext),
    "a mistyped id": bearer(changed(KEY.plaintext, 12)),
    "a mistyped secret": bearer(changed(KEY.plaintext, 30)),
    "a cut key": bearer(KEY.plaintext[:-1]),
    "two keys in one": bearer(f"{KEY.plaintext}, {OTHER.plaintext}"),
    "bytes that are no text": bearer(b"\xff\xfe" + KEY.plaintext.encode()),
    "letters beyond ASCII": bearer("ifk_live_" + "é" * 50),
    "a NUL": bearer(KEY.plaintext + "\0"),
    "the digest of a key": bearer(KEY.sha256.hex()),
    "a long one": bearer("x" * 100_000),
    "an empty plain key": plain(""),
    "a plain key with a scheme": plain(f"Bearer {KEY.plaintext}"),
    "a plain key that nobody holds": plain(OTHER.plaintext),
    "a plain key that is no text": plain(b"\xff" * 59),
}


@pytest.mark.parametrize("headers", REFUSED.values(), ids=REFUSED.keys())
def test_anything_else_is_refused_in_the_same_words(headers: Headers) -> None:
    with pytest.raises(InvalidKey) as caught:
        identify(headers, HERE, KEYS)

    assert str(caught.value) == InvalidKey.message


def test_the_id_of_a_key_with_the_secret_of_another_is_refused() -> None:
    """The checksum of the mix is right; only the digest tells."""
    body = KEY.plaintext[:20] + OTHER.plaintext[20:-6]
    mix = body + apikey._checksum(body)
    assert apikey.parse(mix) == KEY.key_id

    with pytest.raises(InvalidKey):
        identify(bearer(mix), HERE, KEYS)


@pytest.mark.parametrize("expires_at_ms", [0, 1_700_000_000_000], ids=["never valid", "past"])
def test_an_expired_key_is_refused(expires_at_ms: int) -> None:
    with pytest.raises(InvalidKey):
        identify(bearer(KEY.plaintext), HERE, {KEY.sha256: replace(RECORD, expires_at_ms=expires_at_ms)})


def test_a_key_without_an_end_is_good() -> None:
    keys = {KEY.sha256: replace(RECORD, expires_at_ms=None)}

    assert identify(bearer(KEY.plaintext), HERE, keys).key_id == KEY.key_id


INSIDE = {
    "an address": ("10.1.2.3", "10.1.2.3/32"),
    "a network": ("10.1.255.255", "10.1.0.0/16"),
    "the second of two": ("192.168.0.9", "10.0.0.0/8 192.168.0.0/24"),
    "IPv6": ("2001:db8::5", "2001:db8::/32"),
    "IPv6 of a link": ("fe80::1%eth0", "fe80::/10"),
    "IPv4 in IPv6's clothes": ("::ffff:10.1.2.3", "10.0.0.0/8"),
    "the box's own socket": (None, "10.0.0.0/8"),
}
OUTSIDE = {
    "another address": ("10.1.2.4", "10.1.2.3/32"),
    "another network": ("10.2.0.0", "10.1.0.0/16"),
    "IPv6 where IPv4 is asked for": ("2001:db8::5", "10.0.0.0/8"),
    "IPv4 where IPv6 is asked for": ("10.1.2.3", "2001:db8::/32"),
    "IPv4 in IPv6's clothes where IPv6 is asked for": ("::ffff:10.1.2.3", "::ffff:0:0/96"),
}


def bound_to(networks: str) -> dict[bytes, KeyRecord]:
    return {KEY.sha256: replace(RECORD, networks=tuple(map(ip_network, networks.split())))}


@pytest.mark.parametrize(("source", "networks"), INSIDE.values(), ids=INSIDE.keys())
def test_a_key_is_good_within_its_networks(source: str | None, networks: str) -> None:
    assert identify(bearer(KEY.plaintext), source, bound_to(networks)).key_id == KEY.key_id


@pytest.mark.parametrize(("source", "networks"), OUTSIDE.values(), ids=OUTSIDE.keys())
def test_a_key_from_outside_its_networks_is_refused_as_if_it_were_wrong(source: str, networks: str) -> None:
    with pytest.raises(InvalidKey) as caught:
        identify(bearer(KEY.plaintext), source, bound_to(networks))

    assert str(caught.value) == InvalidKey.message
