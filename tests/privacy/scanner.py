"""Finds words in bytes, in every form that software tends to give them; says where and how often, never the words."""

from __future__ import annotations

import base64
import json
import re
import struct
import urllib.parse
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

CHUNK_BYTES = 1024 * 1024
DEPTH_MAX = 3
"""A compressed file inside of one inside of one: further down nobody looks."""
INFLATED_BYTES_MAX = 64 * 1024 * 1024
INFLATING_MAX = 64
"""Compressed streams followed at the same time. A start of one by chance is given up at its first wrong bit."""

GRAM_BYTES = 6
STRIDE_BYTES = 5
PATTERN_BYTES_MIN = GRAM_BYTES + STRIDE_BYTES - 1
"""Wherever a pattern of this length lies, it covers a gram of the sample that is taken of each chunk."""

_COMPRESSED = re.compile(rb"\x1f\x8b\x08|\x78[\x01\x5e\x9c\xda]", re.DOTALL)
_MAGIC_BYTES_MAX = 3
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32


@dataclass(frozen=True)
class Finding:
    """Words of kind `what` lie at `place`, in this form, so many times."""

    place: str
    what: str
    form: str
    count: int


class Scanner:
    """Knows what to look for. One scanner serves any number of places."""

    def __init__(
        self, words: Mapping[str, str | bytes], tokens: Mapping[str, Sequence[int]] | None = None
    ) -> None:
        """`words` and `tokens` map what something is, such as `user message`, to the words or their token ids."""
        self.patterns: dict[bytes, tuple[str, str]] = {}
        for what, text in words.items():
            for form, pattern in forms(text):
                self.patterns.setdefault(pattern, (what, form))
        for what, ids in (tokens or {}).items():
            for form, pattern in token_forms(ids):
                self.patterns.setdefault(pattern, (what, form))
        self._by_gram: dict[bytes, list[bytes]] = {}
        for pattern in self.patterns:
            assert len(pattern) >= PATTERN_BYTES_MIN
            for gram in {pattern[at : at + GRAM_BYTES] for at in range(len(pattern) - GRAM_BYTES + 1)}:
                self._by_gram.setdefault(gram, []).append(pattern)
        self._by_gram.pop(bytes(GRAM_BYTES), None)  # files are full of zeros, and no pattern needs this gram
        self.overlap = max(map(len, self.patterns), default=1) - 1

    def scan(self, place: str, chunks: Iterable[bytes]) -> list[Finding]:
        """What a stream holds, however its words fall across its chunks."""
        stream = _Stream(self, depth=0)
        for chunk in chunks:
            stream.feed(chunk)
        found = sorted(stream.found.items())
        return [Finding(place, what, form, count) for (what, form), count in found]

    def candidates(self, window: bytes) -> set[bytes]:
        """The few patterns that may be in there: those that share a gram with every STRIDE-th gram of it."""
        sample = {window[at : at + GRAM_BYTES] for at in range(0, len(window), STRIDE_BYTES)}
        return {pattern for gram in sample & self._by_gram.keys() for pattern in self._by_gram[gram]}

    def scan_file(self, place: str, path: Path) -> list[Finding]:
        """A file that is gone by now holds nothing."""
        try:
            with path.open("rb") as file:
                return self.scan(place, iter(lambda: file.read(CHUNK_BYTES), b""))
        except FileNotFoundError:
            return []


