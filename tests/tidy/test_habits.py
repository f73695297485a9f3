"""How the tests themselves are written: they run, and fake only at the edge of the process."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.tidy.tree import Tree

ESCAPES = {"skip", "skipif", "xfail", "importorskip", "SkipTest", "skipIf", "skipUnless", "expectedFailure"}


def escapes(tree: Tree) -> list[str]:
    """Ways of not running a test, or of running it and not minding."""
    return [
        f"{path}:{node.lineno}: {ast.unparse(node)}"
        for path, module in tree.parsed("tests/*.py")
        for node in ast.walk(module)
        if (isinstance(node, ast.Attribute) and node.attr in ESCAPES)
        or (isinstance(node, ast.Name) and node.id in ESCAPES)
    ]


def patches(tree: Tree) -> list[str]:
    """Modules of ours changed from outside while a test runs."""
    return [
        f"{path}:{call.lineno}: {ast.unparse(call)}"
        for path, module in tree.parsed("tests/*.py")
        for call in patching_calls(module)
    ]


def patching_calls(module: ast.Module) -> Iterator[ast.Call]:
    ours = set(imported_from_us(module))
    for node in ast.walk(module):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = ast.unparse(node.func).rsplit(".", 1)[-1]
        target = ast.unparse(node.args[0]).strip("'\"").split(".")[0]
        if name in {"setattr", "delattr", "patch", "object"} and target in ours | {"appliance"}:
            yield node


def imported_from_us(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "appliance":
            yield from (alias.asname or alias.name for alias in node.names)


def test_every_test_runs(tree: Tree) -> None:
    assert escapes(tree) == []


def test_no_module_of_ours_is_patched(tree: Tree) -> None:
    assert patches(tree) == []


@pytest.mark.parametrize(
    "text",
    [
        "pytest.skip('no GPU')",
        "@pytest.mark.xfail\ndef test_a(): ...",
        "@pytest.mark.skipif(True, reason='x')\ndef test_a(): ...",
        "np = pytest.importorskip('numpy')",
    ],
    ids=["skip", "xfail", "skipif", "importorskip"],
)
def test_an_escape_is_caught(text: str) -> None:
    assert len(escapes(Tree({"tests/test_a.py": text}))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "def test_a(monkeypatch): monkeypatch.setattr('appliance.clock.now_ms', f)",
        "from appliance import clock\ndef test_a(monkeypatch): monkeypatch.setattr(clock, 'now_ms', f)",
        "with patch('appliance.gateway.auth.identify'): ...",
        "from appliance import clock\nwith mock.patch.object(clock, 'now_ms'): ...",
    ],
    ids=["by name", "by module", "patch", "patch.object"],
)
def test_a_patched_module_is_caught(text: str) -> None:
    assert len(patches(Tree({"tests/test_a.py": text}))) == 1


def test_the_edges_of_the_process_may_be_faked() -> None:
    text = "def test_a(monkeypatch): monkeypatch.setenv('INFERFLY_PORT', '1'); monkeypatch.setattr(time, 'time', f)"

    assert patches(Tree({"tests/test_a.py": text})) == []
