"""The rules of an engine's life: when to try again, when to give up, when silence means it hangs. Pure: no clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Hashable

EXIT_FINAL: Final = frozenset({66, 69, 78})
"""Exit codes of a part that trying again can't mend: files missing, environment broken, configuration wrong."""

STEADY_SECONDS: Final = 60.0
"""A part that served this long before it died is tried again without delay."""


class Restarts:
    """How long to wait before a dead part is started again, and when to stop trying."""

    def __init__(
        self, *, delay_seconds_min: float, delay_seconds_max: float, in_a_row_max: int | None = None
    ) -> None:
        self._min = delay_seconds_min
        self._max = delay_seconds_max
        self._in_a_row_max = in_a_row_max
        self._delay = delay_seconds_min
        self._in_a_row = 0
        self.total = 0

    def reset(self) -> None:
        """Somebody asked for a fresh start."""
        self._delay = self._min
        self._in_a_row = 0
        self.total = 0

    def became_ready(self) -> None:
        self._in_a_row = 0

    def next_delay(self, exit_code: int | None, ready_seconds: float) -> float | None:
        """Seconds until the next try after a death that came `ready_seconds` after READY, or None to give up."""
        bounded = self._in_a_row_max is not None
        if bounded and (exit_code in EXIT_FINAL or self._in_a_row >= (self._in_a_row_max or 0)):
            return None
        if ready_seconds >= STEADY_SECONDS:
            self._delay = self._min
        delay = self._delay
        self._delay = min(self._delay * 2, self._max)
        self._in_a_row += 1
        self.total += 1
        return delay


@dataclass(slots=True)
class Progress:
    """Notices an engine that has work and does none: its fingerprint stays the same for `stall_seconds_max`."""

    stall_seconds_max: float
    _last: Hashable = None
    _since: float = 0.0

    def stalled(self, *, busy: bool, fingerprint: Hashable, now: float) -> bool:
        """Tell what was seen at `now` (seconds of any steady clock). True once the silence is too long."""
        if not busy or fingerprint != self._last:
            self._last = fingerprint
            self._since = now
            return False
        return now - self._since >= self.stall_seconds_max
