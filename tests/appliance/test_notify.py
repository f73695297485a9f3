import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from appliance import notify


@pytest.fixture
def ear(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(str(short_folder / "notify"))
    listening.settimeout(5)
    monkeypatch.setenv("NOTIFY_SOCKET", str(short_folder / "notify"))
    return listening


def test_each_call_is_one_datagram_of_the_protocol(ear: socket.socket) -> None:
    notify.ready()
    notify.stopping()
    notify.watchdog()

    with ear:
        assert [ear.recv(100) for _ in range(3)] == [b"READY=1", b"STOPPING=1", b"WATCHDOG=1"]


def test_status_is_json_on_one_line(ear: socket.socket) -> None:
    notify.status(state="failed", cause="first\nsecond")

    with ear:
        name, _, value = ear.recv(1000).decode().partition("=")
    assert (name, json.loads(value)) == ("STATUS", {"state": "failed", "cause": "first\nsecond"})
    assert "\n" not in value


def test_an_abstract_address_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd may give a socket without a file: its name starts with @."""
    name = f"inferfly-test-{os.getpid()}"
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(f"\0{name}")

        notify.ready()

        assert ear.recv(100) == b"READY=1"


def test_nothing_happens_without_a_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)

    notify.ready()


def test_a_supervisor_that_is_gone_is_no_failure(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(short_folder / "nobody"))

    notify.ready()


def test_sockets_meant_for_another_process_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", "1")

    assert notify.listen_sockets() == []


def test_a_handed_over_socket_is_taken_over() -> None:
    child = (
        "import os, socket, sys\n"
        "from appliance import notify\n"
        "os.dup2(int(sys.argv[1]), 3)\n"
        "os.environ |= {'LISTEN_FDS': '1', 'LISTEN_PID': str(os.getpid())}\n"
        "[taken] = notify.listen_sockets()\n"
        "print(taken.getsockname()[1], os.get_inheritable(3))\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as listening:
        run = subprocess.run(
            [sys.executable, "-c", child, str(listening.fileno())],
            pass_fds=(listening.fileno(),),
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )

        assert run.stdout.split() == [str(listening.getsockname()[1]), "False"]


def test_a_message_waits_for_a_supervisor_that_is_busy(ear: socket.socket) -> None:
    """The kernel keeps few datagrams; a READY that finds the queue full must not be lost."""
    for _ in range(int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text()) + 1):
        notify.watchdog()
    late = threading.Timer(0.2, ear.recv, (100,))
    late.start()

    notify.ready()

    late.join()
    ear.settimeout(0)
    heard: list[bytes] = []
    with contextlib.suppress(BlockingIOError):
        while True:
            heard.append(ear.recv(100))
    ear.close()
    assert heard[-1] == b"READY=1"
