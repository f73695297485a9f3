"""admit: the only place that sheds load. An admitted request is in the journal before anything else happens."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Final

from appliance.clock import now_ms, ulid
from appliance.domain import Call, Caller, Reservation, Subject, Used
from appliance.errors import (
    ClientGone,
    InvalidKey,
    LedgerBehind,
    NotReady,
    Overloaded,
    QueueFull,
    QueueLate,
    RequestError,
    ShuttingDown,
)
from appliance.gateway.fair_queue import FairQueue
from appliance.gateway.limits import Book, Hold, Need, Standing
from appliance.store.journal import Journal, OpenRequest
from appliance.store.registry import ModelRecord, RoutingTable

SPARE_TOKENS: Final = 256
"""What a chat template may add to a prompt beyond the bytes of the request."""
CACHED_SUBJECTS_MAX: Final = 10_000
RETRY_SECONDS_MAX: Final = 60

Ask = Callable[[Callable[[], None]], None]
"""Has something called when the caller hangs up."""


class _Waiter:
    """A request in the queue of its model."""

    __slots__ = ("key_id", "turn")

    def __init__(self, key_id: str) -> None:
        self.key_id = key_id
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(self, error: RequestError) -> None:
        if not self.turn.done():
            self.turn.set_exception(error)


class _Deployment:
    """What one model's engines work on, and what waits for them."""

    def __init__(self, queue_max: int) -> None:
        self.capacity = 0
        self.running = 0
        self.queue: FairQueue[_Waiter] = FairQueue(queue_max)
        self.gap_seconds = 1.0
        """Moving mean of the time between two requests that end."""
        self.last_end = 0.0

    def retry_seconds(self) -> int:
        """When a place in the queue should be free: as many ends from now as requests wait."""
        return max(1, min(RETRY_SECONDS_MAX, math.ceil(len(self.queue) * self.gap_seconds)))

    def ended(self, now: float) -> None:
        if self.last_end:
            self.gap_seconds += 0.1 * (min(now - self.last_end, RETRY_SECONDS_MAX) - self.gap_seconds)
        self.last_end = now


