"""The engine's life with real vLLM, on a random model of a few hundred KB."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance.engine import weights

REPOSITORY = Path(__file__).parents[2]
PYTHON = Path(
    os.environ.get("INFERFLY_TEST_ENGINE_PYTHON", REPOSITORY / ".inferfly/engine/current/bin/python")
)
CANARY = "c4naryQ7xW2"
WAIT_SECONDS_MAX = 150.0


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder. Tests that damage it take a copy."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    subprocess.run(
        [PYTHON, REPOSITORY / "tests" / "tiny_model.py", folder],
        env={"HF_HUB_OFFLINE": "1", "PATH": os.environ["PATH"]},
        capture_output=True,
        check=True,
        timeout=120,
    )
    return folder


@dataclass
class Engine:
    home: Path
    process: subprocess.Popen[str]
    ear: socket.socket
    heard: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    @property
    def folder(self) -> Path:
        return self.home / "run" / "engines" / "tiny"

    @property
    def client(self) -> httpx.Client:
        transport = httpx.HTTPTransport(uds=str(self.folder / "sock"))
        return httpx.Client(transport=transport, base_url="http://engine", timeout=30, trust_env=False)

    def last(self) -> dict[str, Any]:
        with contextlib.suppress(BlockingIOError):
            while True:
                name, _, value = self.ear.recv(4096).decode().partition("=")
                if name == "STATUS":
                    self.heard.append(json.loads(value))
        return self.heard[-1] if self.heard else {"state": None}

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while self.last()["state"] != "ready":
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def end(self) -> tuple[int, str]:
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while self.process.poll() is None:
            assert time.monotonic() < deadline
            self.last()  # its queue is short
            time.sleep(0.1)
        _, stderr = self.process.communicate()
        return self.process.returncode, stderr

    def vllm(self) -> list[int]:
        """Pids of vLLM's processes: they work in the engine's folder."""
        found: list[int] = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                if (entry / "cwd").readlink() == self.folder:
                    found.append(int(entry.name))
        return sorted(found)


def settings(home: Path, **more: str) -> dict[str, str]:
    given = {
        "home": str(home),
        "models": str(home.parent / "models.yaml"),
        "engine_python": str(PYTHON),
    } | more
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)} | {
        f"INFERFLY_{name.upper()}": value for name, value in given.items()
    }


def write_catalog(folder: Path, model: Path, options: str, kv_cache_bytes: int = 2**26) -> None:
    (folder / "models.yaml").write_text(
        f"""models:
  - name: tiny
    source: {{path: {model}}}
    revision: "1"
    digest: {weights.digest_of(model)}
    licence: MIT
    engine: {{max_concurrent_sequences: 4, kv_cache_bytes: {kv_cache_bytes}, {options}}}
