"""install.sh with the programs that it calls replaced by stubs on PATH. `make test` itself has run the real thing."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
LOCK_NAMES: Final = ("bootstrap", "appliance", "engine-cpu", "engine-cuda")
PYTHON: Final = f"""
case "$*" in
    "-m venv "*)
        mkdir -p "$3/bin"; [ -z "${{VENV_FAILS:-}}" ] || {{ echo "no such luck"; exit 1; }}
        [ -z "${{VENV_HANGS:-}}" ] || {{ touch "$VENV_HANGS"; exec sleep 60; }}
        cp "$0" "$3/bin/python"
        printf '#!/bin/sh\\necho "inferfly $*" >> "$CALLS"\\n' > "$3/bin/inferfly"; chmod +x "$3/bin/inferfly"
        echo venv >> "$CALLS" ;;
    "-m pip "*) echo "pip $*" >> "$CALLS" ;;
    *) exec {sys.executable} "$@" ;;
esac
"""
"""A python3.11 that builds environments in no time, and is the real one for everything else."""

LITTLE_MEMORY: Final = f'case "$1" in *MemAvailable*) echo 900 ;; *) exec {shutil.which("awk")} "$@" ;; esac'


class Site:
    """A checkout with install.sh and what it reads, and a PATH whose first folder holds stubs."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "checkout"
        self.stubs = folder / "stubs"
        self.calls = folder / "calls"
        (self.root / "locks").mkdir(parents=True)
        self.stubs.mkdir()
        for name in ("install.sh", "pyproject.toml", "models.yaml"):
            shutil.copy(ROOT / name, self.root / name)
        for name in LOCK_NAMES:
            shutil.copy(ROOT / "locks" / f"{name}.txt", self.root / "locks")
        self.stub("python3.11", PYTHON)
        self.stub("uname", "case $1 in -s) echo Linux ;; -m) echo x86_64 ;; esac")
        self.stub("id", "echo 0")
        self.stub("apt-get", 'echo "apt-get $*" >> "$CALLS"')
        self.stub("df", "printf 'x\\nx 1 1 99000000 1 /\\n'")

    def stub(self, name: str, body: str) -> None:
        file = self.stubs / name
        file.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        file.chmod(0o755)

    def variables(self, **more: str) -> dict[str, str]:
        path = f"{self.stubs}:{os.environ['PATH']}"
        return {"PATH": path, "HOME": str(self.root), "CALLS": str(self.calls), "INFERFLY_PORT": "0"} | more

    def run(
        self, *options: str, cwd: Path | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.root / "install.sh"), *options],
            env=self.variables(**variables),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def files(self) -> set[str]:
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*")}

    def called(self) -> list[str]:
        return self.calls.read_text(encoding="utf-8").splitlines() if self.calls.exists() else []


@pytest.fixture
def site() -> Generator[Site]:
    """In a folder of a short name: the state folder's sockets have to fit into Linux's limit."""
    with tempfile.TemporaryDirectory(prefix="if-") as folder:
        yield Site(Path(folder))


def lacking(module: str) -> str:
    """A python3.11 without `module`."""
    return f'case "$*" in *{module}*) exit 1 ;; esac\n{PYTHON}'


def test_an_unknown_option_shows_the_usage_and_exits_2(site: Site) -> None:
    ended = site.run("--local", "--force")

    assert ended.returncode == 2
    assert "unknown option: --force" in ended.stderr
    assert "Usage: ./install.sh" in ended.stderr


def test_help_names_every_option(site: Site) -> None:
    ended = site.run("--help")

    assert ended.returncode == 0
    assert all(option in ended.stdout for option in ("--local", "--yes", "--no-start", "--plan", "--help"))


def test_without_local_it_points_to_local(site: Site) -> None:
    ended = site.run("--yes")

    assert ended.returncode == 1
    assert "later release" in ended.stderr
    assert "./install.sh --local" in ended.stderr


