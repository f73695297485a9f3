"""An application at the other end of the gateway's ASGI server: it sends one request and may read slowly."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from appliance.gateway.asgi import Message, Scope


@dataclass
class Caller:
    """`receive` and `send` as uvicorn gives them to an application."""

    body: bytes = b""
    pieces: list[bytes] = field(default_factory=list[bytes])
    """The body in pieces instead, each in a message of its own; the last one never ends if `endless`."""
    endless: bool = False
    sent: list[Message] = field(default_factory=list[Message])

    def __post_init__(self) -> None:
        self._arriving = list(self.pieces) or [self.body]
        self._reads = asyncio.Event()
        self._reads.set()
        self._over = asyncio.Event()

    @property
    def status(self) -> int:
        return self.sent[0]["status"]

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def received(self) -> bytes:
        """The body of the answer so far."""
        return b"".join(message["body"] for message in self.sent[1:])

    @property
    def whole(self) -> bool:
        return bool(self.sent) and self.sent[-1].get("more_body") is False

    def body_is_read(self) -> None:
        """What comes next is its hanging up."""
        self._arriving.clear()

    def stop_reading(self) -> None:
        self._reads.clear()

    def read_on(self) -> None:
        self._reads.set()

    def hang_up(self) -> None:
        self._over.set()
        self._reads.set()

    async def receive(self) -> Message:
        if self._arriving:
            body = self._arriving.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(self._arriving) or self.endless}
        await self._over.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if not self._reads.is_set():
            await self._reads.wait()
        if self._over.is_set():
            return
        self.sent.append(message)
        if message["type"] == "http.response.body" and not message["more_body"]:
            self._over.set()


def scope(path: str = "/v1/chat/completions", *, method: str = "POST", **headers: str) -> Scope:
    """A request's head. Header names are written with underscores; `content_type` is JSON unless said otherwise."""
    named: dict[str, Any] = {"content_type": "application/json"} | headers
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [
            (name.replace("_", "-").encode(), value.encode()) for name, value in named.items() if value
        ],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8080),
        "state": {},
    }
