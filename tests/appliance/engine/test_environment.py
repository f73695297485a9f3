from __future__ import annotations

import hashlib
import io
import os
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Final

import pytest
from rich.console import Console

from appliance.engine import environment, staging
from appliance.engine.environment import Builder, Lock
from appliance.engine.progress import Reporter
from appliance.errors import EnvironmentBroken

LOCK_TEXT: Final = "torch==2.13.0+cpu \\\n    --hash=sha256:00\nvllm-cpu==0.32.0 \\\n    --hash=sha256:11\n"
UV: Final = f"""#!{sys.executable}
import os, pathlib, sys
arguments = sys.argv[1:]
with open(os.environ["CALLS"], "a") as calls:
    calls.write(" ".join(arguments) + "\\n")
if arguments[0] == "venv":
    folder = pathlib.Path(arguments[-1])
    packages = folder / "lib" / "python3.11" / "site-packages"
    packages.mkdir(parents=True)
    (packages / "module.py").write_text("")
    info = packages / "small-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: small\\nVersion: 1.0\\n")
    (info / "RECORD").write_text("module.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\\n")
    (folder / "bin").mkdir()
    (folder / "bin" / "python").write_text(os.environ["ENGINE_PYTHON"])
    (folder / "bin" / "python").chmod(0o755)
elif os.environ.get("UV_SAYS"):
    sys.exit(os.environ["UV_SAYS"])
"""
"""A uv that makes an environment whose Python is the text in ENGINE_PYTHON, and installs nothing."""
GOOD_PYTHON: Final = "#!/bin/sh\necho 'Compiling a file'\necho '0.32.0+cpu'\n"


class Bench:
    """A Builder with the stub for uv."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "engine"
        self.calls = folder / "calls"
        self.out = io.StringIO()
        self.lock_file = folder / "engine-cpu.txt"
        self.lock_file.write_text(LOCK_TEXT, encoding="utf-8")
        self.uv = folder / "uv"
        self.uv.write_text(UV, encoding="utf-8")
        self.uv.chmod(0o755)
        self.log = folder / "install.log"

    @property
    def lock(self) -> Lock:
        return environment.read_lock(self.lock_file)

    @property
    def target(self) -> Path:
        return self.folder / self.lock.folder

    def builder(self, python: str = GOOD_PYTHON, uv_says: str = "") -> Builder:
        variables = {
            "PATH": os.defpath,
            "CALLS": str(self.calls),
            "ENGINE_PYTHON": python,
            "UV_SAYS": uv_says,
        }
        return Builder(self.folder, self.uv, variables, self.log, Reporter(Console(file=self.out)))

    def called(self) -> list[str]:
        return self.calls.read_text(encoding="utf-8").splitlines()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_lock_knows_its_digest_its_packages_and_how_vllm_will_report_itself(bench: Bench) -> None:
    assert bench.lock == Lock(
        bench.lock_file, hashlib.sha256(LOCK_TEXT.encode()).hexdigest(), 2, "0.32.0+cpu"
    )


@pytest.mark.parametrize(("gpu", "version"), [(False, "0.32.0+cpu"), (True, "0.33.0")], ids=["cpu", "gpu"])
def test_the_machine_chooses_the_lock(gpu: bool, version: str) -> None:  # noqa: FBT001  # the case
    lock = environment.chosen_lock(gpu=gpu)

    assert lock.vllm == version
    assert lock.built_for_cpu is not gpu


def test_a_missing_lock_is_explained(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentBroken, match="git restore locks"):
        environment.read_lock(tmp_path / "none.txt")


def test_an_environment_is_named_by_its_lock_and_made_current(bench: Bench) -> None:
    built = bench.builder().ensure(bench.lock)

    assert built == bench.folder / bench.lock.digest[:16]
    assert (bench.folder / "current").readlink() == Path(bench.lock.digest[:16])
    assert (bench.folder / "current" / "bin" / "python").exists()


def test_packages_are_installed_by_hash_without_building_any_and_as_copies(bench: Bench) -> None:
    """A hard link into uv's cache would let damage here spread to every other environment on the machine."""
    bench.builder().ensure(bench.lock)

    install = bench.called()[1]
    assert "--require-hashes --no-deps --only-binary :all:" in install
    assert "--link-mode copy" in install
    assert install.endswith(f"--requirement {bench.lock_file}")


