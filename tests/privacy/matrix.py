"""Sends requests with a canary wherever a caller's words may stand, through success and every way to fail."""

from __future__ import annotations

import contextlib
import gzip
import json
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.appliance_under_test import Appliance
from tests.models import MINILM, TINY
from tests.privacy import cases
from tests.privacy.bodies import Bodies, Body
from tests.privacy.canaries import Canaries
from tests.privacy.cases import CHAT, COMPLETIONS, MESSAGES, RERANK, RESPONSES, SCORE, TOKENIZE
from tests.processes import await_true

RAW_SECONDS_MAX = 5
FULL_SECONDS_MAX = 10
ENDLESS_TIMES = 45
TOO_LARGE = 9 * 1024 * 1024
RUNNING_MAX = 4
QUEUED_MAX = 1
GUESSES_MAX = 6
"""Of the appliance that this is sent to."""
STREAMS = (CHAT, RESPONSES, MESSAGES)
SPENT = ("--tokens-per-day", "1")
SLOW = ("--requests-per-minute", "1")


@dataclass
class Matrix:
    """Sends the requests and keeps what comes back, by what was wrong with each."""

    appliance: Appliance
    canaries: Canaries
    statuses: dict[str, int] = field(default_factory=dict[str, int])
    expected: dict[str, int] = field(default_factory=dict[str, int])
    refusals: dict[str, bytes] = field(default_factory=dict[str, bytes], repr=False)
    """Headers and bodies of errors: what must not quote. Answers that succeed are the caller's own."""

    def __post_init__(self) -> None:
        self.bodies = Bodies(self.canaries.at, TINY, MINILM)
        self.origin = self.appliance.origin

    def run(self) -> None:
        with self._connections() as client:
            self._client = client
            self._successes()
            self._forced_answers()
            for builder in (
                cases.of_every_endpoint,
                cases.of_chat,
                cases.of_responses,
                cases.of_messages,
                cases.of_numbers,
                cases.of_the_engine,
            ):
                for case in builder(self.bodies):
                    self.post(case.status, case.name, case.body, case.path)
            self._bad_bodies()
            self._bad_heads()
            self._out_of_bounds()
            self._full()
            self._banned()
        self._bad_http()
        self._half_a_body()

    def headers(self, **more: str) -> dict[str, str]:
        at = self.canaries.at
        return {
            "Authorization": f"Bearer {self.appliance.key}",
            "Content-Type": "application/json",
            "X-Request-Id": at("request id"),
            "X-Note": at("header value"),
            f"X-{at('header name')}": "1",
            "User-Agent": at("user agent"),
            "Cookie": f"session={at('cookie')}",
            "Traceparent": f"00-{at('traceparent')}-b7ad6b7169203331-01",
            "Referer": f"https://none.invalid/{at('referer')}",
            "Idempotency-Key": at("idempotency key"),
            "Anthropic-Version": at("anthropic version"),
            "Anthropic-Beta": at("anthropic beta"),
            "OpenAI-Organization": at("organization"),
            "X-Stainless-Lang": at("stainless"),
        } | {name.replace("_", "-"): value for name, value in more.items()}

    def post(
        self, status: int, case: str, body: Body | bytes, path: str = CHAT, **headers: str
    ) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = self._client.post(path, content=content, headers=self.headers(**headers))
        return self._kept(status, case, answer)

    def _kept(self, status: int, case: str, response: httpx.Response) -> httpx.Response:
        assert case not in self.statuses
        self.expected[case] = status
        self.statuses[case] = response.status_code
        if response.is_error:
            self.refusals[case] = b"%r\n%b" % (response.headers.raw, response.content)
        return response

    def _successes(self) -> None:
        for path, body in cases.good(self.bodies).items():
            self._answered(self.post(200, f"good {path}", body, path))
        self.post(200, "tokens of a chat", self.bodies.tokenize_chat(), TOKENIZE)
        self.post(200, "echo", self.bodies.completion(echo=True), COMPLETIONS)
        queries = {
            "queries": [self.canaries.at("query of a pair")],
            "documents": self.canaries.at("other of it"),
        }
        self.post(200, "pairs", {"model": MINILM, **queries}, SCORE)
        beta = f"{MESSAGES}?beta=true"
        self._answered(self.post(200, "good beta", self.bodies.message(), beta))
        key = self.appliance.key
        plain = {
            name: value for name, value in self.headers(x_api_key=key).items() if name != "Authorization"
        }
        answer = self._client.post(MESSAGES, json=self.bodies.message(stream=True), headers=plain)
        self._answered(self._kept(200, "message stream", answer))
        self._answered(self.post(200, "chat stream", self.bodies.chat(stream=True)))
        self._answered(self.post(200, "completion stream", self.bodies.completion(stream=True), COMPLETIONS))
        self._answered(self.post(200, "response stream", self.bodies.response(stream=True), RESPONSES))

    def _forced_answers(self) -> None:
        """Answers that hold a canary for certain, and a call of a tool that the engine's parser chokes on."""
        for path, stream in [(path, stream) for path in STREAMS for stream in (False, True)]:
            forced = self._forced(path, f"forced {path} {stream}", stream=stream)
            answer = self.post(200, f"forced {path} {stream}", forced, path)
            assert self.canaries.at(f"forced {path} {stream}") in "".join(texts_of(answer))
        broken = f'<tool_call>\n{{"name": "{self.canaries.at("broken call")}", oops\n</tool_call>'
        for stream in (False, True):
            choice = {"tool_choice": "auto", "structured_outputs": {"choice": [broken]}, "max_tokens": 200}
            body = self.bodies.chat(stream=stream, stop=None, **choice)
            self.post(200, f"broken call of a tool {stream}", body)
        called = self.bodies.chat(tool_choice="required", parallel_tool_calls=False, max_tokens=400)
        answer = self.post(200, "call of a tool", called)
        assert self.canaries.at("tool name") in answer.text

    def _forced(self, path: str, what: str, times: int = 1, **fields: Any) -> Body:
        """A body that can only be answered with this canary."""
        schema = {"const": self.canaries.at(what) * times}
        form = {"name": "form", "schema": schema, "strict": True}
        limit = {"max_tokens": 64 + 32 * times}
        bodies = self.bodies
        match path:
            case "/v1/responses":
                return bodies.response(
                    text={"format": {"type": "json_schema", **form}},
                    max_output_tokens=limit["max_tokens"],
                    **fields,
                )
            case "/v1/messages":
                config = {"format": {"type": "json_schema", "schema": schema}}
                return bodies.message(output_config=config, **limit, **fields)
            case _:
                form = {"type": "json_schema", "json_schema": form}
                return bodies.chat(response_format=form, **limit, **fields)

    def _endless(self, path: str, what: str, **fields: Any) -> Body:
        """A short body with an answer that takes seconds: this canary, over and over."""
        messages = [{"role": "user", "content": self.canaries.at(what)}]
        said = {"input": self.canaries.at(what)} if path == RESPONSES else {"messages": messages}
        return self._forced(path, what, ENDLESS_TIMES, tools=None, tool_choice=None, **said, **fields)

    def _answered(self, response: httpx.Response) -> None:
        self.canaries.answered("".join(texts_of(response)))

    def _bad_bodies(self) -> None:
        at, bodies = self.canaries.at, self.bodies
        self.post(400, "no JSON", f"{at('no JSON')}: {at('no JSON either')}".encode())
        broken = (
            json.dumps(bodies.completion(prompt=at("not UTF-8") + "?")).encode().replace(b"?", b"\xff\xfe")
        )
        self.post(400, "not UTF-8", broken, COMPLETIONS)
        self.post(400, "lone surrogate", json.dumps(bodies.chat(user=at("surrogate") + "\ud800")).encode())
        self.post(400, "deep JSON", (at("deep JSON").join(['{"a":'] * 3) + "[" * 5000).encode())
        twice = json.dumps(bodies.chat())[:-1] + f', "user": "{at("second user")}"}}'
        self.post(400, "key given twice", twice.encode())
        packed = gzip.compress(json.dumps(bodies.chat(user=at("packed"))).encode())
        self.post(415, "packed body", packed, Content_Encoding="gzip")
        self.post(413, "large body", json.dumps({at("large body"): "." * TOO_LARGE}).encode())
        form = f'--x\r\nContent-Disposition: form-data; name="f"; filename="{at("file name")}"\r\n\r\n'
        content = (form + at("form") * 60_000 + "\r\n--x--\r\n").encode()
        self.post(415, "form", content, Content_Type="multipart/form-data; boundary=x")
        self.post(415, "plain text", at("plain text").encode(), Content_Type=f"text/{at('content type')}")

        def trickle() -> Iterator[bytes]:
            yield from (at("large chunk").encode() * 4096 for _ in range(TOO_LARGE // 4096 // 32))

        large = self._client.post(CHAT, content=trickle(), headers=self.headers())
        self._kept(413, "large body in chunks", large)

    def _bad_heads(self) -> None:
        at, chat = self.canaries.at, self.bodies.chat()
        self.post(404, "unknown path", chat, f"/v1/{at('path')}")
        self.post(404, "path that is no UTF-8", chat, f"/v1/%ff%fe{at('odd path')}")
        for status, case, method, path in (
            (405, "other method", "PUT", CHAT),
            (200, "query of a list", "GET", f"/v1/models?{at('query of a list')}=1"),
            (404, "unknown model of a list", "GET", f"/v1/models/{at('model of a list')}"),
            (404, "stored response", "GET", f"{RESPONSES}/{at('stored response')}"),
            (404, "unknown list", "GET", f"/{at('unknown list')}"),
            (404, "metrics", "GET", f"/metrics?{at('metrics')}"),
            (404, "bans", "DELETE", f"/bans/{at('banned source')}"),
        ):
            self._kept(status, case, self._client.request(method, path, headers=self.headers()))

    def _out_of_bounds(self) -> None:
        """What the schema lets pass and the caller's key does not: scope, budget and rate, on every endpoint."""
        narrow = self._limited((), "--endpoint", "rerank")
        spent, slow = self._limited(SPENT), self._limited(SLOW)
        self.post(200, "all of a rate", self.bodies.tokenize(), TOKENIZE, Authorization=f"Bearer {slow}")
        for path, body in cases.good(self.bodies).items():
            scoped = 200 if path == RERANK else 403
            self.post(scoped, f"no scope for {path}", body, path, Authorization=f"Bearer {narrow}")
            self.post(429, f"spent budget for {path}", body, path, Authorization=f"Bearer {spent}")
            self.post(429, f"reached rate for {path}", body, path, Authorization=f"Bearer {slow}")

    def _limited(self, limits: tuple[str, ...], *scope: str) -> str:
        """The key of an account that has these limits."""
        account = f"limited-{secrets.token_hex(4)}"
        self.appliance.asked("accounts", "create", account)
        if limits:
            self.appliance.asked("limits", "set", "account", account, *limits)
        return self.appliance.new_key(account, *scope)["key"]

    def _full(self) -> None:
        """As many requests as the engine takes, one that waits, and some that find no room any more."""
        with contextlib.ExitStack() as requests:
            for number in range(RUNNING_MAX + QUEUED_MAX):
                requests.enter_context(self._sent(self._endless(CHAT, f"running {number}")))
            await_true(self._is_full, FULL_SECONDS_MAX, "one waits")
            for path in STREAMS:
                self.post(503, f"full queue of {path}", cases.good(self.bodies)[path], path)

    def _is_full(self) -> bool:
        return self.appliance.gateway_counts().get("requests_waiting") == QUEUED_MAX

    @contextlib.contextmanager
    def _sent(self, fields: Body) -> Iterator[None]:
        """A chat whose answer is not waited for. Its caller hangs up in the end."""
        body = json.dumps(fields)
        head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.appliance.key}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        with self._connected() as connection:
            connection.sendall(f"{head}{body}".encode())
            yield

    def _banned(self) -> None:
        """Keys that are wrong in every way, until nobody from here is let in any more."""
        at, chat, message = self.canaries.at, self.bodies.chat(), self.bodies.message()
        shape = f"ifk_live_{at('key')}{at('rest of key')}"[:59]
        self.post(401, "two keys", chat, x_api_key=at("second key"))
        self.post(401, "no key of ours", chat, Authorization=f"Bearer {at('bearer')}")
        self.post(401, "shape of a key", chat, Authorization=f"Bearer {shape}")
        self.post(401, "other scheme", chat, Authorization=f"Basic {at('basic')}")
        self.post(401, "no scheme", message, MESSAGES, Authorization=at("no scheme"))
        self.post(401, "the last wrong key", message, MESSAGES, Authorization=f"Bearer {at('last key')}")
        for path, body in cases.good(self.bodies).items():
            self.post(429, f"banned from {path}", body, path)
        bans = self.appliance.asked("bans", "list")
        assert self.appliance.cli("bans", "lift", bans[0]["source"]).returncode == 0

    def _bad_http(self) -> None:
        """What no client library would send."""
        at = self.canaries.at
        host = "Host: x\r\n"
        for case, request in {
            "no HTTP": f"{at('no HTTP')}\r\n\r\n".encode(),
            "odd bytes": f"GET /{at('odd target')} HTTP/1.1\r\n{host}X: ".encode() + b"\xff\xfe\x01\r\n\r\n",
            "huge header": f"GET / HTTP/1.1\r\n{host}X: {at('huge header') * 4000}\r\n\r\n".encode(),
            "upgrade": f"GET /v1/models?{at('upgrade')} HTTP/1.1\r\n{host}Connection: Upgrade\r\n"
            f"Upgrade: websocket\r\nSec-WebSocket-Key: {at('websocket')}\r\n\r\n".encode(),
        }.items():
            self.refusals[case] = self.raw(request)

    def _half_a_body(self) -> None:
        head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.appliance.key}\r\n"
        head += (
            f"Content-Type: application/json\r\nContent-Length: 9999\r\n\r\n{self.canaries.at('half a body')}"
        )
        with self._connected() as connection:
            connection.sendall(head.encode())

    def raw(self, request: bytes) -> bytes:
        """What comes back until the gateway closes or falls silent."""
        received = bytearray()
        with self._connected() as connection, contextlib.suppress(OSError):
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                received += piece
        return bytes(received)

    def _connections(self) -> httpx.Client:
        return httpx.Client(base_url=self.origin, timeout=60, trust_env=False)

    def _connected(self) -> socket.socket:
        host, _, port = self.origin.removeprefix("http://").partition(":")
        return socket.create_connection((host, int(port)), RAW_SECONDS_MAX)

    @contextlib.contextmanager
    def open_stream(self, what: str, path: str = CHAT) -> Iterator[Iterator[str]]:
        """A long answer on its way. Left early, it is a hang-up."""
        body = self._endless(path, what, stream=True)
        with (
            self._connections() as client,
            client.stream("POST", path, json=body, headers=self.headers()) as response,
        ):
            lines = _lines(response)
            begun = "".join(text for _, text in zip(range(30), _texts(lines), strict=False))
            assert begun
            yield lines


