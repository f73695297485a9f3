from __future__ import annotations

import re
from pathlib import PurePosixPath

import pytest

from tests.tidy.tree import Tree


def word(*parts: str) -> str:
    """A whole word, given in parts so that this file doesn't contain it."""
    return rf"\b{''.join(parts)}\b"


def host(*labels: str) -> str:
    return r"\b" + r"\.".join(labels) + r"\b"


BANNED = {
    word("TO", "DO"): "an issue, or the thing itself",
    word("FIX", "ME"): "an issue, or the thing itself",
    word("XX", "X"): "an issue, or the thing itself",
    word("HA", "CK"): "the reason in a sentence",
    word("(?i:simp", "ly)"): "nothing: leave it out",
    word("(?i:obvious", "ly)"): "nothing: leave it out",
    word("(?i:white", "list)"): "allow-list",
    word("(?i:black", "list)"): "deny-list",
}
"""Words nobody should have to read, anywhere -> what to write."""

BANNED_IN_DOCS = {
    word("(?i:blaz", "ing(ly)?)"): "a number and its script",
    word("(?i:lightning", ".?fast)"): "a number and its script",
    word("(?i:enterprise", ".?(grade|ready)?)"): "what it does",
    word("(?i:production", ".?ready)"): "what it does, and what it does not",
    word("(?i:world", ".?class)"): "nothing: leave it out",
    word("(?i:cutting", ".?edge)"): "nothing: leave it out",
    word("(?i:state", ".of.the.art)"): "a number and its script",
    word("(?i:best", ".in.class)"): "a number and its script",
    word("(?i:battle", ".?tested)"): "the test",
    word("(?i:military", ".?grade)"): "the algorithm",
    word("(?i:power", "ful)"): "what it does",
    word("(?i:rob", "ust)"): "what it survives",
    word("(?i:seam", "less(ly)?)"): "the steps",
    word("(?i:effort", "less(ly)?)"): "the steps",
    word("(?i:revolution", "ary)"): "nothing: leave it out",
    word("(?i:lever", "age[sd]?)"): "use",
    word("(?i:util", "i[sz]e[sd]?)"): "use",
}
"""Praise that no measurement backs -> what to write. Docs, README and texts of the installer."""

VAGUE_MODULES = {
    "util",
    "utils",
    "helper",
    "helpers",
    "manager",
    "managers",
    "common",
    "misc",
    "handler2",
    "base",
}

ELSEWHERE = {
    host("py" + "pi", "org"): "PyPI",
    host("python" + "hosted", "org"): "PyPI",
    host("np" + "mjs", "(org|com)"): "npm",
    host("(deb|security|archive|snapshot)", "debian", "org"): "Debian",
    host("download", "py" + "torch", "org"): "the index that the operator names",
    host("(static|index)", "cra" + "tes", "io"): "Rust's registry",
    r"--(extra-)?index" + r"-url\b": "nothing: the operator's own settings name the index",
    r"(?<![\w.*~-])/(work|home/\w+|root|Users/\w+|opt/wheels)/[\w.]": "a path from the repository's root",
}
"""Addresses of one machine or one network -> what to write."""


def found(tree: Tree, banned: dict[str, str], *files: str) -> list[str]:
    return [
        f"{path}:{number}: {match.group()!r}: write {better}"
        for path, text in tree.matching(*files)
        for number, line in enumerate(text.splitlines(), 1)
        for pattern, better in banned.items()
        if (match := re.search(pattern, line))
    ]


def vague_modules(tree: Tree) -> list[str]:
    return [path for path, _ in tree.matching("*.py") if PurePosixPath(path).stem in VAGUE_MODULES]


def test_no_banned_words(tree: Tree) -> None:
    assert found(tree, BANNED, "*") == []


def test_no_praise_in_the_docs(tree: Tree) -> None:
    assert found(tree, BANNED_IN_DOCS, "*.md", "install.sh", "models.yaml") == []


def test_no_addresses_of_one_machine_or_registry(tree: Tree) -> None:
    assert found(tree, ELSEWHERE, "*") == []


def test_modules_are_named_after_what_they_hold(tree: Tree) -> None:
    assert vague_modules(tree) == []


@pytest.mark.parametrize("text", ["# TO" + "DO: later", "you can simp" + "ly run it", "Simp" + "ly."])
def test_a_banned_word_is_caught(text: str) -> None:
    assert len(found(Tree({"a.py": text}), BANNED, "*")) == 1


def test_a_banned_word_comes_with_its_replacement() -> None:
    tree = Tree({"a.py": "ok\nwhite" + "list"})

    assert found(tree, BANNED, "*") == ["a.py:2: 'white" + "list': write allow-list"]


@pytest.mark.parametrize("text", ["blaz" + "ing fast", "Enterprise" + "-grade", "a rob" + "ust gateway"])
def test_praise_is_caught(text: str) -> None:
    assert len(found(Tree({"README.md": text}), BANNED_IN_DOCS, "*.md")) == 1


@pytest.mark.parametrize(
    "text",
    [
        "pip install -i https://py" + "pi.org/simple",
        "https://files.python" + "hosted.org/x.whl",
        "http://deb.debian" + ".org/debian",
        "--extra-index" + "-url https://example.com",
        "see /wo" + "rk/scratch",
        "(/r" + "oot/.cache)",
    ],
)
def test_an_address_is_caught(text: str) -> None:
    assert found(Tree({"a.md": text}), ELSEWHERE, "*") != []


@pytest.mark.parametrize(
    "text", ["a PyPI package", "docs/work/x", "~/work/", "./work/x", "/home/", "homework/x"]
)
def test_other_text_is_not_an_address(text: str) -> None:
    assert found(Tree({"a.md": text}), ELSEWHERE, "*") == []


def test_a_vague_module_name_is_caught() -> None:
    assert vague_modules(Tree({"appliance/store/utils.py": ""})) == ["appliance/store/utils.py"]
