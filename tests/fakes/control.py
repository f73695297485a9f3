"""Control on a real socket in a thread, with a stand-in for the supervisor of the engines."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from appliance import clock
from appliance.admin import server
from appliance.admin.client import Client, UnixConnection
from appliance.domain import EngineState, LedgerRow
from appliance.engine.supervisor import UnitState
from appliance.errors import EnvironmentBroken, Refused
from appliance.store import database, ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from appliance.catalog import Catalog
    from appliance.settings import Settings

START_SECONDS_MAX = 20


def unit(
    state: EngineState, *, since_ms: int = 1, restarts: int = 0, cause: str = "", cure: str = ""
) -> UnitState:
    return UnitState(state=state, since_ms=since_ms, pid=None, restarts=restarts, cause=cause, cure=cure)


@dataclass
class FakeSupervisor:
    """Stands where `inferfly up` or systemd stands. What it is asked is written down."""

    units: dict[str, UnitState] = field(default_factory=dict[str, UnitState])
    unknown: set[str] = field(default_factory=set[str])
    asked: list[str] = field(default_factory=list[str])
    down: bool = False

    async def start(self, engine: str) -> None:
        self._answer(f"start {engine}")
        if engine in self.unknown:
            raise Refused("No such engine.")
        self.units[engine] = unit(EngineState.LOADING)

    async def stop(self, engine: str) -> None:
        self._answer(f"stop {engine}")
        self.units[engine] = unit(EngineState.STOPPED)

    async def restart(self, engine: str) -> None:
        self._answer(f"restart {engine}")

    async def states(self) -> dict[str, UnitState]:
        self._answer("")
        return dict(self.units)

    def _answer(self, question: str) -> None:
        if self.down:
            raise EnvironmentBroken("The supervisor of the engines does not answer.")
        self.asked += [question] if question else []


@dataclass(frozen=True)
class Control:
    """A running control and what stands around it."""

    settings: Settings
    supervisor: FakeSupervisor
    client: Client

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """One raw request, past the client."""
        connection = UnixConnection(self.settings.control_socket, 10)
        try:
            connection.request(method, path, body, headers or {"content-type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@contextmanager
def running(
    settings: Settings, catalog: Catalog, supervisor: FakeSupervisor, callers: frozenset[int] | None = None
) -> Iterator[Control]:
    """Control on a thread of its own, until the block ends."""
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    ended: list[BaseException] = []

    def main() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            try:
                runner.run(server.serve(settings, catalog, supervisor, stop, callers=callers))
            except BaseException as error:  # noqa: BLE001  # handed to the test's own thread
                ended.append(error)

    thread = threading.Thread(target=main)
    thread.start()
    try:
        _wait(settings, thread)
        if ended:
            raise ended.pop()
        yield Control(settings, supervisor, Client(settings.control_socket, seconds=10))
    finally:
        with suppress(RuntimeError):  # the loop is closed already: control has ended by itself
            loop.call_soon_threadsafe(stop.set)
        thread.join(START_SECONDS_MAX)
    assert not thread.is_alive()
    if ended:
        raise ended[0]


def _wait(settings: Settings, thread: threading.Thread) -> None:
    connection = UnixConnection(settings.control_socket, START_SECONDS_MAX)
    while thread.is_alive():
        try:
            connection.connect()
        except OSError:
            thread.join(0.01)
        else:
            break
    connection.close()


def until(condition: Callable[[], object], seconds: float = 5) -> bool:
    """Whether the condition came true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def bytes_under(folder: Path) -> bytes:
    """Everything in the files of a folder."""
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


def use(settings: Settings, key_id: str, start_ms: int, cost_micros: int = 0) -> None:
    """Write one ledger row, as the gateway would: 10 tokens in, 2 out."""
    row = LedgerRow(
        clock.ulid(start_ms),
        start_ms,
        start_ms,
        10,
        2,
        "exact",
        "tiny",
        "tiny",
        200,
        5,
        None,
        None,
        1,
        12,
        key_id,
    )
    connection = database.open_usage(settings.usage_db)
    with connection:
        ledger.write(connection, [(0, row, cost_micros)], ledger.Days(settings.zone))
    connection.close()
