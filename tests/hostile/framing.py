"""Where a request ends: lengths, codings, chunks, and further requests hidden behind one."""

from __future__ import annotations

from tests.fakes.served import BEARER
from tests.hostile.cases import BODY, CHAT, GOOD, MESSAGES, C, Case, chunks, coded, field, instead, request

_N = len(BODY)
_TE = b"Transfer-Encoding: chunked"
_OLD = b"POST /v1/chat/completions HTTP/1.0"
_HEALTH = b"GET /healthz HTTP/1.1\r\nHost: box\r\n\r\n"


def length(value: bytes) -> bytes:
    return instead(b"content-length", b"Content-Length:" + value)


def coding(value: bytes) -> bytes:
    return coded(chunks(), b"Transfer-Encoding:" + value)


LENGTHS: dict[str, Case] = {
    "+5": Case(length(b" +5"), 400),
    "-1": Case(length(b" -1"), 400),
    "0x5": Case(length(b" 0x5"), 400),
    "5,5": Case(length(b" 5,5"), 400),
    "5 5": Case(length(b" 5 5"), 400),
    "5.0": Case(length(b" 5.0"), 400),
    "1_0": Case(length(b" 1_0"), 400),
    "1e1": Case(length(b" 1e1"), 400),
    "a digit of another script": Case(length(" ५".encode()), 400),
    "a superscript": Case(length(" ²".encode()), 400),
    "in quotes": Case(length(b' "5"'), 400),
    "a length that is a word": Case(length(b" " + C), 400),
    "an empty length": Case(length(b""), 400),
    "a blank length": Case(length(b"   "), 400),
    "10^23": Case(length(b" 1" + b"0" * 23), 400),
    "2^64": Case(length(b" 18446744073709551616"), 400),
    "2^64 - 1": Case(length(b" 18446744073709551615"), 413),
    "2^63": Case(length(b" 9223372036854775808"), 413),
    "over 8 MiB": Case(length(b" 8388609"), 413),
    "many zeros": Case(length(b" " + b"0" * 30 + b"%d" % _N), 413),
    "a tab behind": Case(length(b" %d\t" % _N), 413),
    "shorter than the body": Case(length(b" 5"), 400),
    "longer than the body": Case(length(b" %d" % (_N + 5)), 408),
    "no length": Case(request(without=(b"content-length",)), 400),
}

CODINGS: dict[str, Case] = {
    "coding and length": Case(field(_TE), 400),
    "length and coding": Case(coded(chunks(), b"Content-Length: 5", _TE), 400),
    "coding and a length of 0": Case(coded(chunks(), _TE, b"Content-Length: 0"), 400),
    "coding and length in HTTP/1.0": Case(request(_OLD, _TE), 400),
    "coding and length of a GET": Case(request(b"GET /healthz HTTP/1.1", _TE), 400),
    "coding and length for Anthropic's API": Case(request(MESSAGES, _TE), 400),
    "coding in HTTP/1.0": Case(coded(chunks(), _TE, line=_OLD), 400),
    "chunked twice": Case(coded(chunks(), _TE, _TE), 400),
    "identity, then chunked": Case(coded(chunks(), b"Transfer-Encoding: identity", _TE), 400),
    "chunked, then identity": Case(coded(chunks(), _TE, b"Transfer-Encoding: identity"), 400),
    "identity": Case(coded(BODY, b"Transfer-Encoding: identity"), 400),
    "identity and length": Case(field(b"Transfer-Encoding: identity"), 400),
    "gzip": Case(coding(b" gzip"), 400),
    "gzip, chunked": Case(coding(b" gzip, chunked"), 400),
    "chunked, gzip": Case(coding(b" chunked, gzip"), 400),
    "chunked, chunked": Case(coding(b" chunked, chunked"), 400),
    "a comma first": Case(coding(b" , chunked"), 400),
    "a comma last": Case(coding(b" chunked,"), 400),
    "xchunked": Case(coding(b" xchunked"), 400),
    "chunkedx": Case(coding(b" chunkedx"), 400),
    "chunke": Case(coding(b" chunke"), 400),
    "chun ked": Case(coding(b" chun ked"), 400),
    "a vertical tab": Case(coding(b" \x0bchunked"), 400),
    "a space behind the coding": Case(coding(b" chunked "), 400),
    "a tab behind the coding": Case(coding(b" chunked\t"), 400),
    "8 bits behind the coding": Case(coding(b" chunked\xa0"), 400),
    "coding in quotes": Case(coding(b' "chunked"'), 400),
    "a parameter": Case(coding(b" chunked;q=1"), 400),
    "an empty coding": Case(coding(b""), 400),
    "folded coding": Case(coding(b"\r\n chunked"), 400),
    "a tab ahead": Case(coding(b"\tchunked"), 200, reached=1),
    "capitals": Case(coded(chunks(), b"TRANSFER-ENCODING: CHUNKED"), 200, reached=1),
    "an underscore": Case(field(b"Transfer_Encoding: chunked"), 200, reached=1),
}

