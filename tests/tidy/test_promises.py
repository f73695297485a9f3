from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import pytest

from appliance.privacy.promises import PROMISES
from tests.tidy.tree import Tree


class PromiseLike(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def sentence(self) -> str: ...
    @property
    def control(self) -> str: ...
    @property
    def proof(self) -> str: ...


def broken(tree: Tree, promises: Iterable[PromiseLike]) -> list[str]:
    """Promises whose control or proof, each `path::name`, is not there; whose id is used twice or sentence empty."""
    faults: list[str] = []
    seen: set[str] = set()
    for promise in promises:
        if promise.id in seen:
            faults.append(f"{promise.id}: this id is used twice")
        seen.add(promise.id)
        if not promise.sentence.endswith("."):
            faults.append(f"{promise.id}: its sentence has no end")
        if not promise.proof.startswith("tests/"):
            faults.append(f"{promise.id}: a proof is a test, {promise.proof} is none")
        faults += [
            f"{promise.id}: {place} is not there"
            for place in (promise.control, promise.proof)
            if not is_there(tree, place)
        ]
    return faults


def untold(tree: Tree, promises: Iterable[PromiseLike]) -> list[str]:
    """Promises that no row of README's table tells together with the file of their proof."""
    rows = [line for line in tree.texts.get("README.md", "").splitlines() if line.startswith("| ")]
    return [
        f"{promise.id}: README does not tell it with {proof}"
        for promise in promises
        for proof in [promise.proof.partition("::")[0]]
        if not any(f"`{proof}`" in row and _words(promise.sentence) <= _words(row) for row in rows)
    ]


def _words(text: str) -> set[str]:
    return set(re.findall(r"[\w'-]+", text.lower()))


def is_there(tree: Tree, place: str) -> bool:
    path, separator, name = place.partition("::")
    text = tree.texts.get(path)
    if text is None or not separator or not name:
        return False
    if path.endswith(".py"):
        return name in set(names(ast.parse(text, path)))
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text) is not None


def names(scope: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[str]:
    """Functions, classes and constants of a module; of a class as Class.name."""
    for node in scope.body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield prefix + node.name
            case ast.ClassDef():
                yield prefix + node.name
                yield from names(node, f"{prefix}{node.name}.")
            case ast.Assign():
                yield from (prefix + target.id for target in node.targets if isinstance(target, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield prefix + name
            case _:
                pass


@dataclass(frozen=True)
class Example:
    control: str = "a.py::Lock.close"
    proof: str = "tests/test_a.py::test_closed"
    id: str = "P1"
    sentence: str = "The door is shut."


EXAMPLES = Tree(
    {
        "a.py": "LIMIT: int = 1\nKINDS = ()\nclass Lock:\n    def close(self): ...\n",
        "tests/test_a.py": "async def test_closed(): ...\n",
        "unit.service": "PrivateNetwork=yes\n",
    }
)


def test_every_promise_has_its_control_and_its_proof(tree: Tree) -> None:
    assert broken(tree, PROMISES) == []


def test_readme_tells_every_promise_with_its_proof(tree: Tree) -> None:
    assert untold(tree, PROMISES) == []


@pytest.mark.parametrize(
    ("table", "missing"),
    [
        ("| The door is shut | `tests/test_a.py` |", 0),
        ("| The door is `shut` at night | `tests/test_a.py` |", 0),
        ("| The door is shut | `tests/test_b.py` |", 1),
        ("| The window is shut | `tests/test_a.py` |", 1),
        ("The door is shut: `tests/test_a.py`", 1),
    ],
)
def test_a_promise_that_is_not_told_is_caught(table: str, missing: int) -> None:
    assert len(untold(Tree({"README.md": table}), [Example()])) == missing


@pytest.mark.parametrize(
    "control", ["a.py::Lock.close", "a.py::LIMIT", "a.py::KINDS", "unit.service::PrivateNetwork"]
)
def test_a_kept_promise_is_fine(control: str) -> None:
    assert broken(EXAMPLES, [Example(control=control)]) == []


@pytest.mark.parametrize(
    "control",
    ["gone.py::Lock", "a.py::Gone", "a.py::close", "a.py", "a.py::", "unit.service::Private", ""],
)
def test_a_missing_control_is_caught(control: str) -> None:
    assert broken(EXAMPLES, [Example(control=control)]) == [f"P1: {control} is not there"]


def test_a_missing_proof_is_caught() -> None:
    assert broken(EXAMPLES, [Example(proof="tests/test_a.py::test_gone")]) == [
        "P1: tests/test_a.py::test_gone is not there"
    ]


def test_a_proof_that_is_no_test_is_caught() -> None:
    assert broken(EXAMPLES, [Example(proof="a.py::LIMIT")]) == ["P1: a proof is a test, a.py::LIMIT is none"]


def test_an_id_used_twice_is_caught() -> None:
    assert broken(EXAMPLES, [Example(), Example()]) == ["P1: this id is used twice"]


def test_half_a_sentence_is_caught() -> None:
    assert broken(EXAMPLES, [Example(sentence="The door")]) == ["P1: its sentence has no end"]
