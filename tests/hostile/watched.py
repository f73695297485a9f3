"""The real gateway with a watch over its event loop. Run in place of `inferfly gateway`: `watched.py HOME BOOK`.

BOOK is a file of eight-byte numbers that a test maps too: see FIELDS.
"""

from __future__ import annotations

import asyncio
import mmap
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from appliance.gateway import server
from appliance.gateway.wire import Door
from appliance.settings import Settings

SAMPLE_SECONDS = 0.002
NUMBER = struct.Struct("d")
FIELDS = ("stall_seconds", "samples", "connections", "sources")
"""The longest stall since a test wrote 0 there; samples taken; connections, and the sources they are from."""


class Watch:
    """Runs on the loop itself, every two milliseconds if it can.

    A gap counts as a stall only as far as the process worked in it: the machine may have had other things to do.
    All threads count, because one that holds the interpreter's lock stalls the loop as well.
    """

    def __init__(self, door: Door, book: mmap.mmap) -> None:
        self._door = door
        self._book = book
        self._loop = asyncio.get_running_loop()
        self._wall, self._worked = self._loop.time(), time.process_time()
        self._samples = 0
        self._sample()

    def _sample(self) -> None:
        wall, worked = self._loop.time(), time.process_time()
        stall = min(wall - self._wall, worked - self._worked)
        self._wall, self._worked = wall, worked
        self._samples += 1
        worst = NUMBER.unpack_from(self._book)[0]
        numbers = (max(stall, worst), self._samples, len(self._door.open), len(self._door.by_source))
        for at, number in enumerate(numbers):
            NUMBER.pack_into(self._book, at * NUMBER.size, number)
        self._loop.call_later(SAMPLE_SECONDS, self._sample)


def main(home: Path, path: Path) -> None:
    serve = server._serve

    async def watched(door: Door, *rest: Any) -> None:
        with path.open("r+b") as file:
            Watch(door, mmap.mmap(file.fileno(), len(FIELDS) * NUMBER.size))
        await serve(door, *rest)

    swap(server, "_serve", watched)
    server.run(Settings.load(home))


def swap(module: object, name: str, part: Callable[..., Any]) -> None:
    vars(module)[name] = part


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
