"""Engines that fail a request: another try before they have answered, and none after."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.gateway.asgi import AsgiExchange
from appliance.gateway.public import INFERENCE
from tests.fakes import engine as fake
from tests.fakes.box import KEY, Box, chat
from tests.fakes.caller import Caller, scope
from tests.fakes.engine import Exchange, ScriptedEngine

HEAD = scope(authorization=f"Bearer {KEY.plaintext}")
CANARY = "CANARY5d1f"


@pytest.fixture
async def pair(short_folder: Path) -> AsyncIterator[Box]:
    """Two engines."""
    box = Box(short_folder, engines=2)
    yield box
    box.close()


async def serve(box: Box, caller: Caller) -> None:
    exchange = AsgiExchange(HEAD, caller.receive, caller.send, 200_000, 5)
    await asyncio.wait_for(box.gateway.serve(INFERENCE["/v1/chat/completions"], exchange), 5)


def code(caller: Caller) -> str:
    return json.loads(caller.received.split(b"data: ")[-1])["error"]["code"]


def once(first: fake.Script, then: fake.Script = fake.by_prompt) -> fake.Script:
    """Another script for the first request."""
    scripts = [first]

    async def script(exchange: Exchange) -> None:
        await (scripts.pop() if scripts else then)(exchange)

    return script


async def dies(exchange: Exchange) -> None:
    exchange.die()


async def dies_in_its_answer(exchange: Exchange) -> None:
    await exchange.send(fake.STREAM_HEAD, fake.chunk(fake.event("a", 1)))
    exchange.die()


def refuses(status: int) -> fake.Script:
    async def script(exchange: Exchange) -> None:
        await exchange.send(fake.whole(CANARY.encode(), status))

    return script


FAILURES: dict[str, tuple[fake.Script, bool]] = {
    "dies": (dies, True),
    "is full": (refuses(503), False),
    "is broken": (refuses(500), False),
}


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize(("script", "suspect"), FAILURES.values(), ids=FAILURES.keys())
async def test_what_one_engine_fails_to_answer_goes_to_the_other(
    pair: Box, script: fake.Script, *, suspect: bool, stream: bool
) -> None:
    caller = Caller(chat("nonce=N tokens=3", stream=stream))
    async with ScriptedEngine(pair.sockets[0], script), ScriptedEngine(pair.sockets[1]) as good:
        await serve(pair, caller)
        (row,) = await pair.rows()

    assert (caller.status, row.http_status, row.completion_tokens) == (200, 200, 3)
    assert len(good.exchanges) == 1
    assert bool(pair.gateway.routing._suspects) == suspect
    assert CANARY.encode() not in caller.received
    assert pair.is_idle


async def test_an_engine_that_does_not_listen_is_passed_over(pair: Box) -> None:
    caller = Caller(chat("nonce=N"))
    async with ScriptedEngine(pair.sockets[1]) as good:
        await serve(pair, Caller(chat("nonce=N")))
        await serve(pair, caller)

    assert (caller.status, len(good.exchanges)) == (200, 2)
    assert set(pair.gateway.routing._suspects) == {"m-1"}


ALL_FAIL: dict[str, tuple[fake.Script, int, str]] = {
    "die": (dies, 502, "engine_lost"),
    "are full": (refuses(503), 503, "overloaded"),
    "are broken": (refuses(500), 502, "engine_error"),
}


@pytest.mark.parametrize(("script", "status", "said"), ALL_FAIL.values(), ids=ALL_FAIL.keys())
async def test_where_all_engines_fail_the_last_ones_failure_is_told(
    pair: Box, script: fake.Script, status: int, said: str
) -> None:
    caller = Caller(chat("nonce=N", stream=True))
    async with (
        ScriptedEngine(pair.sockets[0], script) as one,
        ScriptedEngine(pair.sockets[1], script) as other,
    ):
        await serve(pair, caller)
        (row,) = await pair.rows()

    assert (caller.status, code(caller), row.http_status) == (status, said, status)
    assert (len(one.exchanges), len(other.exchanges)) == (1, 1)
    assert pair.is_idle


async def test_engines_of_which_none_listens_are_not_ready(pair: Box) -> None:
    caller = Caller(chat("nonce=N"))

    await serve(pair, caller)

    (row,) = await pair.rows()
    assert (caller.status, code(caller), row.http_status) == (503, "model_not_ready", 503)


async def test_an_answer_that_has_begun_is_not_begun_again(pair: Box) -> None:
    caller = Caller(chat("nonce=N", stream=True))
    async with ScriptedEngine(pair.sockets[0], dies_in_its_answer), ScriptedEngine(pair.sockets[1]) as good:
        await serve(pair, caller)
        (row,) = await pair.rows()

    assert (code(caller), row.http_status, row.completion_tokens) == ("engine_lost", 502, 1)
    assert good.exchanges == []


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_a_connection_that_the_engine_has_closed_meanwhile_is_made_anew(
    box: Box, *, stream: bool
) -> None:
    """It may close one that was idle at the very moment at which it is used."""
    script = once(fake.by_prompt, once(dies))
    caller = Caller(chat("nonce=N tokens=3", stream=stream))
    async with ScriptedEngine(box.socket, script) as engine:
        await serve(box, Caller(chat("nonce=N")))
        await serve(box, caller)
        rows = await box.rows()

    assert (caller.status, [row.http_status for row in rows]) == (200, [200, 200])
    assert [exchange.connection for exchange in engine.exchanges] == [0, 0, 1]
    assert box.gateway.routing._suspects == {}


async def test_a_connection_is_made_anew_once(box: Box) -> None:
    caller = Caller(chat("nonce=N", stream=True))
    async with ScriptedEngine(box.socket, once(fake.by_prompt, dies)) as engine:
        await serve(box, Caller(chat("nonce=N")))
        await serve(box, caller)

    assert (caller.status, code(caller), len(engine.exchanges)) == (502, "engine_lost", 3)


async def test_an_engine_that_fails_twice_on_its_own_is_left_for_another(pair: Box) -> None:
    """Its connection was an old one, and the new one does not help."""
    caller = Caller(chat("nonce=N"))
    async with (
        ScriptedEngine(pair.sockets[0], once(fake.by_prompt, dies)) as bad,
        ScriptedEngine(pair.sockets[1]) as good,
    ):
        await serve(pair, Caller(chat("nonce=N")))
        await serve(pair, caller)

    assert (caller.status, len(bad.exchanges), len(good.exchanges)) == (200, 3, 1)
    assert set(pair.gateway.routing._suspects) == {"m-1"}


async def test_an_engine_that_can_be_suspected_gets_no_request_while_another_is_there(pair: Box) -> None:
    async with ScriptedEngine(pair.sockets[0], once(dies)) as bad, ScriptedEngine(pair.sockets[1]) as good:
        for _ in range(4):
            await serve(pair, Caller(chat("nonce=N")))

    assert (len(bad.exchanges), len(good.exchanges)) == (1, 4)