def texts_of(response: httpx.Response) -> Iterator[str]:
    """The words of an answer, however it came."""
    if response.headers["content-type"] == "application/json":
        yield from _words(response.json())
    else:
        yield from _texts(iter(response.text.split("\n")))


def _lines(response: httpx.Response) -> Iterator[str]:
    """Ended by line feeds alone: httpx also cuts at characters that a model may write, as U+0085 and U+2028."""
    rest = b""
    for piece in response.iter_bytes():
        *lines, rest = (rest + piece).split(b"\n")
        yield from (line.decode() for line in lines)
    yield rest.decode()


def _texts(lines: Iterator[str]) -> Iterator[str]:
    """The pieces of an answer that comes in events."""
    for line in lines:
        if line.startswith("data: {"):
            yield from _words(json.loads(line.removeprefix("data: ")))


def _words(said: Any) -> Iterator[str]:
    """What a model says in an answer or an event of one of the three protocols."""
    for choice in said.get("choices", ()):
        words = choice.get("message") or choice.get("delta") or choice
        yield words.get("text") or words.get("content") or ""
    for item in said.get("output", ()):
        yield from (part["text"] for part in item.get("content", ()))
    for block in said.get("content", ()):
        yield block.get("text", "")
    delta = said.get("delta", "")
    yield delta if isinstance(delta, str) else delta.get("text", "")
