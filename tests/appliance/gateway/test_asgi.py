from __future__ import annotations

import asyncio

import pytest

from appliance.errors import BadRequest, BodyTooLarge, BodyTooSlow, ClientGone
from appliance.gateway.asgi import AsgiExchange, Message
from tests.fakes.caller import Caller, scope


def exchange(caller: Caller, seconds_max: float = 1) -> AsgiExchange:
    return AsgiExchange(scope(), caller.receive, caller.send, 10, seconds_max)


@pytest.mark.parametrize(
    "pieces", [[b"x" * 10], [b"x" * 4, b"", b"x" * 6], [b"x"] * 10], ids=["one", "three", "many"]
)
async def test_a_body_is_the_same_in_any_pieces(pieces: list[bytes]) -> None:
    assert await exchange(Caller(pieces=pieces)).body() == b"x" * 10


@pytest.mark.parametrize("pieces", [[b"x" * 11], [b"x" * 10, b"x"]], ids=["one", "two"])
async def test_a_body_larger_than_allowed_is_refused(pieces: list[bytes]) -> None:
    with pytest.raises(BodyTooLarge):
        await exchange(Caller(pieces=pieces)).body()


async def test_an_endless_body_is_refused_as_soon_as_it_is_too_large() -> None:
    caller = Caller(pieces=[b"x" * 6] * 1000, endless=True)

    with pytest.raises(BodyTooLarge):
        await exchange(caller).body()

    assert len(caller._arriving) == 998


async def test_a_body_that_does_not_come_in_time_is_refused() -> None:
    with pytest.raises(BodyTooSlow):
        await exchange(Caller(pieces=[b"x"], endless=True), 0.05).body()


async def test_a_caller_that_hangs_up_within_its_body_is_gone() -> None:
    caller = Caller(pieces=[b"x"], endless=True)
    caller.hang_up()

    with pytest.raises(ClientGone):
        await exchange(caller).body()


@pytest.mark.parametrize("name", [b"authorization", b"content-length", b"host", b"x-api-key"])
def test_a_header_that_must_be_there_once_is_refused_twice(name: bytes) -> None:
    caller = Caller()
    head = scope() | {"headers": [(name, b"1"), (name, b"1")]}

    with pytest.raises(BadRequest):
        AsgiExchange(head, caller.receive, caller.send, 10, 1)


def test_other_headers_may_come_twice() -> None:
    caller = Caller()
    head = scope() | {"headers": [(b"accept", b"a"), (b"accept", b"b")]}

    assert AsgiExchange(head, caller.receive, caller.send, 10, 1).headers == {b"accept": b"b"}


async def test_an_answer_goes_out_in_order_and_is_over() -> None:
    caller = Caller()
    answering = exchange(caller)
    await answering.body()
    answering.when_gone(lambda: None)
    answering.start(200, b"x: y\r\n", 3)
    answering.write(b"a")
    caller.stop_reading()
    answering.write(b"b")
    answering.write(b"c")
    full = answering.full
    answering.end()
    caller.read_on()

    assert await answering.over()
    assert full
    assert (caller.status, caller.received, caller.whole) == (200, b"abc", True)
    assert caller.headers == {b"x": b"y", b"content-length": b"3"}


async def test_who_hangs_up_is_told_of() -> None:
    caller = Caller()
    answering = exchange(caller)
    await answering.body()
    told = asyncio.Event()
    answering.when_gone(told.set)
    answering.start(200, b"")
    caller.hang_up()
    await asyncio.wait_for(told.wait(), 1)

    assert not await answering.over()


async def test_who_has_hung_up_already_is_told_of_at_once() -> None:
    """Its request may have changed hands meanwhile: out of the queue, to an engine."""
    caller = Caller()
    answering = exchange(caller)
    await answering.body()
    first = asyncio.Event()
    answering.when_gone(first.set)
    caller.hang_up()
    await asyncio.wait_for(first.wait(), 1)
    second = asyncio.Event()
    answering.when_gone(second.set)

    assert second.is_set()


async def test_a_server_that_fails_while_a_slow_reader_catches_up_ends_the_request() -> None:
    caller = Caller()
    gone = asyncio.Event()

    async def send(message: Message) -> None:
        await caller.send(message)
        if message.get("body") == b"b":
            raise RuntimeError

    answering = AsgiExchange(scope(), caller.receive, send, 10, 1)
    await answering.body()
    answering.when_gone(gone.set)
    answering.start(200, b"")
    caller.stop_reading()
    answering.write(b"a")
    answering.write(b"b")
    answering.write(b"c")
    caller.read_on()
    await asyncio.wait_for(gone.wait(), 1)

    assert not await answering.over()
    assert caller.received == b"ab"


async def test_what_follows_a_slow_reader_is_told_when_it_has_caught_up() -> None:
    caller = Caller()
    answering = exchange(caller)
    await answering.body()
    told: list[str] = []
    answering.pace(lambda: told.append("full"), lambda: told.append("drained"))
    answering.start(200, b"")
    caller.stop_reading()
    answering.write(b"a")
    before = told.copy()
    caller.read_on()
    await asyncio.sleep(0.01)

    assert (before, told, answering.full) == (["full"], ["full", "drained"], False)


async def test_more_of_a_body_is_no_hanging_up() -> None:
    caller = Caller(pieces=[b"a", b"b", b"c"])
    answering = exchange(caller)
    told = asyncio.Event()
    answering.when_gone(told.set)
    await asyncio.sleep(0.01)
    before = told.is_set()
    caller.hang_up()
    await asyncio.wait_for(told.wait(), 1)

    assert not before
