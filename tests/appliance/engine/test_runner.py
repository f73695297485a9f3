"""The whole runner in a process of its own, over a stand-in for vLLM; test_real_engine.py has the real one."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from appliance.engine import weights

REPOSITORY = Path(__file__).parents[3]
FAKE = REPOSITORY / "tests" / "fakes" / "vllm.py"
WAIT_SECONDS_MAX = 20.0


@dataclass
class Engine:
    """`inferfly engine tiny` and what it told its supervisor."""

    home: Path
    process: subprocess.Popen[str]
    ear: socket.socket
    heard: list[str] = field(default_factory=list[str])

    def states(self) -> list[dict[str, Any]]:
        self.listen()
        return [json.loads(line.removeprefix("STATUS=")) for line in self.heard if line.startswith("STATUS=")]

    def listen(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                self.heard.append(self.ear.recv(4096).decode())

    def wait_until(self, state: str) -> None:
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while not any(status["state"] == state for status in self.states()):
            assert time.monotonic() < deadline, f"never {state}: {self.heard}"
            assert self.process.poll() is None or state == "failed", self.process.communicate()
            time.sleep(0.05)

    def end(self) -> tuple[int, str]:
        """Exit code and what stands on stderr."""
        _, stderr = self.process.communicate(timeout=WAIT_SECONDS_MAX)
        self.listen()
        return self.process.returncode, stderr

    @property
    def folder(self) -> Path:
        return self.home / "run" / "engines" / "tiny"


Start = Callable[..., Engine]


@pytest.fixture
def start(short_folder: Path) -> Iterator[Start]:
    """Starts the runner over a stand-in of some mode."""
    engines: list[Engine] = []
    model = short_folder / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    (short_folder / "models.yaml").write_text(
        f"""models:
  - name: tiny
    source: {{path: {model}}}
    revision: "1"
    digest: {weights.digest_of(model)}
    licence: MIT
    engine: {{max_context: 64}}
"""
    )

    def run(mode: str, **settings: str) -> Engine:
        python = short_folder / "python"
        python.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE} {mode} "$@"\n')
        python.chmod(0o755)
        ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        ear.bind(str(short_folder / "notify"))
        process = subprocess.Popen(
            [sys.executable, "-m", "appliance", "engine", "tiny"],
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(REPOSITORY),
                "NOTIFY_SOCKET": str(short_folder / "notify"),
                "HTTPS_PROXY": "http://outside.invalid",
                "INFERFLY_HOME": str(short_folder / "home"),
                "INFERFLY_MODELS": str(short_folder / "models.yaml"),
                "INFERFLY_ENGINE_PYTHON": str(python),
            }
            | {f"INFERFLY_{name.upper()}": value for name, value in settings.items()},
            cwd=short_folder,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        engines.append(Engine(short_folder / "home", process, ear))
        return engines[-1]

    yield run
    for engine in engines:
        engine.process.kill()
        engine.process.communicate()
        engine.ear.close()


def processes_of(folder: Path) -> list[str]:
    """Command lines of living processes that work in an engine's folder."""
    found: list[str] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if (entry / "cwd").readlink() == folder:
                    found.append((entry / "cmdline").read_text())
    return found


def test_it_tells_loading_then_ready(start: Start) -> None:
    engine = start("serve")

    engine.wait_until("ready")

    assert [status["state"] for status in engine.states()] == ["loading", "ready"]
    assert "READY=1" in engine.heard
    assert "WATCHDOG=1" in engine.heard


def test_sigterm_stops_it_and_leaves_nothing(start: Start) -> None:
    engine = start("serve")
    engine.wait_until("ready")

    engine.process.terminate()

    assert engine.end()[0] == 0
    assert [status["state"] for status in engine.states()] == ["loading", "ready", "draining"]
    assert not engine.folder.exists()
    assert processes_of(engine.folder) == []


def test_sigterm_while_loading_stops_it_too(start: Start) -> None:
    engine = start("shy")
    engine.wait_until("loading")
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not (engine.folder / "sock").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)

    engine.process.terminate()

    assert engine.end()[0] == 0
    assert not engine.folder.exists()


