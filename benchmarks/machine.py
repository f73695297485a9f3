"""What machine the figures were taken on, and which of its cores did what."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

import msgspec

SOFTWARE = ("uvicorn", "uvloop", "httptools", "litestar", "msgspec")


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """The facts that figures depend on."""

    cpu: str
    cores: int
    memory_gb: int
    kernel: str
    system: str
    load_average: float
    """Over a minute, before anything was started: what else the machine was doing."""
    gateway_cores: str
    harness_cores: str
    software: dict[str, str]


def cores() -> tuple[list[int], list[int]]:
    """The gateway's core, and the others for engine and client; where there is one, all share it."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[-1:], usable[:-1] or usable


def here() -> Machine:
    gateway, harness = cores()
    return Machine(
        cpu=_line("/proc/cpuinfo", "model name"),
        cores=len({*gateway, *harness}),
        memory_gb=round(int(_line("/proc/meminfo", "MemTotal").split()[0]) / 1024**2),
        kernel=platform.release(),
        system=platform.freedesktop_os_release().get("PRETTY_NAME", "unknown"),
        load_average=os.getloadavg()[0],
        gateway_cores=",".join(map(str, gateway)),
        harness_cores=",".join(map(str, harness)),
        software={"Python": platform.python_version()} | {name: metadata.version(name) for name in SOFTWARE},
    )


def text(machine: Machine) -> str:
    """The facts as a paragraph."""
    software = ", ".join(f"{name} {version}" for name, version in machine.software.items())
    return (
        f"{machine.cpu}, {machine.cores} cores, {machine.memory_gb} GB, Linux {machine.kernel}, {machine.system}.\n"
        f"{software}.\n"
        f"Gateway on core {machine.gateway_cores}, scripted engine and client on core {machine.harness_cores}; "
        f"load average {machine.load_average:.1f} before the start."
    )


def _line(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        if line.startswith(name):
            return line.partition(":")[2].strip()
    return "unknown"
