"""Starting a server on cores of its own, and stopping it for certain, by its process id."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

STOP_SECONDS_MAX = 10.0
POLL_SECONDS = 0.05
PORTS = (20_000, 32_000)
SETPRIV, TASKSET = shutil.which("setpriv") or "setpriv", shutil.which("taskset") or "taskset"


class DidNotStart(Exception):
    """A server ended, or did not answer in time. Says what it printed last."""


def free_port() -> int:
    """One below those that the kernel gives to outgoing connections: such a one could be gone when it is needed."""
    for port in random.sample(range(*PORTS), k=len(range(*PORTS))):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise DidNotStart("no port is free")


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
    tls: ssl.SSLContext | None = None,
) -> None:
    """Send `request` until its answer is 200."""
    deadline = time.monotonic() + seconds_max
    while not _answers(address, request, tls):
        if server.poll() is not None or time.monotonic() > deadline:
            last = " ".join(log.read_text(errors="replace").splitlines()[-3:])
            how = "ended" if server.poll() is not None else f"did not answer within {seconds_max} s"
            raise DidNotStart(f"{how}; it printed last: {last}")
        time.sleep(POLL_SECONDS)


def _answers(address: tuple[str, int] | str, request: bytes, tls: ssl.SSLContext | None) -> bool:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with contextlib.suppress(OSError), contextlib.ExitStack() as open_sockets:
        client = open_sockets.enter_context(socket.socket(family))
        client.settimeout(5)
        client.connect(address)
        if tls is not None:
            client = open_sockets.enter_context(tls.wrap_socket(client, server_hostname=address[0]))
        client.sendall(request)
        return client.recv(4096).startswith(b"HTTP/1.1 200")
    return False


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, signed by itself, and its key: EC P-256, the kind that costs least to show."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    openssl = shutil.which("openssl")
    if openssl is None:
        raise DidNotStart("openssl is not installed; the targets with TLS need a certificate")
    subprocess.run(  # noqa: S603  # a command of ours
        [
            *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-days", "2", "-subj", "/CN=benchmark", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key
