"""Bodies within every limit that take the most work: to cut, to read, to check and to write."""

from __future__ import annotations

from itertools import repeat

from tests.hostile.bodies import LARGEST, MEBI

CHAT = "/v1/chat/completions"
_HINDI = "क".encode()
_SMILE = "😀".encode()


def listed(count: int, json: bytes) -> bytes:
    return b",".join(repeat(json, count))


def chat(*contents: bytes, more: bytes = b"") -> bytes:
    """Users' words, as they stand between the quotes."""
    said = b",".join(b'{"role":"user","content":"%b"}' % content for content in contents)
    return b'{"model":"m","messages":[%b]%b}' % (said, more)


def full(piece: bytes, ahead: bytes = b"") -> bytes:
    """A chat of 8 MiB in two texts out of such pieces."""
    text = ahead + piece * ((4 * MEBI - 128 - len(ahead)) // len(piece))
    return chat(text, text)


def asking(field: str, json: bytes) -> bytes:
    return chat(b"x", more=b',"%b":%b' % (field.encode(), json))


def schema(json: bytes) -> bytes:
    return b'{"type":"json_schema","json_schema":{"name":"n","schema":{"a":%b}}}' % json


def tools(json: bytes) -> bytes:
    return b"[%b]" % listed(64, b'{"type":"function","function":{"name":"f","parameters":{"a":%b}}}' % json)


CHATS: dict[str, bytes] = {
    "plain text": full(b"a"),
    "two bytes a character": full("é".encode()),
    "three bytes a character": full(_HINDI),
    "four bytes a character": full(_SMILE),
    "one wide character": full(b"a", ahead=_SMILE),
    "line ends": full(b"a" * 15 + b"\\n"),
    "escaped characters": chat(b"\\u0915" * 240_000, b"\\u0915" * 240_000),
    "escaped controls": chat(b"\\u0001" * 240_000, b"\\u0001" * 240_000),
    "escaped quotes": chat(b'\\"' * 390_000),
    "escaped quotes among others": full(b'\\"' + b"a" * 598),
    "messages": chat(*repeat(b"", 4990)),
    "messages of 8 MiB": chat(*repeat(_HINDI * 530, 4990)),
    "parts": b'{"model":"m","messages":[{"role":"user","content":[%b]}]}'
    % listed(4980, b'{"type":"text","text":""}'),
    "numbers in a schema": asking("response_format", schema(b"[%b]" % listed(98_000, b"1.5"))),
    "keys in a schema": asking(
        "response_format", schema(b"{%b}" % b",".join(b'"%d":1' % at for at in range(19_900)))
    ),
    "tools": asking("tools", tools(b"[%b]" % listed(1500, b"1.5"))),
    "tools of 64 KiB": asking("tools", tools(b'"%b"' % (b"\\n" * 3600 + b"a" * 56_000))),
    "numbers that are dropped": asking("metadata", b"[%b]" % listed(74_000, b"1.2345678901")),
    "lists that are dropped": asking("metadata", b"[%b]" % listed(790, b"[" * 25 + b"]" * 25)),
    "pictures": b'{"model":"m","messages":[{"role":"user","content":[%b]}]}'
    % listed(
        2,
        b'{"type":"image_url","image_url":{"url":"data:image/png;base64,%b"}}' % (b"A" * (4 * MEBI - 256)),
    ),
}

OTHERS: dict[str, tuple[str, bytes]] = {
    "tokens": ("/v1/completions", b'{"model":"m","prompt":[%b]}' % listed(98_000, b"1234567")),
    "items": (
        "/v1/responses",
        b'{"model":"m","input":[%b]}' % listed(4980, b'{"role":"user","content":""}'),
    ),
    "thoughts": ("/v1/responses", b'{"model":"m","input":[%b]}' % listed(9900, b'{"type":"reasoning"}')),
    "items of 8 MiB": (
        "/v1/responses",
        b'{"model":"m","input":[%b]}'
        % listed(2, b'{"role":"user","content":"%b"}' % (_HINDI * (4 * MEBI // 3 - 128))),
    ),
    "blocks": (
        "/v1/messages",
        b'{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[%b]}]}'
        % listed(4980, b'{"type":"tool_result","tool_use_id":"a"}'),
    ),
    "a tool's arguments": (
        "/v1/messages",
        b'{"model":"m","max_tokens":1,"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"a",'
        b'"name":"f","input":{"a":[%b],"b":"%b"}}]},{"role":"user","content":""}]}'
        % (listed(98_000, b"1.5"), b"\\n" * 240_000),
    ),
    "turns": (
        "/v1/messages/count_tokens",
        b'{"model":"m","messages":[%b]}' % listed(4980, b'{"role":"user","content":""}'),
    ),
    "a text of tokens": ("/tokenize", b'{"model":"m","prompt":"%b"}' % (_HINDI * (4 * MEBI // 3 - 128))),
    "texts": (
        "/v1/embeddings",
        b'{"model":"p","input":[%b]}' % listed(2040, b'"%b"' % (_HINDI * 1300)),
    ),
    "documents": (
        "/v1/rerank",
        b'{"model":"p","query":"x","documents":[%b]}' % listed(2040, b'"%b"' % (_HINDI * 1300)),
    ),
    "pairs": (
        "/v1/score",
        b'{"model":"p","text_1":"%b","text_2":"%b"}' % ((_HINDI * (4 * MEBI // 3 - 128),) * 2),
    ),
}

COSTLY = {name: (CHAT, body) for name, body in CHATS.items()} | OTHERS
assert max(len(body) for _, body in COSTLY.values()) <= LARGEST
