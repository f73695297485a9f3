"""One inference request in a straight line: identify, parse, permit, admit, choose, relay, charge."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from appliance.domain import Call, Reservation
from appliance.engine.client import EngineClient
from appliance.errors import RequestError, ShuttingDown
from appliance.gateway import auth, policy, requests
from appliance.gateway.admission import Admission
from appliance.gateway.asgi import Receive, Scope, Send
from appliance.gateway.meter import Meter
from appliance.gateway.relay import Relay
from appliance.gateway.routing import Routing
from appliance.metrics import Metrics
from appliance.privacy.content import Content
from appliance.privacy.logs import log
from appliance.store.journal import Journal
from appliance.store.registry import RoutingTable


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One inference API: how its body is read, and where an engine serves it."""

    parse: Callable[[bytes], tuple[Call, Content]]
    engine_path: str


@dataclass(slots=True)
class Gateway:
    """Everything a request passes through, built once in `server.py`."""

    table: RoutingTable
    """Keys, models and ready engines, replaced whole when the registry changes."""
    admission: Admission
    routing: Routing
    engines: EngineClient
    meter: Meter
    metrics: Metrics
    journal: Journal
    body_bytes_max: int
    body_seconds_max: float

    async def serve(self, endpoint: Endpoint, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Raises RequestError while nothing has been admitted; afterwards nothing."""
        caller = auth.identify(scope["headers"], self.table.keys)
        requests.check(scope, self.body_bytes_max)
        body = await requests.read_body(receive, self.body_bytes_max, self.body_seconds_max)
        call, content = endpoint.parse(body)
        policy.permit(call, self.table.models)
        for_engine = content.for_engine(policy.cache_salt(caller, call))
        reservation = self.admission.admit(caller, call)
        await self._answer(endpoint, reservation, for_engine, receive, send)

    async def _answer(
        self, endpoint: Endpoint, reservation: Reservation, body: bytes, receive: Receive, send: Send
    ) -> None:
        call = reservation.call
        relay = Relay(
            send, reservation.request_id, call, lambda usage: self.journal.note(reservation.slot, usage)
        )
        try:
            with self.routing.choose(call, self.table.engines) as engine:
                connection = await self.engines.open_stream(engine.socket, endpoint.engine_path, body, relay)
                await relay.run(connection, receive)
        except RequestError as error:
            relay.fail(error)
            await relay.finish(receive)
        except asyncio.CancelledError:
            relay.fail(ShuttingDown())
            raise
        except Exception as error:  # noqa: BLE001  # a bug of ours ends this request only, and quotes nothing of it
            log("request_failed", error=type(error).__name__.lower()[:64])
            relay.fail(RequestError())
            await relay.finish(receive)
        finally:
            relay.close()
            self.admission.leave()
            self.meter.charge(reservation, relay.outcome())
