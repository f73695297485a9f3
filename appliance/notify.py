"""Tells whoever supervises this process how it is, by the protocol of sd_notify(3); takes over its listening sockets.

Does nothing where nobody supervises.
"""

from __future__ import annotations

import json
import os
import socket
from typing import Final

SEND_SECONDS_MAX: Final = 1.0

LISTEN_FD_FIRST: Final = 3
"""sd_listen_fds(3): the sockets handed over start here."""


def ready() -> None:
    """The part serves."""
    _send("READY=1")


def status(**fields: str | int) -> None:
    """How the part is, as JSON on one line."""
    _send("STATUS=" + json.dumps(fields))


def stopping() -> None:
    """The part has begun to stop."""
    _send("STOPPING=1")


def watchdog() -> None:
    """The part is alive. Who sends this once has to go on sending it, or is taken for hung and killed."""
    _send("WATCHDOG=1")


def listen_sockets() -> list[socket.socket]:
    """The listening sockets that the supervisor opened for this very process, if any."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = int(os.environ.get("LISTEN_FDS", "0"))
    found = [socket.socket(fileno=fd) for fd in range(LISTEN_FD_FIRST, LISTEN_FD_FIRST + count)]
    for listening in found:
        listening.set_inheritable(False)
    return found


def _send(message: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        # A supervisor that is busy for a moment has to hear of READY all the same: its queue holds ten messages.
        sender.settimeout(SEND_SECONDS_MAX)
        try:
            sender.sendto(message.encode(), address)
        except OSError:
            # A supervisor that is gone or overrun must not take the part down with it.
            return