CHUNKS: dict[str, Case] = {
    "an extension": Case(coded(chunks(b"%x;a=%b" % (_N, C))), 200, reached=1),
    "an extension with a line end": Case(coded(chunks(b'%x;a="\r\n%b"' % (_N, C))), 400),
    "an extension with a line feed": Case(coded(chunks(b"%x;a\n%b" % (_N, C))), 400),
    "an extension with NUL": Case(coded(chunks(b"%x;a\0" % _N)), 400),
    "an endless extension": Case(coded(chunks(b"%x;" % _N + C * 6000)), 400),
    "a negative size": Case(coded(chunks(b"-5")), 400),
    "a size with a sign": Case(coded(chunks(b"+%x" % _N)), 400),
    "a size with 0x": Case(coded(chunks(b"0x%x" % _N)), 400),
    "a size of 72 bits": Case(coded(chunks(b"f" * 18)), 400),
    "a size of 64 bits": Case(coded(chunks(b"f" * 16)), 408),
    "a size with many zeros": Case(coded(chunks(b"0" * 30 + b"%x" % _N)), 200, reached=1),
    "a size in capitals": Case(coded(chunks(b"%X" % _N)), 200, reached=1),
    "a space behind a size": Case(coded(chunks(b"%x " % _N)), 400),
    "a space before a size": Case(coded(chunks(b" %x" % _N)), 400),
    "no size": Case(coded(chunks(b"")), 400),
    "a size that is a word": Case(coded(chunks(C)), 400),
    "a size that is too small": Case(coded(chunks(b"%x" % (_N - 5))), 400),
    "a size that is too large": Case(coded(chunks(b"%x" % (_N + 1), b"0\r\n\r\n\r\n")), 400),
    "line feeds only": Case(coded(chunks().replace(b"\r\n", b"\n")), 400),
    "carriage returns only": Case(coded(chunks().replace(b"\r\n", b"\r")), 400),
    "no line end behind a chunk": Case(coded(b"%x\r\n%b0\r\n\r\n" % (_N, BODY)), 400),
    "no last chunk": Case(coded(b"%x\r\n%b\r\n" % (_N, BODY)), 408),
    "a last chunk with 0x": Case(coded(chunks(end=b"0x0\r\n\r\n")), 400),
    "many zeros at the end": Case(coded(chunks(end=b"0000\r\n\r\n")), 200, reached=1),
    "one byte each": Case(coded(b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n"), 200, 1),
    "a trailer": Case(coded(chunks(end=b"0\r\nX-%b: a\r\n\r\n" % C)), 400),
    "a length in a trailer": Case(coded(chunks(end=b"0\r\nContent-Length: 5\r\n\r\n")), 400),
    "a coding in a trailer": Case(coded(chunks(end=b"0\r\n%b\r\n\r\n" % _TE)), 400),
    "a key in a trailer": Case(coded(chunks(end=b"0\r\nAuthorization: %b\r\n\r\n" % BEARER.encode())), 400),
    "a key in a trailer only": Case(
        request(
            CHAT,
            _TE,
            body=chunks(end=b"0\r\nAuthorization: %b\r\n\r\n" % BEARER.encode()),
            without=(b"content-length", b"authorization"),
        ),
        401,
    ),
    "a long trailer": Case(coded(chunks(end=b"0\r\nX: %b\r\n\r\n" % (C * 6000))), 400),
    "a trailer that is none": Case(coded(chunks(end=b"0\r\nX %b\r\n\r\n" % C)), 400),
    "over 8 MiB in chunks": Case(coded(chunks(b"%x" % (8 * 2**20 + 1), body=b" " * (8 * 2**20 + 1))), 413),
}

HIDDEN: dict[str, Case] = {
    "behind a chunked body, for who goes by length": Case(
        coded(b"0\r\n\r\n" + GOOD, b"Content-Length: %d" % (5 + len(GOOD)), _TE), 400
    ),
    "inside a chunk, for who goes by length": Case(coded(chunks(body=GOOD), _TE, b"Content-Length: 4"), 400),
    "behind a coding that nobody knows": Case(
        coded(b"0\r\n\r\n" + GOOD, b"Transfer-Encoding: x" + C, b"Content-Length: 5"), 400
    ),
    "behind two lengths": Case(instead(b"content-length", b"Content-Length: 0", b"Content-Length: 9"), 400),
    "behind a length of 0": Case(request(CHAT, body=b"") + GOOD, 400, then=200),
    "behind a GET's body": Case(request(b"GET /healthz HTTP/1.1", body=GOOD), 200),
    "behind a GET without length": Case(_HEALTH + GOOD, 200, then=200),
    "behind a good one": Case(GOOD + GOOD, 200, reached=1, then=200),
    "behind a good one that closes": Case(field(b"Connection: close") + GOOD, 200, reached=1),
    "behind a good one in chunks": Case(coded(chunks()) + GOOD, 200, reached=1, then=200),
    "behind one that is refused": Case(request(b"PUT /healthz HTTP/1.1", body=b"") + GOOD, 405, then=200),
    "behind one without a key": Case(request(without=(b"authorization",)) + GOOD, 401, then=200),
    "behind one of HTTP/1.0": Case(request(_OLD, b"Connection: keep-alive") + GOOD, 200, reached=1),
    "behind one that expects 100": Case(field(b"Expect: 100-continue") + GOOD, 200, reached=1, then=200),
    "behind an upgrade": Case(field(b"Connection: Upgrade", b"Upgrade: %b" % C) + GOOD, 400),
    "garbage behind a good one": Case(GOOD + b"\0" + C, 200, reached=1, then=400),
    "garbage behind chunks": Case(coded(chunks()) + C, 200, reached=1, then=400),
    "in a header, by line feeds": Case(field(b"X-A: a\n\n" + GOOD), 400),
    "in an extension": Case(coded(chunks(b"%x;\n%b" % (_N, GOOD))), 400),
    "in a trailer": Case(coded(chunks(end=b"0\r\n" + GOOD)), 400),
}

FRAMING = LENGTHS | CODINGS | CHUNKS | HIDDEN
