"""Bodies that are no JSON, hold what no request has, or are made to cost time."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib

from tests.fakes.box import chat
from tests.hostile.cases import BODY, CHAT, MESSAGES, C, Case, request

MEBI = 1024 * 1024
LARGEST = 8 * MEBI
_HEAD = b'{"model":"m","messages":[{"role":"user","content":"tokens=1"}]'


def sent(body: bytes, line: bytes = CHAT) -> bytes:
    return request(line, body=body)


def encoded(coding: bytes, body: bytes) -> Case:
    return Case(request(CHAT, b"Content-Encoding: " + coding, body=body), 415)


def extra(json: bytes) -> bytes:
    """A good body with more in it."""
    return b"%b,%b}" % (_HEAD, json)


def saying(json: bytes) -> bytes:
    """A body whose message is this JSON string, between its quotes."""
    return b'{"model":"m","messages":[{"role":"user","content":"%b"}]}' % json


ENCODED: dict[str, Case] = {
    "gzip": encoded(b"gzip", gzip.compress(BODY)),
    "a gzip bomb": encoded(b"gzip", gzip.compress(b" " * 20 * MEBI)),
    "x-gzip": encoded(b"x-gzip", gzip.compress(BODY)),
    "deflate": encoded(b"deflate", zlib.compress(BODY)),
    "br": encoded(b"br", BODY),
    "zstd": encoded(b"zstd", bytes.fromhex("28b52ffd") + BODY),
    "compress": encoded(b"compress", b"\x1f\x9d" + BODY),
    "bzip2": encoded(b"bzip2", bz2.compress(BODY)),
    "xz": encoded(b"xz", lzma.compress(BODY)),
    "gzip, identity": encoded(b"gzip, identity", gzip.compress(BODY)),
    "an encoding that is a word": encoded(C, BODY),
    "an empty encoding": encoded(b"", BODY),
    "gzip that nobody told of": Case(sent(gzip.compress(BODY)), 400),
}

BROKEN: dict[str, bytes] = {
    "nothing": b"",
    "blanks": b" \r\n\t ",
    "a word": C,
    "null": b"null",
    "a number": b"1",
    "a string": b'"%b"' % C,
    "a list": b"[%b]" % BODY,
    "two objects": BODY + BODY,
    "garbage behind": BODY + C,
    "NUL behind": BODY + b"\0",
    "NUL ahead": b"\0" + BODY,
    "cut": BODY[:-3],
    "a form": b"model=m&prompt=" + C,
    "single quotes": BODY.replace(b'"', b"'"),
    "a comment": BODY + b"/*%b*/" % C,
    "a comma too many": BODY[:-1] + b",}",
    "a mark of byte order": b"\xef\xbb\xbf" + BODY,
    "UTF-16": BODY.decode().encode("utf-16"),
    "UTF-16 without mark": BODY.decode().encode("utf-16-le"),
    "UTF-32": BODY.decode().encode("utf-32"),
    "8 bits in a string": saying(C + b"\xff"),
    "8 bits in a key": extra(b'"%b\xff":1' % C),
    "overlong UTF-8": saying(C + b"\xc0\xaf"),
    "a surrogate in UTF-8": saying(C + b"\xed\xa0\x80"),
    "UTF-8 beyond Unicode": saying(C + b"\xf4\x90\x80\x80"),
    "half a character": saying(C + b"\xe2\x82"),
    "a lone surrogate": saying(C + rb"\ud800"),
    "a lone low surrogate": saying(C + rb"\udc00 "),
    "surrogates the wrong way": saying(C + rb"\udc00\ud800"),
    "an unfinished escape": saying(C + rb"\u12"),
    "an unknown escape": saying(C + rb"\x41"),
    "a line end in a string": saying(C + b"\n"),
    "NUL in a string": saying(C + b"\0"),
    "NaN": extra(b'"temperature":NaN'),
    "Infinity": extra(b'"temperature":Infinity'),
    "-Infinity": extra(b'"temperature":-Infinity'),
    "1e999": extra(b'"temperature":1e999'),
    "-1e999": extra(b'"presence_penalty":-1e999'),
    "1e999 for a count": extra(b'"max_tokens":1e999'),
    "1e999 in a schema": extra(b'"logit_bias":{"1":1e999}'),
    "a number of 5,000 digits": extra(b'"max_tokens":' + b"9" * 5000),
    "a fraction of 5,000 digits": extra(b'"temperature":0.' + b"9" * 5000),
    "an exponent of 5,000 digits": extra(b'"temperature":1e' + b"9" * 5000),
    "5,000 digits in what is dropped": extra(b'"metadata":{"a":' + b"9" * 5000 + b"}"),
    "a number with zeros ahead": extra(b'"max_tokens":007'),
    "a hexadecimal number": extra(b'"max_tokens":0x7'),
    "a negative count": extra(b'"max_tokens":-1'),
    "2^64": extra(b'"seed":18446744073709551616'),
    "a key twice": extra(b'"model":"%b"' % C),
    "a key twice, once with escapes": extra(rb'"mod\u0065l":"' + C + b'"'),
    "a key twice, deep inside": extra(b'"metadata":{"%b":1,"%b":2}' % (C, C)),
    "an unknown field": extra(b'"%b":1' % C),
    "the prototype": extra(b'"__proto__":{"%b":1}' % C),
    "the engine's own fields": extra(b'"cache_salt":"%b"' % C),
    "a file's address": _HEAD[:-3] + b'x"}],"media_io_kwargs":{"image":"file:///%b"}}' % C,
    "a field of the wrong type": extra(b'"temperature":"%b"' % C),
    "a role that is none": BODY.replace(b'"user"', b'"%b"' % C),
    "a model that is a list": BODY.replace(b'"m"', b'["%b"]' % C),
    "a long name of a model": BODY.replace(b'"m"', b'"%b"' % (C * 100)),
    "33 levels": extra(b'"metadata":' + b"[" * 33 + b"]" * 33),
    "a million levels": b"[" * MEBI,
    "a million levels of objects": b'{"a":' * MEBI,
    "20,001 lists": extra(b'"metadata":[' + b"[]," * 20_000 + b"[]]"),
}

LARGE: dict[str, bytes] = {
    "brackets": b"[" * LARGEST,
    "closing brackets": b"]" * LARGEST,
    "objects": b'{"":' * (LARGEST // 4),
    "commas": b"," * LARGEST,
    "colons": b":" * LARGEST,
    "quotes": b'"' * LARGEST,
    "backslashes": b"\\" * LARGEST,
    "escaped quotes": saying(b'\\"' * (LARGEST // 2 - 64)),
    "one key": b"{" + b'"a":0,' * (LARGEST // 6 - 1) + b"}",
    "one long key": b'{"' + b"a" * (LARGEST - 8) + b'":0}',
    "digits": b"9" * LARGEST,
    "blanks": b" " * LARGEST,
    "blanks inside": saying(b"") + b" " * (LARGEST - 64),
    "zeros": bytes(LARGEST),
    "8 bits": b"\xff" * LARGEST,
    "a string over 4 MiB": saying(b"a" * (LARGEST - 64)),
    "escapes": saying(b"\\n" * (LARGEST // 2 - 64)),
    "lone surrogates": saying(b"\\ud800" * 80_000 + b"a" * 3 * MEBI),
}
"""8 MiB each, but for the last."""

BODIES: dict[str, Case] = (
    ENCODED
    | {name: Case(sent(body), 400) for name, body in BROKEN.items()}
    | {f"8 MiB: {name}": Case(sent(body), 400) for name, body in LARGE.items()}
    | {
        "over 8 MiB": Case(sent(b" " * (LARGEST + 1)), 413),
        "an unknown model's name": Case(sent(chat(C.decode(), model=C.decode())), 404),
        "for Anthropic's API, broken": Case(sent(BODY[:-1], MESSAGES), 400),
        "for Anthropic's API, of another": Case(sent(BODY, MESSAGES), 400),
        "for the responses API, of another": Case(sent(BODY, b"POST /v1/responses HTTP/1.1"), 400),
        "an escaped surrogate pair": Case(sent(saying(rb"tokens=1 \ud83d\ude00")), 200, reached=1),
        "NUL, escaped": Case(sent(saying(rb"tokens=1 \u0000")), 200, reached=1),
        "-0": Case(sent(extra(b'"temperature":-0')), 200, reached=1),
        "1e-400": Case(sent(extra(b'"temperature":1e-400')), 200, reached=1),
        "32 levels in what is dropped": Case(
            sent(extra(b'"metadata":' + b"[" * 31 + b"]" * 31)), 200, reached=1
        ),
    }
)
