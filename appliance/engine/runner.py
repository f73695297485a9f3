"""`inferfly engine NAME`: runs one vLLM from start to end, and says at each moment how it is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING, Any, Final

import setproctitle

from appliance import notify
from appliance.domain import EngineState
from appliance.engine import causes, command, gpus, weights
from appliance.engine.folder import RunFolder
from appliance.engine.lifecycle import Progress
from appliance.engine.probe import Probe
from appliance.engine.vllm_process import VllmProcess
from appliance.errors import CatalogError, EngineFailed, EngineUnusable, OperatorError
from appliance.privacy import logs
from appliance.privacy.logs import log

if TYPE_CHECKING:
    from appliance.catalog import Catalog, ModelSpec
    from appliance.settings import Settings

LOAD_POLL_SECONDS: Final = 0.25
WATCH_SECONDS: Final = 2.0
PROBE_SECONDS: Final = 15.0
"""An idle engine is asked for one token this often."""
ANSWER_SECONDS_MAX: Final = 5.0
STOP_SECONDS_MAX: Final = 10.0
HEARTBEAT_SECONDS: Final = 5.0


def run(settings: Settings, catalog: Catalog, name: str) -> None:
    """Returns after SIGTERM. Raises what the operator should read where the engine can't go on."""
    setproctitle.setproctitle(f"inferfly engine {name}")
    logs.install("engine")
    spec = catalog.by_engine(name)
    if spec is None:
        raise CatalogError("models.yaml has no such engine.", fix="`inferfly models` lists the engines.")
    notify.status(state=EngineState.LOADING, cause="", cure="")
    try:
        asyncio.run(_live(settings, spec, name))
    except OperatorError as error:
        log("engine_failed", engine=name, exit_code=error.exit_code)
        cause = " ".join(part for part in (error.what, error.why) if part)
        notify.status(state=EngineState.FAILED, cause=cause[: causes.CAUSE_CHARACTERS_MAX], cure=error.fix)
        raise


async def _live(settings: Settings, spec: ModelSpec, name: str) -> None:
    asyncio.get_running_loop().set_exception_handler(logs.loop_exception)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    folder = RunFolder(settings.engine_run(name))
    found = await asyncio.to_thread(weights.locate, spec, settings)
    start = command.build(
        spec, settings, name, found, gpu=gpus.has_nvidia(), threads=len(os.sched_getaffinity(0))
    )
    folder.create()
    try:
        vllm = await VllmProcess.start(start, folder)
        probe = Probe(folder.socket, spec)
        try:
            await Runner(settings, name, vllm, probe).run(stopping)
        finally:
            await probe.close()
            await vllm.kill()
    finally:
        folder.remove()


class Runner:
    """One life of one engine: loading, ready, draining."""

    def __init__(self, settings: Settings, name: str, vllm: VllmProcess, probe: Probe) -> None:
        self._settings = settings
        self._name = name
        self._vllm = vllm
        self._probe = probe
        self._ready = False

    async def run(self, stopping: asyncio.Event) -> None:
        """Until `stopping` is set, vLLM has died or is found hung; the last two raise."""
        heart = asyncio.create_task(_heartbeat())
        stop = asyncio.create_task(stopping.wait())
        died = asyncio.create_task(self._vllm.exited())
        serving = asyncio.create_task(self._serve())
        try:
            await asyncio.wait({stop, died, serving}, return_when=asyncio.FIRST_COMPLETED)
            if stop.done():
                await _end(serving)
                await self._drain()
            elif died.done():
                await _end(serving)
                raise self._reason(died.result())
            else:
                await serving
        finally:
            await _end(heart, stop, died, serving)

    async def _serve(self) -> None:
        await self._load()
        self._ready = True
        self._vllm.forget_output()
        notify.status(state=EngineState.READY, cause="", cure="")
        notify.ready()
        await self._watch()

    async def _load(self) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        while not (
            await self._probe.healthy(ANSWER_SECONDS_MAX) and await self._probe.answers(ANSWER_SECONDS_MAX)
        ):
            if loop.time() - started > self._settings.engine_start_seconds_max:
                raise EngineFailed(
                    f"vLLM did not get ready within {self._settings.engine_start_seconds_max:.0f} s.",
                    fix="If the model is large, raise INFERFLY_ENGINE_START_SECONDS_MAX.",
                )
            await asyncio.sleep(LOAD_POLL_SECONDS)
        log("engine_ready", engine=self._name, seconds=round(loop.time() - started, 1))

    async def _watch(self) -> None:
        """Raise once the engine hangs: work and no progress, no metrics, or no token when idle."""
        loop = asyncio.get_running_loop()
        progress = Progress(self._settings.engine_stall_seconds_max)
        next_probe = loop.time() + PROBE_SECONDS
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            pulse = await self._probe.pulse(ANSWER_SECONDS_MAX)
            busy = pulse is None or pulse.requests > 0
            seen = pulse.fingerprint if pulse else "silent"
            if progress.stalled(busy=busy, fingerprint=seen, now=loop.time()):
                raise self._hung()
            if not busy and loop.time() >= next_probe:
                await self._one_token()
                next_probe = loop.time() + PROBE_SECONDS

    async def _one_token(self) -> None:
        seconds = self._settings.engine_stall_seconds_max
        if not (await self._probe.answers(seconds) or await self._probe.answers(ANSWER_SECONDS_MAX)):
            raise self._hung()

    def _hung(self) -> EngineFailed:
        log("engine_hung", engine=self._name)
        return EngineFailed(
            f"vLLM hung: no progress for {self._settings.engine_stall_seconds_max:.0f} s.",
            fix="It is restarted by itself. If this comes back, lower max_concurrent_sequences in models.yaml.",
        )

    def _reason(self, exit_code: int) -> EngineFailed:
        """Why vLLM is gone."""
        if self._ready:
            cause = causes.after_ready(exit_code, self._vllm.log.last_error)
        else:
            cause = causes.while_loading(self._vllm.output(), exit_code)
        kind = EngineUnusable if cause.final else EngineFailed
        return kind(cause.text, fix=cause.cure)

    async def _drain(self) -> None:
        """Let running requests end, for a bounded time. New ones no longer come: the gateway sees `draining`."""
        notify.stopping()
        notify.status(state=EngineState.DRAINING, cause="", cure="")
        log("engine_draining", engine=self._name)
        if not self._ready:
            return  # nothing runs in it yet, and a loading vLLM is slow to hear a SIGTERM
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_seconds_max):
                await self._idle()
        await self._vllm.stop(STOP_SECONDS_MAX)

    async def _idle(self) -> None:
        while (  # noqa: ASYNC110  # vLLM tells its gauges only when asked
            pulse := await self._probe.pulse(ANSWER_SECONDS_MAX)
        ) and pulse.requests:
            await asyncio.sleep(LOAD_POLL_SECONDS)


async def _heartbeat() -> None:
    """Proves to the supervisor that this event loop turns."""
    while True:
        notify.watchdog()
        await asyncio.sleep(HEARTBEAT_SECONDS)


async def _end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel what still runs. What a task raised is its own; the caller has already chosen what to say."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
