from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from pathlib import PurePosixPath

import pytest

from tests.tidy.tree import Tree

ENTRY_POINTS = {
    "appliance/__main__.py": "the command line",
    "appliance/privacy/promises.py": "read by tests/tidy/test_promises.py",
    "appliance/gateway/reference.py": "run by make docs",
}
"""Modules that no other module has to name, and who does."""

WITHOUT_BEHAVIOUR = {
    "appliance/domain.py": "nouns only",
    "appliance/privacy/promises.py": "data only; test_promises.py follows each to its control and proof",
    "appliance/engine/convert.py": "runs in the engine's Python; the journeys serve what it makes",
}
"""Modules without tests of their own, and why."""

TESTED_THROUGH: dict[str, str] = {
    "appliance/admin/contract.py": "tests/appliance/admin/test_server.py",
    "appliance/gateway/exchange.py": "tests/appliance/gateway/test_lanes.py",
    "appliance/gateway/tallies.py": "tests/appliance/gateway/test_limits_model.py",
}
"""Modules that are tested through the door of another -> the test module that does it."""

MORE_TESTS = {
    "tests/appliance/gateway/test_inference_engines.py": "tests/appliance/gateway/test_inference.py",
    "tests/appliance/gateway/test_inference_failures.py": "tests/appliance/gateway/test_inference.py",
    "tests/appliance/gateway/test_inference_limits.py": "tests/appliance/gateway/test_inference.py",
    "tests/appliance/gateway/test_relay_faults.py": "tests/appliance/gateway/test_relay.py",
    "tests/appliance/gateway/test_server_files.py": "tests/appliance/gateway/test_server.py",
    "tests/appliance/gateway/test_wire_pace.py": "tests/appliance/gateway/test_wire.py",
    "tests/appliance/gateway/test_wire_stop.py": "tests/appliance/gateway/test_wire.py",
}
"""Test modules that go on where a module's own would grow too long -> the module's own."""


def dotted(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def mentions(path: str, module: ast.Module) -> Iterator[str]:
    """Dotted names that a module imports, or names in a text as `package.module:function` or `module.py`."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value.split(":")[0]
            yield dotted(f"{PurePosixPath(path).parent}/{node.value}")


def unreferenced(tree: Tree, entry_points: Collection[str]) -> list[str]:
    """Modules that nothing in the product uses. A test alone is no reason to exist."""
    named = {name for path, module in tree.parsed("appliance/*.py") for name in set(mentions(path, module))}
    return [
        path
        for path, _ in tree.matching("appliance/*.py")
        if path not in entry_points and not path.endswith("__init__.py") and dotted(path) not in named
    ]


def without_mirror(
    tree: Tree,
    without_behaviour: Collection[str],
    tested_through: Mapping[str, str],
    more_tests: Mapping[str, str],
) -> list[str]:
    """Modules without their test module, test modules without their module, exceptions without a cause."""
    modules = {path for path, _ in tree.matching("appliance/*.py") if not path.endswith("__init__.py")}
    mirrors = {path: f"tests/{PurePosixPath(path).with_name(mirror_name(path))}" for path in modules}
    excepted = {*without_behaviour, *tested_through}
    faults = [
        f"{path} has no {mirror}"
        for path, mirror in mirrors.items()
        if mirror not in tree.paths and path not in excepted
    ]
    faults += [
        f"{path} mirrors no module"
        for path, _ in tree.matching("tests/appliance/*test_*.py")
        if path not in {*mirrors.values(), *tested_through.values(), *more_tests}
    ]
    faults += [
        f"{path} needs no exception"
        for path in excepted
        if path not in modules or mirrors[path] in tree.paths
    ]
    doors = {*tested_through.values(), *more_tests, *more_tests.values()}
    faults += [f"{door} is not there" for door in doors if door not in tree.paths]
    return sorted(faults)


def mirror_name(path: str) -> str:
    return f"test_{PurePosixPath(path).stem.strip('_')}.py"


def test_every_module_is_used(tree: Tree) -> None:
    assert unreferenced(tree, ENTRY_POINTS) == []


def test_every_module_has_its_tests(tree: Tree) -> None:
    assert without_mirror(tree, WITHOUT_BEHAVIOUR, TESTED_THROUGH, MORE_TESTS) == []


@pytest.mark.parametrize(
    "user",
    [
        "from appliance.store import used",
        "import appliance.store.used",
        "from appliance.store.used import f",
        "VERB = 'appliance.store.used:f'",
    ],
    ids=["from package", "import", "from module", "by name"],
)
def test_a_used_module_is_found_by_any_way_of_naming_it(user: str) -> None:
    tree = Tree({"appliance/__main__.py": user, "appliance/store/used.py": ""})

    assert unreferenced(tree, ENTRY_POINTS) == []


def test_a_script_is_used_by_its_neighbour_that_names_the_file() -> None:
    tree = Tree(
        {
            "appliance/__main__.py": "import appliance.a",
            "appliance/a.py": "RUN = 'b.py'",
            "appliance/b.py": "",
        }
    )

    assert unreferenced(tree, ENTRY_POINTS) == []


def test_an_unused_module_is_caught() -> None:
    tree = Tree(
        {"appliance/__main__.py": "", "appliance/dead.py": "", "tests/test_dead.py": "import appliance.dead"}
    )

    assert unreferenced(tree, ENTRY_POINTS) == ["appliance/dead.py"]


def test_a_module_without_tests_is_caught() -> None:
    assert without_mirror(Tree({"appliance/a/b.py": ""}), {}, {}, {}) == [
        "appliance/a/b.py has no tests/appliance/a/test_b.py"
    ]


def test_a_test_module_without_module_is_caught() -> None:
    assert without_mirror(Tree({"tests/appliance/a/test_b.py": ""}), {}, {}, {}) == [
        "tests/appliance/a/test_b.py mirrors no module"
    ]


def test_an_exception_that_is_no_longer_needed_is_caught() -> None:
    tree = Tree({"appliance/a.py": "", "tests/appliance/test_a.py": ""})

    assert without_mirror(
        tree, {"appliance/a.py"}, {"appliance/gone.py": "tests/appliance/test_a.py"}, {}
    ) == [
        "appliance/a.py needs no exception",
        "appliance/gone.py needs no exception",
    ]


def test_a_module_may_be_tested_through_another() -> None:
    tree = Tree({"appliance/a.py": "", "tests/appliance/test_door.py": ""})

    assert without_mirror(tree, {}, {"appliance/a.py": "tests/appliance/test_door.py"}, {}) == []


def test_a_door_that_is_not_there_is_caught() -> None:
    tree = Tree({"appliance/a.py": ""})

    assert without_mirror(tree, {}, {"appliance/a.py": "tests/test_door.py"}, {}) == [
        "tests/test_door.py is not there"
    ]


def test_a_module_may_have_more_tests() -> None:
    tree = Tree(
        dict.fromkeys(["appliance/a.py", "tests/appliance/test_a.py", "tests/appliance/test_a_more.py"], "")
    )
    more = {"tests/appliance/test_a_more.py": "tests/appliance/test_a.py"}

    assert without_mirror(tree, {}, {}, more) == []
    assert without_mirror(Tree({}), {}, {}, more) == [
        "tests/appliance/test_a.py is not there",
        "tests/appliance/test_a_more.py is not there",
    ]
