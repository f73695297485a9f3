"""choose: which ready engine takes this call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from appliance.domain import Call, Engine
from appliance.errors import NotReady


class Routing:
    """Picks the replica with the fewest requests of ours in flight."""

    def __init__(self) -> None:
        self._in_flight: Counter[str] = Counter()

    @contextmanager
    def choose(self, call: Call, engines: Mapping[str, tuple[Engine, ...]]) -> Iterator[Engine]:
        """A ready engine of the call's model, counted as busy meanwhile. Raises NotReady."""
        ready = engines.get(call.model)
        if not ready:
            raise NotReady
        engine = ready[0] if len(ready) == 1 else min(ready, key=lambda one: self._in_flight[one.name])
        self._in_flight[engine.name] += 1
        try:
            yield engine
        finally:
            self._in_flight[engine.name] -= 1
