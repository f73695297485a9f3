from __future__ import annotations

import ast
import re

from tests.tidy.tree import Tree

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60
REASON = re.compile(r"# long: \S+ \S+")


def long_files(tree: Tree) -> list[str]:
    sources = tree.matching("*.py", "*.sh", "*.yaml", "*.yml", "*.toml", "*.md", "Makefile")
    counted = ((path, len(text.splitlines())) for path, text in sources)
    return [f"{path}: {lines} lines" for path, lines in counted if lines > FILE_LINES_MAX]


def long_functions(tree: Tree) -> list[str]:
    """Functions over the limit that don't say why, as `# long: the reason` on the line of their `def`."""
    faults: list[str] = []
    for path, text in tree.matching("*.py"):
        lines = text.splitlines()
        for node in ast.walk(ast.parse(text, path)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX and not REASON.search(lines[node.lineno - 1]):
                faults.append(f"{path}:{node.lineno} {node.name}: {length} lines")
    return faults


def function_of(lines: int, comment: str = "") -> str:
    return f"def f():{comment}\n" + "    x = 1\n" * (lines - 1)


def test_files_are_short(tree: Tree) -> None:
    assert long_files(tree) == []


def test_functions_are_short_or_say_why(tree: Tree) -> None:
    assert long_functions(tree) == []


def test_a_long_file_is_caught() -> None:
    tree = Tree({"a.py": "\n" * (FILE_LINES_MAX + 1), "b.py": "\n" * FILE_LINES_MAX, "lock.txt": "\n" * 9999})

    assert long_files(tree) == [f"a.py: {FILE_LINES_MAX + 1} lines"]


def test_a_long_function_is_caught() -> None:
    tree = Tree({"a.py": function_of(61), "b.py": function_of(60), "c.py": "async " + function_of(61)})

    assert long_functions(tree) == ["a.py:1 f: 61 lines", "c.py:1 f: 61 lines"]


def test_a_long_function_may_say_why() -> None:
    assert long_functions(Tree({"a.py": function_of(61, "  # long: one table of cases")})) == []


def test_a_bare_marker_is_no_reason() -> None:
    assert long_functions(Tree({"a.py": function_of(61, "  # long: yes")})) == ["a.py:1 f: 61 lines"]
