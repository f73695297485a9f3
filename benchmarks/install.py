"""Installs the peers into a folder of their own: nothing else on the machine changes, and none of them is started.

Those from the Python registry are pinned by hash (locks/peers.txt). nginx and haproxy are Debian's: apt-get fetches
and verifies their packages, which are then unpacked and not installed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from appliance.engine import registry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = ROOT / "benchmarks" / "results"
LOCK: Final = ROOT / "locks" / "peers.txt"
FOLDER: Final = ROOT / ".build" / "peers"
PYTHON: Final = "python"
"""Folder of the virtual environment."""
DEBIAN: Final = "debian"
"""Folder of what Debian's packages hold."""
PACKAGES: Final = ("nginx-light", "haproxy", "libsndfile1")
"""The last one, for sounds, is what LiteLLM does not start without."""
SECONDS_MAX: Final = 1800


class CanNotInstall(Exception):
    """A peer can't be had here. Says why."""


def install(folder: Path, say: Callable[[str], None]) -> None:
    """Install what is missing. What can't be had is told, and left out."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in (_python, _debian):
        try:
            part(folder, say)
        except CanNotInstall as error:
            say(f"Not installed: {error}")


def _python(folder: Path, say: Callable[[str], None]) -> None:
    stamp = folder / "python.lock"
    base = getattr(sys, "_base_executable", sys.executable)
    wanted = stamp_of(base)
    if stamp.exists() and stamp.read_text() == wanted:
        return
    say(f"Installing vllm-router, sglang-router, smg and litellm into {folder / PYTHON}: 1 GB")
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise CanNotInstall("uv is missing from .venv")
    environment = _as_pip_is_told()
    shutil.rmtree(folder / PYTHON, ignore_errors=True)
    _run([uv, "venv", "--quiet", "--no-project", "--python", base, str(folder / PYTHON)], environment)
    into = ("--python", str(folder / PYTHON / "bin" / "python"))
    pinned = ("--require-hashes", "--no-deps", "--only-binary", ":all:", "--requirement", str(LOCK))
    _run([uv, "pip", "install", *into, *pinned], environment)
    stamp.write_text(wanted)


def stamp_of(python: str) -> str:
    """What the environment was made of. LiteLLM runs on the same Python as ours."""
    return f"{hashlib.sha256(LOCK.read_bytes()).hexdigest()} {Path(python).resolve()}"


def _as_pip_is_told() -> dict[str, str]:
    """uv looks for packages where pip looks."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    return registry.uv_environment(registry.parse_pip_config(listed.stdout), os.environ)


def _debian(folder: Path, say: Callable[[str], None]) -> None:
    """What the machine has installed already is not fetched again."""
    stamp = folder / "debian.packages"
    if stamp.exists() and stamp.read_text() == " ".join(PACKAGES):
        return
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise CanNotInstall("nginx and haproxy: this is no Debian; install them by hand")
    say(f"Fetching {', '.join(PACKAGES)} into {folder / DEBIAN}: 10 MB")
    archives = folder / "archives"
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    fetch = (
        *("apt-get", "install", "--download-only", "--yes", "--no-install-recommends"),
        *(
            "-o",
            f"Dir::Cache::archives={archives}",
            "-o",
            "Debug::NoLocking=1",
            "-o",
            "APT::Sandbox::User=root",
        ),
        *PACKAGES,
    )
    environment = os.environ | {"LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        _run(fetch, environment)
    except CanNotInstall:
        say("Debian's lists of packages are missing or old: fetching them")
        _run(["apt-get", "update"], environment)
        _run(fetch, environment)
    for archive in archives.glob("*.deb"):
        _run(["dpkg-deb", "--extract", str(archive), str(folder / DEBIAN)], environment)
    for library in (folder / DEBIAN).glob("usr/lib/*/libsndfile.so.1"):
        library.with_suffix("").symlink_to(library.name)  # the name that soundfile looks for
    shutil.rmtree(archives)
    stamp.write_text(" ".join(PACKAGES))


def _run(argv: Sequence[str], environment: Mapping[str, str]) -> None:
    """Its output is the progress that a person sees. It goes to stderr, as all that this benchmark says."""
    try:
        done = subprocess.run(argv, env=environment, stdout=sys.stderr, timeout=SECONDS_MAX, check=False)  # noqa: S603  # commands of ours
    except subprocess.TimeoutExpired:
        raise CanNotInstall(f"{argv[0]} took over {SECONDS_MAX} s") from None
    if done.returncode:
        raise CanNotInstall(f"{Path(argv[0]).name} {argv[1]} ended with {done.returncode}")
