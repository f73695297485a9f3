"""Template-only logging inside an engine's processes: what a line says is provably a constant of the source code.

Stdlib only: a copy of this file is imported by vLLM's own Python. vLLM writes model output, tool arguments and
exception texts into its log on error paths, whatever its flags say; none of that passes here.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types import FrameType

DYNAMIC: Final = "<dynamic>"
TEMPLATE_CHARACTERS_MAX: Final = 300
FRAMES_MAX: Final = 64
LOG_SOCKET: Final = "INFERFLY_LOG_SOCKET"
"""Names the datagram socket that takes the lines. Without it they go to stderr."""

LOGGING_CONFIG: Final[dict[str, Any]] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"sealed": {"()": "inferfly_sealed_log.SealedFormatter"}},
    "handlers": {"sealed": {"class": "inferfly_sealed_log.SealedHandler", "formatter": "sealed"}},
    "root": {"handlers": ["sealed"], "level": "WARNING"},
    "loggers": {
        name: {"handlers": [], "propagate": True, "level": "WARNING"}
        for name in ("vllm", "uvicorn", "uvicorn.error", "uvicorn.access", "py.warnings")
    },
}
"""For VLLM_LOGGING_CONFIG_PATH, so that a process of vLLM's that never saw the launcher is sealed as well."""

_NAME: Final = re.compile(r"[^A-Za-z0-9_.]")


class SealedFormatter(logging.Formatter):
    """A JSON line of time, level, logger, place, template and the type of the exception, if there is one.

    Never arguments, exception text, source lines or stacks.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts": round(record.created, 3),
            "level": _level(record.levelno),
            "logger": _NAME.sub("?", str(record.name))[:64],
            "place": _NAME.sub("?", str(record.module))[:40] + f":{int(record.lineno)}",
            "template": _template(record),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = _NAME.sub("?", record.exc_info[0].__name__)[:64]
        return json.dumps(line, ensure_ascii=True)


class SealedHandler(logging.Handler):
    """Sends each line as one datagram; drops it when nobody listens. Never blocks the engine, never raises."""

    def __init__(self) -> None:
        super().__init__()
        self._path = os.environ.get(LOG_SOCKET)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
            if self._path:
                self._socket.sendto(line.encode(), self._path)
            else:
                sys.stderr.write(line + "\n")
        except Exception:  # noqa: BLE001, S110  # a log line may be lost; its text must not surface as a traceback
            pass

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """The stock one prints the record's arguments."""

    def close(self) -> None:
        self._socket.close()
        super().close()


def install() -> None:
    """Make the sealed handler the only one that any logger of this process can reach, now and later.

    Libraries hang handlers of their own on their loggers, some long after start. `callHandlers` is the one place
    that every record passes, so that is where the others are cut off.
    """
    handler = SealedHandler()
    handler.setFormatter(SealedFormatter())

    def only_sealed(_logger: logging.Logger, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            handler.handle(record)

    logging.Logger.callHandlers = only_sealed  # type: ignore[method-assign]  # the one door all records pass
    logging.captureWarnings(capture=True)
    logging.raiseExceptions = False


def _template(record: logging.LogRecord) -> str:
    """`record.msg` if it stands as a constant in the code of the function that logged it, else DYNAMIC."""
    message = record.msg
    if type(message) is not str:
        return DYNAMIC
    frame = _caller(record)
    if frame is None:
        return DYNAMIC
    return message[:TEMPLATE_CHARACTERS_MAX] if message in frame.f_code.co_consts else DYNAMIC


def _caller(record: logging.LogRecord) -> FrameType | None:
    """The frame that logged `record`: the nearest one at its file and line."""
    frame: FrameType | None = sys._getframe()  # noqa: SLF001  # the interpreter's documented way to walk a stack
    for _ in range(FRAMES_MAX):
        if frame is None:
            return None
        if frame.f_lineno == record.lineno and frame.f_code.co_filename == record.pathname:
            return frame
        frame = frame.f_back
    return None


def _level(number: int) -> str:
    return {10: "debug", 20: "info", 30: "warning", 40: "error", 50: "critical"}.get(number, "other")
