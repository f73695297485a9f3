"""A scripted engine: answers chat requests in the very shapes of vLLM 0.32, at a set pace.

It listens on a unix socket and, for peers that know no other, on a TCP port. One engine step
passes every `step_seconds`; in each, every running stream gets one event, as continuous batching
does. Every event is one HTTP chunk and one write.

The text of event number n is `T<n>.<CLOCK_MONOTONIC in ns>`, so that the client can prove that no
event is lost, doubled or out of order, and can tell how long each was on its way. `prompt_tokens`
is the length of the prompt in characters, which proves that the prompt arrived whole.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import time
from pathlib import Path
from typing import cast

import httptools
import msgspec
import uvloop

BACKLOG = 4096
CREATED = 1795472512
FINGERPRINT = b',"system_fingerprint":"vllm-0.32.0-dd921a2e"'
HEAD = (
    b"HTTP/1.1 %b\r\ndate: Mon, 23 Nov 2026 22:32:11 GMT\r\nserver: uvicorn\r\n"
    b"content-length: %d\r\ncontent-type: application/json\r\nvary: Origin\r\n\r\n"
)
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ndate: Mon, 23 Nov 2026 22:32:11 GMT\r\nserver: uvicorn\r\n"
    b"content-type: text/event-stream; charset=utf-8\r\nvary: Origin\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
ANSWER = (
    b'{"id":"chatcmpl-%b","object":"chat.completion","created":%d,"model":"%b","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"%b","refusal":null,"annotations":null,"audio":null,'
    b'"function_call":null,"reasoning":null},"logprobs":null,"finish_reason":"length",'
    b'"stop_reason":null,"token_ids":null,"routed_experts":null}],"service_tier":null%b,'
    b'"usage":{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d,'
    b'"prompt_tokens_details":null,"completion_tokens_details":null},"prompt_logprobs":null,'
    b'"prompt_token_ids":null,"prompt_text":null,"kv_transfer_params":null,'
    b'"ec_transfer_params":null,"metrics":null}'
)
MODELS = (
    b'{"object":"list","data":[{"id":"%b","object":"model","created":%d,"owned_by":"vllm",'
    b'"root":"%b","parent":null,"max_model_len":131072,"permission":[]}]}'
)
CHUNK_HEAD = (
    b'data: {"id":"chatcmpl-%b","object":"chat.completion.chunk","created":%d,"model":"%b","choices":['
)
ROLE = (
    b'{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]%b'
    b',"prompt_token_ids":null,"prompt_text":null}\n\n'
)
TOKEN = b'{"index":0,"delta":{"content":"T%06d.%016d"},"logprobs":null,"finish_reason":%b}]%b}\n\n'
MIDDLE = b'null,"token_ids":null'
LAST = b'"length","stop_reason":null,"token_ids":null'
RUNNING_USAGE = (
    b',"usage":{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d,"completion_tokens_details":null}'
)
FINAL_USAGE = (
    b'],"usage":{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d}' + FINGERPRINT + b"}\n\n"
)


class StreamOptions(msgspec.Struct):
    include_usage: bool = False
    continuous_usage_stats: bool = False


class Message(msgspec.Struct):
    content: str = ""


class ChatRequest(msgspec.Struct):
    """The fields of a request that shape its answer."""

    messages: list[Message]
    stream: bool = False
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stream_options: StreamOptions | None = None

    @property
    def answer_tokens(self) -> int:
        """Some routers rename max_tokens to its newer name."""
        return self.max_completion_tokens or self.max_tokens or 16

    @property
    def prompt_tokens(self) -> int:
        return sum(len(message.content) for message in self.messages)


decode_request = msgspec.json.Decoder(ChatRequest).decode


def http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


END = (http_chunk(b"data: [DONE]\n\n"), b"0\r\n\r\n")


class Steps:
    """The engine's clock: one event to every running stream, each step_seconds."""

    def __init__(self, step_seconds: float) -> None:
        self.step_seconds = step_seconds
        self.running: set[Stream] = set()
        self.loop = asyncio.get_running_loop()
        self.due = 0.0

    def add(self, stream: Stream) -> None:
        if not self.running:
            self.due = self.loop.time() + self.step_seconds
            self.loop.call_at(self.due, self.step)
        self.running.add(stream)

    def step(self) -> None:
        self.running.difference_update([stream for stream in self.running if stream.advance()])
        if self.running:
            self.due = max(self.due + self.step_seconds, self.loop.time())
            self.loop.call_at(self.due, self.step)


