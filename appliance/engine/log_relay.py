"""Takes an engine's sealed log lines off their socket and passes them on to stderr, at a bounded rate."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

LINE_BYTES_MAX: Final = 1024
LINES_PER_MINUTE_MAX: Final = 60


class LogRelay:
    """A line over the rate is dropped, but still counts as the last error."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._take)
        self._minute = 0
        self._lines = 0
        self.last_error = ""
        """Template of the last line at level error: a constant of vLLM's source."""

    def close(self) -> None:
        if self._socket.fileno() < 0:
            return
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _take(self) -> None:
        try:
            line = self._socket.recv(LINE_BYTES_MAX)
        except BlockingIOError:
            return
        try:
            fields: dict[str, object] = json.loads(line)
        except ValueError:
            return  # cut off: longer than any line of ours
        if fields.get("level") in ("error", "critical"):
            self.last_error = str(fields.get("template", ""))
        if self._admit():
            sys.stderr.write(line.decode() + "\n")
            sys.stderr.flush()

    def _admit(self) -> bool:
        minute = int(self._loop.time() // 60)
        if minute != self._minute:
            self._minute, self._lines = minute, 0
        self._lines += 1
        return self._lines <= LINES_PER_MINUTE_MAX
