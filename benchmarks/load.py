"""A client that costs little: many connections, one request after another, every answer checked.

A plan goes in as JSON on the command line, a result comes out as JSON on stdout. A stream is right
when its status is, its events are all there, once each and in order, `[DONE]` is the last of them,
and it tells usage exactly as often as it was asked to. A whole answer is right when it tells the
length of the prompt that was sent.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from array import array
from collections.abc import Callable
from typing import cast

import httptools
import msgspec
import uvloop

from benchmarks import processes
from benchmarks.plan import Plan, Result, Spread

TOKEN = re.compile(rb'"content":\s*"T(\d{6})\.(\d{16})"')
USAGE = re.compile(rb'"usage":\s*\{')
PROMPT_TOKENS = re.compile(rb'"prompt_tokens":\s*(\d+)')
DONE = b"data: [DONE]\n\n"
ERRORS_SHOWN = 5
ERRORS_MAX = 100
"""A run with more wrong answers than this is given up."""

now_ns = time.monotonic_ns


class Run:
    """The tally of one run, shared by its connections."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.request = plan.request
        self.prompt_tokens = len(plan.prompt)
        self.tls = plan.tls
        self.timed_each = plan.timed_each
        self.left = plan.requests
        self.busy = 0
        self.ends_ns = 0
        self.finished = asyncio.get_running_loop().create_future()
        self.answers = self.events = self.errors = 0
        self.first_errors: list[str] = []
        self.reconnects: list[asyncio.Task[None]] = []
        self.latency, self.first_event, self.transit = array("q"), array("q"), array("q")

    def wrong(self, what: str) -> None:
        self.errors += 1
        if len(self.first_errors) < ERRORS_SHOWN:
            self.first_errors.append(what)
        if self.errors >= ERRORS_MAX:
            self.left = 0

    def take(self) -> bool:
        """Whether one more request may begin."""
        if self.left <= 0 or now_ns() > self.ends_ns:
            return False
        self.left -= 1
        self.busy += 1
        return True

    def give_back(self) -> None:
        """Call once for each take, after deciding whether to take again."""
        self.busy -= 1
        if not self.busy and not self.finished.done():
            self.finished.set_result(None)

    def reconnect(self) -> None:
        """Go on with a new connection in place of one that the server closed."""
        if self.take():
            self.reconnects.append(asyncio.create_task(self.ask_anew()))

    async def ask_anew(self) -> None:
        try:
            connection = await connect(self)
        except OSError as error:
            self.wrong(f"not connected: {error}")
            self.give_back()
        else:
            connection.send()