"""
    )


Start = Callable[..., Engine]


@pytest.fixture
def start(short_folder: Path, tiny: Path) -> Iterator[Start]:
    """Starts `inferfly engine tiny`."""
    engines: list[Engine] = []

    def run(
        model: Path = tiny, options: str = "max_context: 512", kv_cache_bytes: int = 2**26, **more: str
    ) -> Engine:
        write_catalog(short_folder, model, options, kv_cache_bytes)
        ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        ear.bind(str(short_folder / "notify"))
        process = subprocess.Popen(
            [sys.executable, "-m", "appliance", "engine", "tiny"],
            env=settings(short_folder / "home", **more) | {"NOTIFY_SOCKET": str(short_folder / "notify")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        engines.append(Engine(short_folder / "home", process, ear))
        return engines[-1]

    yield run
    for engine in engines:
        engine.process.kill()
        engine.process.communicate()
        engine.ear.close()


def test_it_serves_sealed_and_drains(start: Start) -> None:
    """One start for all that needs a healthy engine: loading is the slow part."""
    engine = start()
    engine.wait_until_ready()
    pids = engine.vllm()
    titles = [Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0 ") for pid in pids]

    with engine.client as client:
        answer = client.post("/v1/chat/completions", json=chat(CANARY, stop=[CANARY]))
        client.post("/v1/chat/completions", json=chat(CANARY, model=CANARY))
        client.post("/v1/chat/completions", json=chat(CANARY, max_tokens=CANARY))
        client.post("/v1/chat/completions", content=f'{{"messages": "{CANARY}'.encode())
        client.get(f"/{CANARY}?{CANARY}={CANARY}")
    streamed: list[str] = []
    reader = threading.Thread(target=lambda: streamed.extend(stream(engine)))
    reader.start()
    wait_until_running(engine)
    engine.process.terminate()
    reader.join(WAIT_SECONDS_MAX)
    code, stderr = engine.end()

    assert answer.status_code == 200
    assert "inferfly engine tiny" in titles
    assert any(title.startswith("inferfly engine tiny::") for title in titles)
    assert streamed[-1] == "data: [DONE]"
    assert (code, engine.last()["state"]) == (0, "draining")
    assert not engine.folder.exists()
    assert engine.vllm() == []
    assert '"event": "engine_ready"' in stderr
    assert CANARY not in stderr
    assert [str(path) for path in engine.home.rglob("*") if path.is_file()] == []


def test_a_frozen_vllm_is_found_and_killed(start: Start) -> None:
    engine = start(engine_stall_seconds_max="2")
    engine.wait_until_ready()

    for pid in engine.vllm():
        os.kill(pid, signal.SIGSTOP)

    assert engine.end()[0] == 70
    assert engine.last()["cause"] == "vLLM hung: no progress for 2 s."
    assert engine.vllm() == []


def test_a_frozen_engine_core_is_found_behind_a_healthy_server(start: Start) -> None:
    """/health asks the server only; the core behind it may stand still."""
    engine = start(engine_stall_seconds_max="2")
    engine.wait_until_ready()
    core = next(pid for pid in engine.vllm() if "::" in Path(f"/proc/{pid}/cmdline").read_text())

    os.kill(core, signal.SIGSTOP)

    assert engine.end()[0] == 70
    assert engine.last()["cause"] == "vLLM hung: no progress for 2 s."


def changed(tiny: Path, folder: Path, **config: Any) -> Path:
    copy = folder / "changed"
    shutil.copytree(tiny, copy)
    file = copy / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    return copy


def refused(engine: Engine) -> tuple[int, str]:
    code, _ = engine.end()
    assert engine.last()["cure"]
    return code, engine.last()["cause"]


def test_an_unknown_architecture_is_named(start: Start, tiny: Path, tmp_path: Path) -> None:
    engine = start(changed(tiny, tmp_path, architectures=["NoSuchForCausalLM"]))

    assert refused(engine) == (78, "vLLM does not know the architecture NoSuchForCausalLM.")


def test_too_long_a_context_is_told_in_figures(start: Start) -> None:
    engine = start(options="max_context: 4096")

    assert refused(engine) == (78, "max_context is 4096, but the model was made for 2048 tokens.")


def test_too_small_a_cache_is_told_in_figures(start: Start, tiny: Path, tmp_path: Path) -> None:
    engine = start(changed(tiny, tmp_path, max_position_embeddings=1_000_000), options="max_context: 1000000")

    code, cause = refused(engine)

    assert code == 78
    assert re.fullmatch(
        r"The KV cache is too small for max_context 1000000: [\d.]+ GiB needed, [\d.]+ GiB given\.", cause
    )


def test_a_cut_off_file_is_told(start: Start, tiny: Path, tmp_path: Path) -> None:
    """Its digest is right, so only vLLM can find out."""
    model = changed(tiny, tmp_path)
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100_000])

    assert refused(start(model)) == (78, "The model's files are damaged or not whole.")


def test_more_cache_than_there_is_memory_is_told(start: Start) -> None:
    """It may pass, so it is tried again: exit code 70."""
    engine = start(options="max_context: 512", kv_cache_bytes=2**42)

    assert refused(engine) == (70, "The memory ran out while the model was loaded.")


def test_an_unknown_tool_parser_is_named(start: Start) -> None:
    engine = start(options="max_context: 512, tool_parser: nosuch")

    assert refused(engine) == (78, "vLLM has no tool parser named nosuch.")


def test_weights_of_another_quantisation_are_told(start: Start) -> None:
    engine = start(options="max_context: 512, quantization: awq")

    code, cause = refused(engine)

    assert code == 78
    assert cause.startswith("The weights are not of the quantisation")


def test_an_environment_without_vllm_is_told(start: Start) -> None:
    engine = start(engine_python=sys.executable)

    assert refused(engine) == (78, "The engine's environment is not whole.")


def test_one_that_is_killed_comes_back(short_folder: Path, tiny: Path) -> None:
    """Under `up`, with a kill of vLLM's core and of the whole runner."""
    write_catalog(short_folder, tiny, "max_context: 512")
    home = short_folder / "home"
    with (short_folder / "shown").open("w") as shown:
        up = subprocess.Popen(
            [sys.executable, REPOSITORY / "tests/fakes/up.py", home, "control", "serve", "real"],
            env=settings(home),
            stdout=shown,
            stderr=shown,
        )
    engine = Engine(home, subprocess.Popen(["true"], text=True), socket.socket())
    try:
        wait_for(short_folder / "shown", "print(answer")
        core = next(pid for pid in engine.vllm() if "::" in Path(f"/proc/{pid}/cmdline").read_text())

        os.kill(core, signal.SIGKILL)

        wait_for(short_folder / "shown", "engine tiny is ready")
        assert "engine tiny stopped: vLLM " in (short_folder / "shown").read_text()
        up.terminate()
        assert up.wait(WAIT_SECONDS_MAX) == 0
        assert engine.vllm() == []
    finally:
        up.kill()
        up.wait()
        engine.process.wait()
        engine.ear.close()


def chat(words: str, **more: Any) -> dict[str, Any]:
    body = {"model": "tiny", "messages": [{"role": "user", "content": words}], "max_tokens": 4}
    return body | more


def stream(engine: Engine) -> list[str]:
    """Every line of a stream that runs for a while."""
    body = chat(CANARY, stream=True, max_tokens=400, ignore_eos=True)
    with engine.client as client, client.stream("POST", "/v1/chat/completions", json=body) as response:
        return [line for line in response.iter_lines() if line]


def wait_until_running(engine: Engine) -> None:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    with engine.client as client:
        while not re.search(
            r"^vllm:num_requests_running\{.*\} [1-9]", client.get("/metrics").text, re.MULTILINE
        ):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def wait_for(file: Path, text: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while text not in file.read_text():
        assert time.monotonic() < deadline, file.read_text()
        time.sleep(0.1)
