"""choose: which ready engine takes a call, and which next if that one fails before it has answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final, Self

from appliance.domain import Call, Engine
from appliance.errors import NotReady

TRIES_MAX: Final = 3
"""Engines that one request is offered to."""
SUSPECT_SECONDS: Final = 1.0
SUSPECT_SECONDS_MAX: Final = 30.0


class Route:
    """One request's way through the replicas of its model: inside `with`, it counts as work of its engine."""

    __slots__ = ("_left", "_routing", "engine")

    def __init__(self, routing: Routing, engine: Engine, left: list[Engine]) -> None:
        self._routing = routing
        self._left = left
        self.engine = engine

    def __enter__(self) -> Self:
        self._routing.begin(self.engine)
        return self

    def __exit__(self, *_: object) -> None:
        self._routing.end(self.engine)

    @property
    def last(self) -> bool:
        """Whether there is no other engine to try."""
        return not self._left

    def next(self, now: float, *, suspect: bool = True) -> None:
        """Leave an engine for another one, and suspect it if it failed. Only where this is not the last."""
        if suspect:
            self._routing.suspect(self.engine, now)
        self._routing.end(self.engine)
        self.engine = self._left.pop(0)
        self._routing.begin(self.engine)


class Routing:
    """Picks the replica with the fewest requests of ours in flight; one that failed lately comes last.

    An engine becomes suspect when it fails before it has answered, for a second, and twice as long each time;
    the gateway asks it for its health when that time is over (`due`), and it is trusted again once it answers.
    """

    def __init__(self) -> None:
        self._in_flight: Counter[str] = Counter()
        self._suspects: dict[str, tuple[float, float]] = {}
        """By name: when to look again, and for how long it was suspect."""

    def choose(self, call: Call, engines: Mapping[str, tuple[Engine, ...]]) -> Route:
        """A way through the ready engines of the call's model. Raises NotReady."""
        ready = engines.get(call.model)
        if not ready:
            raise NotReady
        if len(ready) == 1:
            return Route(self, ready[0], [])
        best = sorted(ready, key=lambda one: (one.name in self._suspects, self._in_flight[one.name]))
        return Route(self, best[0], best[1:TRIES_MAX])

    def begin(self, engine: Engine) -> None:
        self._in_flight[engine.name] += 1

    def end(self, engine: Engine) -> None:
        self._in_flight[engine.name] -= 1

    def suspect(self, engine: Engine, now: float) -> None:
        """The engine failed before it had answered anything. What else it failed meanwhile is the same failure."""
        again, seconds = self._suspects.get(engine.name, (0.0, SUSPECT_SECONDS / 2))
        if now < again:
            return
        seconds = min(2 * seconds, SUSPECT_SECONDS_MAX)
        self._suspects[engine.name] = (now + seconds, seconds)

    def trust(self, engine: Engine) -> None:
        """The engine has answered."""
        self._suspects.pop(engine.name, None)

    def due(self, engines: Mapping[str, tuple[Engine, ...]], now: float) -> list[Engine]:
        """Suspects to look at now. Those that are gone are forgotten."""
        known = {engine.name: engine for ready in engines.values() for engine in ready}
        for name in self._suspects.keys() - known.keys():
            del self._suspects[name]
        return [known[name] for name, (again, _) in self._suspects.items() if again <= now]

    def in_flight(self, engine: str) -> int:
        return self._in_flight[engine]
