from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.privacy.logs import FIELDS, AllowListFormatter, log
from tests.tidy.tree import ROOT

SECRET = "the words of a prompt"
PREAMBLE = """
import asyncio, logging, sys, threading, warnings
from appliance.privacy import logs
logs.install('gateway')
"""
LOST_TASK = f"""
async def lost():
    raise KeyError({SECRET!r})

async def main():
    asyncio.get_running_loop().set_exception_handler(logs.loop_exception)
    task = asyncio.ensure_future(lost())
    await asyncio.wait([task])
    del task

asyncio.run(main())
"""
OTHERS: list[dict[str, Any]] = [
    {"msg": SECRET},
    {"msg": "%s", "args": (SECRET,)},
    {"exc_info": (KeyError, KeyError(SECRET), None)},
    {"exc_text": SECRET},
    {"stack_info": SECRET},
    {"name": SECRET},
    {"module": SECRET},
    {"custom": SECRET},
    {"inferfly": (SECRET, {})},
]


def record(**changes: Any) -> logging.LogRecord:
    made = logging.LogRecord("library", logging.WARNING, "/x/module.py", 7, SECRET, (), None)
    vars(made).update(changes)
    return made


def line_of(found: logging.LogRecord) -> dict[str, Any]:
    return json.loads(AllowListFormatter().format(found))


def event_of(event: str, **fields: Any) -> dict[str, Any]:
    """What log() writes for an event, without time and level."""
    with_fields = record(name="inferfly", msg="inferfly_event", inferfly=(event, fields))
    found = line_of(with_fields)
    return {name: value for name, value in found.items() if name not in ("ts", "level")}


def stderr_of(code: str, tmp_path: Path) -> list[dict[str, Any]]:
    """Lines that a process with our log installed writes while it runs this code."""
    done = subprocess.run(
        [sys.executable, "-c", PREAMBLE + code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert SECRET not in done.stdout + done.stderr
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_an_event_has_its_name_and_its_declared_fields() -> None:
    assert event_of("engine_ready", engine="tiny-1", seconds=1.5, count=3) == {
        "event": "engine_ready",
        "engine": "tiny-1",
        "seconds": 1.5,
        "count": 3,
    }


def test_a_field_that_is_not_declared_is_refused() -> None:
    assert event_of("engine_ready", prompt="hello") == {"event": "engine_ready", "prompt": "refused"}


@pytest.mark.parametrize(
    "value",
    [SECRET, "", "Upper", "x" * 65, "line\n", "-x", "naïve", b"bytes", None, 5, ["a"]],
    ids=["words", "empty", "upper", "long", "newline", "dash", "accent", "bytes", "none", "number", "list"],
)
def test_a_text_that_is_no_identifier_is_refused(value: object) -> None:
    assert event_of("engine_ready", engine=value)["engine"] == "refused"


@pytest.mark.parametrize("value", ["5", None, [1]], ids=["text", "none", "list"])
def test_a_number_has_to_be_one(value: object) -> None:
    assert event_of("engine_ready", seconds=value)["seconds"] == "refused"


@given(st.dictionaries(st.sampled_from([*FIELDS]), st.text() | st.binary() | st.none()))
def test_no_free_text_gets_through_any_field(fields: dict[str, Any]) -> None:
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789._:-")

    values = event_of("event", **fields).values()

    assert all(set(value) <= allowed and len(value) <= 64 for value in values)


@pytest.mark.parametrize(
    "changes",
    OTHERS,
    ids=["text", "argument", "exception", "exc_text", "stack", "logger", "module", "extra", "pretender"],
)
def test_nothing_of_anybody_elses_record_is_written(changes: dict[str, Any]) -> None:
    assert SECRET not in AllowListFormatter().format(record(**changes))


def test_anybody_elses_record_gives_logger_place_and_type() -> None:
    found = line_of(record(exc_info=(KeyError, KeyError(SECRET), None)))

    assert found == {
        "ts": found["ts"],
        "level": "warning",
        "event": "library_message",
        "logger": "library",
        "place": "module:7",
        "error": "keyerror",
    }


def test_log_writes_through_the_logger_of_the_appliance(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "inferfly")

    log("engine_ready", engine="tiny")

    assert line_of(caplog.records[0])["engine"] == "tiny"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("logs.log('started', part='gateway')", {"event": "started", "part": "gateway"}),
        (f"logging.getLogger('a.b').error({SECRET!r})", {"event": "library_message", "logger": "a.b"}),
        (f"warnings.warn({SECRET!r})", {"event": "library_message", "logger": "py.warnings"}),
        (f"raise KeyError({SECRET!r})", {"event": "crashed", "part": "gateway", "error": "keyerror"}),
        (
            f"def f(): raise KeyError({SECRET!r})\nt = threading.Thread(target=f)\nt.start()\nt.join()",
            {"event": "crashed", "error": "keyerror"},
        ),
        (
            f"class A:\n  def __del__(self): raise KeyError({SECRET!r})\na = A()\ndel a",
            {"event": "crashed", "error": "keyerror"},
        ),
        (LOST_TASK, {"event": "task_failed", "error": "keyerror"}),
    ],
    ids=["event", "library", "warning", "crash", "thread", "finalizer", "task"],
)
def test_whatever_fails_is_one_line_without_its_text(
    code: str, expected: dict[str, str], tmp_path: Path
) -> None:
    [found] = stderr_of(code, tmp_path)

    assert found | expected == found


def test_a_handler_that_a_library_set_before_is_removed(tmp_path: Path) -> None:
    code = f"logging.getLogger('uvicorn.error').error({SECRET!r})"
    before = "import logging\nlogging.getLogger('uvicorn.error').addHandler(logging.StreamHandler())\n"

    lines = stderr_of(before + "logs.install('gateway')\n" + code, tmp_path)

    assert [line["logger"] for line in lines] == ["uvicorn.error"]


def test_what_is_not_a_warning_of_a_library_is_silent(tmp_path: Path) -> None:
    assert stderr_of(f"logging.getLogger('httpx').info({SECRET!r})", tmp_path) == []


def test_a_record_that_can_not_be_formatted_says_nothing(tmp_path: Path) -> None:
    """logging would print the record's arguments and a traceback to stderr."""
    assert stderr_of("logging.getLogger('a').error('%d', object())", tmp_path)[0]["logger"] == "a"
