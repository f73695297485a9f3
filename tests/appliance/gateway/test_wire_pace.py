"""Callers that read slowly, send slowly, hang up or stay too long: what becomes of their connections."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator

import pytest

from appliance.domain import LedgerRow
from tests.fakes import engine as fake
from tests.fakes.box import OPEN_MAX, Box, chat
from tests.fakes.engine import Exchange, ScriptedEngine
from tests.fakes.served import BEARER, Served, post, read_answer, served
from tests.processes import soon

SECONDS_MAX = 3
GOOD = post(chat("nonce=N tokens=2"))
STREAM = post(chat("x", stream=True))
EVENT_BYTES = 20_000
KERNEL_BYTES = 5_000


class Endless:
    """An engine that speaks as fast as it is listened to, for ever or so many events."""

    def __init__(self, events: int = 10**9) -> None:
        self._events = events
        self.sent = 0
        self.told_of_the_end = asyncio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        try:
            await exchange.send(fake.STREAM_HEAD)
            while self.sent < self._events:
                text = f"{self.sent:06d}".ljust(EVENT_BYTES, "x")
                await exchange.send(fake.chunk(fake.event(text, self.sent + 1)))
                self.sent += 1
            await exchange.send(fake.chunk(fake.DONE), fake.END)
        except ConnectionError:
            self.told_of_the_end.set()
            raise


@pytest.fixture(params=[True, False], ids=["fast lane", "Litestar"])
async def gateway(request: pytest.FixtureRequest, box: Box) -> AsyncIterator[Served]:
    times = {
        "head_seconds_max": 0.3,
        "body_seconds_max": 0.3,
        "stall_seconds_max": 0.4,
        "sweep_seconds": 0.05,
    }
    async with served(box, fast_lane=request.param, send_bytes=KERNEL_BYTES, **times) as gateway:
        yield gateway


async def ended(gateway: Served) -> bool:
    """Whether its connection, once it is made, comes to an end."""
    await soon(lambda: gateway.door.open or gateway.box.journal.left_open(), SECONDS_MAX)
    return await soon(lambda: not gateway.door.open, SECONDS_MAX)


async def rows(box: Box) -> list[LedgerRow]:
    await soon(lambda: not box.gateway.admission.open, SECONDS_MAX)
    return await box.rows()


async def later(reader: asyncio.StreamReader, count: int) -> bytes:
    await asyncio.sleep(0.15)
    return await reader.readexactly(count)


async def to_the_end(reader: asyncio.StreamReader) -> bytes:
    received = b""
    while not received.endswith(fake.END):
        received += await asyncio.wait_for(reader.read(100_000), 1)
    return received


# Reading slowly


async def test_a_slow_reader_holds_back_the_engine_and_gets_everything(gateway: Served) -> None:
    engine = Endless(200)
    async with ScriptedEngine(gateway.box.socket, engine):
        reader, writer = await gateway.connect(receive_bytes=KERNEL_BYTES)
        writer.write(STREAM)
        await asyncio.sleep(0.2)
        held = engine.sent
        answer = await read_answer(reader)
        writer.close()
        (row,) = await rows(gateway.box)

    assert held < 80
    assert [int(number) for number in re.findall(rb'"content":"(\d{6})x', answer.body)] == list(range(200))
    assert answer.body.endswith(fake.DONE)
    assert (row.http_status, row.completion_tokens) == (200, 200)


async def test_a_reader_that_stops_is_cut_off(gateway: Served) -> None:
    """It would hold an engine and a place for ever."""
    engine = Endless()
    async with ScriptedEngine(gateway.box.socket, engine):
        _, writer = await gateway.connect(receive_bytes=KERNEL_BYTES)
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's can
        writer.write(STREAM)
        cut = await ended(gateway)
        await asyncio.wait_for(engine.told_of_the_end.wait(), 1)
        found = await rows(gateway.box)
        writer.transport.abort()

    assert cut
    assert [(row.http_status, row.token_counts) for row in found] == [(499, "partial")]
    assert 1 < found[0].completion_tokens <= engine.sent + 10
    assert gateway.box.gateway.admission.open == 0


async def test_a_reader_that_goes_on_in_time_is_not_cut_off(gateway: Served) -> None:
    engine = Endless(300)
    async with ScriptedEngine(gateway.box.socket, engine):
        reader, writer = await gateway.connect(receive_bytes=KERNEL_BYTES)
        writer.write(STREAM)
        received = [await later(reader, 500_000) for _ in range(7)]
        received.append(await to_the_end(reader))
        writer.transport.abort()

    assert len(b"".join(received)) > 300 * EVENT_BYTES
    assert received[-1].endswith(fake.chunk(fake.DONE) + fake.END)


async def test_an_answer_in_one_piece_that_nobody_takes_is_cut_off(gateway: Served) -> None:
    async def large(exchange: Exchange) -> None:
        await exchange.send(fake.whole(fake.answer("x" * 5_000_000, 2)))

    async with ScriptedEngine(gateway.box.socket, large):
        _, writer = await gateway.connect(receive_bytes=KERNEL_BYTES)
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's can
        writer.write(post(chat("x")))
        cut = await ended(gateway)
        (row,) = await rows(gateway.box)
        writer.transport.abort()

    assert cut
    assert (row.http_status, row.token_counts) == (499, "exact")


async def test_a_short_answer_that_nobody_takes_holds_its_connection_for_so_long_only(
    gateway: Served,
) -> None:
    """What the kernel does not take, and is too little to count as slow, would keep the connection closing for ever."""

    async def short(exchange: Exchange) -> None:
        await exchange.send(fake.whole(fake.answer("x" * 60_000, 2)))

    async with ScriptedEngine(gateway.box.socket, short):
        _, writer = await gateway.connect(receive_bytes=KERNEL_BYTES)
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's can
        writer.write(post(chat("x"), "/v1/chat/completions", "Connection: close"))
        closing = await soon(lambda: gateway.door.open and gateway.wire.transport.is_closing(), SECONDS_MAX)
        left = gateway.wire.transport.get_write_buffer_size()
        cut = await ended(gateway)
        (row,) = await rows(gateway.box)
        writer.transport.abort()

    assert (closing, cut, row.http_status) == (True, True, 200)
    assert 0 < left < 64 * 1024


# Hanging up


async def test_a_hang_up_in_a_stream_is_charged_and_told_to_the_engine(gateway: Served) -> None:
    told = asyncio.Event()

    async def hang(exchange: Exchange) -> None:
        await exchange.send(fake.STREAM_HEAD, *[fake.chunk(fake.event("x", n)) for n in (1, 2, 3)])
        await exchange.gone()
        told.set()

    async with ScriptedEngine(gateway.box.socket, hang):
        reader, writer = await gateway.connect()
        writer.write(STREAM)
        await reader.readuntil(b'"content":"x"')
        await asyncio.sleep(0.05)
        writer.transport.abort()
        await asyncio.wait_for(told.wait(), 1)
        await soon(lambda: not gateway.box.gateway.admission.open, SECONDS_MAX)
        (row,) = await rows(gateway.box)

    assert (row.http_status, row.token_counts, row.completion_tokens) == (499, "partial", 3)


async def test_a_hang_up_in_a_body_costs_nothing(gateway: Served) -> None:
    _, writer = await gateway.connect()
    writer.write(GOOD[:-5])
    await soon(lambda: gateway.door.open, SECONDS_MAX)
    await asyncio.sleep(0.05)
    writer.transport.abort()
    gone = await ended(gateway)

    assert gone
    assert await rows(gateway.box) == []
    assert gateway.door.by_source == {}


async def test_a_hang_up_in_the_queue_costs_nothing(gateway: Served) -> None:
    box = gateway.box
    box.sequences_max = 1
    box.gateway.follow(box.table())
    async with ScriptedEngine(box.socket) as engine:
        _, first = await gateway.connect()
        first.write(post(chat("nonce=N then=hang", stream=True)))
        await soon(lambda: engine.exchanges, SECONDS_MAX)
        _, second = await gateway.connect()
        second.write(GOOD)
        queued = await soon(lambda: box.gateway.admission.waiting() == {"m": 1}, SECONDS_MAX)
        second.transport.abort()
        left = await soon(lambda: box.gateway.admission.waiting() == {"m": 0}, SECONDS_MAX)
        first.transport.abort()
        await soon(lambda: not box.gateway.admission.open, SECONDS_MAX)
        found = await rows(box)

    assert (queued, left, len(found), len(engine.exchanges)) == (True, True, 1, 1)


# Staying too long


async def test_a_connection_that_is_idle_for_too_long_is_closed(gateway: Served) -> None:
    gateway.door.idle_seconds_max = 0.2
    async with ScriptedEngine(gateway.box.socket):
        reader, writer = await gateway.connect()
        writer.write(GOOD)
        answer = await read_answer(reader)
        rest = await asyncio.wait_for(reader.read(), 2)
        writer.close()

    assert (answer.status, answer.open, rest) == (200, True, b"")


async def test_a_long_answer_is_no_idle_connection(gateway: Served) -> None:
    gateway.door.idle_seconds_max = 0.2
    async with ScriptedEngine(gateway.box.socket):
        answer = await gateway.ask(post(chat("nonce=N gap=1")))

    assert answer.status == 200


async def test_a_refusal_can_be_read_while_the_body_is_still_being_sent(gateway: Served) -> None:
    """A connection closed with unread input takes the answer away with it."""
    head = post(b"").replace(b"Content-Length: 0", b"Content-Length: 90000")
    reader, writer = await gateway.connect()
    writer.write(head.replace(BEARER.encode(), b"Bearer nobody") + b"x" * 80_000)
    answer = await read_answer(reader)
    writer.write(b"x" * 9_000)
    await writer.drain()
    closed = await ended(gateway)
    writer.close()

    assert (answer.status, answer.headers["connection"], answer.open) == (401, "close", False)
    assert closed


async def test_a_body_that_nobody_has_asked_for_is_not_taken(box: Box) -> None:
    """Whoever has no key could fill the memory while the answer to a guessed one is held back."""
    box.gateway.body_bytes_max = 64 * 1024 * 1024
    guess = (
        post(b"")
        .replace(BEARER.encode(), b"Bearer nobody")
        .replace(b"Content-Length: 0", b"Content-Length: 60000000")
    )
    async with served(box, connections_per_source_max=OPEN_MAX) as gateway:
        for _ in range(6):
            box.gateway.guard.failed("127.0.0.1", time.time())
        reader, writer = await gateway.connect()
        writer.write(guess + b"x" * 30_000_000)
        await asyncio.sleep(0.3)
        exchange = gateway.wire.exchange
        taken = exchange._size if exchange else -1
        answer = await read_answer(reader)
        writer.transport.abort()

    assert 0 < taken < 1_000_000
    assert answer.status == 401
