"""One relayed answer in the hands of a test: a real client connection, a relay, and a caller that may read slowly."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field

from appliance.domain import Call, Caller, Outcome, Reservation
from appliance.engine.client import Connection, EnginePool
from appliance.gateway.asgi import AsgiExchange
from appliance.gateway.relay import Relay
from appliance.privacy.content import Translator
from tests.fakes import engine as fake
from tests.fakes.caller import Caller as Application
from tests.fakes.caller import scope
from tests.fakes.engine import DONE, Transport, chunk, event, last_event

CANARY = "CANARY5d1f"


def reservation(call: Call) -> Reservation:
    return Reservation(0, "RID", Caller("account", "key"), call, 0, time.monotonic_ns())


def call(
    *, stream: bool = True, include_usage: bool = False, continuous_usage: bool = False, choices: int = 1
) -> Call:
    return Call("chat", "m", stream, include_usage, continuous_usage, choices)


@dataclass
class Run:
    """One relayed answer: a real client connection on a test's transport, a relay, and a caller."""

    call: Call = field(default_factory=call)
    translator: Translator | None = None
    caller: Application = field(default_factory=Application)
    noted: list[bytes] = field(default_factory=list[bytes])

    def begin(self) -> None:
        self.caller.body_is_read()
        exchange = AsgiExchange(scope(), self.caller.receive, self.caller.send, 1000, 5)
        self.relay = Relay(exchange, reservation(self.call), self.noted.append, self.translator)
        self.connect()

    def connect(self) -> None:
        """To an engine, the first or another one."""
        self.transport = Transport()
        self.connection = Connection(EnginePool("/nowhere"))
        self.connection.connection_made(self.transport)
        self.connection.send(b"request", self.relay)
        self._waiting = asyncio.create_task(self.relay.run(self.connection))

    def arrive(self, *pieces: bytes) -> None:
        """The engine's bytes, as reads of the loop."""
        for piece in pieces:
            if not self.transport.is_closing():
                self.connection.data_received(piece)

    def lose(self) -> None:
        self.connection.connection_lost(None)

    async def end(self) -> Outcome:
        try:
            await asyncio.wait_for(asyncio.gather(self._waiting, return_exceptions=True), 5)
        finally:
            self.relay.close()
        return self.relay.outcome()


async def relayed(call: Call, *pieces: bytes, translator: Translator | None = None) -> tuple[Run, Outcome]:
    """The whole way of an answer that comes in these pieces to a caller that reads at once."""
    run = Run(call, translator)
    run.begin()
    await asyncio.sleep(0)
    run.arrive(*pieces)
    return run, await run.end()


def streamed(*events: bytes) -> bytes:
    return fake.STREAM_HEAD + b"".join(map(chunk, events)) + fake.END


EVENTS = [event("Hi", 1), event(" yo", 2), last_event(2), DONE]
BARE = [event("Hi", 1, with_usage=False), event(" yo", 2, with_usage=False)]


def error_of(run: Run) -> str:
    """The code in the error event that ends a stream."""
    return json.loads(run.caller.received.split(b"data: ")[-1])["error"]["code"]


ERROR = b'data: {"error": {"message": "%b", "type": "x", "code": 400}}\n\n' % CANARY.encode()