class Stream:
    """One streamed answer on its way."""

    __slots__ = ("connection", "continuous", "head", "prompt", "sent", "total", "usage")

    def __init__(self, connection: Connection, request: ChatRequest, head: bytes) -> None:
        options = request.stream_options or StreamOptions()
        self.connection = connection
        self.head = head
        self.usage = options.include_usage
        self.continuous = options.include_usage and options.continuous_usage_stats
        self.prompt = request.prompt_tokens
        self.total = request.answer_tokens
        self.sent = 0

    def advance(self) -> bool:
        """Write the next event, unless the reader is slow. True when nothing is left to write."""
        connection = self.connection
        if connection.closed:
            return True
        if connection.paused:
            return False
        if not self.sent:
            self.write(self.head + ROLE % self.running_usage())
        self.sent += 1
        if self.sent < self.total:
            tail = self.running_usage()
            self.write(self.head + TOKEN % (self.sent, time.monotonic_ns(), MIDDLE, tail))
            return False
        tail = self.running_usage() if self.usage else FINGERPRINT
        self.write(self.head + TOKEN % (self.sent, time.monotonic_ns(), LAST, tail))
        if self.usage:
            self.write(self.head + FINAL_USAGE % (self.prompt, self.prompt + self.sent, self.sent))
        for last in END:
            connection.transport.write(last)
        return True

    def running_usage(self) -> bytes:
        if not self.continuous:
            return b""
        return RUNNING_USAGE % (self.prompt, self.prompt + self.sent, self.sent)

    def write(self, event: bytes) -> None:
        self.connection.transport.write(http_chunk(event))


class Connection(asyncio.Protocol):
    """One keep-alive connection of a gateway."""

    transport: asyncio.Transport
    parser: httptools.HttpRequestParser
    answered = 0

    def __init__(self, steps: Steps, model: bytes) -> None:
        self.steps = steps
        self.model = model
        self.closed = self.paused = False
        self.url = b""
        self.body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one by behaviour only
        self.parser = httptools.HttpRequestParser(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        self.closed = True

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.close()

    def on_url(self, url: bytes) -> None:
        self.url = url

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        body = b"".join(self.body)
        self.body.clear()
        if self.url == b"/v1/chat/completions":
            self.chat(body)
        elif self.url == b"/v1/models":
            self.reply(MODELS % (self.model, CREATED, self.model))
        elif self.url == b"/health":
            self.reply(b"")
        else:
            self.reply(b'{"detail":"Not Found"}', b"404 Not Found")

    def chat(self, body: bytes) -> None:
        try:
            request = decode_request(body)
        except msgspec.MsgspecError:
            self.reply(b'{"error":{"message":"bad request","code":400}}', b"400 Bad Request")
            return
        Connection.answered += 1
        identity = b"%016x" % Connection.answered
        if request.stream:
            self.transport.write(STREAM_HEAD)
            head = CHUNK_HEAD % (identity, CREATED, self.model)
            self.steps.add(Stream(self, request, head))
        else:
            count, prompt = request.answer_tokens, request.prompt_tokens
            counts = (prompt, prompt + count, count)
            text = b"tok " * count
            self.reply(ANSWER % (identity, CREATED, self.model, text, FINGERPRINT, *counts))

    def reply(self, body: bytes, status: bytes = b"200 OK") -> None:
        self.transport.write(HEAD % (status, len(body)) + body)


async def serve(socket: Path, port: int | None, model: str, step_seconds: float) -> None:
    """Serve until cancelled. `port` None: on the unix socket only."""
    loop = asyncio.get_running_loop()
    steps = Steps(step_seconds)

    def connection() -> Connection:
        return Connection(steps, model.encode())

    async with contextlib.AsyncExitStack() as servers:
        servers.callback(socket.unlink, missing_ok=True)
        await servers.enter_async_context(
            await loop.create_unix_server(connection, str(socket), backlog=BACKLOG)
        )
        if port is not None:
            await servers.enter_async_context(
                await loop.create_server(connection, "127.0.0.1", port, backlog=BACKLOG)
            )
        await loop.create_future()


async def until_stopped(serving: asyncio.Task[None]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await serving


async def main(options: argparse.Namespace) -> None:
    step_seconds = options.step_ms / 1000
    serving = serve(options.socket, options.port, options.model, step_seconds)
    await until_stopped(asyncio.create_task(serving))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A scripted engine.")
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--port", type=int, help="also listen on this TCP port of 127.0.0.1")
    parser.add_argument("--model", default="scripted")
    parser.add_argument("--step-ms", type=float, default=20)
    uvloop.run(main(parser.parse_args()))
