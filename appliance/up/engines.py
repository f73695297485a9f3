"""The supervisor's socket: control asks here for engines to be started, stopped, restarted, and how they are."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from appliance.up.children import Child

LINE_BYTES_MAX: Final = 64 * 1024
IDLE_SECONDS_MAX: Final = 60.0


class EngineDesk:
    """Answers one JSON line with one. Refuses every verb but `states` once the appliance stops."""

    def __init__(self, engines: Mapping[str, Child]) -> None:
        self._engines = engines
        self.closing = False

    async def open(self, path: Path) -> asyncio.Server:
        return await asyncio.start_unix_server(self._serve, path, limit=LINE_BYTES_MAX)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await asyncio.wait_for(reader.readline(), IDLE_SECONDS_MAX):
                writer.write(json.dumps(self._answer(line)).encode() + b"\n")
                await writer.drain()
        except (OSError, TimeoutError, ValueError):
            pass  # the asker is gone, silent or wrote no line; the next one gets a connection of its own
        finally:
            writer.close()

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            question: dict[str, Any] = json.loads(line)
            verb, name = question["verb"], question.get("engine")
        except (ValueError, KeyError, TypeError, AttributeError):
            return {"refused": "That is not a question this supervisor knows."}
        if verb == "states":
            return {"states": {name: asdict(child.unit) for name, child in self._engines.items()}}
        if self.closing:
            return {"refused": "The appliance is stopping."}
        child = self._engines.get(name) if isinstance(name, str) else None
        if child is None:
            return {"refused": "models.yaml has no such engine."}
        act = {"start": child.start, "stop": child.stop, "restart": child.restart}.get(str(verb))
        if act is None:
            return {"refused": "An engine can be started, stopped and restarted."}
        act()
        return {"done": True}
