"""The only log formatter: fixed events with declared fields. Nothing else of a record is ever written."""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
from typing import Any, Final

_SLUG = re.compile(r"[a-z0-9][a-z0-9._:-]{0,63}")

FIELDS: Final[dict[str, type]] = {
    "part": str,
    "model": str,
    "engine": str,
    "account": str,
    "key_id": str,
    "state": str,
    "reason": str,
    "error": str,
    "logger": str,
    "place": str,
    "seconds": float,
    "count": int,
    "attempt": int,
    "pid": int,
    "port": int,
    "exit_code": int,
    "status": int,
}
"""Every field a log line may carry. Text fields hold identifiers of ours: 64 characters of `[a-z0-9._:-]` at most."""

_EVENT: Final = "inferfly_event"


def log(event: str, **fields: str | float) -> None:
    """Write one event: a fixed name and fields declared in FIELDS.

    A field that is not declared, or a text that is not an identifier, is our own bug: it is written as `refused`.
    """
    logging.getLogger("inferfly").info(_EVENT, extra={"inferfly": (event, fields)})


class AllowListFormatter(logging.Formatter):
    """JSON lines from allowed parts only.

    Our events give their declared fields. A record of anybody else's gives its logger's name, level, place in
    the code and the type of its exception: never its message, arguments, exception text or stack.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {"ts": round(record.created, 3), "level": record.levelname.lower()}
        ours = getattr(record, "inferfly", None)
        if ours is not None and record.msg is _EVENT:
            event, fields = ours
            line["event"] = event
            line |= {name: _allowed(name, value) for name, value in fields.items()}
        else:
            line |= _anonymous(record)
        return json.dumps(line, ensure_ascii=True)


def _allowed(name: str, value: object) -> str | float:
    kind = FIELDS.get(name)
    if kind is str and isinstance(value, str) and _SLUG.fullmatch(value):
        return value
    if kind in (int, float) and isinstance(value, (int, float)):
        return value
    return "refused"


def _anonymous(record: logging.LogRecord) -> dict[str, Any]:
    line: dict[str, Any] = {
        "event": "library_message",
        "logger": _identifier(record.name),
        "place": _identifier(f"{record.module}:{record.lineno}"),
    }
    if record.exc_info and record.exc_info[0] is not None:
        line["error"] = _identifier(record.exc_info[0].__name__)
    return line


def install(part: str) -> None:
    """Make this formatter the process's only way to write about itself, on stderr.

    Replaces every handler of every logger, warnings and the three hooks that print tracebacks. Call it first.
    The fourth such hook belongs to each event loop: give it `loop_exception`.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(AllowListFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("inferfly").setLevel(logging.INFO)
    for name in list(logging.root.manager.loggerDict):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.captureWarnings(capture=True)
    logging.raiseExceptions = False
    sys.excepthook = lambda kind, _value, _trace: _crash(part, kind)
    sys.unraisablehook = lambda unraisable: _crash(part, unraisable.exc_type)
    threading.excepthook = lambda args: _crash(part, args.exc_type)


def loop_exception(_loop: object, context: dict[str, Any]) -> None:
    """asyncio's exception handler: the type of what was lost, nothing of its text."""
    error: object = context.get("exception")
    log("task_failed", error=_identifier(type(error).__name__) if error else "none")


def _crash(part: str, kind: type[BaseException] | None) -> None:
    log("crashed", part=part, error=_identifier(kind.__name__) if kind else "none")


def _identifier(name: str) -> str:
    """A name from the code, made to fit where only identifiers of ours may stand."""
    return re.sub(r"[^a-z0-9._:-]", "-", name.lower()).lstrip("._:-")[:64] or "none"