class Admission:
    """Reserves what a request may use at most of its caller's limits, then a place at an engine."""

    def __init__(
        self,
        journal: Journal,
        open_max: int,
        book: Book,
        queue_seconds_max: float,
        behind: Callable[[], bool],
    ) -> None:
        """`behind` says whether usage can't be recorded right now."""
        self._journal = journal
        self._open_max = open_max
        self._book = book
        self._queue_seconds_max = queue_seconds_max
        self._behind = behind
        self._deployments: dict[str, _Deployment] = {}
        self._subjects: dict[tuple[str, str], tuple[Subject, ...]] = {}
        self.open = 0
        self.draining = False

    async def admit(
        self, caller: Caller, call: Call, model: ModelRecord, size: int, table: RoutingTable, when_gone: Ask
    ) -> Reservation:
        """Reserve, wait for a place, and journal. `size` is the bytes of the request to the engine.

        Raises a RequestError that says which limit, or ClientGone; then nothing stays reserved.
        """
        if self.draining:
            raise ShuttingDown
        if self.open >= self._open_max:
            raise LedgerBehind if self._behind() else Overloaded
        subjects = self._subjects_of(caller, call.model)
        need = _need(call, model, size, table)
        now = time.time()
        hold = self._book.reserve(subjects, table.limits, need, now)
        deployment = self._deployments.get(call.model) or self._deployment(call.model, table)
        try:
            if deployment.capacity and (deployment.running >= deployment.capacity or deployment.queue):
                await self._wait(deployment, caller, when_gone)
                now = time.time()  # the book takes a time of long ago for a clock that was set back
            else:
                deployment.running += 1
        except BaseException:
            self._book.cancel(hold)
            raise
        standing = self._book.standing(subjects, table.limits, now) if table.limits else None
        try:
            return self._journalled(caller, call, hold, standing)
        except BaseException:
            self._book.cancel(hold)
            self._free(deployment)
            raise

    def leave(self, reservation: Reservation, used: Used) -> None:
        """A request has ended, once for each: what it held and did not use is free again."""
        self.open -= 1
        hold = reservation.hold
        assert isinstance(hold, Hold)
        self._book.settle(hold, *used)
        deployment = self._deployments[reservation.call.model]
        deployment.ended(time.monotonic())
        self._free(deployment)

    def follow(self, table: RoutingTable) -> None:
        """Go by the registry: more engines take more at once; who waits with a revoked key waits no more."""
        for name in self._deployments:
            self._deployment(name, table)
        for deployment in self._deployments.values():
            for waiter in list(deployment.queue):
                if waiter.key_id not in table.keys:
                    deployment.queue.remove(waiter)
                    waiter.end(InvalidKey())

    def prune(self, now: float) -> None:
        """Forget counts that can't matter any more."""
        self._book.prune(now)

    def waiting(self) -> dict[str, int]:
        """Requests in each model's queue."""
        return {name: len(deployment.queue) for name, deployment in self._deployments.items()}

    async def _wait(self, deployment: _Deployment, caller: Caller, when_gone: Ask) -> None:
        """Until it is this request's turn; then its place counts as taken."""
        waiter = _Waiter(caller.key_id)
        try:
            displaced = deployment.queue.push(caller.account_id, waiter)
        except QueueFull:
            raise QueueFull(retry_after_seconds=deployment.retry_seconds()) from None
        if displaced is not None:
            displaced.end(QueueFull(retry_after_seconds=deployment.retry_seconds()))
        when_gone(lambda: waiter.end(ClientGone()))
        try:
            async with asyncio.timeout(self._queue_seconds_max):
                await waiter.turn
        except BaseException as error:
            deployment.queue.remove(waiter)
            if waiter.turn.done() and not waiter.turn.cancelled() and waiter.turn.exception() is None:
                self._free(deployment)  # called up at the very moment it gave up
            if isinstance(error, TimeoutError):
                raise QueueLate(retry_after_seconds=deployment.retry_seconds()) from None
            raise

    def _free(self, deployment: _Deployment) -> None:
        """A place is free: the next in the queue takes it."""
        deployment.running -= 1
        self._serve_queue(deployment)

    def _serve_queue(self, deployment: _Deployment) -> None:
        while deployment.queue and deployment.running < deployment.capacity:
            waiter = deployment.queue.pop()
            if waiter is not None and not waiter.turn.done():
                deployment.running += 1
                waiter.turn.set_result(None)

    def _deployment(self, name: str, table: RoutingTable) -> _Deployment:
        model = table.models.get(name)
        deployment = self._deployments.get(name)
        if deployment is None:
            deployment = self._deployments[name] = _Deployment(model.queue_max if model else 1)
        engines = len(table.engines.get(name, ()))
        deployment.capacity = engines * model.sequences_max if model else 0
        if not deployment.capacity:
            for waiter in list(deployment.queue):  # nobody will ever call them up
                deployment.queue.remove(waiter)
                waiter.end(NotReady())
        self._serve_queue(deployment)
        return deployment

    def _subjects_of(self, caller: Caller, model: str) -> tuple[Subject, ...]:
        found = self._subjects.get((caller.key_id, model))
        if found is None:
            if len(self._subjects) >= CACHED_SUBJECTS_MAX:
                self._subjects.clear()
            found = subjects_of(caller.origin, caller.account_id, model)
            self._subjects[(caller.key_id, model)] = found
        return found

    def _journalled(self, caller: Caller, call: Call, hold: Hold, standing: Standing | None) -> Reservation:
        ts_start_ms = now_ms()
        request_id = ulid(ts_start_ms)
        slot = self._journal.open(OpenRequest(ts_start_ms, request_id, call.model, call.model, caller.key_id))
        if slot is None:
            raise LedgerBehind if self._behind() else Overloaded
        self.open += 1
        head = _head(standing) if standing is not None else b""
        return Reservation(slot, request_id, caller, call, ts_start_ms, time.monotonic_ns(), hold, head)


def subjects_of(origin: str, account_id: str, model: str) -> tuple[Subject, ...]:
    """Whose limits a request counts against."""
    return (Subject("key", origin), Subject("account", account_id), Subject("model", model))


def _need(call: Call, model: ModelRecord, size: int, table: RoutingTable) -> Need:
    """The most that a request can use. A token stands for a byte at least, so its bytes bound its tokens."""
    context = model.max_context
    input_tokens = context if call.images else size + SPARE_TOKENS
    if call.choices == 1 and call.output_tokens_max != 0:
        input_tokens = min(input_tokens, context)
    each = context if call.output_tokens_max is None else min(call.output_tokens_max, context)
    output_tokens = each * call.choices
    price = table.prices.get(call.model)
    cost_micros = price.cost_micros(input_tokens, output_tokens) if price else 0
    return Need(input_tokens, output_tokens, cost_micros)


def _head(standing: Standing) -> bytes:
    """OpenAI's `x-ratelimit-*` headers."""
    requests, tokens = standing
    head = b""
    if requests is not None:
        head = _REQUESTS % requests
    if tokens is not None:
        head += _TOKENS % tokens
    return head


_REQUESTS: Final = (
    b"x-ratelimit-limit-requests: %d\r\n"
    b"x-ratelimit-remaining-requests: %d\r\n"
    b"x-ratelimit-reset-requests: %ds\r\n"
)
_TOKENS: Final = _REQUESTS.replace(b"requests", b"tokens")
