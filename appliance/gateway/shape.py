"""What is refused of a JSON text before it is decoded: keys given twice, and shapes no honest request has.

Whatever is no JSON may pass: the typed decode that follows is the judge of that. Nothing here looks at single
characters in Python: the text is cut at its quotes, and long strings are left out of what is read.
The limits are such that no text of 8 MiB takes over 10 ms, on a machine where decoding one may take twice that.
"""

from __future__ import annotations

import json
from typing import Any, Final

from appliance.errors import BadRequest

DEPTH_MAX: Final = 32
NODES_MAX: Final = 100_000
"""Items of lists, values of objects, and their keys."""
CONTAINERS_MAX: Final = 20_000
STRINGS_MAX: Final = 20_000
STRING_BYTES_MAX: Final = 4 * 1024 * 1024
INTEGER_DIGITS_MAX: Final = 20
FRACTION_DIGITS_MAX: Final = 24
"""JavaScript writes 17 significant digits behind up to six zeros."""
KEY_BYTES_MAX: Final = 256
"""What is longer is not read: two such keys of one object count as the same."""
SMALL_BYTES_MAX: Final = 1024
"""A text up to here is read whole."""
FOUND_MAX: Final = 64
"""Quotes that are looked for one by one. A text with more of them has short strings, which are cut all at once."""
READ_BYTES_MAX: Final = 1024 * 1024
"""The text without its long strings."""

ESCAPES_MAX: Final = 500_000
"""Backslashes: an escaped character takes ten times as long to read and to write as a plain one."""
DENSE_BYTES_MAX: Final = 3 * 1024 * 1024
DENSE_ESCAPES_MAX: Final = 400_000
DENSE_BYTES_PER_QUOTE: Final = 512
"""A text with backslashes and more quotes than one in so many bytes is dense: cheaper to rewrite than to rejoin."""
BACKSLASHES_MAX: Final = 64
"""More of them before one quote make a text dense too."""

_SHAPE: Final = bytes.maketrans(b"{}123456789", b"[]000000000")
_BLANKS: Final = b" \t\r\n"
_ALL_BUT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]"))
_TOO_DEEP: Final = b"[" * (DEPTH_MAX + 1)
_LONG_INTEGER: Final = b"0" * (INTEGER_DIGITS_MAX + 1)
_LONG_FRACTION: Final = b"." + _LONG_INTEGER
_LONG_NUMBER: Final = b"0" * (FRACTION_DIGITS_MAX + 1)


def check(body: bytes) -> None:
    """Raise BadRequest for a text that gives a key twice, or is larger in some way than any honest request."""
    pieces = _cut(body)
    if len(pieces) > 2 * STRINGS_MAX + 1:
        raise _refusal(f"has over {STRINGS_MAX} strings")
    structures = pieces[::2]
    if len(body) > READ_BYTES_MAX < sum(map(len, structures)):
        raise _refusal(f"has over {READ_BYTES_MAX} bytes outside of its strings")
    structure = b"".join(structures)
    keys = structure.count(b":")
    _check_structure(structure.translate(_SHAPE, _BLANKS), keys)
    if len(body) > SMALL_BYTES_MAX:
        body = _without_long_strings(pieces)
    if keys:
        _check_keys(body, keys)


def _without_long_strings(pieces: list[bytes]) -> bytes:
    strings = pieces[1::2]
    if len(max(strings, key=len, default=b"")) > STRING_BYTES_MAX:
        raise _refusal(f"has a string of over {STRING_BYTES_MAX} bytes")
    pieces[1::2] = [string if len(string) <= KEY_BYTES_MAX else b"" for string in strings]
    skeleton = b'"'.join(pieces)
    if len(skeleton) > READ_BYTES_MAX:
        raise _refusal(f"has over {READ_BYTES_MAX} bytes of short strings")
    return skeleton


