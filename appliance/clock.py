"""Wall time, and request ids that sort by it."""

from __future__ import annotations

import secrets
import time

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [high + low for high in _CROCKFORD for low in _CROCKFORD]


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def ulid(ms: int) -> str:
    """A ULID: 48 bits of time, 80 random bits, 26 characters of Crockford's base 32 (github.com/ulid/spec)."""
    value = (ms << 80) | secrets.randbits(80)
    return "".join([_PAIRS[(value >> shift) & 1023] for shift in range(120, -1, -10)])
