from __future__ import annotations

import json
import socketserver
import tempfile
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote

import pytest

from appliance.catalog import Catalog
from appliance.settings import Settings
from tests.fakes.control import Control, FakeSupervisor, running

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def settings() -> Iterator[Settings]:
    """On a short path: the longest socket in it must fit in 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="inferfly-") as home:
        yield Settings(home=Path(home))


@pytest.fixture
def catalog() -> Catalog:
    entry = {
        "name": "tiny",
        "source": {"path": "models/tiny"},
        "revision": "r1",
        "digest": "sha256:" + "ab" * 32,
        "licence": "Apache-2.0",
        "engine": {"max_context": 512},
    }
    pair = {**entry, "name": "pair", "replicas": 2, "endpoints": ["chat"]}
    return Catalog.model_validate({"models": [entry, pair]})


@pytest.fixture
def supervisor() -> FakeSupervisor:
    return FakeSupervisor()


@pytest.fixture
def control(settings: Settings, catalog: Catalog, supervisor: FakeSupervisor) -> Iterator[Control]:
    with running(settings, catalog, supervisor) as started:
        yield started


@dataclass
class FakeGateway:
    """What answers where the gateway would: its health, and the bans it knows."""

    bans: dict[str, dict[str, object]] = field(default_factory=dict[str, dict[str, object]])
    body: bytes | None = None
    """An answer to GET /bans of another release."""
    asked: list[str] = field(default_factory=list[str])

    def ban(self, source: str) -> None:
        self.bans[source] = {"source": source, "since_ms": 1000, "until_ms": 61_000, "failures": 12}

    def answer(self, method: str, path: str) -> tuple[int, bytes]:
        self.asked.append(f"{method} {path}")
        if path == "/healthz":
            return 200, b""
        if (method, path) == ("GET", "/bans"):
            return 200, self.body or json.dumps(list(self.bans.values())).encode()
        if method == "DELETE" and self.bans.pop(unquote(path.removeprefix("/bans/")), None):
            return 200, b""
        return 404, b""


class _Server(socketserver.UnixStreamServer):
    """Nothing but a server that knows whom it speaks for."""

    def __init__(self, path: str, gateway: FakeGateway) -> None:
        self.gateway = gateway
        super().__init__(path, _Handler)


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def _answer(self) -> None:
        status, body = cast("_Server", self.server).gateway.answer(self.command, self.path)
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if body:  # whoever asks for the health only hangs up after the status
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002, ARG002  # http.server's names
        return

    def address_string(self) -> str:
        return "unix"


@pytest.fixture
def gateway(settings: Settings) -> Iterator[FakeGateway]:
    settings.run.mkdir(mode=0o700, exist_ok=True)
    answering = FakeGateway()
    with _Server(str(settings.run / "gateway.sock"), answering) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield answering
        server.shutdown()
        thread.join()