def _cut(body: bytes) -> list[bytes]:
    """Structure and strings by turns: the text cut at the quotes that begin and end strings, as far as is needed."""
    if b"\\" not in body:
        return _split(body, 2 * STRINGS_MAX + 1)
    if len(body) > ESCAPES_MAX < body.count(b"\\"):
        raise _refusal(f"has over {ESCAPES_MAX} backslashes")
    quotes_max = len(body) // DENSE_BYTES_PER_QUOTE
    pieces = _split(body, quotes_max + 1)
    if len(pieces) <= quotes_max and (whole := _rejoined(pieces)):
        return whole
    if len(body) > DENSE_BYTES_MAX or body.count(b"\\") > DENSE_ESCAPES_MAX:
        raise _refusal("has too many quotes and backslashes within strings")
    plain = body.replace(b"\\\\", b"\1\2").replace(b'\\"', b"\1\3")
    return plain.split(b'"', 2 * STRINGS_MAX + 1)


def _split(body: bytes, cuts_max: int) -> list[bytes]:
    """As `body.split(b'"', cuts_max)`, which looks at each byte: `find` gets to the next quote 30 times faster."""
    if len(body) <= SMALL_BYTES_MAX:
        return body.split(b'"', cuts_max)
    pieces: list[bytes] = []
    start = 0
    for _ in range(min(FOUND_MAX, cuts_max)):
        end = body.find(b'"', start)
        if end < 0:
            return [*pieces, body[start:]]
        pieces.append(body[start:end])
        start = end + 1
    return pieces + body[start:].split(b'"', cuts_max - len(pieces))


def _rejoined(pieces: list[bytes]) -> list[bytes] | None:
    """The pieces of a text cut at each quote, those put together again that only an escaped quote divides."""
    whole: list[bytes] = []
    parts: list[bytes] = []
    for piece in pieces:
        if piece[-1:] == b"\\":
            tail = piece[-BACKSLASHES_MAX:]
            backslashes = len(tail) - len(tail.rstrip(b"\\"))
            if backslashes == BACKSLASHES_MAX:
                return None
            if backslashes % 2:
                parts.append(piece)
                continue
        if parts:
            piece = b'"'.join([*parts, piece])  # noqa: PLW2901  # the piece as it was before the cut
            parts.clear()
        whole.append(piece)
    return whole + parts


def _check_structure(structure: bytes, keys: int) -> None:
    """`structure` has no strings and no blanks, `[` for each bracket that opens, `0` for each digit."""
    containers = structure.count(b"[")
    if containers > CONTAINERS_MAX:
        raise _refusal(f"has over {CONTAINERS_MAX} lists and objects")
    if containers + keys + structure.count(b",") > NODES_MAX:
        raise _refusal(f"has over {NODES_MAX} values")
    long = structure.count(_LONG_INTEGER)
    if long and (_LONG_NUMBER in structure or long > structure.count(_LONG_FRACTION)):
        raise _refusal(f"has a number of over {INTEGER_DIGITS_MAX} digits")
    if containers <= DEPTH_MAX:
        return
    nested = structure.translate(None, _ALL_BUT_BRACKETS)
    for _ in range(DEPTH_MAX):
        if _TOO_DEEP in nested:
            break
        nested = nested.replace(b"[]", b"")
        if b"[" not in nested:
            return
    raise _refusal(f"is nested over {DEPTH_MAX} levels deep")


_objects: list[dict[str, Any]] = []
"""Those of the one text that is being read."""
_read = json.JSONDecoder(object_hook=_objects.append, parse_float=len, parse_int=len, strict=False).raw_decode
"""Builds objects without values: what is in them doesn't matter, and numbers would take long to make."""


def _check_keys(skeleton: bytes, keys: int) -> None:
    """Of a key that is given twice each reader may take another value, so none is to be trusted."""
    try:
        _read(skeleton.decode().lstrip())
        if sum(map(len, _objects)) < keys:
            raise _refusal("has an object with the same key twice")
    except ValueError:
        return
    finally:
        _objects.clear()


def _refusal(what: str) -> BadRequest:
    return BadRequest(f"The body {what}.", code="invalid_json")
