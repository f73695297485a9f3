"""Requests with a canary wherever a caller's words may stand, through success and every way to fail."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.appliance_under_test import Appliance
from tests.privacy.canaries import Canaries

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
RAW_SECONDS_MAX = 5
TOO_LARGE = 9 * 1024 * 1024


@dataclass
class Matrix:
    """Sends the requests and keeps what comes back, by what was wrong with each."""

    appliance: Appliance
    canaries: Canaries
    statuses: dict[str, int] = field(default_factory=dict[str, int])
    refusals: dict[str, bytes] = field(default_factory=dict[str, bytes], repr=False)
    """Headers and bodies of errors: what must not quote. Answers that succeed are the caller's own."""

    def __post_init__(self) -> None:
        self.model = self.appliance.model
        self.origin = self.appliance.base_url.removesuffix("/v1")

    def run(self) -> None:
        with httpx.Client(base_url=self.origin, timeout=60, trust_env=False) as client:
            self._client = client
            self._successes()
            self._bad_fields()
            self._bad_bodies()
            self._bad_heads()
            self._what_only_the_engine_refuses()
        self._bad_http()
        self._half_a_body()

    def chat(self, **fields: Any) -> dict[str, Any]:
        """A request with a canary in every field that takes a caller's words."""
        at = self.canaries.at
        schema = {
            "type": "object",
            "description": at("schema description"),
            "properties": {at("schema key"): {"type": "string", "enum": [at("schema value")]}},
        }
        function = {"name": at("tool name"), "description": at("tool description"), "parameters": schema}
        call = {"name": at("called tool"), "arguments": json.dumps({at("argument"): at("argument value")})}
        return {
            "model": self.model,
            "messages": [
                {"role": "system", "content": at("system message"), "name": at("speaker")},
                {"role": "user", "content": [{"type": "text", "text": at("part of a message")}]},
                {
                    "role": "assistant",
                    "content": at("assistant message"),
                    "tool_calls": [{"id": at("call id"), "type": "function", "function": call}],
                },
                {"role": "tool", "tool_call_id": at("call id"), "content": at("tool result")},
                {"role": "user", "content": at("user message")},
            ],
            "tools": [{"type": "function", "function": function}],
            "tool_choice": "none",
            "stop": [at("stop string"), at("another stop string")],
            "user": at("user"),
            "metadata": {at("metadata key"): at("metadata value")},
            "safety_identifier": at("safety identifier"),
            "prompt_cache_key": at("prompt cache key"),
            "max_tokens": 48,
            "temperature": 1,
        } | fields

    def completion(self, **fields: Any) -> dict[str, Any]:
        at = self.canaries.at
        return {"model": self.model, "prompt": at("prompt"), "stop": at("stop"), "max_tokens": 48} | fields

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
        } | {name.replace("_", "-"): value for name, value in more.items()}

    def post(self, case: str, body: Any, path: str = CHAT, **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self._kept(
            case, self._client.request("POST", path, content=content, headers=self.headers(**headers))
        )

    def _kept(self, case: str, response: httpx.Response) -> httpx.Response:
        assert case not in self.statuses
        self.statuses[case] = response.status_code
        if response.is_error:
            self.refusals[case] = b"%r\n%b" % (response.headers.raw, response.content)
        return response

    def _successes(self) -> None:
        answer = self.post("chat", self.chat(ignore_eos=True)).json()
        self.canaries.answered(answer["choices"][0]["message"]["content"])
        answer = self.post("completion", self.completion(ignore_eos=True), COMPLETIONS).json()
        self.canaries.answered(answer["choices"][0]["text"])
        self.post("echo", self.completion(echo=True), COMPLETIONS)
        self.canaries.answered("".join(streamed(self.post("chat stream", self.chat(stream=True)))))
        stream = self.post("completion stream", self.completion(stream=True, ignore_eos=True), COMPLETIONS)
        self.canaries.answered("".join(streamed(stream)))
        form = {"name": "form", "schema": {"const": self.canaries.at("forced answer")}, "strict": True}
        answer = self.post("forced", self.chat(response_format={"type": "json_schema", "json_schema": form}))
        assert self.canaries.at("forced answer") in answer.text, "the answer holds a canary for certain"

    def _bad_fields(self) -> None:
        at = self.canaries.at
        bad: dict[str, dict[str, Any]] = {
            "text for a number": {"temperature": at("temperature")},
            "text for a list": {"messages": at("messages")},
            "text for an object": {"stream_options": at("stream options")},
            "unknown field": {at("field"): at("field value")},
            "unknown field inside": {"messages": [{"role": "user", "content": "", at("inner field"): 1}]},
            "unknown role": {"messages": [{"role": at("role"), "content": ""}]},
            "unknown tool choice": {"tool_choice": at("tool choice")},
            "unknown format": {"response_format": {"type": at("format")}},
            "unknown kind of tool": {"tools": [{"type": at("kind of tool"), at("tool field"): {}}]},
            "stop string too long": {"stop": at("long stop") * 4},
            "bias for a word": {"logit_bias": {at("bias"): 1}},
            "image": {
                "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": at("image")}]}]
            },
            "cache salt": {"cache_salt": at("cache salt")},
            "unknown model": {"model": at("model")},
        }
        for case, fields in bad.items():
            self.post(case, self.chat(**fields))

    def _bad_bodies(self) -> None:
        at = self.canaries.at
        self.post("half a JSON text", json.dumps(self.chat(user=at("cut JSON")))[:-20].encode())
        self.post("no JSON", f"{at('no JSON')}: {at('no JSON either')}".encode())
        broken = json.dumps(self.completion(prompt=at("not UTF-8") + "?")).encode().replace(b"?", b"\xff\xfe")
        self.post("not UTF-8", broken, COMPLETIONS)
        self.post("lone surrogate", json.dumps(self.chat(user=at("surrogate") + "\ud800")).encode())
        self.post("deep JSON", (at("deep JSON").join(['{"a":'] * 3) + "[" * 5000).encode())
        packed = gzip.compress(json.dumps(self.chat(user=at("packed"))).encode())
        self.post("packed body", packed, Content_Encoding="gzip")
        self.post("large body", json.dumps({at("large body"): "." * TOO_LARGE}).encode())
        form = f'--x\r\nContent-Disposition: form-data; name="f"; filename="{at("file name")}"\r\n\r\n'
        content = (form + at("form") * 60_000 + "\r\n--x--\r\n").encode()
        self.post("form", content, Content_Type="multipart/form-data; boundary=x")
        self.post("plain text", at("plain text").encode(), Content_Type=f"text/{at('content type')}")

        def trickle() -> Iterator[bytes]:
            yield from (at("large chunk").encode() * 4096 for _ in range(TOO_LARGE // 4096 // 32))

        large = self._client.post(CHAT, content=trickle(), headers=self.headers())
        self._kept("large body in chunks", large)

    def _bad_heads(self) -> None:
        at = self.canaries.at
        shape = f"ifk_live_{at('key')}{at('rest of key')}"[:59]
        for case, value in {
            "no key of ours": f"Bearer {at('bearer')}",
            "shape of a key": f"Bearer {shape}",
            "other scheme": f"Basic {at('basic')}",
        }.items():
            self.post(case, self.chat(), Authorization=value)
        self.post("query", self.chat(), f"{CHAT}?{at('query')}={at('query value')}")
        self.post("unknown path", self.chat(), f"/v1/{at('path')}")
        self.post("path below", self.chat(), f"{CHAT}/{at('path below')}")
        self.post("path that is no UTF-8", self.chat(), f"/v1/%ff%fe{at('odd path')}")
        for case, method, path in (
            ("other method", "PUT", CHAT),
            ("query of a list", "GET", f"/v1/models?{at('query of a list')}=1"),
            ("unknown list", "GET", f"/{at('unknown list')}"),
            ("metrics", "GET", f"/metrics?{at('metrics')}"),
        ):
            self._kept(case, self._client.request(method, path, headers=self.headers()))

    def _what_only_the_engine_refuses(self) -> None:
        """These pass the gateway's schema: vLLM's own words about them quote the request."""
        at = self.canaries.at
        message = {"role": "user", "content": at("long prompt") * 300}
        self.post("prompt too long", self.chat(messages=[message]))
        self.post("completion too long", self.completion(prompt=at("long completion") * 300), COMPLETIONS)
        message = {"role": "assistant", "content": at("refused by the template")}
        self.post("template refuses", self.chat(messages=[message]))
        call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": at("broken arguments")}}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        self.post("broken arguments", self.chat(messages=[message, {"role": "user", "content": ""}]))
        self.post("tools without a parser", self.chat(tool_choice="auto"))
        for case, schema in {
            "bad pattern": {"type": "string", "pattern": f"({at('pattern')}[("},
            "bad kind": {"type": at("kind")},
            "bad reference": {"$ref": f"#/{at('reference')}"},
        }.items():
            form = {"name": at("form name"), "description": at("form description"), "schema": schema}
            self.post(case, self.chat(response_format={"type": "json_schema", "json_schema": form}))
        self.post("token of another model", self.chat(logit_bias={"9999999": 1}))
        self.post("at least more than at most", self.chat(min_tokens=400, max_tokens=2))
        missing = {"type": "function", "function": {"name": at("missing tool")}}
        self.post("missing tool", self.chat(tool_choice=missing))

    def _bad_http(self) -> None:
        """What no client library would send."""
        at = self.canaries.at
        host = "Host: x\r\n"
        for case, request in {
            "no HTTP": f"{at('no HTTP')}\r\n\r\n".encode(),
            "other protocol": f"GET /{at('other protocol')} SMTP/1.1\r\n{host}\r\n".encode(),
            "broken header": f"GET / HTTP/1.1\r\n{host}X Y{at('broken header')}\r\n\r\n".encode(),
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

    def _connected(self) -> socket.socket:
        host, _, port = self.origin.removeprefix("http://").partition(":")
        return socket.create_connection((host, int(port)), RAW_SECONDS_MAX)

    @contextlib.contextmanager
    def open_stream(self, what: str) -> Iterator[Iterator[str]]:
        """A long answer on its way. Left early, it is a hang-up."""
        message = {"role": "user", "content": self.canaries.at(what)}
        body = self.chat(messages=[message], stream=True, ignore_eos=True, max_tokens=400)
        with (
            httpx.Client(base_url=self.origin, timeout=60, trust_env=False) as client,
            client.stream("POST", CHAT, json=body, headers=self.headers()) as response,
        ):
            lines = response.iter_lines()
            begun = "".join(text for _, text in zip(range(30), _texts(lines), strict=False))
            self.canaries.answered(begun)
            yield lines


def streamed(response: httpx.Response) -> Iterator[str]:
    """The pieces of an answer that came as server-sent events."""
    return _texts(iter(response.text.splitlines()))


def _texts(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        if line.startswith("data: {"):
            for choice in json.loads(line.removeprefix("data: ")).get("choices", ()):
                yield choice.get("text") or choice.get("delta", {}).get("content") or ""
