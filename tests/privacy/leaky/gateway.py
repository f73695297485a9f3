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
from dataclasses import replace
from typing import Any

from uvicorn.middleware.message_logger import MessageLoggerMiddleware

from appliance.errors import BudgetSpent, RequestError
from appliance.gateway import answers, public, requests, server, shape
from appliance.gateway.dialects.messages import MessagesTranslator
from appliance.gateway.exchange import Exchange
from appliance.gateway.limits import Book
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

    def logged(*arguments: Any) -> Any:
        app: Any = build(*arguments)
        return MessageLoggerMiddleware(app)

    swap(public, "build", logged)


def access_log() -> None:
    """A line per request with its address, query and all."""
    check = requests.check

    def noting(exchange: Exchange, *more: Any) -> None:
        query = exchange.query.decode(errors="replace")
        print(exchange.method, f"?{query}", file=sys.stderr, flush=True)
        check(exchange, *more)

    swap(requests, "check", noting)


def each_body(see: Callable[[bytes], None]) -> None:
    """Have every body shown."""
    check = shape.check

    def showing(body: bytes) -> None:
        see(body)
        check(body)

    swap(shape, "check", showing)


class Last:
    """The body that came last: good enough for a test that sends one after the other."""

    def __init__(self) -> None:
        self._body = b""
        each_body(self._see)

    def _see(self, body: bytes) -> None:
        self._body = body

    def __str__(self) -> str:
        return self._body.decode(errors="replace")


def echoing_errors() -> None:
    """A refusal that quotes what it refuses."""
    last = Last()

    def echoing(error: RequestError, request_id: str | None) -> bytes:
        quoted = json.dumps(str(last)).encode()
        return b'%b,"input":%b}' % (answers.OPENAI.body(error, request_id)[:-1], quoted)

    errors = answers.OPENAI._replace(body=echoing)
    public.INFERENCE.update(
        {path: replace(endpoint, errors=errors) for path, endpoint in public.INFERENCE.items()}
    )


def spooled_bodies() -> None:
    """Bodies put aside in a file, packed: web frameworks do so with large ones."""
    prefix = f"{Settings.load().home.parent.name}{SPOOL}"

    def spool(body: bytes) -> None:
        if len(body) >= SPOOLED_BYTES_MIN:
            with tempfile.NamedTemporaryFile(prefix=prefix, delete=False) as file:
                file.write(gzip.compress(body))

    each_body(spool)


def kept_events() -> None:
    """A translator that keeps what it translates, for whoever wants to see why an event came out odd."""
    events = Settings.load().home / "events"
    event = MessagesTranslator.event

    def keeping(translator: MessagesTranslator, of_engine: bytes) -> bytes:
        with events.open("ab") as file:
            file.write(of_engine)
        return event(translator, of_engine)

    vars_of(MessagesTranslator, "event", keeping)


def quoting_limits() -> None:
    """A refusal of a budget that says for what it does not suffice."""
    last = Last()
    reserve = Book.reserve

    def quoting(*arguments: Any) -> Any:
        try:
            return reserve(*arguments)
        except BudgetSpent as error:
            raise BudgetSpent(f"{error} It does not cover {last}.") from None

    vars_of(Book, "reserve", quoting)


def swap(module: object, name: str, part: Callable[..., Any]) -> None:
    """Put a leaky part where the real one is, before the gateway is composed."""
    vars(module)[name] = part


def vars_of(kind: type, name: str, part: Callable[..., Any]) -> None:
    """The same for a method."""
    setattr(kind, name, part)


LEAKS: dict[str, Callable[[], None]] = {
    "stock formatter": stock_formatter,
    "access log": access_log,
    "echoing errors": echoing_errors,
    "spooled bodies": spooled_bodies,
    "kept events": kept_events,
    "quoting limits": quoting_limits,
}

if __name__ == "__main__":
    settings = Settings.load()
    # Named in a file, so that a gateway that is killed comes back with another leak.
    LEAKS[settings.home.with_name("leak").read_text()]()
    server.run(settings)
