from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.tidy.tree import Tree


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    return tmp_path


def test_new_files_count_before_they_are_committed(repository: Path) -> None:
    (repository / "new.py").write_text("x = 1\n")

    assert Tree.of(repository).texts == {"new.py": "x = 1\n"}


def test_ignored_files_do_not_count(repository: Path) -> None:
    (repository / ".gitignore").write_text("*.log\n")
    (repository / "a.log").write_text("x")

    assert Tree.of(repository).paths == {".gitignore"}


def test_deleted_files_do_not_count(repository: Path) -> None:
    (repository / "gone.py").write_text("")
    subprocess.run(["git", "add", "gone.py"], cwd=repository, check=True)
    (repository / "gone.py").unlink()

    assert Tree.of(repository).paths == frozenset()


def test_a_binary_file_has_a_path_but_no_text(repository: Path) -> None:
    (repository / "a.bin").write_bytes(b"\xff\xfe\x00")

    found = Tree.of(repository)

    assert (found.paths, found.texts) == ({"a.bin"}, {})


def test_this_repository_is_seen(tree: Tree) -> None:
    assert {"pyproject.toml", "appliance/__main__.py", "tests/tidy/test_tree.py"} <= tree.paths
