"""Adopts what dying children leave behind, so that nothing of the appliance outlives it."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

PR_SET_CHILD_SUBREAPER = 36
GRACE_SECONDS: Final = 5.0
"""Helpers of a dead engine tidy up after it; then they are killed."""


class Orphans:
    """`own` tells the pids that are watched elsewhere."""

    def __init__(self, own: Callable[[], set[int]]) -> None:
        self._own = own
        self._first_seen: dict[int, float] = {}
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def sweep(self, now: float, *, grace_seconds: float = GRACE_SECONDS) -> int:
        """Reap the dead, kill the ones whose time is up; how many are left."""
        found = [pid for pid in _children() if pid not in self._own()]
        self._first_seen = {pid: self._first_seen.get(pid, now) for pid in found}
        left = 0
        for pid, since in self._first_seen.items():
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                if now - since >= grace_seconds:
                    os.kill(pid, signal.SIGKILL)
                left += os.waitpid(pid, os.WNOHANG)[0] == 0
        return left

    async def settle(self) -> None:
        """At the very end: grace for all, then none is left."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + GRACE_SECONDS
        while self.sweep(loop.time()) and loop.time() < deadline:  # noqa: ASYNC110  # they are not ours to await
            await asyncio.sleep(0.05)
        while self.sweep(loop.time(), grace_seconds=0):  # noqa: ASYNC110  # see above
            await asyncio.sleep(0.01)


def _children() -> list[int]:
    """Children of this process, read from /proc: not every kernel lists them in one file."""
    mine: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # The name in parentheses may hold anything; the fields behind its last one are plain.
                fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
                if int(fields[1]) == os.getpid():
                    mine.append(int(entry.name))
    return mine
