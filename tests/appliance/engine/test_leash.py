import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from appliance.engine import leash

LEASH = [sys.executable, "-I", "-S", leash.__file__]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_program_dies_with_its_parent() -> None:
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, subprocess, sys, time\n"
            f"child = subprocess.Popen([*{LEASH!r}, str(os.getpid()), '-', '/bin/sleep', '60'])\n"
            "print(child.pid, flush=True)\n"
            "time.sleep(60)\n",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    deadline = time.monotonic() + 10
    while b"sleep" not in Path(f"/proc/{child}/cmdline").read_bytes() and time.monotonic() < deadline:
        time.sleep(0.02)

    parent.kill()
    parent.communicate()

    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(child)


def test_a_parent_that_is_gone_already_starts_nothing() -> None:
    """Between fork and the leash the parent may die; then nobody would ever send the signal."""
    run = subprocess.run(
        [*LEASH, "1", "-", "/bin/echo", "started"], capture_output=True, text=True, check=True, timeout=30
    )

    assert run.stdout == ""


def test_the_program_leaves_no_core_dump() -> None:
    run = subprocess.run(
        [*LEASH, str(os.getpid()), "-", "/bin/sh", "-c", "ulimit -Sc; ulimit -Hc"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )

    assert run.stdout == "0\n0\n"


def test_the_listening_socket_is_handed_over_by_protocol() -> None:
    child = (
        "import os, socket\n"
        "mine = os.environ['LISTEN_PID'] == str(os.getpid())\n"
        "print(mine, os.environ['LISTEN_FDS'], socket.socket(fileno=3).getsockname()[1])\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as listening:
        run = subprocess.run(
            [*LEASH, str(os.getpid()), str(listening.fileno()), sys.executable, "-c", child],
            pass_fds=(listening.fileno(),),
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )

        assert run.stdout.split() == ["True", "1", str(listening.getsockname()[1])]
