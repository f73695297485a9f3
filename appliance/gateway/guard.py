"""The guard against guessing keys: who sends wrong ones is slowed down, then banned for a while."""

from __future__ import annotations

import math
from collections import OrderedDict
from functools import lru_cache
from ipaddress import IPv6Address
from typing import NamedTuple

from appliance.errors import Banned

_FREE_FAILURES = 3
"""Wrong keys in a row that are answered at once: a typing error, an old key in one of many processes."""

_DELAY_FIRST_SECONDS = 0.125
DELAY_MAX_SECONDS = 2.0


class Ban(NamedTuple):
    """A source whose requests are refused unseen."""

    source: str
    """An IPv4 address or an IPv6 network."""
    since_ms: int
    until_ms: int
    failures: int
    """Wrong keys that led to it, and those that were on their way when it began."""


class Guard:
    """Counts wrong keys by source. A good key clears nothing: who holds one could go on guessing others.

    At most `sources_max` are remembered. A ban is never forgotten for want of room, so many addresses can neither
    fill the memory nor lift a ban.
    """

    def __init__(
        self,
        *,
        failures_max: int = 20,
        window_seconds: float = 60,
        ban_seconds: float = 900,
        sources_max: int = 10_000,
    ) -> None:
        self._failures_max = failures_max
        self._window_seconds = window_seconds
        self._ban_seconds = ban_seconds
        self._sources_max = sources_max
        self._failures: OrderedDict[str, list[float]] = OrderedDict()
        """Times of the wrong keys within the window; who failed last is last."""
        self._bans: OrderedDict[str, Ban] = OrderedDict()
        """Who was banned first is first."""

    def check(self, source: str | None, now: float) -> None:
        """Raise Banned if this address is. None is a unix socket, which only this machine reaches: never banned."""
        if not self._bans or source is None:
            return
        ban = self._bans.get(network_of(source))
        if ban is not None and _runs(ban, now):
            raise Banned(retry_after_seconds=math.ceil(ban.until_ms / 1000 - now))

    def failed(self, source: str | None, now: float) -> float:
        """Count a wrong key. Gives the seconds by which its answer is to be delayed."""
        if source is None:
            return 0.0
        self._forget(now)
        network = network_of(source)
        ban = self._bans.get(network)
        if ban is not None and _runs(ban, now):
            self._bans[network] = ban._replace(failures=ban.failures + 1)
            return DELAY_MAX_SECONDS
        times = self._failures.pop(network, None)
        if times is None:
            if not self._has_room():
                return DELAY_MAX_SECONDS
            times = []
        times = [time for time in times if now - self._window_seconds < time <= now]
        times.append(now)
        if len(times) >= self._failures_max:
            since_ms = int(now * 1000)
            self._bans[network] = Ban(network, since_ms, since_ms + int(self._ban_seconds * 1000), len(times))
            return DELAY_MAX_SECONDS
        self._failures[network] = times
        return _delay_seconds(len(times))

    def banned(self, now: float) -> list[Ban]:
        """All bans that still run, the oldest first."""
        self._forget(now)
        return [ban for ban in self._bans.values() if _runs(ban, now)]

    def lift(self, source: str) -> bool:
        """End a ban, named by its source or any address in it. Whether there was one."""
        return (
            self._bans.pop(source, None) is not None or self._bans.pop(network_of(source), None) is not None
        )

    def _has_room(self) -> bool:
        """Make room for one more source by forgetting the one whose last wrong key is the oldest."""
        if len(self._failures) + len(self._bans) < self._sources_max:
            return True
        if not self._failures:
            return False
        self._failures.popitem(last=False)
        return True

    def _forget(self, now: float) -> None:
        """Drop bans that ended and wrong keys that left the window."""
        while self._bans and not _runs(next(iter(self._bans.values())), now):
            self._bans.popitem(last=False)
        while self._failures and next(iter(self._failures.values()))[-1] <= now - self._window_seconds:
            self._failures.popitem(last=False)


def _runs(ban: Ban, now: float) -> bool:
    """A clock that was set back ends the bans of the time that it had been wrong: nobody has to wait for it."""
    return ban.since_ms <= now * 1000 < ban.until_ms


def _delay_seconds(failures: int) -> float:
    if failures <= _FREE_FAILURES:
        return 0.0
    return min(DELAY_MAX_SECONDS, _DELAY_FIRST_SECONDS * 2 ** min(failures - _FREE_FAILURES - 1, 8))


@lru_cache(maxsize=4096)
def network_of(source: str) -> str:
    """What is banned for this address: itself, or its /64, which one subscriber usually holds as a whole."""
    if ":" not in source:
        return source
    try:
        address = IPv6Address(source)
    except ValueError:
        return source
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{IPv6Address(int(address) >> 64 << 64)}/64"
