"""Looks at running processes through /proc: who descends from whom, what they are called, what they listen on."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TCP_LISTEN = "0A"
UDP_OPEN = "07"


@dataclass(frozen=True, order=True)
class Process:
    """`started` tells it from a later one with the same pid."""

    pid: int
    parent: int
    started: int
    title: str

    @property
    def folder(self) -> Path:
        return PROC / str(self.pid)

    def lives(self) -> bool:
        """A zombie doesn't."""
        now = _read(self.pid)
        return now is not None and now.started == self.started

    def text(self, *names: str) -> bytes:
        """Files of its /proc folder, one after the other."""
        pieces: list[bytes] = []
        for name in names:
            with contextlib.suppress(OSError):
                pieces.append((self.folder / name).read_bytes())
        return b"\n".join(pieces)

    def open_files(self) -> set[str]:
        """What its descriptors and its memory point to."""
        found: set[str] = set()
        with contextlib.suppress(OSError):
            for link in (self.folder / "fd").iterdir():
                with contextlib.suppress(OSError):
                    found.add(str(link.readlink()))
        for line in self.text("maps").decode(errors="replace").splitlines():
            found.add(line.split(maxsplit=5)[-1])
        return found


def descendants(pid: int) -> list[Process]:
    """`pid` itself and everything under it."""
    everyone = list(_everyone())
    found = [process for process in everyone if process.pid == pid]
    for process in found:
        found += [child for child in everyone if child.parent == process.pid]
    return found


def resident_bytes(pid: int) -> int:
    """Memory of its own that is in use."""
    return int((PROC / str(pid) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def listening(processes: Collection[Process]) -> set[tuple[str, int]]:
    """Addresses and ports that one of them listens on (TCP) or has open (UDP)."""
    mine = {file for process in processes for file in process.open_files() if file.startswith("socket:")}
    found = (socket for table, state in _NETWORK for socket in _sockets(table, state))
    return {(address, port) for address, port, inode in found if f"socket:[{inode}]" in mine}


def await_true(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Wait until it holds. Fails with `what` once the time is up."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


async def soon(true: Callable[[], object], seconds: float = 5) -> bool:
    """Whether it came true in time; for tests on a loop."""
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    return bool(true())


_NETWORK = (("tcp", TCP_LISTEN), ("tcp6", TCP_LISTEN), ("udp", UDP_OPEN), ("udp6", UDP_OPEN))


def _sockets(table: str, state: str) -> Iterator[tuple[str, int, str]]:
    for line in (PROC / "net" / table).read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == state:
            address, _, port = fields[1].partition(":")
            yield _address(address), int(port, 16), fields[9]


def _address(words: str) -> str:
    """The kernel writes each four bytes of an address as one number in the machine's own order."""
    raw = b"".join(bytes.fromhex(words[at : at + 8])[::-1] for at in range(0, len(words), 8))
    return str(ipaddress.ip_address(raw))


def _everyone() -> Iterator[Process]:
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (process := _read(int(entry.name))):
            yield process


def _read(pid: int) -> Process | None:
    try:
        # The name in parentheses may hold anything; the fields behind its last one are plain.
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        title = (
            (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        )
    except OSError:
        return None
    return None if fields[0] == "Z" else Process(pid, int(fields[1]), int(fields[19]), title)
