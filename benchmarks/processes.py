"""CPU time and memory of a process with all its threads and descendants, read from the kernel."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import msgspec

TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")
"""In ticks of 10 ms the kernel tells the CPU time of children that have ended."""

ENDED_FIELDS = slice(13, 15)
"""cutime, cstime in /proc/PID/stat, counted after the command's closing bracket."""

CLOCK_OF_ALL_THREADS = 2
"""CPUCLOCK_SCHED of the kernel's posix-timers.h: what clock_getcpuclockid(3) makes of a process id."""


class Sample(msgspec.Struct, frozen=True):
    """What a process tree has used so far."""

    cpu_seconds: float
    memory_peak_mb: float
    processes: int
    memory_mb: float = 0
    """What is resident now."""
    files: int = 0
    """Open descriptors."""


def sample(root: int) -> Sample:
    """Add up the tree under `root`; ended children count once their parent has waited for them."""
    cpu_seconds, peak_kb, resident_kb, processes, files = 0.0, 0, 0, 0, 0
    for pid in tree(root):
        with contextlib.suppress(OSError):  # it may end at any moment
            cpu_seconds += _cpu_seconds(pid)
            status = _status_kb(pid)
            peak_kb += status.get("VmHWM", 0)
            resident_kb += status.get("VmRSS", 0)
            files += sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
            processes += 1
    return Sample(cpu_seconds, peak_kb / 1024, processes, resident_kb / 1024, files)


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


def _cpu_seconds(pid: int) -> float:
    """The process's own clock, which is exact to the nanosecond, and what its ended children used."""
    own_ns = time.clock_gettime_ns((~pid << 3) | CLOCK_OF_ALL_THREADS)
    return own_ns / 1e9 + sum(map(int, _stat(pid)[ENDED_FIELDS])) * TICK_SECONDS


def _stat(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/stat").read_bytes().rsplit(b")", 1)[1].split()


def _status_kb(pid: int) -> dict[str, int]:
    """The lines of /proc/PID/status that tell of memory; a process that has ended but is not waited for has none."""
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) for words in lines if words[-1] == "kB"}
