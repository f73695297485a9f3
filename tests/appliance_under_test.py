"""The whole appliance on a state folder of its own, driven as its operator drives it: a command, a screen, Ctrl-C."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, Self

import anthropic
import httpx
import openai

from appliance.domain import LedgerRow
from appliance.engine import leash
from tests.processes import Process, await_true, descendants

ROOT = Path(__file__).parents[1]
START_SECONDS_MAX = 150.0
STOP_SECONDS_MAX = 60.0
ROW_SECONDS_MAX = 5.0
KEY_SECONDS_MAX = 5.0

_MODEL = re.compile(r"^  - name: (\S+)$", re.MULTILINE)
_ADDRESS = re.compile(r"^Base URL  (\S+)$", re.MULTILINE)
_KEY = re.compile(r"\bifk_live_[0-9A-Za-z]{50}\b")
_GREETED = "print(answer.choices[0].message.content)"
_SAMPLE = re.compile(r"^(vllm|inferfly)(?::|_)([a-z_]+)(?:\{[^}]*\})? ([0-9.e+-]+)$", re.MULTILINE)


class Appliance:
    """`inferfly up` on a fresh home. As a context manager it is up inside, and nothing of it is left behind."""

    def __init__(
        self,
        catalog: str,
        engine_python: Path,
        *,
        command: Sequence[str] = ("-P", "-m", "appliance"),
        under: Sequence[str] = (),
        trust: ssl.SSLContext | None = None,
        **settings: object,
    ) -> None:
        """`catalog` is the text of models.yaml; `under` is a command that runs the appliance's own.

        `trust` is what its clients know of its certificate, where it has one.
        """
        # Not pytest's folder: a unix socket's path has room for 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="ifly-"))
        self.home = self.folder / "home"
        self.temporary = self.folder / "tmp"
        self.temporary.mkdir()
        self.models_yaml = self.folder / "models.yaml"
        self.models_yaml.write_text(catalog)
        named = _MODEL.search(catalog)
        self.model = named[1] if named else ""
        self._command = command
        self._under = under
        self.verify: ssl.SSLContext | bool = trust or True
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "LANG": "C.UTF-8",
            "HOME": str(self.folder),
            "TMPDIR": str(self.temporary),
            "INFERFLY_HOME": str(self.home),
            "INFERFLY_MODELS": str(self.models_yaml),
            "INFERFLY_ENGINE_PYTHON": str(engine_python),
            "INFERFLY_PORT": "0",
        } | {f"INFERFLY_{name.upper()}": str(value) for name, value in settings.items()}
        self._up: subprocess.Popen[bytes] | None = None
        self._readers: list[threading.Thread] = []
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.base_url = ""
        self.key = ""

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.discard()
            raise

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            left = self.stop()
        finally:
            self.discard()
        assert kind is not None or left == [], left

    def start(self) -> Self:
        """Run `inferfly up` and wait until it says that the appliance is ready."""
        self.launch()
        await_true(lambda: _GREETED in self.screen or not self.running, START_SECONDS_MAX, "the greeting")
        assert self.running, f"`inferfly up` ended: {self.screen}{self.stderr.decode()}"
        address = _ADDRESS.search(self.screen)
        assert address is not None
        self.base_url = address[1]
        if key := _KEY.search(self.screen):
            self.key = key[0]
        return self

    def launch(self) -> None:
        self.stdout.clear()
        self.stderr.clear()
        self._up = subprocess.Popen(
            # On a leash: a test run that is killed takes it along.
            [
                *(sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), "-"),
                *(*self._under, sys.executable, *self._command, "up"),
            ],
            env=self._environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._up.stdout is not None
        assert self._up.stderr is not None
        pipes = ((self._up.stdout, self.stdout), (self._up.stderr, self.stderr))
        self._readers = [threading.Thread(target=partial(_drain, *pipe), daemon=True) for pipe in pipes]
        for reader in self._readers:
            reader.start()

    @property
    def screen(self) -> str:
        return self.stdout.decode(errors="replace")

    @property
    def pid(self) -> int:
        assert self._up is not None
        return self._up.pid

    @property
    def running(self) -> bool:
        return self._up is not None and self._up.poll() is None

    def interrupt(self) -> None:
        """Ctrl-C, for the appliance's own process: under another command, that one's child."""
        own = [process.pid for process in self.processes() if process.title == "inferfly up"]
        os.kill(own[0] if own else self.pid, signal.SIGINT)

    def stop(self) -> list[str]:
        """Ctrl-C; what is left behind, which should be nothing."""
        if not self.running:
            return []
        before = self.processes()
        shared = {name for process in before for name in process.open_files() if name.startswith("/dev/shm/")}
        self.interrupt()
        exit_code = self.ended()
        left = [f"process {process.title}" for process in before if process.lives()]
        left += [f"file {name}" for name in sorted(shared) if Path(name).exists()]
        left += [f"exit code {exit_code}"] if exit_code else []
        left += [f"folder {self.home / 'run'}"] if (self.home / "run").exists() else []
        left += [f"file {path}" for path in self.temporary.iterdir()]
        return left

    def ended(self) -> int:
        """Exit code, once `inferfly up` has ended by itself."""
        assert self._up is not None
        exit_code = self._up.wait(STOP_SECONDS_MAX)
        for reader in self._readers:
            reader.join(STOP_SECONDS_MAX)
        return exit_code

    def kill(self) -> list[Process]:
        """kill -9 of `inferfly up`. Gives every process there was."""
        before = self.processes()
        if self._up is not None:
            self._up.kill()
            self.ended()
        return before

    def discard(self) -> None:
        """Leave nothing, whatever has happened."""
        for process in self.kill() if self.running else []:
            with contextlib.suppress(AssertionError):
                await_true(lambda one=process: not one.lives(), 10, "its death")
            if process.lives():
                os.kill(process.pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def processes(self) -> list[Process]:
        return descendants(self.pid) if self.running else []

    def part(self, title: str) -> Process:
        """The process of this title; of an engine's two, the one that watches."""
        return next(process for process in self.processes() if process.title == title)

    def vllm(self, engine: str) -> Process:
        """The engine itself: what runs under the engine's own watcher."""
        everyone = self.processes()
        engines = {process.pid for process in everyone if process.title == f"inferfly engine {engine}"}
        return next(process for process in everyone if process.parent in engines)

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Another verb of the command line."""
        return subprocess.run(
            [sys.executable, "-P", "-m", "appliance", *arguments],
            env=self._environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def asked(self, *arguments: str) -> Any:
        """What a verb prints as JSON."""
        done = self.cli(*arguments, "--json")
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    def new_key(self, account: str = "default", *scope: str) -> dict[str, Any]:
        made: dict[str, Any] = self.asked("keys", "create", "--account", account, "--name", "test", *scope)
        await_true(lambda: self.accepts(made["key"]), KEY_SECONDS_MAX, "the new key works")
        return made

    def accepts(self, key: str) -> bool:
        """Whether the gateway lets this key in. Asked on the box's own socket, where nobody is taken for a guesser."""
        return _over_unix_socket(self._gateway, "/v1/models", key).status_code == 200

    @property
    def origin(self) -> str:
        return self.base_url.removesuffix("/v1")

    @contextlib.contextmanager
    def sdk(self, key: str | None = None) -> Iterator[openai.OpenAI]:
        """OpenAI's own client, as an application would make it."""
        with openai.OpenAI(
            base_url=self.base_url,
            api_key=key or self.key,
            max_retries=0,
            timeout=60,
            http_client=openai.DefaultHttpx2Client(verify=self.verify),
        ) as client:
            yield client

    @contextlib.contextmanager
    def anthropic_sdk(self, key: str | None = None) -> Iterator[anthropic.Anthropic]:
        """Anthropic's own client."""
        with anthropic.Anthropic(
            base_url=self.origin,
            api_key=key or self.key,
            max_retries=0,
            timeout=60,
            http_client=anthropic.DefaultHttpxClient(verify=self.verify),
        ) as client:
            yield client

    @contextlib.contextmanager
    def http(self, key: str | None = None) -> Iterator[httpx.Client]:
        """For what no SDK has."""
        headers = {"Authorization": f"Bearer {key or self.key}"}
        with httpx.Client(
            base_url=self.origin, headers=headers, timeout=60, verify=self.verify, trust_env=False
        ) as client:
            yield client

    @property
    def _gateway(self) -> Path:
        return self.home / "run" / "gateway.sock"

    def gateway_metrics(self) -> bytes:
        return _over_unix_socket(self._gateway, "/metrics").raise_for_status().content

    def engine_metrics(self, engine: str = "") -> bytes:
        socket = self.home / "run" / "engines" / (engine or self.model) / "sock"
        return _over_unix_socket(socket, "/metrics").raise_for_status().content

    def engine_counts(self) -> Mapping[str, float]:
        return _samples(self.engine_metrics())

    def gateway_counts(self) -> Mapping[str, float]:
        return _samples(self.gateway_metrics())

    def ready(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.origin}/readyz", timeout=5, verify=self.verify).status_code == 200
        return False

    def rows(self) -> list[LedgerRow]:
        """The whole ledger."""
        path = self.home / "usage.db"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            columns = ", ".join(LedgerRow._fields)
            return [LedgerRow(*row) for row in db.execute(f"SELECT {columns} FROM usage")]  # names of ours

    def rows_since(self, began_ms: int) -> list[LedgerRow]:
        """Of requests that came at this time (ms since the epoch) or later: rows are written a little late."""
        return [row for row in self.rows() if row.ts_start_ms >= began_ms]

    def rows_of(self, request_id: str) -> list[LedgerRow]:
        return [row for row in self.rows() if row.request_id == request_id]

    def row(self, request_id: str) -> LedgerRow:
        """The one row of a request that has ended."""
        await_true(lambda: self.rows_of(request_id), ROW_SECONDS_MAX, "the request's row")
        (row,) = self.rows_of(request_id)
        return row


def _drain(pipe: IO[bytes], into: bytearray) -> None:
    with pipe:
        while piece := os.read(pipe.fileno(), 65536):
            into += piece


def _over_unix_socket(socket: Path, path: str, key: str = "") -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), timeout=10) as client:
        return client.get(f"http://box{path}", headers=headers)


def _samples(exposition: bytes) -> dict[str, float]:
    """Sums over labels, by a metric's name without its prefix and without `_total`."""
    sums: dict[str, float] = {}
    for _, name, value in _SAMPLE.findall(exposition.decode()):
        plain = name.removesuffix("_total")
        sums[plain] = sums.get(plain, 0.0) + float(value)
    return sums
