from __future__ import annotations

import re

import pytest

from tests.tidy.tree import Tree

PINNED = re.compile(r"[\w.\[\],-]+==\S+( ; .+?)?( --hash=sha256:[0-9a-f]{64})+")
HASH = "--hash=sha256:" + "0" * 64


def loose(tree: Tree) -> list[str]:
    """Requirements of locks/*.txt that aren't pinned to one version and to hashes; options of the installer."""
    return [
        f"{path}: {requirement[:80]}"
        for path, text in tree.matching("locks/*.txt")
        for requirement in requirements(text)
        if not PINNED.fullmatch(requirement)
    ]


def requirements(text: str) -> list[str]:
    """Requirements without comments, each on one line."""
    joined = re.sub(r"[ \t]*\\\n[ \t]*", " ", re.sub(r"(^|[ \t]+)#.*$", "", text, flags=re.MULTILINE))
    return [line.strip() for line in joined.splitlines() if line.strip()]


def test_every_requirement_is_pinned_by_hash(tree: Tree) -> None:
    assert loose(tree) == []


def test_there_are_locks(tree: Tree) -> None:
    found = {path for path, _ in tree.matching("locks/*.txt")}

    assert {"locks/appliance.txt", "locks/dev.txt", "locks/engine-cpu.txt", "locks/engine-cuda.txt"} <= found


@pytest.mark.parametrize(
    "line",
    [
        "click==8.1",
        f"click>=8 {HASH}",
        f"click {HASH}",
        f"click==8.1 {HASH[:-1]}",
        "--find-links wheels",
        "-r other.txt",
        f"click @ file:///x.whl {HASH}",
    ],
)
def test_a_loose_requirement_is_caught(line: str) -> None:
    assert loose(Tree({"locks/a.txt": line})) == [f"locks/a.txt: {line[:80]}"]


@pytest.mark.parametrize(
    "text",
    [
        f"click==8.1 \\\n    {HASH} \\\n    {HASH}\n    # via rich\n",
        f"torch==2.13.0+cpu {HASH}",
        f"uvicorn[standard]==0.5 {HASH}",
        f"uvloop==0.2 ; sys_platform != 'win32' \\\n    {HASH}",
        "# made by uv\n",
    ],
)
def test_a_pinned_requirement_is_fine(text: str) -> None:
    assert loose(Tree({"locks/a.txt": text})) == []