def test_plan_says_what_and_where_and_changes_nothing(site: Site) -> None:
    before = site.files()

    ended = site.run("--local", "--plan")

    assert ended.returncode == 0
    assert f"{site.root}/.venv" in ended.stdout
    assert f"{site.root}/.inferfly/models (smollm2-135m-instruct)" in ended.stdout
    assert "6600 MB" in ended.stdout
    assert site.files() == before
    assert site.called() == []


def test_without_yes_and_a_terminal_nothing_is_changed(site: Site) -> None:
    before = site.files()

    ended = site.run("--local")

    assert ended.returncode == 1
    assert "nobody to ask" in ended.stderr
    assert site.files() == before


@pytest.mark.parametrize(
    ("name", "body", "says"),
    [
        pytest.param(
            "uname",
            "case $1 in -s) echo Darwin ;; -m) echo arm64 ;; esac",
            "Darwin arm64",
            id="another system",
        ),
        pytest.param("df", "printf 'x\\nx 1 1 2048 1 /\\n'", "2 MB are free", id="little disk"),
        pytest.param("awk", LITTLE_MEMORY, "900 MB are available", id="little memory"),
        pytest.param(
            "python3.11", lacking("sqlite3"), "lacks ssl, ctypes or sqlite3", id="incomplete Python"
        ),
    ],
)
def test_an_unfit_machine_is_refused_before_any_change(site: Site, name: str, body: str, says: str) -> None:
    before = site.files()
    site.stub(name, body)

    ended = site.run("--local", "--yes")

    assert ended.returncode == 1
    assert says in ended.stderr
    assert site.files() == before
    assert site.called() == []


def test_another_python_is_named_with_the_cure(site: Site) -> None:
    site.stub("python3.11", "exit 127")
    site.stub("python3", "echo 3.12")

    ended = site.run("--local", "--yes")

    assert ended.returncode == 1
    assert "Python 3.11 is not here (found: 3.12)" in ended.stderr
    assert "apt-get install python3" in ended.stderr


def test_plain_python3_is_taken_if_it_is_3_11(site: Site) -> None:
    site.stub("python3.11", "exit 127")
    site.stub("python3", PYTHON)

    assert site.run("--local", "--plan").returncode == 0


@pytest.mark.parametrize(
    ("module", "package"), [("ensurepip", "python3.11-venv"), ("libnuma", "libnuma1")], ids=["venv", "numa"]
)
def test_root_gets_missing_debian_packages_by_the_plan(site: Site, module: str, package: str) -> None:
    site.stub("python3.11", lacking(module))

    planned = site.run("--local", "--plan")
    done = site.run("--local", "--yes", "--no-start")

    assert f"install {package} (apt-get)" in planned.stdout
    assert done.returncode == 0
    assert f"apt-get install -y --no-install-recommends {package}" in site.called()


def test_another_user_is_told_how_to_get_missing_debian_packages(site: Site) -> None:
    site.stub("python3.11", lacking("ensurepip"))
    site.stub("id", "echo 1000")

    ended = site.run("--local", "--yes")

    assert ended.returncode == 1
    assert "sudo apt-get install python3.11-venv" in ended.stderr


def test_a_taken_port_is_refused_with_the_cure(site: Site) -> None:
    before = site.files()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])

        ended = site.run("--local", "--yes", INFERFLY_PORT=port)

    assert ended.returncode == 1
    assert f"Port {port} of 127.0.0.1 can't be had" in ended.stderr
    assert "INFERFLY_PORT=8081" in ended.stderr
    assert site.files() == before


def test_a_taken_port_does_not_matter_when_nothing_is_started(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])

        ended = site.run("--local", "--yes", "--no-start", INFERFLY_PORT=port)

    assert ended.returncode == 0


