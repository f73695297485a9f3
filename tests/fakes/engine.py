"""A scripted engine on a unix socket: what the gateway sees of vLLM, byte for byte where a test wants it so.

`ScriptedEngine` answers each request with a script; `Transport` stands in for a connection's socket where a test
decides itself which bytes arrive when.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ndate: Mon, 23 Nov 2026 22:32:11 GMT\r\nserver: uvicorn\r\n"
    b"content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)
DONE = b"data: [DONE]\n\n"
END = b"0\r\n\r\n"
PROMPT_TOKENS = 7
"""What this engine counts for any prompt."""


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def whole(body: bytes, status: int = 200) -> bytes:
    return b"HTTP/1.1 %d X\r\nserver: uvicorn\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)


def usage(completion: int) -> bytes:
    total = PROMPT_TOKENS + completion
    return b'{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d}' % (
        PROMPT_TOKENS,
        total,
        completion,
    )


def event(text: str, tokens: int, *, with_usage: bool = True) -> bytes:
    """A streamed event in vLLM's shape, with its running usage or, as a caller that didn't ask sees it, without."""
    choice = (
        b'{"index":0,"delta":{"content":%b},"logprobs":null,"finish_reason":null}' % json.dumps(text).encode()
    )
    running = b',"usage":' + usage(tokens) if with_usage else b""
    return b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[%b]%b}\n\n' % (
        choice,
        running,
    )


def last_event(tokens: int) -> bytes:
    """The event that closes a stream with its final usage."""
    return b'data: {"id":"chatcmpl-1","choices":[],"usage":%b,"system_fingerprint":"v"}\n\n' % usage(tokens)


def answer(text: str, tokens: int) -> bytes:
    """The body of an answer that is not streamed."""
    message = b'{"role":"assistant","content":%b}' % json.dumps(text).encode()
    return b'{"id":"chatcmpl-1","choices":[{"index":0,"message":%b}],"usage":%b,"metrics":null}' % (
        message,
        usage(tokens),
    )


def stream(texts: list[str]) -> bytes:
    """A whole streamed answer on the wire, one token an event."""
    events = [event(text, tokens) for tokens, text in enumerate(texts, 1)]
    return STREAM_HEAD + b"".join(map(chunk, [*events, last_event(len(texts)), DONE])) + END


@dataclass
class Exchange:
    """One request at the engine, and the means to answer it."""

    path: str
    head: bytes
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    connection: int
    """Number of the connection it came on, from 0."""

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)

    @property
    def prompt(self) -> str:
        return self.json["messages"][-1]["content"] if "messages" in self.json else self.json["prompt"]

    async def send(self, *pieces: bytes) -> None:
        """Write pieces, each as its own, and wait while the gateway reads too slowly."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def gone(self) -> None:
        """Wait until the gateway hangs up."""
        with contextlib.suppress(ConnectionError):
            await self.reader.read()

    def die(self) -> None:
        self.writer.transport.abort()


Script = Callable[[Exchange], Awaitable[None]]


async def by_prompt(exchange: Exchange) -> None:
    """Do as the prompt says: words `nonce=N tokens=N gap=SECONDS then=end|hang|die|error`, in any order.

    Every event and every answer carries the nonce.
    """
    orders = dict(re.findall(r"\b(\w{1,9})=(\S+)", exchange.prompt))
    nonce, tokens, gap = (
        orders.get("nonce", "none"),
        int(orders.get("tokens", 3)),
        float(orders.get("gap", 0)),
    )
    if not exchange.json.get("stream"):
        await asyncio.sleep(gap)
        await exchange.send(whole(answer(nonce, tokens)))
        return
    await exchange.send(STREAM_HEAD)
    for number in range(1, tokens + 1):
        await exchange.send(chunk(event(f"{nonce}.{number} ", number)))
        await asyncio.sleep(gap)
    await ENDINGS[orders.get("then", "end")](exchange, tokens)


async def _end(exchange: Exchange, tokens: int) -> None:
    await exchange.send(chunk(last_event(tokens)), chunk(DONE), END)


async def _hang(exchange: Exchange, tokens: int) -> None:
    await exchange.gone()


async def _die(exchange: Exchange, tokens: int) -> None:
    exchange.die()


async def _error(exchange: Exchange, tokens: int) -> None:
    words = json.dumps({"error": {"message": exchange.prompt, "type": "InternalServerError", "code": 500}})
    await exchange.send(chunk(b"data: %b\n\n" % words.encode()), chunk(DONE), END)


ENDINGS = {"end": _end, "hang": _hang, "die": _die, "error": _error}


@dataclass
class ScriptedEngine:
    """Serves a unix socket while its `async with` block runs. It is healthy all the time."""

    path: Path
    script: Script = by_prompt
    exchanges: list[Exchange] = field(default_factory=list[Exchange])
    connections: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._accept, self.path, backlog=4096)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer, self.connections))
        self.connections += 1
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split(b" ")[1].decode()
                if path == "/health":
                    writer.write(whole(b""))
                    continue
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                body = await reader.readexactly(length)
                exchange = Exchange(path, head, body, reader, writer, connection)
                self.exchanges.append(exchange)
                await self.script(exchange)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the gateway hung up
        finally:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


class Transport(asyncio.Transport):
    """A connection's socket as asyncio shows it, in the hands of a test."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.reading = True
        self.aborted = self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def pause_reading(self) -> None:
        self._must_be_open()
        self.reading = False

    def resume_reading(self) -> None:
        self._must_be_open()
        self.reading = True

    def is_closing(self) -> bool:
        return self.aborted or self.closed

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        self.closed = True

    def _must_be_open(self) -> None:
        if self.is_closing():
            raise RuntimeError("as uvloop's transports do once they are closed")
