"""The leak shapes of vLLM's own log, each with a canary where content would be."""

import contextlib
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.engine import sealed_log
from appliance.engine.folder import RunFolder

CANARY = "c4naryQ7x"
CONSTANT = "a module's constant %s"

logger = logging.getLogger("vllm.tool_parsers.some")


@pytest.fixture
def lines(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What the sealed handler sends while a test runs."""
    monkeypatch.setenv(sealed_log.LOG_SOCKET, str(short_folder / "log"))
    ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    ear.bind(str(short_folder / "log"))
    handler = sealed_log.SealedHandler()
    handler.setFormatter(sealed_log.SealedFormatter())
    logger.addHandler(handler)
    logger.propagate = False

    def received() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(json.loads(ear.recv(10000)))
        return found

    yield received
    logger.removeHandler(handler)
    logger.propagate = True
    handler.close()
    ear.close()


def broken_answer() -> None:
    compile(f"call(text='{CANARY}'", "<completion>", "exec")


def test_a_constant_template_stays(lines: Callable[[], list[dict[str, Any]]]) -> None:
    logger.warning("Error in parsing %s: %s", "tool", CANARY)

    [line] = lines()
    assert line["template"] == "Error in parsing %s: %s"
    assert line["logger"] == "vllm.tool_parsers.some"
    assert line["level"] == "warning"
    assert line["place"].startswith("test_sealed_log:")
    assert CANARY not in json.dumps(line)


def test_an_f_string_is_dynamic(lines: Callable[[], list[dict[str, Any]]]) -> None:
    logger.warning(f"Bad arguments: {CANARY}")  # noqa: G004  # the leak

    [line] = lines()
    assert line["template"] == sealed_log.DYNAMIC
    assert CANARY not in json.dumps(line)


def test_a_message_put_together_is_dynamic(lines: Callable[[], list[dict[str, Any]]]) -> None:
    logger.error("Bad: " + CANARY + "!" * len(CANARY))  # noqa: G003  # the leak
    logger.error("Bad: %s" % CANARY)  # noqa: G002, UP031  # the leak
    logger.error("Bad: {}".format(CANARY))  # noqa: G001, UP032  # the leak

    assert [line["template"] for line in lines()] == [sealed_log.DYNAMIC] * 3


def test_a_value_passed_as_the_message_is_dynamic(lines: Callable[[], list[dict[str, Any]]]) -> None:
    for text in [CANARY[:4] + CANARY[4:]]:
        logger.error(text)

    assert [line["template"] for line in lines()] == [sealed_log.DYNAMIC]


def test_an_object_as_the_message_is_dynamic(lines: Callable[[], list[dict[str, Any]]]) -> None:
    logger.error(ValueError(CANARY))
    logger.error({"prompt": CANARY})

    assert [line["template"] for line in lines()] == [sealed_log.DYNAMIC] * 2


def test_a_str_that_only_looks_like_the_constant_is_dynamic(
    lines: Callable[[], list[dict[str, Any]]],
) -> None:
    """A subclass may compare equal to anything and print something else."""

    class Sly(str):
        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 0

    logger.error(Sly(CANARY))

    assert [line["template"] for line in lines()] == [sealed_log.DYNAMIC]


def test_an_exception_leaves_its_type_only(lines: Callable[[], list[dict[str, Any]]]) -> None:
    try:
        int(CANARY)
    except ValueError:
        logger.exception("Error in extracting tool call")

    [line] = lines()
    assert (line["template"], line["error"]) == ("Error in extracting tool call", "ValueError")
    assert CANARY not in json.dumps(line)


def test_a_syntax_error_does_not_show_the_line_it_stumbled_over(
    lines: Callable[[], list[dict[str, Any]]],
) -> None:
    """Parsing an answer as Python quotes the answer in the traceback."""
    try:
        broken_answer()
    except SyntaxError:
        logger.exception("Failed to parse")

    [line] = lines()
    assert line["error"] == "SyntaxError"
    assert CANARY not in json.dumps(line)


def test_a_stack_is_not_printed(lines: Callable[[], list[dict[str, Any]]]) -> None:
    logger.warning("here", stack_info=True)

    assert set(lines()[0]) == {"ts", "level", "logger", "place", "template"}


def test_a_template_logged_for_its_caller_is_still_found(lines: Callable[[], list[dict[str, Any]]]) -> None:
    """vLLM's warning_once logs on behalf of its caller, by stacklevel."""

    def once(message: str, *args: object) -> None:
        logger.warning(message, *args, stacklevel=2)

    once("said once: %s", CANARY)

    assert [line["template"] for line in lines()] == ["said once: %s"]


def test_a_constant_of_another_function_is_not_proof(lines: Callable[[], list[dict[str, Any]]]) -> None:
    logger.warning(CONSTANT, CANARY)

    assert [line["template"] for line in lines()] == [sealed_log.DYNAMIC]


def test_names_cannot_carry_text(lines: Callable[[], list[dict[str, Any]]]) -> None:
    child = logging.getLogger(f"vllm.tool_parsers.some.{'free text ' * 20}")

    child.warning("x")

    name = lines()[0]["logger"]
    assert len(name) <= 64
    assert " " not in name


def test_a_line_goes_to_the_socket_it_was_given(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(sealed_log.LOG_SOCKET, str(short_folder / "log"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(short_folder / "log"))
        ear.settimeout(5)
        handler = sealed_log.SealedHandler()
        handler.setFormatter(sealed_log.SealedFormatter())

        handler.handle(logging.makeLogRecord({"msg": CANARY, "levelno": 40}))

        assert json.loads(ear.recv(1000))["template"] == sealed_log.DYNAMIC
        handler.close()


def test_nobody_listening_is_no_failure(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(sealed_log.LOG_SOCKET, str(short_folder / "nobody"))
    handler = sealed_log.SealedHandler()

    handler.handle(logging.makeLogRecord({"msg": "x"}))

    handler.close()


def run_sealed(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh Python that sees our files as an engine's does."""
    run = RunFolder(folder / "engine")
    run.create()
    return subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(run.code), "CONFIG": str(run.logging_config), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )


def test_no_other_handler_is_reached_once_sealed(tmp_path: Path) -> None:
    """Libraries hang handlers of their own on their loggers, some after start."""
    run = run_sealed(
        tmp_path,
        f"""
import logging, sys, warnings
import inferfly_sealed_log
inferfly_sealed_log.install()
late = logging.getLogger("transformers.late")
late.propagate = False
late.addHandler(logging.StreamHandler(sys.stdout))
late.error("template %s", "{CANARY}")
late.info("quiet {CANARY}")
logging.warning("on root %s", "{CANARY}")
warnings.warn("{CANARY}")
logging.getLogger("uvicorn.access").error("GET /?q=%s", "{CANARY}")
""",
    )

    assert run.stdout == ""
    assert CANARY not in run.stderr
    assert [json.loads(line)["template"] for line in run.stderr.splitlines()] == [
        "template %s",
        "on root %s",
        sealed_log.DYNAMIC,
        "GET /?q=%s",
    ]


def test_vllms_logging_config_seals_a_process_that_never_saw_the_launcher(tmp_path: Path) -> None:
    run = run_sealed(
        tmp_path,
        f"""
import json, logging, logging.config, os
logging.config.dictConfig(json.load(open(os.environ["CONFIG"])))
logging.getLogger("vllm.v1").error("dump %s", "{CANARY}")
logging.getLogger("uvicorn.error").error("request {CANARY}" + "{CANARY}" * len(os.environ))
""",
    )

    assert CANARY not in run.stderr
    assert [json.loads(line)["template"] for line in run.stderr.splitlines()] == [
        "dump %s",
        sealed_log.DYNAMIC,
    ]


def test_the_stock_formatter_leaks_all_of_it() -> None:
    """The canary is where content would be: what is not sealed shows it."""
    record = logging.makeLogRecord({"msg": "Error: %s", "args": (CANARY,)})

    assert CANARY in logging.Formatter().format(record)
