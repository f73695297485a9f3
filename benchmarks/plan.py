"""What a run of the client is asked to do, and what it gives back: JSON between processes."""

from __future__ import annotations

import ssl
from array import array

import msgspec

from benchmarks import processes

PROMPT = "Write a short story about a lighthouse keeper and the storm of the century. "


class Plan(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """What to send, how often, and what to expect."""

    host: str = "127.0.0.1"
    port: int = 0
    socket: str = ""
    """A unix socket, in place of host and port."""
    certificate: str = ""
    """PEM file of the certificate that the server has to show; empty: no TLS."""
    model: str = "scripted"
    key: str = "none"
    connections: int = 1
    requests: int = 100
    seconds_max: float = 20
    """After this long no further request is begun."""
    timeout_seconds: float = 120
    """After this long the run has failed."""
    stream: bool = False
    tokens: int = 16
    usage: bool = False
    prompt_bytes: int = 0
    status: int = 200
    timed_each: int = 1
    """Of so many events one is timed: in a run of minutes the times of all would fill the memory."""
    watch: list[int] = []
    """Processes whose CPU is taken from the first request to the last answer."""

    @property
    def tls(self) -> ssl.SSLContext | None:
        return ssl.create_default_context(cafile=self.certificate) if self.certificate else None

    @property
    def prompt(self) -> str:
        return (PROMPT * (self.prompt_bytes // len(PROMPT) + 1))[: self.prompt_bytes or None]

    @property
    def request(self) -> bytes:
        body: dict[str, object] = {
            "model": self.model,
            "messages": [{"role": "user", "content": self.prompt}],
            "max_tokens": self.tokens,
            "temperature": 0.7,
            "stream": self.stream,
        }
        if self.usage:
            body["stream_options"] = {"include_usage": True}
        content = msgspec.json.encode(body)
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n"
            "Accept: application/json\r\nContent-Type: application/json\r\n"
            f"User-Agent: OpenAI/Python 2.7.1\r\nAuthorization: Bearer {self.key}\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        return head.encode() + content


class Spread(msgspec.Struct, frozen=True):
    """How long something took, in milliseconds."""

    p50: float
    p99: float

    @classmethod
    def of(cls, nanoseconds: array[int]) -> Spread | None:
        ordered = sorted(nanoseconds)
        if not ordered:
            return None
        last = len(ordered) - 1
        return cls(*(round(ordered[round(last * part)] / 1e6, 4) for part in (0.5, 0.99)))


class Result(msgspec.Struct, frozen=True):
    """What one run gave."""

    answers: int
    events: int
    errors: int
    first_errors: list[str]
    reconnects: int
    wall_seconds: float
    client_cpu_seconds: float
    latency_ms: Spread | None
    first_event_ms: Spread | None
    transit_ms: Spread | None
    watched: list[processes.Sample]