class Connection(asyncio.Protocol):
    """One keep-alive connection, with at most one request on its way."""

    transport: asyncio.Transport
    parser: httptools.HttpResponseParser

    def __init__(self, run: Run) -> None:
        self.run = run
        self.asking = False
        self.rest = b""
        self.tokens = self.usages = self.started_ns = self.first_ns = 0
        self.done = False
        self.take_body: Callable[[bytes], None] = self.keep
        self.fault: Callable[[], str] = self.answer_fault
        if run.plan.stream and run.plan.status == 200:
            self.take_body, self.fault = self.read_events, self.stream_fault

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one by behaviour only

    def ask(self) -> None:
        """Send the next request, if there is one left."""
        if self.run.take():
            self.send()

    def send(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.asking, self.done = True, False
        self.rest = b""
        self.tokens = self.usages = self.first_ns = 0
        self.started_ns = now_ns()
        self.transport.write(self.run.request)

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.give_up(f"not HTTP: {error}")

    def on_body(self, body: bytes) -> None:
        self.take_body(body)

    def keep(self, body: bytes) -> None:
        self.rest += body

    def read_events(self, body: bytes) -> None:
        """Read the whole events of what has come, and keep the rest for later."""
        arrived_ns = now_ns()
        text = self.rest + body if self.rest else body
        end = text.rfind(b"\n\n") + 2
        if end < 2:  # no blank line: not one whole event yet
            self.rest = text
            return
        self.rest = text[end:]
        if self.done:
            self.give_up("events after [DONE]")
            return
        for token in TOKEN.finditer(text, 0, end):
            self.tokens += 1
            if int(token[1]) != self.tokens:
                self.give_up(f"event {int(token[1])} came where {self.tokens} was due")
                return
            self.first_ns = self.first_ns or arrived_ns
            if self.tokens % self.run.timed_each == 0:
                self.run.transit.append(arrived_ns - int(token[2]))
        if b'"usage"' in text:
            self.usages += len(USAGE.findall(text, 0, end))
        self.done = text.endswith(DONE, 0, end)

    def on_message_complete(self) -> None:
        if not self.parser.should_keep_alive():
            self.transport.close()
        self.finish(self.fault())

    def stream_fault(self) -> str:
        plan = self.run.plan
        if self.parser.get_status_code() != plan.status:
            return f"status {self.parser.get_status_code()} in place of a stream"
        if self.tokens != plan.tokens or not self.done:
            return f"{self.tokens} of {plan.tokens} events, [DONE] last: {self.done}"
        if self.usages != plan.usage:
            return f"usage told {self.usages} times in place of {int(plan.usage)}"
        return ""

    def answer_fault(self) -> str:
        plan, status = self.run.plan, self.parser.get_status_code()
        if status != plan.status:
            return f"status {status}: {self.rest[:200]!r}"
        told = PROMPT_TOKENS.search(self.rest)
        if status == 200 and (not told or int(told[1]) != self.run.prompt_tokens):
            return f"the prompt did not arrive whole: {self.rest[:200]!r}"
        return ""

    def give_up(self, fault: str) -> None:
        self.transport.abort()
        self.finish(fault)

    def finish(self, fault: str) -> None:
        """Count the answer and ask again."""
        if not self.asking:
            return
        self.asking = False
        run, ended_ns = self.run, now_ns()
        if fault:
            run.wrong(fault)
        else:
            run.answers += 1
            run.events += self.tokens
            run.latency.append(ended_ns - self.started_ns)
            if self.first_ns:
                run.first_event.append(self.first_ns - self.started_ns)
        if self.transport.is_closing():
            run.reconnect()
        else:
            self.ask()
        run.give_back()

    def connection_lost(self, exc: Exception | None) -> None:
        self.finish(f"connection lost after {self.tokens} events: {exc}")


async def connect(run: Run) -> Connection:
    loop, plan = asyncio.get_running_loop(), run.plan

    def connection() -> Connection:
        return Connection(run)

    if plan.socket:
        return (await loop.create_unix_connection(connection, plan.socket))[1]
    return (await loop.create_connection(connection, plan.host, plan.port, ssl=run.tls))[1]


async def measure(plan: Plan) -> Result:
    """Carry out the plan. CPU and time count from the first request to the last answer."""
    run = Run(plan)
    width = min(plan.connections, plan.requests)
    async with asyncio.timeout(plan.timeout_seconds):
        connections = [await connect(run) for _ in range(width)]
    before = [processes.sample(pid) for pid in plan.watch]
    own_cpu, began = time.process_time(), time.monotonic()
    run.ends_ns = now_ns() + round(plan.seconds_max * 1e9)
    for connection in connections:
        connection.ask()
    try:
        async with asyncio.timeout(plan.timeout_seconds):
            await run.finished
    except TimeoutError:
        run.wrong(f"not finished after {plan.timeout_seconds} s")
    wall, own_cpu = time.monotonic() - began, time.process_time() - own_cpu
    after = [processes.sample(pid) for pid in plan.watch]
    for connection in connections:
        connection.transport.abort()
    return Result(
        answers=run.answers,
        events=run.events,
        errors=run.errors,
        first_errors=run.first_errors,
        reconnects=len(run.reconnects),
        wall_seconds=round(wall, 3),
        client_cpu_seconds=round(own_cpu, 3),
        latency_ms=Spread.of(run.latency),
        first_event_ms=Spread.of(run.first_event),
        transit_ms=Spread.of(run.transit),
        watched=[
            msgspec.structs.replace(late, cpu_seconds=round(late.cpu_seconds - early.cpu_seconds, 6))
            for early, late in zip(before, after, strict=True)
        ],
    )


if __name__ == "__main__":
    result = uvloop.run(measure(msgspec.json.decode(sys.argv[1], type=Plan)))
    sys.stdout.buffer.write(msgspec.json.encode(result))
