import os
import sys
from pathlib import Path

import pytest

from benchmarks import install

FETCHES = """#!/bin/sh
for word; do case "$word" in Dir::Cache::archives=*) folder="${word#*=}";; esac; done
echo "$1" >> "$CALLS"
touch "$folder/nginx.deb" "$folder/haproxy.deb"
"""
UNPACKS = """#!/bin/sh
name="$(basename "$2" .deb)"
mkdir -p "$3/usr/sbin"
touch "$3/usr/sbin/$name"
"""
FAILS = '#!/bin/sh\necho "$1" >> "$CALLS"\nexit 100\n'


def machine(folder: Path, monkeypatch: pytest.MonkeyPatch, **programs: str) -> Path:
    """A machine on which these programs are all there is. Gives the file that tells what apt-get was called for."""
    commands = folder / "commands"
    commands.mkdir()
    for name, script in programs.items():
        path = commands / name.replace("_", "-")
        path.write_text(script)
        path.chmod(0o755)
    for name in ("sh", "touch", "mkdir", "basename"):
        (commands / name).symlink_to(f"/usr/bin/{name}")
    calls = folder / "calls"
    calls.touch()
    monkeypatch.setenv("PATH", str(commands))
    monkeypatch.setenv("CALLS", str(calls))
    return calls


@pytest.fixture
def peers(tmp_path: Path) -> Path:
    """Where the Python peers are in place already."""
    folder = tmp_path / "peers"
    folder.mkdir()
    (folder / "python.lock").write_text(install.stamp_of(getattr(sys, "_base_executable", sys.executable)))
    return folder


def installed(peers: Path) -> set[str]:
    return {path.name for path in (peers / install.DEBIAN / "usr" / "sbin").glob("*")}


def test_debians_packages_are_fetched_and_unpacked_once(
    tmp_path: Path, peers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = machine(tmp_path, monkeypatch, apt_get=FETCHES, dpkg_deb=UNPACKS)

    install.install(peers, print)
    install.install(peers, print)

    assert installed(peers) == {"nginx", "haproxy"}
    assert calls.read_text() == "install\n"


def test_lists_of_packages_are_fetched_where_they_are_missing(
    tmp_path: Path, peers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = FETCHES.replace(
        "touch", 'case "$(wc -l < "$CALLS")" in 1) exit 100;; esac\n[ "$1" = update ] || touch', 1
    )
    calls = machine(tmp_path, monkeypatch, apt_get=script, dpkg_deb=UNPACKS)
    (tmp_path / "commands" / "wc").symlink_to("/usr/bin/wc")

    install.install(peers, print)

    assert calls.read_text() == "install\nupdate\ninstall\n"
    assert installed(peers) == {"nginx", "haproxy"}


@pytest.mark.parametrize(
    ("programs", "reason"),
    [({}, "this is no Debian"), ({"apt_get": FAILS, "dpkg_deb": UNPACKS}, "apt-get update ended with 100")],
    ids=["no apt", "apt fails"],
)
def test_what_can_not_be_had_is_told_and_left_out(
    tmp_path: Path, peers: Path, monkeypatch: pytest.MonkeyPatch, programs: dict[str, str], reason: str
) -> None:
    machine(tmp_path, monkeypatch, **programs)
    told: list[str] = []

    install.install(peers, told.append)

    assert reason in told[-1]
    assert installed(peers) == set()


def test_lock_names_no_registry() -> None:
    assert "://" not in install.LOCK.read_text()
    assert os.access(install.LOCK, os.R_OK)