def test_the_cpu_build_answers_to_the_name_vllm(bench: Bench) -> None:
    packages = environment.site_packages(bench.builder().ensure(bench.lock) / "bin" / "python")

    found = next(iter(metadata.distributions(name="vllm", path=[str(packages)])))

    assert found.version == "0.32.0+cpu"


def test_a_built_environment_is_kept(bench: Bench) -> None:
    bench.builder().ensure(bench.lock)
    calls = bench.called()

    bench.builder().ensure(bench.lock)

    assert bench.called() == calls


def change(file: Path) -> None:
    file.write_text("x = 1", encoding="utf-8")


@pytest.mark.parametrize("damage", [Path.unlink, change], ids=["gone", "changed"])
def test_repair_builds_a_damaged_environment_anew_past_the_cache(
    bench: Bench, damage: Callable[[Path], object]
) -> None:
    built = bench.builder().ensure(bench.lock)
    damage(environment.site_packages(built / "bin" / "python") / "module.py")

    bench.builder().ensure(bench.lock, repair=True)

    assert "--no-cache" in bench.called()[-1]
    assert list(environment.damaged_files(built / "bin" / "python")) == []


def test_repair_keeps_what_is_whole(bench: Bench) -> None:
    """A box without a way to packages can still mend its weights."""
    bench.builder().ensure(bench.lock)
    calls = bench.called()

    bench.builder().ensure(bench.lock, repair=True)

    assert bench.called() == calls


def test_an_environment_without_its_stamp_is_built_again(bench: Bench) -> None:
    bench.target.mkdir(parents=True)

    bench.builder().ensure(bench.lock)

    assert (bench.target / environment.STAMP).exists()


def test_environments_of_other_locks_are_discarded(bench: Bench) -> None:
    (bench.folder / "0123456789abcdef").mkdir(parents=True)
    builder = bench.builder()
    builder.ensure(bench.lock)

    builder.discard_others()

    assert {path.name for path in bench.folder.iterdir()} == {bench.target.name, "current"}


@pytest.mark.parametrize(
    ("uv_says", "explained"),
    [
        pytest.param(
            "error: Because there is no version of torch==2.13.0+cpu and you require torch==2.13.0+cpu",
            r"CPU build of torch \(2\.13\.0\+cpu\).*PIP_EXTRA_INDEX_URL.*PIP_FIND_LINKS",
            id="torch",
        ),
        pytest.param("error: No space left on device (os error 28)", "The disk is full", id="disk"),
        pytest.param(
            "error: dns error", "could not be installed. error: dns error.*All of it: ", id="network"
        ),
    ],
)
def test_a_failed_installation_is_explained_and_leaves_nothing(
    bench: Bench, uv_says: str, explained: str
) -> None:
    with pytest.raises(EnvironmentBroken, match=explained):
        bench.builder(uv_says=uv_says).ensure(bench.lock)

    assert list(bench.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("python", "explained"),
    [
        pytest.param(
            "#!/bin/sh\necho 0.31.0\n", "vLLM can't be loaded from it. 0.31.0", id="another version"
        ),
        pytest.param(
            "#!/bin/sh\necho ImportError: x\nexit 1\n", "loaded from it. ImportError: x", id="broken"
        ),
        pytest.param(
            "#!/bin/sh\necho \"ImportError('libnuma.so.1: cannot open shared object file')\"\necho more\nexit 1\n",
            "The machine has no libnuma.so.1.*apt-get install libnuma1",
            id="library missing",
        ),
    ],
)
def test_an_environment_that_does_not_load_vllm_is_never_used(
    bench: Bench, python: str, explained: str
) -> None:
    with pytest.raises(EnvironmentBroken, match=explained):
        bench.builder(python).ensure(bench.lock)

    assert list(bench.folder.iterdir()) == []


def test_an_old_environment_stays_current_until_the_new_one_is_whole(bench: Bench) -> None:
    before = bench.builder().ensure(bench.lock)
    bench.lock_file.write_text(LOCK_TEXT + "# another\n", encoding="utf-8")

    with pytest.raises(EnvironmentBroken):
        bench.builder(uv_says="error").ensure(bench.lock)

    assert (bench.folder / "current").resolve() == before
    assert not list(bench.folder.glob(f"{staging.UNFINISHED}*"))


def test_a_missing_environment_is_explained(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentBroken, match="Run `inferfly setup`"):
        environment.site_packages(tmp_path / "bin" / "python")
