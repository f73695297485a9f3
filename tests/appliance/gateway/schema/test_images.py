from __future__ import annotations

import base64
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import BadRequest
from appliance.gateway.schema.images import BLOCKS_MAX, check_image

Size = tuple[int, int]


def url(kind: str, file: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(file).decode()}"


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(*sizes: Size, before: bytes = b"") -> bytes:
    headers = b"".join(png_chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)) for size in sizes)
    return b"\x89PNG\r\n\x1a\n" + before + headers + png_chunk(b"IDAT", b"x") + png_chunk(b"IEND", b"")


def segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def jpeg(*sizes: Size, frame: int = 0xC0, before: bytes = b"") -> bytes:
    frames = b"".join(segment(frame, struct.pack(">BHHB", 8, size[1], size[0], 3)) for size in sizes)
    return (
        b"\xff\xd8"
        + segment(0xE0, b"JFIF\0")
        + before
        + frames
        + segment(0xDA, b"\0")
        + b"x" * 9
        + b"\xff\xd9"
    )


def gif(screen: Size, picture: Size, at: Size = (0, 0), colours: int = 0x80, before: bytes = b"") -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", *screen, colours, 0, 0)
    palette = b"\0" * 3 * (2 << (colours & 7)) * (colours >> 7)
    return head + palette + before + b"," + struct.pack("<HHHHB", *at, *picture, 0) + b"\x02\x01\0\0;"


