"""What must hold before anything is started: each check is one clear error with its cure."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import ipaddress
import os
import shutil
import socket
from typing import TYPE_CHECKING, Final

from appliance.engine import weights
from appliance.engine.command import CPU_KV_CACHE_BYTES
from appliance.errors import AlreadyRunning, EnvironmentBroken, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from appliance.catalog import Catalog, ModelSpec
    from appliance.settings import Settings

DISK_BYTES_MIN: Final = 100 * 1000 * 1000
ENGINE_BYTES: Final = 1_500_000_000
"""Memory of one vLLM beyond its weights and KV cache."""
BACKLOG: Final = 2048
IPV6: Final = 6
MEMINFO: Final = "/proc/meminfo"


@contextlib.contextmanager
def only_one(settings: Settings) -> Iterator[None]:
    """Hold the state folder. The lock ends with this process, however that comes about."""
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings.home.chmod(0o700)
    handle = os.open(settings.home / "up.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(
                f"Another `inferfly up` runs on {settings.home}.",
                fix="Stop it first, or give this one another folder with --home.",
            ) from None
        yield
    finally:
        os.close(handle)


def listen(settings: Settings) -> socket.socket:
    """The public socket, bound and listening: while the gateway is restarted, callers wait instead of failing."""
    host, port = settings.host, settings.port
    try:
        # Numbers only: a name would be asked of a name server, and nothing of ours leaves the box.
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise SettingsError(f"{host} is not an IP address.", fix="Correct INFERFLY_HOST.") from None
    listening = socket.socket(socket.AF_INET6 if address.version == IPV6 else socket.AF_INET)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((str(address), port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        what = f"{host} port {port} can't be used: {error.strerror}."
        if error.errno == errno.EADDRINUSE:
            raise AlreadyRunning(
                what, fix="Stop what uses it, or choose another port with INFERFLY_PORT."
            ) from None
        raise SettingsError(what, fix="Correct INFERFLY_HOST or INFERFLY_PORT.") from None
    return listening


def machine(
    settings: Settings,
    catalog: Catalog,
    *,
    gpu: bool,
    verifying: Callable[[str, int, int], None] = lambda _model, _done, _total: None,
    meminfo: str = MEMINFO,
) -> None:
    """Engine environment, weights, disk and memory. `verifying` hears of bytes verified of a model, and in all."""
    _engine_environment(settings)
    _disk(settings.home)
    found = {
        spec.name: weights.locate(spec, settings, functools.partial(verifying, spec.name))
        for spec in catalog.models
    }
    _memory(catalog, found, gpu=gpu, meminfo=meminfo)


def _engine_environment(settings: Settings) -> None:
    interpreter = settings.engine_interpreter
    if os.access(interpreter, os.X_OK) and any(
        interpreter.parents[1].glob("lib/python3*/site-packages/vllm")
    ):
        return
    raise EnvironmentBroken(
        "The engine's environment is missing or not whole.",
        why=f"There is no Python with vLLM at {interpreter}.",
        fix="Run `./install.sh --local`.",
    )


def _disk(home: Path) -> None:
    free = shutil.disk_usage(home).free
    if free < DISK_BYTES_MIN:
        raise EnvironmentBroken(
            f"The disk of {home} is full: {free // 1_000_000} MB are free, {DISK_BYTES_MIN // 1_000_000} MB needed.",
            fix="Free some space, or put the state on another disk with --home.",
        )


def _memory(catalog: Catalog, found: dict[str, Path], *, gpu: bool, meminfo: str) -> None:
    needed = sum(_bytes(spec, found[spec.name], gpu=gpu) * spec.replicas for spec in catalog.models)
    free = _available(meminfo)
    if needed > free:
        raise EnvironmentBroken(
            f"There is too little memory: {_gb(needed)} GB needed, {_gb(free)} GB free.",
            why="That is the weights, the KV cache and 1.5 GB for each engine of models.yaml.",
            fix="Lower kv_cache_bytes or replicas in models.yaml, choose a smaller model, or stop other programs.",
        )


def _bytes(spec: ModelSpec, folder: Path, *, gpu: bool) -> int:
    """Main memory of one replica. With a GPU, weights and KV cache lie there."""
    if gpu:
        return ENGINE_BYTES
    files = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return files + (spec.engine.kv_cache_bytes or CPU_KV_CACHE_BYTES) + ENGINE_BYTES


def _available(meminfo: str) -> int:
    with open(meminfo, encoding="ascii") as lines:  # noqa: PTH123  # a file of the kernel's, read once
        for line in lines:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    raise EnvironmentBroken(f"{meminfo} does not tell the free memory.", fix="Mount /proc.")


def _gb(count: int) -> str:
    return f"{count / 1_000_000_000:.1f}"
