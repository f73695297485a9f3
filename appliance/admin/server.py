"""Control: the administrators' API on a unix socket, and the only writer of the registry."""

from __future__ import annotations

import asyncio
import signal
from contextlib import closing
from typing import TYPE_CHECKING, Final, cast

import uvicorn
from litestar import Litestar
from litestar.di import Provide
from setproctitle import setproctitle

from appliance import notify
from appliance.admin import faults, peer
from appliance.admin.handlers import Plane, accounts, bans, keys, limits, prices, status, usage
from appliance.admin.reconcile import Reconciler
from appliance.engine.process import ProcessSupervisor
from appliance.privacy import logs
from appliance.store.registry import Registry
from appliance.store.usage import UsageReader

if TYPE_CHECKING:
    import socket
    from pathlib import Path
    from types import FrameType

    from uvicorn._types import ASGI3Application

    from appliance.admin.peer import App
    from appliance.catalog import Catalog
    from appliance.engine.supervisor import Supervisor
    from appliance.settings import Settings

FIRST_ACCOUNT: Final = "default"
BODY_BYTES_MAX: Final = 64 * 1024
SHUTDOWN_SECONDS_MAX: Final = 3


def run(settings: Settings, catalog: Catalog) -> None:
    """Serve until SIGTERM or SIGINT."""
    logs.install("control")
    setproctitle("inferfly control")
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises the signal again once it has stopped: by then it has been obeyed.
        signal.signal(number, _obeyed)
    asyncio.run(_main(settings, catalog))


def _obeyed(_number: int, _frame: FrameType | None) -> None:
    """Nothing is left to do."""


async def _main(settings: Settings, catalog: Catalog) -> None:
    await serve(settings, catalog, ProcessSupervisor(settings.supervisor_socket), asyncio.Event())


async def serve(
    settings: Settings,
    catalog: Catalog,
    supervisor: Supervisor,
    stop: asyncio.Event,
    *,
    callers: frozenset[int] | None = None,
) -> None:
    """Open the stores, look at the engines, answer `callers` until `stop` or a signal, and close everything.

    `callers` are user ids: root and our own, where none are given.
    """
    asyncio.get_running_loop().set_exception_handler(logs.loop_exception)
    with (
        closing(peer.bind(settings.control_socket)) as bound,
        closing(Registry(settings.registry_db)) as registry,
        closing(UsageReader(settings.usage_db)) as reader,
    ):
        await asyncio.to_thread(registry.ensure_account, FIRST_ACCOUNT)

        def socket_of(engine: str) -> str:
            return f"run/engines/{engine}/sock"

        reconciler = Reconciler(catalog, registry, supervisor, socket_of)
        await reconciler.start()
        plane = Plane(
            catalog=catalog,
            registry=registry,
            usage=reader,
            reconciler=reconciler,
            gateway_socket=settings.run / "gateway.sock",
            zone=settings.zone,
            currency=settings.currency,
        )
        app = peer.allow_only(cast("App", application(plane)), callers or peer.owners())
        server = _Server(_config(app), settings.control_socket)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(reconciler.run(stop))
            tasks.create_task(server.stop_at(stop))
            await server.serve(sockets=[bound])
            stop.set()


def application(plane: Plane) -> Litestar:
    """The whole of control's API on one screen."""
    return Litestar(
        route_handlers=[
            status.status,
            accounts.list_accounts,
            accounts.create_account,
            keys.list_keys,
            keys.create_key,
            keys.rotate_key,
            keys.revoke_key,
            keys.revoke_line,
            limits.list_limits,
            limits.change_limits,
            limits.clear_limits,
            prices.list_prices,
            prices.set_price,
            prices.clear_price,
            bans.list_bans,
            bans.lift_ban,
            usage.report_usage,
            usage.list_newest_requests,
        ],
        dependencies={"plane": Provide(lambda: plane, sync_to_thread=False)},
        exception_handlers=faults.HANDLERS,
        request_max_body_size=BODY_BYTES_MAX,
        openapi_config=None,
        logging_config=None,
        debug=False,
        pdb_on_exception=False,
    )


def _config(app: App) -> uvicorn.Config:
    return uvicorn.Config(
        cast("ASGI3Application", app),
        http=peer.PeerProtocol,
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS_MAX,
    )


class _Server(uvicorn.Server):
    """uvicorn, which tells the supervisor when it listens and takes its socket away when it stops."""

    def __init__(self, config: uvicorn.Config, path: Path) -> None:
        super().__init__(config)
        self._path = path

    async def stop_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        notify.ready()
        logs.log("started", part="control")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        notify.stopping()
        self._path.unlink(missing_ok=True)  # while it still answers: a successor's socket can't be meant
        await super().shutdown(sockets=sockets)
        logs.log("stopped", part="control")
