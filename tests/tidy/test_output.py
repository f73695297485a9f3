"""What the code may say about itself: declared events to the log, and texts of the command line to its terminal."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator

import pytest

from appliance.privacy.logs import FIELDS
from tests.tidy.tree import Tree

TERMINAL = {
    "appliance/__main__.py": "the command line",
    "appliance/app.py": "the command line",
    "appliance/up/screen.py": "tells the operator in the foreground what starts and where it serves",
    "appliance/admin/verbs/answer.py": "the command line",
    "appliance/engine/setup.py": "the command line",
    "appliance/engine/log_relay.py": "passes on lines that the engine's sealed log has made",
    "appliance/engine/sealed_log.py": "is the engine's log",
    "appliance/engine/convert.py": "a script in the engine's Python: its caller reads its output",
}
"""Files that may write to the terminal, and why."""

FORMATTER = "appliance/privacy/logs.py"

LEVELS = {"debug", "info", "warning", "warn", "error", "exception", "critical", "fatal"}
EVENT = re.compile(r"[a-z][a-z0-9_]*")


def calls(module: ast.Module) -> Iterator[ast.Call]:
    return (node for node in ast.walk(module) if isinstance(node, ast.Call))


def wrong_events(tree: Tree, fields: Collection[str]) -> list[str]:
    """Calls of log() whose event isn't a fixed name, or that carry what FIELDS doesn't declare."""
    faults: list[str] = []
    for path, module in tree.parsed("appliance/*.py"):
        for call in calls(module):
            if ast.unparse(call.func) in {"log", "logs.log"}:
                faults += [f"{path}:{call.lineno}: {fault}" for fault in event_faults(call, fields)]
    return faults


def event_faults(call: ast.Call, fields: Collection[str]) -> Iterator[str]:
    match call.args:
        case [ast.Constant(value=str(event))] if EVENT.fullmatch(event):
            pass
        case _:
            yield "the event is one fixed name"
    for keyword in call.keywords:
        if keyword.arg is None:
            yield "fields are written out, not unpacked"
        elif keyword.arg not in fields:
            yield f"{keyword.arg} is not in FIELDS"
        if any(isinstance(node, ast.JoinedStr) for node in ast.walk(keyword.value)):
            yield f"{keyword.arg} is an f-string"


def other_output(tree: Tree, terminal: Collection[str]) -> list[str]:
    """Loggers used past log(), and writing to the terminal outside of the command line."""
    faults: list[str] = []
    for path, module in tree.parsed("appliance/*.py"):
        for call in calls(module):
            name = ast.unparse(call.func)
            if path != FORMATTER and is_logger(call.func):
                faults.append(f"{path}:{call.lineno}: {name}(): use log()")
            elif path not in terminal and is_terminal(name):
                faults.append(f"{path}:{call.lineno}: {name}(): only the command line talks")
    return faults


def is_logger(function: ast.expr) -> bool:
    if not isinstance(function, ast.Attribute) or function.attr not in LEVELS | {"log"}:
        return False
    owner = ast.unparse(function.value).lower()
    return "logging" in owner or owner.rsplit(".", 1)[-1] in {"log", "logger", "_log", "_logger"}


def is_terminal(name: str) -> bool:
    return (
        name in {"print", "pprint", "warnings.warn"}
        or name.startswith(("click.echo", "click.secho", "traceback.print", "rich.print", "faulthandler."))
        or re.search(r"\b(stdout|stderr)(\.buffer)?\.write", name) is not None
    )


def test_events_are_fixed_names_with_declared_fields(tree: Tree) -> None:
    assert wrong_events(tree, FIELDS) == []


def test_nothing_is_written_past_the_log(tree: Tree) -> None:
    assert other_output(tree, TERMINAL) == []


def test_files_that_may_write_to_the_terminal_exist(tree: Tree) -> None:
    assert [path for path in TERMINAL if path not in tree.paths] == []


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        ("log(event)", "the event is one fixed name"),
        ("log(f'ready_{name}')", "the event is one fixed name"),
        ("log('Engine ready')", "the event is one fixed name"),
        ("log('ready', name)", "the event is one fixed name"),
        ("logs.log('ready', prompt='x')", "prompt is not in FIELDS"),
        ("log('ready', **fields)", "fields are written out, not unpacked"),
        ("log('ready', engine=f'{x}')", "engine is an f-string"),
    ],
)
def test_a_wrong_event_is_caught(call: str, fault: str) -> None:
    assert wrong_events(Tree({"appliance/a.py": call}), {"engine"}) == [f"appliance/a.py:1: {fault}"]


def test_a_right_event_is_fine() -> None:
    assert wrong_events(Tree({"appliance/a.py": "log('engine_ready', engine=name)"}), {"engine"}) == []


@pytest.mark.parametrize(
    "call",
    [
        "logging.getLogger(__name__).info('x')",
        "logging.warning('x')",
        "logger.exception('x')",
        "self._logger.debug('x')",
        "print('x')",
        "click.echo('x')",
        "sys.stderr.write('x')",
        "sys.stdout.buffer.write(b'x')",
        "traceback.print_exc()",
        "warnings.warn('x')",
    ],
)
def test_other_output_is_caught(call: str) -> None:
    assert len(other_output(Tree({"appliance/a.py": call}), {})) == 1


@pytest.mark.parametrize("call", ["log('x')", "math.log(2)", "file.write('x')", "registry.info()"])
def test_other_calls_are_fine(call: str) -> None:
    assert other_output(Tree({"appliance/a.py": call}), {}) == []


def test_the_command_line_may_talk() -> None:
    assert other_output(Tree({"appliance/app.py": "click.echo('x')"}), {"appliance/app.py"}) == []
