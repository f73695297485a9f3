"""Gateways to attack: processes of their own that listen on TCP, and what can be seen of them from outside."""

from __future__ import annotations

import mmap
import os
import socket
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from appliance.domain import EngineState
from appliance.store.registry import EngineRow, Registry
from tests.fakes.gateway import SPEC, GatewayProcess
from tests.hostile import watched
from tests.processes import PROC, descendants, resident_bytes, soon
from tests.processes import listening as ports_of

NEVER_BANNED = 1_000_000
"""Wrong keys: all that comes here is from one address."""
TEXT = SPEC.model_copy(update={"endpoints": ("chat", "completions", "responses", "messages", "tokenize")})
"""One engine serves both."""
POOLING = SPEC.model_copy(update={"name": "p", "endpoints": ("embeddings", "rerank", "score")})


@dataclass
class Target(GatewayProcess):
    """A gateway under attack."""

    port: int = 0

    def start(self, listening: socket.socket | None = None, **settings: Any) -> subprocess.Popen[bytes]:
        with closing(Registry(self.home / "registry.db")) as registry:
            registry.put_models([TEXT, POOLING])
            registry.put_engines(
                EngineRow(f"{name}-1", name, "run/engines/m-1/sock", EngineState.READY, 1, 0) for name in "mp"
            )
        child = super().start(listening, **{"guesses_max": NEVER_BANNED, **settings})
        self.port = next(port for _, port in ports_of(descendants(child.pid)))
        return child

    @property
    def pid(self) -> int:
        return self.children[-1].pid

    def rss_bytes(self) -> int:
        """Memory of its own that is in use."""
        return resident_bytes(self.pid)

    def files(self) -> int:
        return len(list((PROC / str(self.pid) / "fd").iterdir()))


class WatchedTarget(Target):
    """One with the watch of watched.py over its event loop."""

    def spawn(self, listening: socket.socket | None = None, **settings: Any) -> subprocess.Popen[bytes]:
        assert listening is None
        book = self.folder / "book"
        book.write_bytes(bytes(len(watched.FIELDS) * watched.NUMBER.size))
        with book.open("r+b") as file:
            self._book = mmap.mmap(file.fileno(), 0)
        named = {f"INFERFLY_{name.upper()}": str(value) for name, value in {"port": 0, **settings}.items()}
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | named
        command = [sys.executable, "-P", watched.__file__, str(self.home), str(book)]
        with (self.folder / f"log.{len(self.children)}").open("wb") as log:
            child = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        self.children.append(child)
        return child

    def seen(self, name: str) -> float:
        """One of watched.FIELDS."""
        return watched.NUMBER.unpack_from(self._book, watched.FIELDS.index(name) * watched.NUMBER.size)[0]

    async def idle(self) -> bool:
        """Whether soon no connection is open, from nobody."""
        return await soon(lambda: self.seen("connections") == self.seen("sources") == 0)

    def forget_stalls(self) -> None:
        watched.NUMBER.pack_into(self._book, 0, 0.0)
