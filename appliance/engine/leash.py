"""Runs a program on a leash: it dies with its parent, leaves no core dump and finds its listening socket at fd 3.

Stdlib only, run as a script: `python -I -S leash.py PARENT_PID LISTEN_FD|- PROGRAM ARGUMENTS...`.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1
LISTEN_FD = 3
"""Where the LISTEN_FDS protocol (sd_listen_fds(3)) puts the first socket."""


def main(argv: list[str]) -> None:
    parent, listen = int(argv[1]), argv[2]
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # A parent that died before the line above never sends the signal.
    if os.getppid() != parent:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if listen != "-":
        _hand_over(int(listen))
    os.execv(argv[3], argv[3:])  # noqa: S606  # the whole purpose of this file


def _hand_over(listen: int) -> None:
    if listen != LISTEN_FD:
        os.dup2(listen, LISTEN_FD)
        os.close(listen)
    os.set_inheritable(LISTEN_FD, True)  # noqa: FBT003  # the stdlib takes it by position
    os.environ["LISTEN_FDS"] = "1"
    os.environ["LISTEN_PID"] = str(os.getpid())


if __name__ == "__main__":
    main(sys.argv)
