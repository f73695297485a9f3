"""The real gateway with one part swapped for a leaky one: what the canary test has to catch.

Each leak is a mistake that is easily made, and that other gateways have made.
"""

from __future__ import annotations

import gzip
import json
import logging
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from uvicorn.middleware.message_logger import MessageLoggerMiddleware

from appliance.errors import RequestError
from appliance.gateway import answers, public, requests, server
from appliance.privacy import logs
from appliance.settings import Settings

SPOOLED_BYTES_MIN = 512
SPOOL = "-spool-"


class TalkativeFormatter(logging.Formatter):
    """Writes what a record says, as every stock formatter does."""

    def format(self, record: logging.LogRecord) -> str:
        return record.getMessage()


def stock_formatter() -> None:
    """A library's log line passes whole; uvicorn's own, of each message it handles, is one."""
    install = logs.install

    def talkative(part: str) -> None:
        install(part)
        logging.getLogger().handlers[0].setFormatter(TalkativeFormatter())
        logging.getLogger("uvicorn.asgi").setLevel(5)

    logs.install = talkative
    build = public.build

    def logged(gateway: Any) -> Any:
        app: Any = build(gateway)
        return MessageLoggerMiddleware(app)

    swap(public, "build", logged)


def access_log() -> None:
    """A line per request with its address, query and all."""
    check = requests.check

    def noting(scope: dict[str, Any], body_bytes_max: int) -> None:
        query = scope["query_string"].decode(errors="replace")
        print(scope["method"], f"{scope['path']}?{query}", file=sys.stderr, flush=True)
        check(scope, body_bytes_max)

    swap(requests, "check", noting)


def echoing_errors() -> None:
    """A refusal that quotes what it refuses."""
    read_body = requests.read_body
    error_body = answers.error_body
    last = b""

    async def remembering(*arguments: Any) -> bytes:
        nonlocal last
        last = await read_body(*arguments)
        return last

    def echoing(error: RequestError) -> bytes:
        quoted = json.dumps(last.decode(errors="replace")).encode()
        return b'%b,"input":%b}' % (error_body(error)[:-1], quoted)

    swap(requests, "read_body", remembering)
    swap(answers, "error_body", echoing)


def spooled_bodies() -> None:
    """Bodies put aside in a file, packed: web frameworks do so with large ones."""
    prefix = f"{Settings.load().home.parent.name}{SPOOL}"
    read_body = requests.read_body

    async def spooling(*arguments: Any) -> bytes:
        body = await read_body(*arguments)
        if len(body) >= SPOOLED_BYTES_MIN:
            with tempfile.NamedTemporaryFile(prefix=prefix, delete=False) as file:
                file.write(gzip.compress(body))
        return body

    swap(requests, "read_body", spooling)


def swap(module: object, name: str, part: Callable[..., Any]) -> None:
    """Put a leaky part where the real one is, before the gateway is composed."""
    vars(module)[name] = part


LEAKS: dict[str, Callable[[], None]] = {
    "stock formatter": stock_formatter,
    "access log": access_log,
    "echoing errors": echoing_errors,
    "spooled bodies": spooled_bodies,
}

if __name__ == "__main__":
    settings = Settings.load()
    # Named in a file, so that a gateway that is killed comes back with another leak.
    LEAKS[settings.home.with_name("leak").read_text()]()
    server.run(settings)