def forms(text: str | bytes) -> Iterator[tuple[str, bytes]]:
    """The shapes one text can take on a disk or a wire. A third of it counts, too: logs cut lines off."""
    raw = text.encode() if isinstance(text, str) else text
    yield "raw", raw
    yield from (("fragment", part) for part in _thirds(raw))
    yield "lower case", raw.lower()
    yield "reversed", raw[::-1]
    yield "hex", raw.hex().encode()
    yield "hex", raw.hex().upper().encode()
    yield "url", "".join(f"%{byte:02x}" for byte in raw).encode()
    yield "url", "".join(f"%{byte:02X}" for byte in raw).encode()
    yield "url", urllib.parse.quote(raw, safe="").encode()
    yield "url", urllib.parse.quote_plus(raw).encode()
    yield from _base64(raw)
    if isinstance(text, str):
        yield "utf-16le", text.encode("utf-16-le")
        yield "utf-16be", text.encode("utf-16-be")
        yield "json", json.dumps(text)[1:-1].encode()
        units = [unit for (unit,) in struct.iter_unpack(">H", text.encode("utf-16-be"))]
        yield "json", "".join(f"\\u{unit:04x}" for unit in units).encode()
        yield "json", "".join(f"\\u{unit:04X}" for unit in units).encode()


def token_forms(ids: Sequence[int]) -> Iterator[tuple[str, bytes]]:
    """Token ids are words: printed, or as an array of numbers in memory's order."""
    for separator in (", ", ",", " "):
        yield "token ids", separator.join(map(str, ids)).encode()
    yield "token ids, int32", struct.pack(f"<{len(ids)}i", *ids)
    yield "token ids, int64", struct.pack(f"<{len(ids)}q", *ids)


def _thirds(raw: bytes) -> Iterator[bytes]:
    """Only of what is long and random enough that a third of it can't turn up by chance."""
    if len(raw) >= 3 * PATTERN_BYTES_MIN and raw.isalnum():
        size = -(-len(raw) // 3)
        yield from (raw[:size], raw[size : 2 * size], raw[-size:])


def _base64(raw: bytes) -> Iterator[tuple[str, bytes]]:
    """The characters that depend on `raw` alone, for each of the three places it can start at in a group."""
    for before in range(3):
        first = -(-before * 8 // 6)
        last = (before + len(raw)) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield "base64", encode(bytes(before) + raw + bytes(2))[first:last]


@dataclass
class _Stream:
    scanner: Scanner
    depth: int
    found: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    _tail: bytes = b""
    _inflating: list[_Inflating] = field(default_factory=list["_Inflating"])

    def feed(self, chunk: bytes) -> None:
        window = self._tail + chunk
        for pattern in self.scanner.candidates(window):
            if count := _new_matches(window, pattern, len(self._tail)):
                self.found[self.scanner.patterns[pattern]] += count
        if self.depth < DEPTH_MAX:
            self._inflate(chunk, window)
        keep = max(self.scanner.overlap, _MAGIC_BYTES_MAX - 1)
        self._tail = window[-keep:]

    def _inflate(self, chunk: bytes, window: bytes) -> None:
        self._inflating = [stream for stream in self._inflating if stream.feed(chunk)]
        for magic in _COMPRESSED.finditer(window):
            if magic.end() > len(self._tail) and len(self._inflating) < INFLATING_MAX:
                stream = _Inflating(_Stream(self.scanner, self.depth + 1, self.found))
                if stream.feed(window[magic.start() :]):
                    self._inflating.append(stream)


@dataclass
class _Inflating:
    """A stream that may be compressed, followed until it ends or turns out to be none."""

    inside: _Stream
    _spent: int = 0

    def __post_init__(self) -> None:
        self._inflater = zlib.decompressobj(_GZIP_OR_ZLIB)

    def feed(self, chunk: bytes) -> bool:
        """Whether it goes on."""
        while chunk:
            try:
                plain = self._inflater.decompress(chunk, CHUNK_BYTES)
            except zlib.error:
                return False
            self._spent += len(plain)
            if plain:
                self.inside.feed(plain)
            if self._inflater.eof or self._spent > INFLATED_BYTES_MAX:
                return False
            chunk = self._inflater.unconsumed_tail
        return True


def _new_matches(window: bytes, pattern: bytes, seen: int) -> int:
    """Matches that end behind the first `seen` bytes, which the chunk before has already counted."""
    count = 0
    at = window.find(pattern, max(0, seen - len(pattern) + 1))
    while at >= 0:
        count += 1
        at = window.find(pattern, at + 1)
    return count
