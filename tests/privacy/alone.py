"""Runs a program in a network of its own, where there is loopback and nothing else: `python alone.py PROGRAM...`."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys
from collections.abc import Mapping
from pathlib import Path

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
IFF_UP = 1
INTERFACE = "16sh14x"

ATTEMPTS = ("Ip OutNoRoutes", "Ip6 OutNoRoutes", "Udp NoPorts", "Udp6 NoPorts")
"""What the kernel counts when something wants out of such a network, or asks a resolver that isn't there."""


def enter() -> None:
    """Leave the machine's network; where root may not do so, a user namespace may."""
    unshare = ctypes.CDLL(None, use_errno=True).unshare
    user, group = os.getuid(), os.getgid()
    if unshare(CLONE_NEWNET) != 0:
        if unshare(CLONE_NEWNET | CLONE_NEWUSER) != 0:
            raise OSError(ctypes.get_errno(), "a network namespace is not to be had here")
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = fcntl.ioctl(any_socket, SIOCGIFFLAGS, struct.pack(INTERFACE, b"lo", 0))
        name, flags = struct.unpack(INTERFACE, request)
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack(INTERFACE, name, flags | IFF_UP))


def attempts(pid: int | str) -> Mapping[str, int]:
    """How often something in the network of `pid` tried to get out."""
    counts: dict[str, int] = {}
    lines = Path(f"/proc/{pid}/net/snmp").read_text().splitlines()
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        kind, *columns = names.split()
        counts |= {
            f"{kind[:-1]} {name}": int(value) for name, value in zip(columns, values.split()[1:], strict=True)
        }
    for line in Path(f"/proc/{pid}/net/snmp6").read_text().splitlines():
        name, value = line.split()
        counts[f"{name.split('6', 1)[0]}6 {name.split('6', 1)[-1]}"] = int(value)
    return {name: counts[name] for name in ATTEMPTS}


if __name__ == "__main__":
    enter()
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606  # the whole purpose of this file
