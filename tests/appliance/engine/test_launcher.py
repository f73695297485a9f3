"""The launcher in a plain Python, with a stand-in for vLLM's package; test_real_engine.py has the real one."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from appliance.engine.folder import RunFolder

CANARY = "c4naryQ7x"

VLLM = f"""
import ctypes, json, logging, os, resource, sys
def main():
    child_read, child_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal = ctypes.c_int()
        ctypes.CDLL(None).prctl(2, ctypes.byref(signal))
        os.write(child_write, b"%d" % signal.value)
        os._exit(0)
    os.waitpid(pid, 0)
    logging.getLogger("vllm").error("dump %s", "{CANARY}")
    print(json.dumps({{
        "argv": sys.argv,
        "title": open("/proc/self/cmdline").read().rstrip(chr(0)),
        "core": resource.getrlimit(resource.RLIMIT_CORE),
        "dumpable": ctypes.CDLL(None).prctl(3),
        "death_signal_of_forks": int(os.read(child_read, 9)),
    }}))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a launched vLLM sees of itself."""
    folder = tmp_path_factory.mktemp("engine")
    run = RunFolder(folder / "run")
    run.create()
    package = folder / "site" / "vllm" / "entrypoints" / "cli"
    package.mkdir(parents=True)
    (package / "main.py").write_text(VLLM)
    done = subprocess.run(
        [sys.executable, "-P", run.launcher, "tiny", "serve", "/weights", "--uds=/s"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{run.code}:{folder / 'site'}"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return json.loads(done.stdout) | {"stderr": done.stderr}


def test_vllm_gets_its_own_command_line(told: dict[str, Any]) -> None:
    assert told["argv"] == ["vllm", "serve", "/weights", "--uds=/s"]


def test_the_process_says_which_engine_it_is(told: dict[str, Any]) -> None:
    assert told["title"] == "inferfly engine tiny"


def test_there_is_never_a_core_dump(told: dict[str, Any]) -> None:
    """The limit alone does not hold where core_pattern is a pipe; not being dumpable does."""
    assert (told["core"], told["dumpable"]) == ([0, 0], 0)


def test_processes_that_vllm_forks_die_with_it(told: dict[str, Any]) -> None:
    assert told["death_signal_of_forks"] == 9


def test_the_log_is_sealed_before_vllm_is_imported(told: dict[str, Any]) -> None:
    assert json.loads(told["stderr"])["template"] == "dump %s"
    assert CANARY not in told["stderr"]
