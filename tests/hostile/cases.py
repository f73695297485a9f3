"""What a hostile request is made of: one that is good, and ways to spoil it."""

from __future__ import annotations

from typing import NamedTuple

from tests.fakes.box import chat
from tests.fakes.served import BEARER

CANARY = "CANARY5d1fcanary"
C = CANARY.encode()
BODY = chat(f"nonce=N tokens=1 {CANARY}")
CHAT = b"POST /v1/chat/completions HTTP/1.1"
MESSAGES = b"POST /v1/messages HTTP/1.1"


class Case(NamedTuple):
    """Bytes on a connection, and what they have to come to."""

    sent: bytes
    status: int
    """Of the only answer."""
    reached: int = 0
    """Requests that the engine gets to see."""
    then: int = 0
    """Of a second answer, where what follows is a request of its own and came after the first one's answer."""


def request(line: bytes = CHAT, *fields: bytes, body: bytes = BODY, without: tuple[bytes, ...] = ()) -> bytes:
    """A good request with another first line, with these lines behind its headers, or without some of them."""
    head = {
        b"host": b"Host: box",
        b"authorization": b"Authorization: " + BEARER.encode(),
        b"content-type": b"Content-Type: application/json",
        b"content-length": b"Content-Length: %d" % len(body),
    }
    kept = [field for name, field in head.items() if name not in without]
    return b"\r\n".join([line, *kept, *fields]) + b"\r\n\r\n" + body


def field(*fields: bytes) -> bytes:
    """One whose head has these lines as well."""
    return request(CHAT, *fields)


def instead(name: bytes, *fields: bytes) -> bytes:
    """One with these lines in place of one header."""
    return request(CHAT, *fields, without=(name,))


def coded(raw: bytes, *fields: bytes, line: bytes = CHAT) -> bytes:
    """One whose body is these bytes, in chunks or what is meant to be some."""
    return request(
        line, *(fields or (b"Transfer-Encoding: chunked",)), body=raw, without=(b"content-length",)
    )


def chunks(size: bytes = b"%x" % len(BODY), end: bytes = b"0\r\n\r\n", body: bytes = BODY) -> bytes:
    """A body in one chunk of this size, or of what stands in its place."""
    return b"%b\r\n%b\r\n%b" % (size, body, end)


GOOD = request()
