"""Starting a server on cores of its own, and stopping it for certain, by its process id."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

STOP_SECONDS_MAX = 10.0
POLL_SECONDS = 0.05
SETPRIV, TASKSET = shutil.which("setpriv") or "setpriv", shutil.which("taskset") or "taskset"


class DidNotStart(Exception):
    """A server ended, or did not answer in time. Says what it printed last."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def on_cores(cores: Iterable[int], argv: Sequence[str]) -> list[str]:
    """The command, kept to these cores and ended by the kernel should the benchmark die."""
    return [SETPRIV, "--pdeathsig", "TERM", TASKSET, "-c", ",".join(map(str, cores)), *argv]


@contextlib.contextmanager
def running(argv: Sequence[str], env: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server in its own session; on the way out end all of it."""
    with log.open("wb") as output:
        server = subprocess.Popen(  # noqa: S603  # commands of ours, no shell
            argv, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield server
    finally:
        stop(server)


def stop(server: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the server; to what is left of its session after STOP_SECONDS_MAX, SIGKILL."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(server.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(STOP_SECONDS_MAX)
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def wait_until_answers(
    server: subprocess.Popen[bytes],
    address: tuple[str, int] | str,
    request: bytes,
    log: Path,
    seconds_max: float,
) -> None:
    """Send `request` until its answer is 200."""
    deadline = time.monotonic() + seconds_max
    while not _answers(address, request):
        if server.poll() is not None or time.monotonic() > deadline:
            last = " ".join(log.read_text(errors="replace").splitlines()[-3:])
            how = "ended" if server.poll() is not None else f"did not answer within {seconds_max} s"
            raise DidNotStart(f"{how}; it printed last: {last}")
        time.sleep(POLL_SECONDS)


def _answers(address: tuple[str, int] | str, request: bytes) -> bool:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family) as client:
        client.settimeout(5)
        client.connect(address)
        client.sendall(request)
        return client.recv(4096).startswith(b"HTTP/1.1 200")
    return False
