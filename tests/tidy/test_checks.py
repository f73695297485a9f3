"""Every linter of `make check` is content with the tree."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def recipe(makefile: str) -> list[str]:
    """The commands of `make check`, variables filled in."""
    found = re.search(r"^check:.*\n((?:\t.+\n)+)", makefile, re.MULTILINE)
    sources = re.search(r"^SOURCES = (.+)$", makefile, re.MULTILINE)
    assert found
    assert sources
    return [line.strip().replace("$(SOURCES)", sources[1]) for line in found[1].splitlines()]


@pytest.mark.parametrize("command", recipe((ROOT / "Makefile").read_text()))
def test_the_check_passes(command: str) -> None:
    tools = Path(sys.executable).parent
    words = command.replace(".venv/bin/python", sys.executable).split()
    searched = f"{tools}{os.pathsep}{os.environ['PATH']}"

    ended = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | {"PATH": searched}
    )

    assert ended.returncode == 0, f"{ended.stdout[-4000:]}\n{ended.stderr[-1000:]}"


def test_a_complaint_is_noticed(tmp_path: Path) -> None:
    """The same call on a file with a fault, so that a linter that finds no files can't pass for a good one."""
    (tmp_path / "faulty.py").write_text("import os\n")

    ended = subprocess.run(
        [str(Path(sys.executable).parent / "ruff"), "check", str(tmp_path)],
        capture_output=True,
        check=False,
    )

    assert ended.returncode == 1
