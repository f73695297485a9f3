"""A caller can't tell whether its request went past Litestar or through it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes import engine as fake
from tests.fakes.box import Box, chat
from tests.fakes.engine import Exchange, ScriptedEngine
from tests.fakes.served import BEARER, Served, post, served

BODY = chat("nonce=N tokens=2")
GOOD = post(BODY)
STREAM = post(chat("nonce=N tokens=3", stream=True))
MESSAGE = json.dumps(
    {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "nonce=N"}]}
).encode()
VARIES = re.compile(rb"(?im)^(date: .*|x?-?request-id: .*|openai-processing-ms: .*)\r\n")
QUIET_SECONDS = 0.5
"""After so long without a byte nothing more is expected."""
IDS = re.compile(rb"\b[0-9A-HJKMNP-TV-Z]{26}\b")


def without(request: bytes, name: str) -> bytes:
    return re.sub(rf"(?im)^{name}: .*\r\n".encode(), b"", request)


def chunked(body: bytes, *, trailer: bytes = b"") -> bytes:
    head = without(post(b""), "content-length").removesuffix(b"\r\n")
    return head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n%b\r\n" % (len(body), body, trailer)


REQUESTS: dict[str, bytes] = {
    "an answer": GOOD,
    "a stream": STREAM,
    "a stream with its usage": post(
        chat("nonce=N tokens=3", stream=True, stream_options={"include_usage": True})
    ),
    "one that closes": post(BODY, "/v1/chat/completions", "Connection: close"),
    "a stream that closes": post(chat("nonce=N", stream=True), "/v1/chat/completions", "Connection: Close"),
    "HTTP/1.0": GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "HTTP/1.0 that would stay": post(BODY, "/v1/chat/completions", "Connection: keep-alive").replace(
        b"HTTP/1.1", b"HTTP/1.0"
    ),
    "chunks": chunked(BODY),
    "chunks and a trailer": chunked(BODY, trailer=b"X-Y: z\r\n"),
    "a wrong key": GOOD.replace(BEARER.encode(), b"Bearer nobody"),
    "a wrong key and half a body": GOOD.replace(BEARER.encode(), b"Bearer nobody")[:-9],
    "a wrong key that closes": post(BODY, "/v1/chat/completions", "Connection: close").replace(
        BEARER.encode(), b"Bearer nobody"
    ),
    "no key": without(GOOD, "authorization"),
    "two keys": post(BODY, "/v1/chat/completions", f"Authorization: {BEARER}"),
    "another method": GOOD.replace(b"POST", b"PUT"),
    "GET": GOOD.replace(b"POST", b"GET"),
    "HEAD": post(b"").replace(b"POST", b"HEAD"),
    "OPTIONS": post(b"").replace(b"POST", b"OPTIONS"),
    "another media type": GOOD.replace(b"application/json", b"text/plain"),
    "compressed": post(BODY, "/v1/chat/completions", "Content-Encoding: gzip"),
    "no JSON": post(b"{"),
    "no body": post(b""),
    "neither length nor chunks": without(post(b""), "content-length"),
    "another model": post(chat("x", model="other")),
    "a length too large": post(b"").replace(b"Content-Length: 0", b"Content-Length: 999999"),
    "a body too large, in chunks": chunked(b"x" * 100_001),
    "a query": GOOD.replace(b" HTTP/1.1", b"?a=b HTTP/1.1"),
    "an empty query": GOOD.replace(b" HTTP/1.1", b"? HTTP/1.1"),
    "a fragment": GOOD.replace(b" HTTP/1.1", b"#a HTTP/1.1"),
    "an address with a percent": GOOD.replace(b"/chat/", b"/%63hat/"),
    "an address with a slash more": GOOD.replace(b" HTTP/1.1", b"/ HTTP/1.1"),
    "a path with two slashes": GOOD.replace(b"/v1/", b"//v1/"),
    "Anthropic's protocol": post(MESSAGE, "/v1/messages"),
    "Anthropic's protocol with its query": post(MESSAGE, "/v1/messages?beta=true"),
    "Anthropic's protocol with a wrong key": post(MESSAGE, "/v1/messages").replace(
        BEARER.encode(), b"Bearer nobody"
    ),
    "Anthropic's protocol with a wrong body": post(b"{}", "/v1/messages"),
    "waits for 100": post(BODY, "/v1/chat/completions", "Expect: 100-Continue"),
    "an unknown expectation": post(BODY, "/v1/chat/completions", "Expect: wonders"),
    "two at once": GOOD + GOOD,
    "something behind it": GOOD + b"x",
    "an upgrade": post(BODY, "/v1/chat/completions", "Connection: Upgrade", "Upgrade: websocket"),
    "an upgrade to HTTP/2": post(
        BODY,
        "/v1/chat/completions",
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: ",
    ),
    "CONNECT": b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\nxyz",
    "no host": without(GOOD, "host"),
    "no host and noise": without(GOOD, "host") + b"\x00\x01",
    "two lengths": post(BODY, "/v1/chat/completions", "Content-Length: 5"),
    "length and chunks": post(BODY, "/v1/chat/completions", "Transfer-Encoding: chunked"),
    "an unknown coding": without(GOOD, "content-length").replace(
        b"Host: box", b"Host: box\r\nTransfer-Encoding: gzip, chunked"
    ),
    "another version": GOOD.replace(b"HTTP/1.1", b"HTTP/1.2"),
    "noise": b"\x16\x03\x01\x00\xff\x00\r\n\r\n",
    "an address too long": GOOD.replace(b"/v1/", b"/" + b"v" * 3000 + b"/"),
    "a header too long": post(BODY, "/v1/chat/completions", "X: " + "y" * 9000),
    "too many headers": post(BODY, "/v1/chat/completions", *[f"X{n}: y" for n in range(60)]),
    "a head too long": post(BODY, "/v1/chat/completions", *[f"X{n}: " + "y" * 1000 for n in range(40)]),
    "a head without end": b"GET / HTTP/1.1\r\nX: " + b"y" * 40_000,
    "engine says no": post(chat("then=refuse")),
}


async def by_prompt(exchange: Exchange) -> None:
    if exchange.prompt == "then=refuse":
        await exchange.send(fake.whole(b'{"message": "context length"}', 400))
    else:
        await fake.by_prompt(exchange)


@pytest.fixture
async def box(short_folder: Path) -> AsyncIterator[Box]:
    box = Box(short_folder)
    async with ScriptedEngine(box.socket, by_prompt):
        yield box
    box.close()


async def heard(gateway: Served, request: bytes) -> bytes:
    """All bytes that come back until nothing has come for a while; what is different each time is left out."""
    reader, writer = await gateway.connect()
    writer.write(request)
    pieces: list[bytes] = []
    try:
        while piece := await asyncio.wait_for(reader.read(100_000), QUIET_SECONDS):
            pieces.append(piece)
        pieces.append(b"[closed]")
    except TimeoutError:
        pieces.append(b"[open]")
    except ConnectionError:
        pieces.append(b"[reset]")
    writer.transport.abort()
    return IDS.sub(b"ID", VARIES.sub(b"", b"".join(pieces)))


def ordered(answer: bytes) -> tuple[list[bytes], bytes]:
    """First line and headers, in any order, and the rest."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    return sorted(head.split(b"\r\n")), rest


@pytest.mark.parametrize("request_bytes", REQUESTS.values(), ids=REQUESTS.keys())
async def test_both_lanes_answer_the_same(box: Box, request_bytes: bytes) -> None:
    async with served(box) as fast, served(box, fast_lane=False) as framework:
        one, other = await asyncio.gather(heard(fast, request_bytes), heard(framework, request_bytes))

    assert one.startswith(b"HTTP/1.1 ")
    assert ordered(one) == ordered(other)


@pytest.mark.parametrize("fast_lane", [True, False], ids=["fast lane", "Litestar"])
async def test_a_key_behind_the_body_is_no_key(box: Box, *, fast_lane: bool) -> None:
    trailer = f"Authorization: {BEARER}\r\n".encode()
    async with served(box, fast_lane=fast_lane) as gateway:
        answer = await heard(gateway, without(chunked(BODY), "authorization")[:-2] + trailer + b"\r\n")

    assert answer[:12] in {b"HTTP/1.1 400", b"HTTP/1.1 401"}
    assert await box.rows() == []