def test_a_running_appliance_is_refused(site: Site) -> None:
    (site.root / ".inferfly").mkdir()
    with (site.root / ".inferfly" / "up.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        ended = site.run("--local", "--yes")

    assert ended.returncode == 1
    assert "An appliance is running" in ended.stderr


def test_a_venv_of_the_operators_own_is_left_alone(site: Site) -> None:
    (site.root / ".venv").mkdir()

    ended = site.run("--local", "--yes")

    assert ended.returncode == 1
    assert "mv .venv .venv.mine" in ended.stderr


def test_it_bootstraps_sets_up_and_serves_from_any_folder(site: Site, tmp_path: Path) -> None:
    ended = site.run("--local", "--yes", cwd=tmp_path)

    assert ended.returncode == 0, ended.stderr
    calls = site.called()
    assert calls[0] == "venv"
    assert "--require-hashes -r locks/bootstrap.txt -r locks/appliance.txt" in calls[1]
    assert calls[2].endswith("-e .")
    assert calls[3:] == ["inferfly setup", "inferfly up"]
    assert (site.root / ".inferfly").stat().st_mode & 0o777 == 0o700


def test_no_start_ends_after_the_setup(site: Site) -> None:
    site.run("--local", "--yes", "--no-start")

    assert site.called()[-1] == "inferfly setup"


def test_a_relative_home_is_meant_from_where_the_operator_stands(site: Site) -> None:
    ended = site.run("--local", "--plan", cwd=site.stubs, INFERFLY_HOME="elsewhere")

    assert f"{site.stubs}/elsewhere/engine" in ended.stdout


def test_a_second_run_keeps_the_environment(site: Site) -> None:
    site.run("--local", "--yes", "--no-start")

    site.run("--local", "--yes", "--no-start")

    assert site.called().count("venv") == 1


def test_a_python_that_is_itself_an_environment_makes_no_difference(site: Site) -> None:
    """In `make`, python3.11 is the one in .venv."""
    site.run("--local", "--yes", "--no-start")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", site.root / "venv"], check=True)
    site.stub("python3.11", PYTHON.replace(sys.executable, f"{site.root}/venv/bin/python"))

    site.run("--local", "--yes", "--no-start")

    assert site.called().count("venv") == 1


def test_a_changed_lock_replaces_the_environment(site: Site) -> None:
    site.run("--local", "--yes", "--no-start")
    before = (site.root / ".venv").readlink()
    with (site.root / "locks" / "appliance.txt").open("a") as lock:
        lock.write("# another\n")

    site.run("--local", "--yes", "--no-start")

    after = (site.root / ".venv").readlink()
    assert after != before
    assert [path.name for path in (site.root / ".build").glob("venv-*")] == [after.name]


def test_a_step_that_fails_shows_why_and_leaves_nothing_half_done(site: Site) -> None:
    ended = site.run("--local", "--yes", VENV_FAILS="1")

    assert ended.returncode == 1
    assert "no such luck" in ended.stderr
    assert ".inferfly/logs/install.log" in ended.stderr
    assert not (site.root / ".venv").exists()
    assert not list((site.root / ".build").glob("venv-*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupted_run_leaves_nothing_half_done(
    site: Site, tmp_path: Path, number: signal.Signals
) -> None:
    hanging = tmp_path / "hanging"
    with subprocess.Popen(
        [str(site.root / "install.sh"), "--local", "--yes"],
        env=site.variables(VENV_HANGS=str(hanging)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        wait_for(hanging)

        os.killpg(process.pid, number)

    assert process.returncode == 128 + number
    assert not list((site.root / ".build").glob("venv-*"))


def test_what_a_killed_run_left_is_removed_by_the_next(site: Site) -> None:
    stale = site.root / ".build" / "venv-0123456789abcdef"
    stale.mkdir(parents=True)

    site.run("--local", "--yes", "--no-start")

    assert not stale.exists()


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 30
    while not file.exists():
        assert time.monotonic() < deadline, f"{file} never came"
        time.sleep(0.02)
