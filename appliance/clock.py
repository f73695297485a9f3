"""Wall time, and request ids that sort by it."""

from __future__ import annotations

import os
import time
from typing import Final

_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS: Final = [high + low for high in _CROCKFORD for low in _CROCKFORD]
_LETTERS: Final = (_CROCKFORD * 8).encode()
"""A letter for each byte: 256 is a multiple of 32, so a random byte is a fair random letter."""
_RANDOM_LETTERS: Final = 16
_PARTS_AT_ONCE: Final = 256
"""Asking the kernel for randomness costs more than all the rest of an id."""

_random_parts: list[str] = []


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def ulid(ms: int) -> str:
    """A ULID: 48 bits of time, 80 random bits, 26 characters of Crockford's base 32 (github.com/ulid/spec)."""
    try:
        random_part = _random_parts.pop()  # one thread at a time gets each: pop is atomic
    except IndexError:
        _random_parts.extend(_fresh_parts())
        random_part = _random_parts.pop()
    pairs = _PAIRS
    return (
        pairs[ms >> 40]
        + pairs[ms >> 30 & 1023]
        + pairs[ms >> 20 & 1023]
        + pairs[ms >> 10 & 1023]
        + pairs[ms & 1023]
    ) + random_part


def _fresh_parts() -> list[str]:
    letters = os.urandom(_RANDOM_LETTERS * _PARTS_AT_ONCE).translate(_LETTERS).decode("ascii")
    return [letters[at : at + _RANDOM_LETTERS] for at in range(0, len(letters), _RANDOM_LETTERS)]