def test_stopping_waits_for_running_requests_but_not_for_ever(start: Start) -> None:
    engine = start("busy", drain_seconds_max="1.5")
    engine.wait_until("ready")

    began = time.monotonic()
    engine.process.terminate()

    assert engine.end()[0] == 0
    assert 1.4 < time.monotonic() - began < 8


def test_a_vllm_deaf_to_sigterm_is_killed_at_the_deadline(start: Start) -> None:
    engine = start("stubborn")
    engine.wait_until("ready")

    engine.process.terminate()

    assert engine.end()[0] == 0
    assert processes_of(engine.folder) == []


def test_what_vllm_leaves_in_its_session_is_killed(start: Start) -> None:
    engine = start("leave")
    engine.wait_until("ready")
    assert any("sleep" in command for command in processes_of(engine.folder))

    engine.process.terminate()

    assert engine.end()[0] == 0
    assert processes_of(engine.folder) == []


def test_vllm_dies_with_a_runner_that_is_killed(start: Start) -> None:
    engine = start("serve")
    engine.wait_until("ready")

    engine.process.kill()
    engine.end()

    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while processes_of(engine.folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_of(engine.folder) == []


def test_a_failure_to_load_is_told_with_cause_and_cure(start: Start) -> None:
    engine = start("crash")

    code, stderr = engine.end()

    last = engine.states()[-1]
    assert code == 78
    assert last["state"] == "failed"
    assert last["cause"] == "vLLM does not know the architecture NoSuchForCausalLM."
    assert last["cure"]
    assert last["cause"] in stderr
    assert "Traceback" not in stderr
    assert not engine.folder.exists()


def test_an_engine_that_never_gets_ready_has_a_deadline(start: Start) -> None:
    engine = start("shy", engine_start_seconds_max="1")

    assert engine.end()[0] == 70
    assert engine.states()[-1]["cause"] == "vLLM did not get ready within 1 s."


def test_healthy_is_not_ready_without_a_token(start: Start) -> None:
    """vLLM's /health stays 200 when a worker of it has died."""
    engine = start("mute", engine_start_seconds_max="1")

    assert engine.end()[0] == 70
    assert "READY=1" not in engine.heard


def test_work_without_progress_is_a_hang(start: Start) -> None:
    engine = start("stall", engine_stall_seconds_max="1")
    engine.wait_until("ready")

    assert engine.end()[0] == 70
    assert engine.states()[-1]["cause"] == "vLLM hung: no progress for 1 s."
    assert processes_of(engine.folder) == []


def test_work_with_progress_is_none(start: Start) -> None:
    engine = start("busy", engine_stall_seconds_max="1")
    engine.wait_until("ready")

    time.sleep(6)

    assert engine.process.poll() is None


def test_a_frozen_vllm_is_a_hang(start: Start) -> None:
    engine = start("serve", engine_stall_seconds_max="1")
    engine.wait_until("ready")

    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if (entry / "cwd").readlink() == engine.folder:
                os.kill(int(entry.name), signal.SIGSTOP)

    assert engine.end()[0] == 70
    assert processes_of(engine.folder) == []


def test_an_end_while_serving_is_told_by_exit_code_alone(start: Start) -> None:
    engine = start("brittle")
    engine.wait_until("ready")

    assert engine.end()[0] == 70
    assert engine.states()[-1]["cause"] == "vLLM ended while it was serving (exit code 7)."


def test_damaged_weights_start_nothing(start: Start) -> None:
    engine_home = start("serve")
    engine_home.wait_until("ready")
    engine_home.process.terminate()
    engine_home.end()
    engine_home.ear.close()
    (engine_home.home.parent / "notify").unlink()
    (engine_home.home.parent / "model" / "model.safetensors").write_bytes(b"damaged")

    engine = start("serve")

    assert engine.end()[0] == 66
    assert engine.states()[-1]["state"] == "failed"
    assert not engine.folder.exists()


def test_an_engine_that_models_yaml_does_not_name_is_refused(start: Start) -> None:
    engine = start("serve")
    engine.wait_until("ready")
    run = subprocess.run(
        [sys.executable, "-m", "appliance", "engine", "other"],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(REPOSITORY),
            "INFERFLY_HOME": str(engine.home),
            "INFERFLY_MODELS": str(engine.home.parent / "models.yaml"),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )

    assert (run.returncode, run.stdout) == (78, "")
    assert "no such engine" in run.stderr
