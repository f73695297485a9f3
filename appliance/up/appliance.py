"""The life of the whole appliance: parts come up in order, the operator is told, parts go down in order."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import signal
from typing import TYPE_CHECKING, Final

from appliance.admin.client import Client, UnixConnection
from appliance.domain import EngineState
from appliance.engine.lifecycle import Restarts
from appliance.errors import EnvironmentBroken, InferflyError
from appliance.privacy import logs
from appliance.up.children import Child, how_it_ended
from appliance.up.engines import EngineDesk
from appliance.up.orphans import Orphans
from appliance.up.screen import greeting

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from appliance.settings import Settings
    from appliance.up.parts import Parts
    from appliance.up.screen import Screen

PART_START_SECONDS_MAX: Final = 30.0
TICK_SECONDS: Final = 0.25
SWEEP_SECONDS: Final = 1.0
GATEWAY_KNOWS_SECONDS_MAX: Final = 5.0
LOG_TAIL_BYTES: Final = 4096
ACCOUNT: Final = "default"


class Appliance:
    """Control first, the gateway next, engines as control asks for them."""

    def __init__(self, settings: Settings, parts: Parts, screen: Screen) -> None:
        self._settings = settings
        self._parts = parts
        self._screen = screen
        self._greeted = False
        self._states: dict[str, EngineState] = {}
        self._control = Child(parts.control, _quick(), self._part_changed)
        self._gateway = Child(parts.gateway, _quick(), self._part_changed)
        self._engines = {
            name: Child(part, _patient(settings), self._engine_changed)
            for name, part in parts.engines.items()
        }
        self._orphans = Orphans(lambda: {child.pid for child in self._all() if child.pid is not None})

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(logs.loop_exception)
        asked = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._interrupt, asked)
        desk = EngineDesk(self._engines)
        server = await desk.open(self._settings.supervisor_socket)
        stop = asyncio.create_task(asked.wait())
        life = asyncio.create_task(self._live())
        try:
            await asyncio.wait({stop, life}, return_when=asyncio.FIRST_COMPLETED)
            if life.done():
                life.result()
        finally:
            stop.cancel()
            life.cancel()
            await asyncio.gather(stop, life, return_exceptions=True)
            self._screen.settled()
            desk.closing = True
            await self._down()
            server.close()

    def _interrupt(self, asked: asyncio.Event) -> None:
        if asked.is_set():
            for child in self._all():
                child.kill()
        asked.set()

    async def _live(self) -> None:
        await self._up(self._control)
        await self._up(self._gateway)
        await self._engines_settle()
        self._screen.settled()
        self._report_failures()
        self._greeted = True
        key = await self._first_key()
        await self._gateway_knows(key)
        self._screen.say(greeting(self._base_url(), self._first_model(), key))
        await self._sweep(SWEEP_SECONDS)

    async def _up(self, child: Child) -> None:
        """Start control or the gateway. A first start that fails is final: nothing has been promised to anybody."""
        child.start()
        deadline = asyncio.get_running_loop().time() + PART_START_SECONDS_MAX
        while child.unit.state is not EngineState.READY:
            died = child.exit_code is not None
            if died or asyncio.get_running_loop().time() > deadline:
                why = (
                    self._last_words(child)
                    if died
                    else f"It was not ready after {PART_START_SECONDS_MAX:.0f} s."
                )
                raise EnvironmentBroken(
                    f"The {child.part.name} did not start.", why=why, fix=f"Its log is {child.part.log}."
                )
            await asyncio.sleep(TICK_SECONDS / 5)

    def _last_words(self, child: Child) -> str:
        """The last line of a part's log, which is its own error message; or how it ended."""
        with contextlib.suppress(OSError):
            with child.part.log.open("rb") as log:
                log.seek(0, 2)
                log.seek(max(0, log.tell() - LOG_TAIL_BYTES))
                lines = log.read().decode(errors="replace").splitlines()
            if lines and lines[-1].startswith("inferfly: "):
                return lines[-1].removeprefix("inferfly: ")
        return f"{how_it_ended(child.exit_code).capitalize()}."

    async def _engines_settle(self) -> None:
        """Until each engine is ready, has failed for good, or was stopped by hand. None ready: the end."""
        while True:  # each round also moves the screen on
            units = {name: child.unit for name, child in self._engines.items()}
            self._screen.engines(units)
            waiting = [
                name
                for name, unit in units.items()
                if unit.state is EngineState.LOADING
                or (unit.state is EngineState.STOPPED and name not in self._states)
            ]
            if not waiting:
                break
            await asyncio.sleep(TICK_SECONDS)
        if units and all(unit.state is EngineState.FAILED for unit in units.values()):
            raise EnvironmentBroken(
                "No engine could be started.",
                why="\n" + "\n".join(_failure(name, self._engines[name]) for name in units),
            )

    def _report_failures(self) -> None:
        for name, child in self._engines.items():
            if child.unit.state is EngineState.FAILED:
                self._screen.say(_failure(name, child))

    async def _first_key(self) -> str | None:
        """Make the first API key, if account `default` never had one. Its plaintext exists here and on the screen."""
        client = Client(self._settings.control_socket)
        try:
            if await asyncio.to_thread(client.list_keys, ACCOUNT):
                return None
            made = await asyncio.to_thread(client.create_key, account=ACCOUNT, name="first")
        except InferflyError as error:
            self._screen.say(f"No first API key was made. {error}")
            return None
        return made.key

    async def _gateway_knows(self, key: str | None) -> None:
        """What the greeting shows has to work at once, and the gateway polls the registry for engines and keys."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + GATEWAY_KNOWS_SECONDS_MAX
        while not await asyncio.to_thread(self._known, key) and loop.time() < deadline:  # noqa: ASYNC110  # asks another process
            await asyncio.sleep(TICK_SECONDS / 5)

    def _known(self, key: str | None) -> bool:
        asked: dict[str, dict[str, str]] = {}
        if all(child.unit.state is EngineState.READY for child in self._engines.values()):
            asked["/readyz"] = {}
        if key:
            asked["/v1/models"] = {"authorization": f"Bearer {key}"}
        return all(_answers(self._settings.run / "gateway.sock", *question) for question in asked.items())

    def _base_url(self) -> str:
        listening = self._parts.gateway.listening
        assert listening is not None
        host, port = str(listening.getsockname()[0]), listening.getsockname()[1]
        reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # reads what was bound
        scheme = "https" if self._settings.tls_certificate else "http"
        return f"{scheme}://{f'[{reachable}]' if ':' in reachable else reachable}:{port}/v1"

    def _first_model(self) -> str:
        ready = [
            self._parts.model_of[name]
            for name, child in self._engines.items()
            if child.unit.state is EngineState.READY
        ]
        return (ready or list(self._parts.models))[0]

    def _engine_changed(self, child: Child) -> None:
        """Once the greeting is on the screen, say what changes; before it the live lines do."""
        name = next(name for name, engine in self._engines.items() if engine is child)
        before, after = self._states.get(name), child.unit.state
        self._states[name] = after
        if not self._greeted or (before is after and after is not EngineState.LOADING):
            return
        if after is EngineState.FAILED:
            self._screen.say(_failure(name, child))
        elif after is EngineState.READY:
            self._screen.say(f"engine {name} is ready")
        elif after is EngineState.LOADING and child.unit.cause and child.pid is None and before is not after:
            self._screen.say(
                f"engine {name} stopped: {child.unit.cause} {child.unit.cure} It is started again."
            )

    def _part_changed(self, child: Child) -> None:
        before, after = self._states.get(child.part.name), child.unit.state
        self._states[child.part.name] = after
        if not self._greeted or before is after:
            return
        if after is EngineState.READY:
            self._screen.say(f"{child.part.name} is back")
        elif after is EngineState.LOADING and before is EngineState.READY:
            self._screen.say(f"{child.part.name} stopped: {child.unit.cause}. It is started again.")

    async def _down(self) -> None:
        """The gateway drains, then the engines, then control; what is left then is killed."""
        if any(child.pid is not None for child in self._all()):
            self._screen.say("Stopping: open requests may end first. Ctrl-C again stops at once.")
        # An engine's runner waits for vLLM's helpers; once they are orphans only this process can bury them.
        sweeping = asyncio.create_task(self._sweep(TICK_SECONDS))
        for group in ([self._gateway], list(self._engines.values()), [self._control]):
            for child in group:
                child.stop()
            for child in group:
                await child.ended()
        sweeping.cancel()
        await self._orphans.settle()

    async def _sweep(self, every_seconds: float) -> None:
        while True:
            self._orphans.sweep(asyncio.get_running_loop().time())
            await asyncio.sleep(every_seconds)

    def _all(self) -> Iterable[Child]:
        return (self._gateway, *self._engines.values(), self._control)


def _answers(gateway: Path, path: str, headers: dict[str, str]) -> bool:
    """Whether the gateway says yes. One that is not there is not waited for."""
    connection = UnixConnection(gateway, GATEWAY_KNOWS_SECONDS_MAX)
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return True
    finally:
        connection.close()


def _failure(name: str, child: Child) -> str:
    unit = child.unit
    return f"engine {name} failed: {unit.cause} {unit.cure} Its log is {child.part.log}."


def _quick() -> Restarts:
    """Gateway and control: for ever."""
    return Restarts(delay_seconds_min=0.1, delay_seconds_max=5.0)


def _patient(settings: Settings) -> Restarts:
    return Restarts(delay_seconds_min=1.0, delay_seconds_max=30.0, in_a_row_max=settings.engine_restarts_max)
