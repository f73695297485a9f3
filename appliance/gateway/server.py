"""The gateway's process: one event loop, its sockets, its drain."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import socket
from collections.abc import Iterator

import uvicorn
import uvloop
from setproctitle import setproctitle

from appliance import notify
from appliance.clock import now_ms
from appliance.engine.client import EngineClient
from appliance.errors import AlreadyRunning
from appliance.gateway import public
from appliance.gateway.admission import Admission
from appliance.gateway.inference import Gateway
from appliance.gateway.meter import Meter
from appliance.gateway.routing import Routing
from appliance.metrics import Metrics
from appliance.privacy import logs
from appliance.settings import Settings
from appliance.store.journal import Journal
from appliance.store.ledger import Ledger
from appliance.store.registry import RegistryReader

POLL_SECONDS = 0.1
"""How soon a new key, a revoked one or an engine's new state is known here."""
LEDGER_SECONDS_MAX = 10.0
BACKLOG = 4096
FILES_SPARE = 512
"""Descriptors beyond the two that each open request takes: idle connections, databases, listeners."""


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then drain. Blocks."""
    setproctitle("inferfly gateway")
    os.umask(0o077)
    logs.install("gateway")
    _allow_files(2 * settings.open_requests_max + FILES_SPARE)
    with contextlib.closing(RegistryReader(settings.registry_db)) as registry:
        journal = Journal(settings.journal, settings.open_requests_max)
        sockets = _sockets(settings)  # only now: a second gateway must not take the socket of the first
        ledger = Ledger(settings.usage_db, journal)
        ledger.start()
        metrics = Metrics()
        gateway = Gateway(
            table=registry.load(),
            admission=Admission(journal, settings.open_requests_max),
            routing=Routing(),
            engines=EngineClient(),
            meter=Meter(ledger, metrics),
            metrics=metrics,
            journal=journal,
            body_bytes_max=settings.body_bytes_max,
            body_seconds_max=settings.body_seconds_max,
        )
        try:
            uvloop.run(_serve(gateway, registry, sockets, settings.drain_seconds_max))
        finally:
            gateway.meter.flush()
            ledger.stop(LEDGER_SECONDS_MAX)
            journal.release()
    logs.log("stopped", part="gateway")


async def _serve(
    gateway: Gateway, registry: RegistryReader, sockets: list[socket.socket], drain_seconds: float
) -> None:
    asyncio.get_running_loop().set_exception_handler(logs.loop_exception)
    server = _Server(gateway, drain_seconds)
    async with asyncio.TaskGroup() as tasks:
        polling = tasks.create_task(_follow(gateway, registry))
        await server.serve(sockets)
        polling.cancel()
        gateway.engines.close()


async def _follow(gateway: Gateway, registry: RegistryReader) -> None:
    """Keep the routing table as the registry has it, and the journal's sign of life fresh.

    While the registry can't be read, what was read last holds: nothing can be changed in it either.
    """
    readable = True
    while True:
        await asyncio.sleep(POLL_SECONDS)
        gateway.journal.beat(now_ms())
        try:
            table = await asyncio.to_thread(lambda: registry.load() if registry.changed() else None)
        except Exception as error:  # noqa: BLE001  # whatever ails a file must not end what is being served
            if readable:
                logs.log("registry_unreadable", error=type(error).__name__.lower())
            readable = False
            continue
        readable = True
        if table is not None:
            gateway.table = table
            gateway.engines.keep_only({engine.socket for ready in table.engines.values() for engine in ready})


class _Server(uvicorn.Server):
    """uvicorn, told to leave logging alone, to drain within its time and to exit cleanly on a signal."""

    def __init__(self, gateway: Gateway, drain_seconds: float) -> None:
        super().__init__(
            uvicorn.Config(
                public.build(gateway),
                http="httptools",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=max(1, round(drain_seconds)),
            )
        )
        self._gateway = gateway

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 50)
        notify.ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuse what is new, let open streams run to their end or to the deadline."""
        notify.stopping()
        self._gateway.admission.draining = True
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        yield

    def _stop(self) -> None:
        self.should_exit = True


def _allow_files(count: int) -> None:
    """Raise this process's own limit of open files, as far as the machine's hard limit lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _sockets(settings: Settings) -> list[socket.socket]:
    """The public socket, inherited if there is one, and the box's own at `run/gateway.sock`."""
    settings.run.mkdir(parents=True, exist_ok=True)
    own = settings.run / "gateway.sock"
    own.unlink(missing_ok=True)
    local = socket.socket(socket.AF_UNIX)
    local.bind(str(own))
    inherited = notify.listen_sockets()
    return [*(inherited or [_listen(settings.host, settings.port)]), local]


def _listen(host: str, port: int) -> socket.socket:
    public_socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    public_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        public_socket.bind((host, port))
    except OSError as error:
        raise AlreadyRunning(
            f"{host} port {port} can't be used: {error.strerror}.",
            fix="Stop what uses it, or choose another with INFERFLY_PORT.",
        ) from None
    return public_socket
