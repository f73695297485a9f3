"""What every test lives with: no network but this machine's own, and a clean environment."""

from __future__ import annotations

import ipaddress
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

NETWORK_EVENTS = {"socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo"}


class NetworkUsedError(BaseException):
    """A test reached for the network. A BaseException, so that no retry or fallback can swallow it."""


def _is_local(host: object) -> bool:
    if host in (None, "", b"", "localhost", b"localhost"):
        return True
    try:
        return ipaddress.ip_address(host.decode() if isinstance(host, bytes) else str(host)).is_loopback
    except ValueError:
        return False


def _refuse_network(event: str, args: tuple[Any, ...]) -> None:
    """Audit hook of Python's own sockets. Child processes and uvloop's C code are beyond it."""
    if event not in NETWORK_EVENTS:
        return
    address: Any = args[0] if event == "socket.getaddrinfo" else args[1]
    host: object = address
    if event != "socket.getaddrinfo":
        if not isinstance(address, tuple):
            return  # a unix socket's path, or a datagram on a connected socket
        host = cast("tuple[object, ...]", address)[0]
    if not _is_local(host):
        raise NetworkUsedError(f"{event}: tests may use loopback and unix sockets only")


def pytest_configure() -> None:
    """Shut the network before any test module is imported."""
    sys.addaudithook(_refuse_network)
    for name in [
        name for name in os.environ if name.startswith("INFERFLY_") and not name.startswith("INFERFLY_TEST_")
    ]:
        del os.environ[name]  # a developer's own settings are not the tests' settings


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """An empty folder whose path leaves room for a unix socket's name, as pytest's own does not."""
    with tempfile.TemporaryDirectory(prefix="ifly-") as folder:
        yield Path(folder)


@pytest.fixture
def working_folder(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in."""
    monkeypatch.chdir(short_folder)
    return short_folder
