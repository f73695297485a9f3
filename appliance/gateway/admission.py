"""admit: the only place that sheds load. An admitted request is in the journal before anything else happens."""

from __future__ import annotations

import time

from appliance.clock import now_ms, ulid
from appliance.domain import Call, Caller, Reservation
from appliance.errors import Overloaded, ShuttingDown
from appliance.store.journal import Journal, OpenRequest


class Admission:
    """Counts requests in flight and stops at the journal's size."""

    def __init__(self, journal: Journal, open_max: int) -> None:
        self._journal = journal
        self._open_max = open_max
        self.open = 0
        self.draining = False

    def admit(self, caller: Caller, call: Call) -> Reservation:
        """Journal the request. Raises ShuttingDown, or Overloaded when the gateway holds all it can."""
        if self.draining:
            raise ShuttingDown
        if self.open >= self._open_max:
            raise Overloaded
        ts_start_ms = now_ms()
        request_id = ulid(ts_start_ms)
        slot = self._journal.open(OpenRequest(ts_start_ms, request_id, call.model, call.model, caller.key_id))
        if slot is None:
            raise Overloaded
        self.open += 1
        return Reservation(slot, request_id, caller, call, ts_start_ms, time.monotonic_ns())

    def leave(self) -> None:
        """A request has ended; `meter.charge` says so, once for each."""
        self.open -= 1
