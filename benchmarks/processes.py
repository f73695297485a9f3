"""CPU time and memory of a process with all its threads and descendants, read from /proc."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")
"""The kernel tells CPU time in ticks of 10 ms: measure a second of CPU or more."""

CPU_FIELDS = slice(11, 15)
"""utime, stime, cutime, cstime in /proc/PID/stat, counted after the command's closing bracket."""


class Sample(msgspec.Struct, frozen=True):
    """What a process tree has used so far."""

    cpu_seconds: float
    memory_peak_mb: float
    processes: int


def sample(root: int) -> Sample:
    """Add up the tree under `root`; ended children count once their parent has waited for them."""
    cpu_seconds, peak_kb, processes = 0.0, 0, 0
    for pid in tree(root):
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            cpu_seconds += sum(map(int, _stat(pid)[CPU_FIELDS])) * TICK_SECONDS
            peak_kb += _peak_kb(pid)
            processes += 1
    return Sample(cpu_seconds, peak_kb / 1024, processes)


def tree(root: int) -> list[int]:
    """The process and all its descendants."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                parent = int(_stat(int(folder.name))[1])
                children.setdefault(parent, []).append(int(folder.name))
    found, todo = list[int](), [root]
    while todo:
        found.append(todo.pop())
        todo += children.get(found[-1], [])
    return found


def forget_peaks(root: int) -> None:
    """Start the peak of the tree's memory anew, as proc(5) offers; where refused, it goes on."""
    for pid in tree(root):
        with contextlib.suppress(OSError):
            Path(f"/proc/{pid}/clear_refs").write_text("5")


def _stat(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/stat").read_bytes().rsplit(b")", 1)[1].split()


def _peak_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0  # a process that has ended but is not waited for has no memory
