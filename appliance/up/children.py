"""One child of `inferfly up`: started, listened to by sd_notify, watched, started again, stopped."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from appliance import clock
from appliance.domain import EngineState
from appliance.engine import leash
from appliance.engine.supervisor import UnitState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from appliance.engine.lifecycle import Restarts

LOG_BYTES_MAX: Final = 1024 * 1024
NOTIFY_BYTES_MAX: Final = 4096
TICK_SECONDS: Final = 0.5
WATCHDOG_SECONDS_MAX: Final = 30.0
CAUSE_CHARACTERS_MAX: Final = 300


@dataclass(frozen=True, slots=True)
class Part:
    """How to start one child."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    notify: Path
    stop_seconds_max: float
    listening: socket.socket | None = None
    watchdog_seconds_max: float = WATCHDOG_SECONDS_MAX


class Child:
    """Keeps one part running for as long as it is wanted."""

    def __init__(self, part: Part, restarts: Restarts, changed: Callable[[Child], None]) -> None:
        self.part = part
        self.pid: int | None = None
        self.was_ready = False
        self.exit_code: int | None = None
        self._restarts = restarts
        self._changed = changed
        self._wanted = False
        self._keeper: asyncio.Task[None] | None = None
        self._poke = asyncio.Event()
        self._stop_at: float | None = None
        self._heard_at: float | None = None
        self._ready_at: float | None = None
        self._unit = UnitState(EngineState.STOPPED, clock.now_ms(), None, 0, "", "")

    @property
    def unit(self) -> UnitState:
        return replace(self._unit, pid=self.pid)

    def start(self) -> None:
        """Run it, unless it runs. One that has failed gets a fresh row of tries."""
        self._wanted = True
        self._poke.set()
        if self._keeper is None or self._keeper.done():
            self._restarts.reset()
            self._keeper = asyncio.create_task(self._keep(), name=self.part.name)

    def stop(self) -> None:
        """Ask it to end; after `stop_seconds_max` it is killed."""
        self._wanted = False
        self._terminate()

    def restart(self) -> None:
        """End it and start it again at once."""
        if self.pid is None:
            self.start()
        else:
            self._restarts.reset()
            self._terminate()

    def kill(self) -> None:
        self._wanted = False
        self._poke.set()
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    async def ended(self) -> None:
        """Once it neither runs nor will run again."""
        if self._keeper is not None:
            await asyncio.wait({self._keeper})

    def _terminate(self) -> None:
        self._poke.set()
        if self.pid is not None and self._stop_at is None:
            self._stop_at = asyncio.get_running_loop().time() + self.part.stop_seconds_max
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    async def _keep(self) -> None:
        while True:
            self._set(EngineState.LOADING, self._unit.cause, self._unit.cure)
            self.exit_code = await self._one_life()
            planned = self._stop_at is not None
            if not self._wanted:
                self._set(EngineState.STOPPED, "", "")
                return
            delay = 0.0 if planned else self._next_delay()
            cause, cure = ("", "") if planned else self._why()
            if delay is None:
                self._set(EngineState.FAILED, cause, cure)
                return
            self._set(EngineState.LOADING, cause, cure)
            await self._pause(delay)
            if not self._wanted:
                self._set(EngineState.STOPPED, "", "")
                return

    def _next_delay(self) -> float | None:
        now = asyncio.get_running_loop().time()
        return self._restarts.next_delay(self.exit_code, now - self._ready_at if self._ready_at else 0.0)

    async def _pause(self, seconds: float) -> None:
        self._poke.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._poke.wait(), seconds)

    async def _one_life(self) -> int:
        """From spawn to exit code."""
        self._stop_at = self._heard_at = self._ready_at = None
        self._reported: tuple[str, str] = ("", "")
        ear = _listen(self.part.notify)
        loop = asyncio.get_running_loop()
        loop.add_reader(ear, self._hear, ear)
        try:
            process = await self._spawn()
            self.pid = process.pid
            exited = asyncio.create_task(process.wait())
            while not exited.done():
                await asyncio.wait({exited}, timeout=TICK_SECONDS)
                self._kill_if_late(process)
            self._hear(ear)
            return exited.result()
        finally:
            self.pid = None
            loop.remove_reader(ear)
            ear.close()
            self.part.notify.unlink(missing_ok=True)

    async def _spawn(self) -> asyncio.subprocess.Process:
        listening = self.part.listening
        with _open_log(self.part.log) as log:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", leash.__file__, str(os.getpid())),
                str(listening.fileno()) if listening else "-",
                *self.part.argv,
                env={**self.part.environment, "NOTIFY_SOCKET": str(self.part.notify)},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=(listening.fileno(),) if listening else (),
            )

    def _kill_if_late(self, process: asyncio.subprocess.Process) -> None:
        now = asyncio.get_running_loop().time()
        late = self._stop_at is not None and now > self._stop_at
        silent = self._heard_at is not None and now - self._heard_at > self.part.watchdog_seconds_max
        if late or silent:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            self._reported = ("", "") if late else ("it hung: no sign of life", "It is restarted by itself.")

    def _hear(self, ear: socket.socket) -> None:
        while True:
            try:
                message = ear.recv(NOTIFY_BYTES_MAX)
            except BlockingIOError:
                return
            for line in message.decode(errors="replace").splitlines():
                self._take(line)

    def _take(self, line: str) -> None:
        kind, _, value = line.partition("=")
        if kind == "READY":
            self._ready_at = asyncio.get_running_loop().time()
            self._restarts.became_ready()
            self.was_ready = True
            self._set(EngineState.READY, "", "")
        elif kind == "STOPPING":
            self._set(EngineState.DRAINING, "", "")
        elif kind == "WATCHDOG":
            self._heard_at = asyncio.get_running_loop().time()
        elif kind == "STATUS":
            self._reported = _reason(value) or self._reported

    def _why(self) -> tuple[str, str]:
        """Cause and cure of a death nobody asked for: the part's own words, or what its exit code says."""
        if self._reported[0]:
            return self._reported
        return how_it_ended(self.exit_code), f"See {self.part.log}."

    def _set(self, state: EngineState, cause: str, cure: str) -> None:
        since = self._unit.since_ms if state is self._unit.state else clock.now_ms()
        new = UnitState(state, since, None, self._restarts.total, cause, cure)
        if new != self._unit:
            self._unit = new
            self._changed(self)


def how_it_ended(exit_code: int | None) -> str:
    """An exit code in words."""
    if exit_code is not None and exit_code < 0:
        return f"it was ended by {signal.Signals(-exit_code).name}"
    return f"it ended by itself with exit code {exit_code}"


def _reason(status: str) -> tuple[str, str] | None:
    """Cause and cure out of a STATUS of our own parts; None where it is anything else."""
    try:
        fields: dict[str, Any] = json.loads(status)
        return str(fields["cause"])[:CAUSE_CHARACTERS_MAX], str(fields["cure"])[:CAUSE_CHARACTERS_MAX]
    except (ValueError, KeyError, TypeError):
        return None


def _listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    ear.bind(str(path))
    return ear


def _open_log(path: Path) -> Any:
    """Append; one older log is kept beside it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > LOG_BYTES_MAX:
            path.replace(path.with_suffix(".log.1"))
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb")  # noqa: PTH123  # a descriptor has no path
