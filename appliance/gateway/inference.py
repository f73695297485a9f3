"""One inference request in a straight line: identify, parse, permit, admit, choose, relay, charge."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from appliance.clock import now_ms
from appliance.domain import Call, Caller, Reservation
from appliance.engine.client import EngineClient
from appliance.errors import ClientGone, InvalidKey, KeyRevoked, NotReady, RequestError, ShuttingDown
from appliance.gateway import answers, auth, policy, requests, shape
from appliance.gateway.admission import Admission
from appliance.gateway.answers import ErrorShape
from appliance.gateway.exchange import Exchange
from appliance.gateway.guard import Guard
from appliance.gateway.meter import Meter
from appliance.gateway.relay import Relay
from appliance.gateway.routing import Route, Routing
from appliance.metrics import Metrics
from appliance.privacy.content import Content, Translator
from appliance.privacy.logs import log
from appliance.store.journal import Journal
from appliance.store.registry import KeyRecord, RoutingTable

LARGE_BYTES_MIN: Final = 64 * 1024
"""Bodies from here on are worked on in steps of milliseconds, one of all bodies a round of the event loop."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One inference API: how its body is read, where an engine serves it, and how it tells of failures."""

    parse: Callable[[bytes], tuple[Call, Content]]
    engine_path: str
    errors: ErrorShape = answers.OPENAI
    queries: tuple[bytes, ...] = (b"",)
    """Query strings it may be asked with: they change nothing."""


@dataclass(slots=True)
class Gateway:
    """Everything a request passes through, built once in `server.py`."""

    table: RoutingTable
    """Keys, models, limits and ready engines, replaced whole when the registry changes: see `follow`."""
    guard: Guard
    admission: Admission
    routing: Routing
    engines: EngineClient
    meter: Meter
    metrics: Metrics
    journal: Journal
    body_bytes_max: int
    _running: dict[int, Relay] = field(default_factory=dict[int, Relay])
    """Requests in flight, by their place in the journal."""
    _large: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def serve(self, endpoint: Endpoint, exchange: Exchange) -> None:
        """Answer one request. Raises nothing but the task's own cancellation."""
        try:
            admitted = await self._admit(endpoint, exchange)
        except ClientGone:
            return
        except asyncio.CancelledError:
            self._refuse(endpoint, exchange, ShuttingDown())
            raise
        except RequestError as error:
            self._refuse(endpoint, exchange, error)
            await exchange.over()
        except Exception as error:  # noqa: BLE001  # a bug of ours ends this request only, and quotes nothing of it
            log("request_failed", error=type(error).__name__.lower()[:64])
            self._refuse(endpoint, exchange, RequestError())
            await exchange.over()
        else:
            await self._answer(endpoint, exchange, *admitted)

    async def _admit(
        self, endpoint: Endpoint, exchange: Exchange
    ) -> tuple[Reservation, bytes, Translator | None]:
        """The request path as far as it can be refused: its place, its body for the engine, its protocol."""
        caller = await self.identify(exchange.headers, exchange.source)
        requests.check(exchange, self.body_bytes_max, endpoint.queries)
        body = await exchange.body()
        await self._turn(body)
        shape.check(body)
        await self._turn(body)
        call, content = endpoint.parse(body)
        model = policy.permit(caller, call, self.table)
        await self._turn(body)
        for_engine = content.for_engine(policy.cache_salt(caller, call))
        await self._turn(body)
        reservation = await self.admission.admit(
            caller, call, model, len(for_engine), self.table, exchange.when_gone
        )
        return reservation, for_engine, content.translator(reservation.request_id)

    def _refuse(self, endpoint: Endpoint, exchange: Exchange, error: RequestError) -> None:
        self.metrics.refusals.labels(error.reason).inc()
        body = endpoint.errors.body(error, None)
        exchange.start(error.status, answers.error_head(error, None), len(body))
        exchange.write(body)
        exchange.end()

    async def _turn(self, body: bytes) -> None:
        """Before a step that takes long with a large body: wait for a round of the loop in which no other takes one."""
        if len(body) > LARGE_BYTES_MIN:
            await asyncio.sleep(0)  # what came due during the step before is called,
            await asyncio.sleep(0)  # and the tasks that it woke run
            await self._large.acquire()
            asyncio.get_running_loop().call_soon(self._large.release)

    def follow(self, table: RoutingTable) -> None:
        """Go by what the registry says now. A revoked key ends what waits and what runs with it.

        One that has expired ends nothing that runs: else it would end with the registry's next change of any kind.
        """
        before, self.table = self.table.keys, table
        self.engines.keep_only({engine.socket for ready in table.engines.values() for engine in ready})
        self.admission.follow(table)
        for relay in list(self._running.values()):
            key = before.get(relay.key_id)
            if key is not None and key.key_id not in table.keys and not _has_expired(key):
                relay.fail(KeyRevoked())

    async def identify(self, headers: Mapping[bytes, bytes], source: str | None) -> Caller:
        """Who asks. A source that guesses keys is answered late, then not at all. Raises InvalidKey or Banned."""
        self.guard.check(source, time.time())
        try:
            return auth.identify(headers, source, self.table.by_digest)
        except InvalidKey:
            if delay_seconds := self.guard.failed(source, time.time()):
                await asyncio.sleep(delay_seconds)
            raise

    def publish(self) -> None:
        """Bring up to date what is counted elsewhere and only shown in the metrics."""
        self.metrics.open.set(self.admission.open)
        self.metrics.banned.set(len(self.guard.banned(time.time())))
        for model, count in self.admission.waiting().items():
            self.metrics.waiting.labels(model).set(count)

    async def _answer(
        self,
        endpoint: Endpoint,
        exchange: Exchange,
        reservation: Reservation,
        body: bytes,
        translator: Translator | None,
    ) -> None:
        slot = reservation.slot
        price = self.table.prices.get(reservation.call.model)
        relay = Relay(exchange, reservation, partial(self.journal.note, slot), translator, endpoint.errors)
        self._running[slot] = relay
        try:
            with self.routing.choose(reservation.call, self.table.engines) as route:
                await self._ask(route, endpoint.engine_path, body, relay)
        except RequestError as error:
            relay.fail(error)
            await relay.finish()
        except asyncio.CancelledError:
            relay.fail(ShuttingDown())
            raise
        except Exception as error:  # noqa: BLE001  # a bug of ours ends this request only, and quotes nothing of it
            log("request_failed", error=type(error).__name__.lower()[:64])
            relay.fail(RequestError())
            await relay.finish()
        finally:
            relay.close()
            del self._running[slot]
            used = self.meter.charge(reservation, relay.outcome(), price)
            self.admission.leave(reservation, used)

    async def _ask(self, route: Route, path: str, body: bytes, relay: Relay) -> None:
        """Relay an engine's answer. One that fails before it has said anything is left for the next."""
        if relay.key_id not in self.table.keys:
            raise KeyRevoked  # between its turn in the queue and now
        fresh = False
        while True:
            try:
                pool = self.engines.pool(route.engine.socket)
                connection = await pool.open_stream(path, body, relay, fresh=fresh)
            except NotReady:
                if route.last:
                    raise
                route.next(time.monotonic())
                continue
            relay.may_retry(lost=connection.reused or not route.last, refused=not route.last)
            await relay.run(connection)
            if not relay.unheard:
                return
            fresh = relay.unheard == "lost" and connection.reused
            if not fresh:
                route.next(time.monotonic(), suspect=relay.unheard == "lost")


def _has_expired(key: KeyRecord) -> bool:
    return key.expires_at_ms is not None and key.expires_at_ms <= now_ms()
