from __future__ import annotations

import http.client
import socketserver
import tempfile
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING

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


class _Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:  # http.server's name
        self.send_response(http.client.OK if self.path == "/healthz" else http.client.NOT_FOUND)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002, ARG002  # http.server's names
        return

    def address_string(self) -> str:
        return "unix"


@pytest.fixture
def gateway(settings: Settings) -> Iterator[None]:
    """Something that answers /healthz where the gateway would."""
    settings.run.mkdir(mode=0o700, exist_ok=True)
    path = settings.run / "gateway.sock"
    with socketserver.UnixStreamServer(str(path), _Healthy) as answering:
        thread = threading.Thread(target=answering.serve_forever, args=(0.01,))
        thread.start()
        yield
        answering.shutdown()
        thread.join()