def webp(chunk: bytes, data: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", len(data) + 12) + b"WEBP" + chunk + struct.pack("<I", len(data)) + data


def lossy(size: Size) -> bytes:
    return webp(b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", *size) + b"\0" * 8)


def lossless(size: Size) -> bytes:
    return webp(b"VP8L", b"\x2f" + struct.pack("<I", (size[0] - 1) | (size[1] - 1) << 14) + b"\0" * 8)


def extended(size: Size) -> bytes:
    width, height = ((side - 1).to_bytes(3, "little") for side in size)
    return webp(b"VP8X", b"\0\0\0\0" + width + height)


COMMENT = b"!\xfe\x05hello\x03abc\0"
GOOD: dict[str, tuple[str, bytes]] = {
    "png": ("png", png((5000, 4000))),
    "png behind a chunk": ("png", png((1, 1), before=png_chunk(b"gAMA", b"\0\0\0\0"))),
    "jpeg": ("jpeg", jpeg((5000, 4000))),
    "progressive jpeg": ("jpeg", jpeg((1, 1), frame=0xC2)),
    "jpeg behind a camera's notes": ("jpeg", jpeg((1, 1), before=segment(0xE1, b"x" * 65_000) * 20)),
    "jpeg with filled gaps": ("jpeg", jpeg((1, 1), before=b"\xff\xff")),
    "gif": ("gif", gif((5000, 4000), (5000, 4000))),
    "gif without colours": ("gif", gif((1, 1), (1, 1), colours=0)),
    "gif of many colours": ("gif", gif((1, 1), (1, 1), colours=0x87)),
    "gif behind comments": ("gif", gif((1, 1), (1, 1), before=COMMENT * 3)),
    "lossy webp": ("webp", lossy((5000, 4000))),
    "lossless webp": ("webp", lossless((5000, 4000))),
    "extended webp": ("webp", extended((5000, 4000))),
}


@pytest.mark.parametrize(("kind", "file"), GOOD.values(), ids=GOOD.keys())
def test_a_picture_of_bounded_size_passes(kind: str, file: bytes) -> None:
    check_image(url(kind, file), "p")


TOO_LARGE: dict[str, tuple[str, bytes]] = {
    "png": ("png", png((5000, 4001))),
    "png whose second header is large": ("png", png((1, 1), (2**31, 2**31))),
    "jpeg": ("jpeg", jpeg((5000, 4001))),
    "jpeg whose second frame is large": ("jpeg", jpeg((1, 1), (65_535, 65_535))),
    "gif": ("gif", gif((5000, 4001), (1, 1))),
    "gif whose picture is larger than its screen": ("gif", gif((1, 1), (65_535, 65_535))),
    "gif whose picture lies far out": ("gif", gif((1, 1), (1, 1), at=(65_535, 65_535))),
    "gif that is wide here and high there": ("gif", gif((65_535, 1), (1, 65_535))),
    "lossy webp": ("webp", lossy((16_383, 16_383))),
    "lossless webp": ("webp", lossless((16_384, 16_384))),
    "extended webp": ("webp", extended((2**24, 2**24))),
    "many bytes": ("png", png((1, 1)) + b"\0" * 8 * 1024 * 1024),
}


@pytest.mark.parametrize(("kind", "file"), TOO_LARGE.values(), ids=TOO_LARGE.keys())
def test_a_picture_too_large_is_refused(kind: str, file: bytes) -> None:
    assert refused(url(kind, file)).reason == "image_too_large"


UNREADABLE: dict[str, tuple[str, bytes]] = {
    "nothing": ("png", b""),
    "another type": ("png", jpeg((1, 1))),
    "a script": ("gif", b"<script>alert(1)</script>"),
    "png without a header": ("png", png()),
    "png that ends": ("png", png((1, 1))[:40]),
    "png without end": ("png", png((1, 1), before=png_chunk(b"tEXt", b"") * BLOCKS_MAX)),
    "png of no height": ("png", png((1, 0))),
    "jpeg without a frame": ("jpeg", jpeg()),
    "jpeg that ends": ("jpeg", jpeg((1, 1))[:12]),
    "jpeg with junk": ("jpeg", jpeg((1, 1), before=b"junk")),
    "jpeg that starts over": ("jpeg", jpeg((1, 1), before=b"\xff\xd8")),
    "jpeg without end": ("jpeg", jpeg((1, 1), before=segment(0xE1, b"") * BLOCKS_MAX)),
    "gif without a picture": ("gif", gif((1, 1), (1, 1))[:19] + b";" * 20),
    "gif that ends": ("gif", gif((1, 1), (1, 1))[:20]),
    "gif with an empty comment": ("gif", gif((1, 1), (1, 1), before=b"!\xfe\0")),
    "gif without end": ("gif", gif((1, 1), (1, 1), before=COMMENT * BLOCKS_MAX)),
    "gif of an endless comment": ("gif", gif((1, 1), (1, 1), before=b"!\xfe" + b"\x01x" * 5000)),
    "webp of another kind": ("webp", webp(b"XMP ", b"\0" * 20)),
    "webp without its mark": ("webp", webp(b"VP8 ", b"\0" * 20)),
    "webp that ends": ("webp", b"RIFF\0\0\0\0WEBP"),
    "sound": ("webp", b"RIFF\0\0\0\0WAVEfmt "),
}


@pytest.mark.parametrize(("kind", "file"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_is_no_picture_of_its_type_is_refused(kind: str, file: bytes) -> None:
    assert refused(url(kind, file)).reason == "invalid_image"


@pytest.mark.parametrize(
    "data", ["", "A", "AAA", "iVBORw0KGgo!", "iVBO Rw0KGgo", "iVBORw0KGg=A", "====", "iVBORw0KGgoé"], ids=repr
)
def test_what_is_no_base64_is_refused(data: str) -> None:
    """Readers differ in what they skip, so nothing may have to be skipped."""
    assert refused(f"data:image/png;base64,{data}").reason == "invalid_image"


@pytest.mark.parametrize(
    "address",
    [
        "",
        "http://example.invalid/a.png",
        "https://example.invalid/data:image/png;base64,",
        "file:///etc/passwd",
        "//example.invalid",
        "data:image/svg+xml;base64,AAAA",
        "data:image/PNG;base64,AAAA",
        "data:image/png,AAAA",
        "data:image/png;base64",
        "data:image/png;charset=x;base64,AAAA",
        "data:;base64,AAAA",
        " data:image/png;base64,AAAA",
    ],
)
def test_any_other_address_is_refused(address: str) -> None:
    error = refused(address)

    assert (error.reason, error.param) == ("unsupported_image", "p")
    assert "example" not in str(error)


@given(
    st.sampled_from([*GOOD.values()]),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6),
    st.integers(0, 300),
)
@settings(max_examples=300, deadline=None)
def test_a_damaged_picture_passes_or_is_refused(
    good: tuple[str, bytes], changes: list[tuple[int, int]], length: int
) -> None:
    kind, file = good[0], bytearray(good[1][:length])
    for at, byte in changes:
        file[at : at + 1] = bytes([byte])

    assert outcome(url(kind, bytes(file))) in ("", "invalid_image", "image_too_large")


def refused(address: str) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        check_image(address, "p")
    return caught.value


def outcome(address: str) -> str:
    try:
        check_image(address, "p")
    except BadRequest as error:
        return error.reason
    return ""
