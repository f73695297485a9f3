"""The gateway's process: one event loop, its sockets, its drain."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping

import uvicorn
import uvloop
from setproctitle import setproctitle

from appliance import notify
from appliance.clock import now_ms
from appliance.domain import LedgerRow, Price
from appliance.engine.client import EngineClient
from appliance.errors import AlreadyRunning
from appliance.gateway import public, restore
from appliance.gateway.admission import Admission
from appliance.gateway.guard import Guard
from appliance.gateway.inference import Gateway
from appliance.gateway.limits import Book
from appliance.gateway.meter import Meter
from appliance.gateway.routing import Routing
from appliance.gateway.tls import Tls
from appliance.gateway.wire import CONNECTIONS_MAX, Door, Wire
from appliance.metrics import Metrics
from appliance.privacy import logs
from appliance.settings import Settings
from appliance.store.journal import Journal
from appliance.store.ledger import Ledger
from appliance.store.registry import RegistryReader, RoutingTable

POLL_SECONDS = 0.1
"""How soon a new key, a revoked one or an engine's new state is known here."""
LEDGER_SECONDS_MAX = 10.0
LATE_SECONDS_MAX = 1.0
"""How long a stopping gateway still takes requests of connections that it has accepted."""
HANDSHAKE_SECONDS_MAX = 10.0
ENGINE_SECONDS_MAX = 2.0
BACKLOG = 4096
FILES_SPARE = 512
"""Descriptors beyond the two that each open request takes: idle connections, databases, listeners."""


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then drain. Blocks."""
    setproctitle("inferfly gateway")
    os.umask(0o077)
    logs.install("gateway")
    files = _allow_files(2 * settings.open_requests_max + FILES_SPARE)
    tls = _tls(settings)
    with contextlib.closing(RegistryReader(settings.registry_db)) as registry:
        # Twice as many places as open requests: those that have ended keep theirs until their row is written.
        journal = Journal(settings.journal, 2 * settings.open_requests_max)
        sockets = _sockets(settings)  # only now: a second gateway must not take the socket of the first
        table = registry.load()
        ledger = Ledger(settings.usage_db, journal, zone=settings.zone, cost_of=_cost_by(table.prices))
        ledger.start()
        gateway = _gateway(settings, table, journal, ledger)
        door = Door(
            gateway,
            {path.encode(): endpoint for path, endpoint in public.INFERENCE.items()}
            if settings.fast_lane
            else {},
            body_seconds_max=settings.body_seconds_max,
            connections_per_source_max=settings.connections_per_source_max,
            # Half of the descriptors: each may need another one, to an engine.
            connections_max=min(CONNECTIONS_MAX, (files - FILES_SPARE // 2) // 2),
        )
        try:
            uvloop.run(_serve(door, registry, sockets, tls, settings))
        finally:
            gateway.meter.flush()
            ledger.stop(LEDGER_SECONDS_MAX)
            journal.release()
    logs.log("stopped", part="gateway")


def _gateway(settings: Settings, table: RoutingTable, journal: Journal, ledger: Ledger) -> Gateway:
    metrics = Metrics()
    book = Book(settings.zone)
    admission = Admission(
        journal,
        settings.open_requests_max,
        book,
        settings.queue_seconds_max,
        behind=lambda: ledger.failing or ledger.backlog > settings.open_requests_max // 2,
    )
    restore.counts(book, ledger, table, settings.zone, now_ms())
    return Gateway(
        table=table,
        guard=Guard(failures_max=settings.guesses_max, ban_seconds=settings.ban_seconds),
        admission=admission,
        routing=Routing(),
        engines=EngineClient(),
        meter=Meter(ledger, metrics),
        metrics=metrics,
        journal=journal,
        body_bytes_max=settings.body_bytes_max,
    )


def _cost_by(prices: Mapping[str, Price]) -> Callable[[LedgerRow], int]:
    """What a request cost that a former gateway left open."""

    def cost_of(row: LedgerRow) -> int:
        price = prices.get(row.model_id)
        return price.cost_micros(row.prompt_tokens, row.completion_tokens) if price else 0

    return cost_of


def _tls(settings: Settings) -> Tls | None:
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    return Tls(settings.tls_certificate, settings.tls_key, settings.tls_version_min)


async def _serve(
    door: Door, registry: RegistryReader, sockets: list[socket.socket], tls: Tls | None, settings: Settings
) -> None:
    asyncio.get_running_loop().set_exception_handler(logs.loop_exception)
    server = _Server(door, tls, settings.drain_seconds_max, settings.body_seconds_max)
    async with asyncio.TaskGroup() as tasks:
        watching = [
            tasks.create_task(_follow(door.gateway, registry)),
            tasks.create_task(_look_after(door.gateway, tls)),
            tasks.create_task(door.sweep()),
        ]
        await server.serve(sockets)
        for task in watching:
            task.cancel()
        door.gateway.engines.close()


async def _follow(gateway: Gateway, registry: RegistryReader) -> None:
    """Keep the routing table as the registry has it, and the journal's sign of life fresh.

    While the registry can't be read, what was read last holds: nothing can be changed in it either.
    """
    readable = True
    while True:
        await asyncio.sleep(POLL_SECONDS)
        gateway.journal.beat(now_ms())
        try:
            # Asking whether it has changed reads one number of shared memory: no thread is worth that.
            table = await asyncio.to_thread(registry.load) if registry.changed() else None
        except Exception as error:  # noqa: BLE001  # whatever ails a file must not end what is being served
            if readable:
                logs.log("registry_unreadable", error=type(error).__name__.lower())
            readable = False
            continue
        readable = True
        if table is not None:
            gateway.follow(table)


async def _look_after(gateway: Gateway, tls: Tls | None) -> None:
    """What has to be looked at every second: engines that failed lately, certificates, counts nobody needs."""
    while True:
        await asyncio.sleep(1)
        if tls is not None:
            tls.renew()
        gateway.admission.prune(time.time())
        for engine in gateway.routing.due(gateway.table.engines, time.monotonic()):
            if await gateway.engines.healthy(engine.socket, ENGINE_SECONDS_MAX):
                gateway.routing.trust(engine)
            else:
                gateway.routing.suspect(engine, time.monotonic())


class _Server(uvicorn.Server):
    """uvicorn, told to leave logging alone, to drain within its time and to exit cleanly on a signal."""

    def __init__(self, door: Door, tls: Tls | None, drain_seconds: float, body_seconds_max: float) -> None:
        super().__init__(
            uvicorn.Config(
                public.build(door.gateway, body_seconds_max),
                http=Wire,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=max(1, round(drain_seconds)),
            )
        )
        self._door = door
        self._tls = tls

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on all of them: TLS is for the public ones, the box's own socket is the last."""
        loop = asyncio.get_running_loop()
        self._door.now = loop.time()

        def connection() -> Wire:
            return Wire(self.config, self.server_state, {}, door=self._door)

        *outward, own = sockets or []
        context = self._tls.context if self._tls else None
        handshake = HANDSHAKE_SECONDS_MAX if context else None
        self.servers = [
            *[
                await loop.create_server(
                    connection, sock=one, ssl=context, backlog=BACKLOG, ssl_handshake_timeout=handshake
                )
                for one in outward
            ],
            await loop.create_unix_server(connection, sock=own, backlog=BACKLOG),
        ]
        self.started = True
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 50)
        notify.ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept nothing more; answer what is on its way; refuse what is new after that; let open streams end.

        A connection that was accepted at the last moment is still served: its caller has done nothing wrong.
        """
        notify.stopping()
        asyncio.get_running_loop().call_later(LATE_SECONDS_MAX, self._drain)
        await super().shutdown(sockets)

    def _drain(self) -> None:
        self._door.gateway.admission.draining = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        yield

    def _stop(self) -> None:
        self.should_exit = True


def _allow_files(count: int) -> int:
    """Raise this process's own limit of open files, as far as the machine's hard limit lets it. Gives what it is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return sys.maxsize
    if soft < count:
        soft = count if hard == resource.RLIM_INFINITY else min(count, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft


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
