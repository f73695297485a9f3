"""API keys: made once, shown once, recognised by their shape and checksum, kept only as SHA-256."""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib
from dataclasses import dataclass, field
from typing import Final

PREFIX: Final = "ifk_live_"
ID_LENGTH: Final = 10
SECRET_LENGTH: Final = 34
"""34 base62 characters hold 202 random bits."""
CHECKSUM_LENGTH: Final = 6

_BASE62: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_ID: Final = re.compile(rf"[0-9A-Za-z]{{{ID_LENGTH}}}")
_SHAPE: Final = re.compile(
    rf"{PREFIX}([0-9A-Za-z]{{{ID_LENGTH}}})[0-9A-Za-z]{{{SECRET_LENGTH + CHECKSUM_LENGTH}}}"
)
_PAIR: Final = 62 * 62
_PAIRS: Final = tuple(high + low for high in _BASE62 for low in _BASE62)
"""Base62 two digits at a time, so that a checksum costs three look-ups on the request path."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A new key. `plaintext` is shown to its owner and then forgotten."""

    plaintext: str = field(repr=False)
    key_id: str
    sha256: bytes = field(repr=False)


def parse(text: str) -> str | None:
    """The public id inside a key, or None where the shape or the checksum is wrong.

    Runs on every request before anything is looked up. A mistyped or cut key ends here.
    """
    shape = _SHAPE.fullmatch(text)
    if shape is None or text[-CHECKSUM_LENGTH:] != _checksum(text[:-CHECKSUM_LENGTH]):
        return None
    return shape[1]


def digest(text: str) -> bytes:
    """What is stored and compared in place of the key."""
    return hashlib.sha256(text.encode()).digest()


def new() -> ApiKey:
    """A fresh key from the operating system's random source."""
    key_id = _random(ID_LENGTH)
    body = f"{PREFIX}{key_id}{_random(SECRET_LENGTH)}"
    plaintext = body + _checksum(body)
    return ApiKey(plaintext=plaintext, key_id=key_id, sha256=digest(plaintext))


def is_key_id(text: str) -> bool:
    """Whether `text` has the shape of a key's public id."""
    return _ID.fullmatch(text) is not None


def _checksum(body: str) -> str:
    crc = zlib.crc32(body.encode())
    upper, low = divmod(crc, _PAIR)
    high, middle = divmod(upper, _PAIR)
    return _PAIRS[high] + _PAIRS[middle] + _PAIRS[low]


def _random(length: int) -> str:
    return "".join(secrets.choice(_BASE62) for _ in range(length))
