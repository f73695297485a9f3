"""The gateway as a process, on a folder of its own, and an application that talks to it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from appliance import apikey
from appliance.catalog import ModelSpec
from appliance.domain import EngineState, LedgerRow
from appliance.engine import leash
from appliance.store.registry import EngineRow, Registry

FAR_MS = 4_000_000_000_000
SPEC = ModelSpec.model_validate(
    {
        "name": "m",
        "source": {"path": "models/m"},
        "revision": "r1",
        "digest": "sha256:" + "ab" * 32,
        "licence": "Apache-2.0",
        "endpoints": ["chat", "completions"],
        "engine": {"max_context": 512, "max_concurrent_sequences": 64},
    }
)


@dataclass
class GatewayProcess:
    """`start` it, and `close` it in any case. Its model `m` has so many engines, whose sockets a test may serve."""

    folder: Path
    fast_lane: bool = True
    engines: int = 1
    key: apikey.ApiKey = field(default_factory=apikey.new)
    children: list[subprocess.Popen[bytes]] = field(default_factory=list[subprocess.Popen[bytes]])

    def __post_init__(self) -> None:
        self.home = self.folder / "home"
        self.engine_sockets = [
            self.home / "run" / "engines" / f"m-{number}" / "sock" for number in range(1, self.engines + 1)
        ]
        for path in self.engine_sockets:
            path.parent.mkdir(parents=True)
        with self.registry() as registry:
            registry.ensure_account("default")
            registry.add_key(self.key, account="default", name="a", expires_at_ms=FAR_MS)
            registry.put_models([SPEC])
        self.engine_is(EngineState.READY)

    def registry(self) -> closing[Registry]:
        return closing(Registry(self.home / "registry.db"))

    def put_model(self, **engine: Any) -> None:
        """Other values of the model's `engine` section."""
        with self.registry() as registry:
            registry.put_models([SPEC.model_copy(update={"engine": SPEC.engine.model_copy(update=engine)})])

    def engine_is(self, state: EngineState) -> None:
        """All of them."""
        rows = [
            EngineRow(path.parent.name, "m", str(path.relative_to(self.home)), state, 1, 0)
            for path in self.engine_sockets
        ]
        with self.registry() as registry:
            registry.put_engines(rows)

    @property
    def engine_socket(self) -> Path:
        """Of the first."""
        return self.engine_sockets[0]

    @property
    def bearer(self) -> str:
        return f"Bearer {self.key.plaintext}"

    @property
    def socket(self) -> Path:
        return self.home / "run" / "gateway.sock"

    @property
    def log(self) -> str:
        return "".join(path.read_text() for path in sorted(self.folder.glob("log.*")))

    def spawn(self, listening: socket.socket | None = None, **settings: Any) -> subprocess.Popen[bytes]:
        """A gateway that may or may not come up. Settings are those of `settings.py`, by name.

        It inherits a listening socket where there is one, as `inferfly up` hands it over.
        """
        chosen = {"port": 0, "fast_lane": self.fast_lane, **settings}
        named = {f"INFERFLY_{name.upper()}": str(value) for name, value in chosen.items()}
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | named
        command = [sys.executable, "-m", "appliance", "gateway", "--home", str(self.home)]
        handed: list[int] = []
        if listening is not None:
            handed = [listening.fileno()]
            leashed = [sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), str(handed[0])]
            command = leashed + command
        with (self.folder / f"log.{len(self.children)}").open("wb") as log:
            child = subprocess.Popen(command, env=environment, stdout=log, stderr=log, pass_fds=handed)
        self.children.append(child)
        return child

    def start(self, listening: socket.socket | None = None, **settings: Any) -> subprocess.Popen[bytes]:
        """A gateway that serves."""
        child = self.spawn(listening, **settings)
        deadline = time.monotonic() + 20
        while not self._listens():
            assert child.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)
        return child

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    async def stop(self, by: signal.Signals, seconds: float = 10) -> int:
        """End the newest by this signal. Gives its exit code."""
        self.children[-1].send_signal(by)
        return await asyncio.to_thread(self.children[-1].wait, seconds)

    def close(self) -> None:
        for child in self.children:
            if child.poll() is None:
                child.send_signal(signal.SIGKILL)
            child.wait(10)

    def application(self, key: str | None = None, *, at: str | None = None) -> httpx.AsyncClient:
        """An application with a key, over the gateway's unix socket or `at` an address."""
        transport = httpx.AsyncHTTPTransport(
            uds=None if at else str(self.socket), limits=httpx.Limits(max_connections=None)
        )
        headers = {"authorization": f"Bearer {key}" if key else self.bearer}
        return httpx.AsyncClient(
            transport=transport, base_url=at or "http://gateway", headers=headers, timeout=30
        )

    def rows(self) -> list[LedgerRow]:
        with closing(sqlite3.connect(self.home / "usage.db")) as db:
            return [LedgerRow(*found) for found in db.execute("SELECT * FROM usage ORDER BY request_id")]

    def rows_soon(self, count: int, seconds: float = 5) -> list[LedgerRow]:
        """The rows, once there are so many or the time is over."""
        deadline = time.monotonic() + seconds
        while len(self.rows()) < count and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.rows()

    @property
    def log_events(self) -> list[str]:
        """Names of the events it wrote. Fails where a line is no JSON, as those of a traceback."""
        return [json.loads(line)["event"] for line in self.log.splitlines()]


def chat(prompt: str, **fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": prompt}]} | fields
