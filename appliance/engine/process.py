"""Supervisor over the socket of `inferfly up`: one JSON line there, one back."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

from appliance.domain import EngineState
from appliance.engine.supervisor import UnitState
from appliance.errors import EnvironmentBroken, Refused

if TYPE_CHECKING:
    from pathlib import Path

ANSWER_SECONDS_MAX: Final = 10.0
ANSWER_BYTES_MAX: Final = 1024 * 1024


class ProcessSupervisor:
    """Raises EnvironmentBroken where nobody answers, and Refused where `up` refuses."""

    def __init__(self, socket_path: Path, *, answer_seconds_max: float = ANSWER_SECONDS_MAX) -> None:
        self._socket_path = socket_path
        self._answer_seconds_max = answer_seconds_max

    async def start(self, engine: str) -> None:
        await self._ask(verb="start", engine=engine)

    async def stop(self, engine: str) -> None:
        await self._ask(verb="stop", engine=engine)

    async def restart(self, engine: str) -> None:
        await self._ask(verb="restart", engine=engine)

    async def states(self) -> dict[str, UnitState]:
        answer = await self._ask(verb="states")
        return {name: _unit(state) for name, state in answer["states"].items()}

    async def _ask(self, **question: str) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self._answer_seconds_max):
                answer = await self._exchange(question)
        except (OSError, TimeoutError, ValueError):
            raise EnvironmentBroken(
                "The supervisor of the engines does not answer.",
                why="`inferfly up` is not running, or is stuck.",
                fix="Start it again with `inferfly up`.",
            ) from None
        if "refused" in answer:
            raise Refused(answer["refused"])
        return answer

    async def _exchange(self, question: dict[str, str]) -> dict[str, Any]:
        reader, writer = await asyncio.open_unix_connection(self._socket_path, limit=ANSWER_BYTES_MAX)
        try:
            writer.write(json.dumps(question).encode() + b"\n")
            await writer.drain()
            answer: dict[str, Any] = json.loads(await reader.readline())
            return answer
        finally:
            writer.close()


def _unit(state: dict[str, Any]) -> UnitState:
    return UnitState(
        state=EngineState(state["state"]),
        since_ms=state["since_ms"],
        pid=state["pid"],
        restarts=state["restarts"],
        cause=state["cause"],
        cure=state["cure"],
    )
