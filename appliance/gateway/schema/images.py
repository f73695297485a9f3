"""Pictures inside a request: data URLs of four kinds, of bounded size, judged by their first bytes and never decoded.

An address elsewhere is refused, because an engine would fetch it. A small file may hold a picture of
gigabytes, so its height and width are read first, where the decoder would find them.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Iterator
from typing import Final

from appliance.errors import BadRequest

IMAGES_MAX: Final = 8
IMAGE_BYTES_MAX: Final = 8 * 1024 * 1024
PIXELS_MAX: Final = 20_000_000
BLOCKS_MAX: Final = 1024
"""Parts of a picture's file that come before its size."""

_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

Size = tuple[int, int]
Window = Callable[[int, int], bytes]
"""So many bytes of the file from an offset on. Raises ValueError if it ends before."""


def check_image(url: str, param: str) -> None:
    """Raise BadRequest for anything but a picture that an engine can safely decode."""
    head, comma, data = url.partition(",")
    kind = _KINDS.get(head)
    if kind is None or not comma:
        raise BadRequest(
            "A picture has to be in the request itself: data:image/TYPE;base64, with TYPE png, jpeg, webp or gif.",
            param=param,
            code="unsupported_image",
        )
    raw = data.encode()
    padding = raw.translate(None, _ALPHABET)
    if len(raw) % 4 or padding not in (b"", b"=", b"==") or not raw.endswith(padding):
        raise _unreadable(param)
    if len(raw) // 4 * 3 > IMAGE_BYTES_MAX:
        raise BadRequest(
            f"A picture is larger than {IMAGE_BYTES_MAX} bytes. Send a smaller one.",
            param=param,
            code="image_too_large",
        )
    magic, sizes = kind

    def window(offset: int, length: int) -> bytes:
        start = offset // 3
        part = binascii.a2b_base64(raw[start * 4 : (offset + length + 2) // 3 * 4])
        if len(part) < offset - start * 3 + length:
            raise ValueError
        return part[offset - start * 3 :][:length]

    try:
        pixels = [width * height for width, height in sizes(window)] if magic(window(0, 12)) else []
    except ValueError:  # it ends too early, or makes no sense
        raise _unreadable(param) from None
    if not pixels or min(pixels) == 0:
        raise _unreadable(param)
    if max(pixels) > PIXELS_MAX:
        raise BadRequest(
            f"A picture has over {PIXELS_MAX // 1_000_000} million pixels. Send a smaller one.",
            param=param,
            code="image_too_large",
        )


def _png(window: Window) -> Iterator[Size]:
    """Every header before the picture: decoders may take the last."""
    at = 8
    for _ in range(BLOCKS_MAX):
        chunk = window(at, 16)
        if chunk[4:8] == b"IDAT":
            return
        if chunk[4:8] == b"IHDR":
            yield _big(chunk[8:12]), _big(chunk[12:16])
        at += 12 + _big(chunk[0:4])
    raise ValueError


def _jpeg(window: Window) -> Iterator[Size]:
    """Every frame header before the scan."""
    at = 2
    for _ in range(BLOCKS_MAX):
        segment = window(at, 9)
        if segment[0] != 0xFF or segment[1] in _WITHOUT_LENGTH:
            raise ValueError
        if segment[1] == 0xDA:
            return
        if segment[1] in _FRAMES:
            yield _big(segment[7:9]), _big(segment[5:7])
        at += 1 if segment[1] == 0xFF else 2 + _big(segment[2:4])
    raise ValueError


def _gif(window: Window) -> Iterator[Size]:
    """The screen, made larger by the first picture on it."""
    screen = window(6, 7)
    at = 13 + (2 << (screen[4] & 7)) * 3 * (screen[4] >> 7)
    for _ in range(BLOCKS_MAX):
        block = window(at, 10)
        if block[0] == 0x2C:
            right = _little(block[1:3]) + _little(block[5:7])
            bottom = _little(block[3:5]) + _little(block[7:9])
            yield max(_little(screen[0:2]), right), max(_little(screen[2:4]), bottom)
            return
        if block[0] != 0x21 or not block[2]:
            raise ValueError
        at += 2
        for _ in range(BLOCKS_MAX):
            length = window(at, 1)[0]
            at += 1 + length
            if not length:
                break
    raise ValueError


def _webp(window: Window) -> Iterator[Size]:
    header = window(12, 18)
    match header[:4]:
        case b"VP8 " if header[11:14] == b"\x9d\x01\x2a":
            yield _little(header[14:16]) & 0x3FFF, _little(header[16:18]) & 0x3FFF
        case b"VP8L" if header[8] == 0x2F:
            bits = _little(header[9:13])
            yield (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X":
            yield _little(header[12:15]) + 1, _little(header[15:18]) + 1
        case _:
            raise ValueError


def _big(number: bytes) -> int:
    return int.from_bytes(number, "big")


def _little(number: bytes) -> int:
    return int.from_bytes(number, "little")


_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH: Final = frozenset({0x00, 0x01, *range(0xD0, 0xDA)})
_KINDS: Final[dict[str, tuple[Callable[[bytes], bool], Callable[[Window], Iterator[Size]]]]] = {
    "data:image/png;base64": (lambda head: head.startswith(b"\x89PNG\r\n\x1a\n"), _png),
    "data:image/jpeg;base64": (lambda head: head.startswith(b"\xff\xd8\xff"), _jpeg),
    "data:image/gif;base64": (lambda head: head.startswith((b"GIF87a", b"GIF89a")), _gif),
    "data:image/webp;base64": (lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP", _webp),
}


def _unreadable(param: str) -> BadRequest:
    return BadRequest(
        "A picture can't be read, or is not of the type that it says.", param=param, code="invalid_image"
    )
