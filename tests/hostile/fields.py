"""Headers that are none, come twice, or are too many."""

from __future__ import annotations

from tests.fakes.served import BEARER
from tests.hostile.cases import BODY, CHAT, MESSAGES, C, Case, field, instead, request

_OLD = b"POST /v1/chat/completions HTTP/1.0"
_GET = b"GET /v1/chat/completions HTTP/1.1"
_WEBSOCKET = (
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    b"Sec-WebSocket-Version: 13",
)


def many(count: int, length: int = 1) -> tuple[bytes, ...]:
    return tuple(b"X-%03d: %b" % (number, b"a" * length) for number in range(count))


FIELDS: dict[str, Case] = {
    "folded": Case(field(b"X-A: a\r\n " + C), 400),
    "folded with a tab": Case(field(b"X-A: a\r\n\tTransfer-Encoding: chunked"), 400),
    "folded at once": Case(request(CHAT + b"\r\n Host: box"), 400),
    "space before the colon": Case(field(b"X-A : " + C), 400),
    "space before the colon of a length": Case(field(b"Content-Length : 5"), 400),
    "tab before the colon of a coding": Case(field(b"Transfer-Encoding\t: chunked"), 400),
    "no name": Case(field(b": " + C), 400),
    "no colon": Case(field(C), 400),
    "a space in a name": Case(field(b"X %b: a" % C), 400),
    "a carriage return in a value": Case(field(b"X-A: a\r" + C), 400),
    "a carriage return in a name": Case(field(b"X\r%b: a" % C), 400),
    "two carriage returns": Case(field(b"X-A: %b\r" % C), 400),
    "a line feed in a value": Case(field(b"X-A: a\nX-B: " + C), 400),
    "NUL in a value": Case(field(b"X-A: \0" + C), 400),
    "NUL in a name": Case(field(b"X\0%b: a" % C), 400),
    "a control in a value": Case(field(b"X-A: \x01" + C), 400),
    "DEL in a value": Case(field(b"X-A: \x7f" + C), 400),
    "8 bits in a name": Case(field(b"X-\xff%b: a" % C), 400),
    "8 bits in a value": Case(field(b"X-A: \xff\xfe" + C), 200, reached=1),
    "a bracket in a name": Case(field(b"X[%b]: a" % C), 400),
    "64": Case(request(CHAT, *many(60)), 200, reached=1),
    "65": Case(request(CHAT, *many(61)), 431),
    "3,000": Case(request(CHAT, *many(3000)), 431),
    "8 KiB": Case(field(b"X: " + b"a" * 8191), 200, reached=1),
    "over 8 KiB": Case(field(b"X: " + b"a" * 8192), 431),
    "a name of 9 KiB": Case(field(b"a" * 9 * 1024 + b": x"), 431),
    "40 KiB in all": Case(request(CHAT, *many(5, 8000)), 431),
    "just over 32 KiB in all": Case(request(CHAT, *many(60, 538)), 431),
    "20 KiB of blanks": Case(field(b"X:" + b" " * 20 * 1024 + b"a"), 200, reached=1),
    "400 KiB of one": Case(field(b"X: " + C * 25_600), 431),
    "host twice": Case(field(b"Host: box"), 400),
    "another host": Case(field(b"Host: " + C), 400),
    "length twice": Case(field(b"Content-Length: %d" % len(BODY)), 400),
    "another length": Case(field(b"Content-Length: 0"), 400),
    "type twice": Case(field(b"Content-Type: application/json"), 400),
    "another type": Case(field(b"Content-Type: text/" + C), 400),
    "encoding twice": Case(field(b"Content-Encoding: identity", b"Content-Encoding: gzip"), 400),
    "key twice": Case(field(b"Authorization: " + BEARER.encode()), 400),
    "another key": Case(field(b"Authorization: Bearer " + C), 400),
    "a key of each kind": Case(field(b"x-api-key: " + BEARER[7:].encode()), 401),
    "a key that is none": Case(instead(b"authorization", b"Authorization: Bearer " + C), 401),
    "a key with 8 bits": Case(instead(b"authorization", b"Authorization: Bearer \xff" + C), 401),
    "a scheme that is none": Case(instead(b"authorization", b"Authorization: %b x" % C), 401),
    "no key": Case(request(without=(b"authorization",)), 401),
    "no key for Anthropic's API": Case(request(MESSAGES, without=(b"authorization",)), 401),
    "no host": Case(request(without=(b"host",)), 400),
    "no host in HTTP/1.0": Case(request(_OLD, without=(b"host",)), 200, reached=1),
    "an empty host": Case(instead(b"host", b"Host:"), 400),
    "a host with a space": Case(instead(b"host", b"Host: box " + C), 400),
    "a host with a path": Case(instead(b"host", b"Host: box/" + C), 400),
    "a host with a user": Case(instead(b"host", b"Host: %b@box" % C), 400),
    "a list of hosts": Case(instead(b"host", b"Host: box,%b" % C), 400),
    "a host with 8 bits": Case(instead(b"host", b"Host: \xff" + C), 400),
    "a host with a fragment": Case(instead(b"host", b"Host: box#" + C), 400),
    "upgrade to a websocket": Case(field(*_WEBSOCKET), 400),
    "upgrade of a GET to a websocket": Case(request(_GET, *_WEBSOCKET, body=b""), 400),
    "upgrade to HTTP/2": Case(
        field(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"), 400
    ),
    "upgrade that nobody asks of this hop": Case(field(b"Upgrade: websocket"), 200, reached=1),
    "hop-by-hop headers of others": Case(field(b"Connection: Host, Authorization"), 200, reached=1),
    "to expect anything": Case(field(b"Expect: " + C), 400),
    "to expect more than one thing": Case(field(b"Expect: 100-continue, " + C), 400),
    "to expect 100 twice": Case(field(b"Expect: 100-continue", b"Expect: 100-continue"), 200, reached=1),
    "to expect 100 in HTTP/1.0": Case(request(_OLD, b"Expect: 100-continue"), 400),
    "a type that is not JSON": Case(instead(b"content-type", b"Content-Type: text/" + C), 415),
    "a form": Case(instead(b"content-type", b"Content-Type: multipart/form-data; boundary=" + C), 415),
    "no type": Case(request(without=(b"content-type",)), 415),
    "a type like JSON": Case(instead(b"content-type", b"Content-Type: application/json" + C), 415),
    "names that others know": Case(
        field(
            *(
                b"%b: %b" % (name, C)
                for name in (b"X-Request-Id", b"traceparent", b"Cookie", b"X-Session-Id")
            ),
            b"X-Forwarded-For: 10.0.0.1",
            b"X-Original-URL: /metrics",
            b"X-HTTP-Method-Override: DELETE",
        ),
        200,
        reached=1,
    ),
}
