"""What becomes of a request whose caller, key or gateway fails it on its way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from appliance.domain import Call
from appliance.errors import RequestError
from appliance.gateway import answers
from appliance.gateway.asgi import AsgiExchange
from appliance.gateway.inference import Endpoint
from appliance.gateway.public import INFERENCE
from appliance.privacy.content import Content
from tests.fakes import engine as fake
from tests.fakes.box import KEY, Box, chat
from tests.fakes.caller import Caller, scope
from tests.fakes.engine import ScriptedEngine

HEAD = scope(authorization=f"Bearer {KEY.plaintext}")
ENDPOINT = INFERENCE["/v1/chat/completions"]
CANARY = "CANARY5d1f"
HANG = chat("nonce=N tokens=2 then=hang", stream=True)


@pytest.fixture
async def box(short_folder: Path) -> AsyncIterator[Box]:
    """One engine that takes one request at a time."""
    box = Box(short_folder, sequences_max=1)
    yield box
    box.close()


async def serve(box: Box, caller: Caller, endpoint: Endpoint = ENDPOINT) -> None:
    exchange = AsgiExchange(HEAD, caller.receive, caller.send, 200_000, 5)
    await asyncio.wait_for(box.gateway.serve(endpoint, exchange), 5)


async def begun(box: Box, caller: Caller) -> asyncio.Task[None]:
    """A request of which the first two events have come."""
    task = asyncio.create_task(serve(box, caller))
    while len(caller.sent) < 3:
        await asyncio.sleep(0.005)
    return task


async def waiting(box: Box, caller: Caller) -> asyncio.Task[None]:
    """A request that is in the queue."""
    task = asyncio.create_task(serve(box, caller))
    while not box.gateway.admission.waiting().get("m"):
        await asyncio.sleep(0.005)
    return task


def code(caller: Caller) -> str:
    return json.loads(caller.received.split(b"data: ")[-1])["error"]["code"]


# A bug of ours


def fails(_: bytes) -> tuple[Call, Content]:
    raise RecursionError(CANARY)


async def test_a_bug_before_admission_is_an_answer_too(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    """Else the caller would wait for ever: nobody else looks at what a request raises."""
    caplog.set_level("INFO", "inferfly")
    caller = Caller(b"{}")

    await serve(box, caller, replace(ENDPOINT, parse=fails))

    assert (caller.status, code(caller), caller.whole) == (500, "internal_error", True)
    assert CANARY.encode() not in caller.received
    assert [record.__dict__["inferfly"] for record in caplog.records] == [
        ("request_failed", {"error": "recursionerror"})
    ]


async def test_a_bug_after_admission_is_an_answer_and_a_row(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "inferfly")
    caller = Caller(chat("x"))
    engines = box.gateway.engines
    box.gateway.engines = cast("Any", CANARY)
    await serve(box, caller)
    box.gateway.engines = engines
    (row,) = await box.rows()

    assert (caller.status, code(caller), row.http_status) == (500, "internal_error", 500)
    assert CANARY.encode() not in caller.received
    assert [record.__dict__["inferfly"][0] for record in caplog.records] == ["request_failed"]
    assert box.is_idle


class Misread:
    """Words of which no answer can be translated, for a reason that nobody thought of."""

    def encode(self, cache_salt: str) -> bytes:  # noqa: ARG002  # as a body's
        return b'{"stream":true,"prompt":"nonce=N"}'

    def translator(self, request_id: str) -> Misread:  # noqa: ARG002  # as a body's
        return self

    def event(self, event: bytes) -> bytes:  # noqa: ARG002  # as a translator's
        raise RuntimeError(CANARY)

    def whole(self, body: bytes) -> bytes:  # noqa: ARG002  # as a translator's
        raise RuntimeError(CANARY)

    def end(self) -> bytes:
        raise RuntimeError(CANARY)

    def fail(self, error: RequestError) -> bytes:
        return answers.OPENAI.event(error)


def misread(_: bytes) -> tuple[Call, Content]:
    return Call("chat", "m", stream=True), Content(Misread())


async def test_a_bug_within_a_stream_ends_it(box: Box) -> None:
    """It is raised in the event loop's own callback, where no request looks at it."""
    caller = Caller(b"{}")
    async with ScriptedEngine(box.socket):
        await serve(box, caller, replace(ENDPOINT, parse=misread))
        (row,) = await box.rows()

    assert caller.whole
    assert row.http_status >= 500
    assert CANARY.encode() not in caller.received
    assert box.is_idle


# A key that is revoked


async def test_a_stream_of_a_revoked_key_is_cut_and_charged(box: Box) -> None:
    caller = Caller(HANG)
    async with ScriptedEngine(box.socket):
        running = await begun(box, caller)
        box.gateway.follow(box.table(usable=False))
        await running
        (row,) = await box.rows()

    assert (code(caller), caller.whole) == ("key_revoked", True)
    assert (row.http_status, row.token_counts, row.completion_tokens) == (401, "partial", 2)
    assert box.is_idle


async def test_who_waits_with_a_revoked_key_is_refused(box: Box) -> None:
    first, second = Caller(HANG), Caller(HANG)
    async with ScriptedEngine(box.socket) as engine:
        running = await begun(box, first)
        waits = await waiting(box, second)
        box.gateway.follow(box.table(usable=False))
        await asyncio.gather(running, waits)
        rows = await box.rows()

    assert (second.status, code(second)) == (401, "invalid_api_key")
    assert (len(rows), len(engine.exchanges)) == (1, 1)
    assert box.is_idle


async def test_a_key_revoked_at_the_moment_its_turn_comes_is_refused(box: Box) -> None:
    """It waits no longer, and does not run yet."""
    first, second = Caller(HANG), Caller(HANG)
    async with ScriptedEngine(box.socket) as engine:
        running = await begun(box, first)
        waits = await waiting(box, second)
        deployment = box.gateway.admission._deployments["m"]
        deployment.running -= 1
        box.gateway.admission._serve_queue(deployment)
        box.gateway.follow(box.table(usable=False))
        deployment.running += 1
        await asyncio.gather(running, waits)
        await box.rows()

    assert (second.status, code(second)) == (401, "key_revoked")
    assert len(engine.exchanges) == 1
    assert box.is_idle


async def test_a_key_that_has_expired_lets_its_streams_end(box: Box) -> None:
    """As one that was rotated does after its grace: whether the registry changes by then must not matter."""
    caller = Caller(chat("nonce=N tokens=3 gap=0.1", stream=True))
    async with ScriptedEngine(box.socket):
        running = asyncio.create_task(serve(box, caller))
        while len(caller.sent) < 2:
            await asyncio.sleep(0.005)
        table = box.table()
        box.gateway.table = replace(
            table, keys={KEY.key_id: replace(table.keys[KEY.key_id], expires_at_ms=1)}
        )
        box.gateway.follow(box.table(usable=False))
        box.gateway.follow(box.table(usable=False))
        await running
        (row,) = await box.rows()

    assert (row.http_status, row.completion_tokens) == (200, 3)
    assert caller.received.endswith(fake.DONE)


# A caller that leaves, a gateway that stops


async def test_who_hangs_up_while_it_waits_costs_nothing(box: Box) -> None:
    first, second = Caller(HANG), Caller(HANG)
    async with ScriptedEngine(box.socket) as engine:
        running = await begun(box, first)
        waits = await waiting(box, second)
        second.hang_up()
        await waits
        first.hang_up()
        await running
        rows = await box.rows()

    assert second.sent == []
    assert (len(rows), len(engine.exchanges)) == (1, 1)
    assert box.is_idle


async def test_who_hangs_up_at_the_moment_its_turn_comes_is_not_served(box: Box) -> None:
    first, second = Caller(HANG), Caller(chat("nonce=N tokens=500 gap=0.01", stream=True))
    async with ScriptedEngine(box.socket):
        running = await begun(box, first)
        waits = await waiting(box, second)
        first.hang_up()
        await running
        second.hang_up()
        await asyncio.wait_for(waits, 2)
        rows = await box.rows()

    assert [row.http_status for row in rows] == [499, 499]
    assert box.is_idle


async def test_who_waits_when_the_gateway_ends_is_told(box: Box) -> None:
    first, second = Caller(HANG), Caller(HANG)
    async with ScriptedEngine(box.socket):
        running = await begun(box, first)
        waits = await waiting(box, second)
        for task in (waits, running):
            task.cancel()
        ended = await asyncio.gather(waits, running, return_exceptions=True)
        rows = await box.rows()

    assert [type(end) for end in ended] == [asyncio.CancelledError] * 2
    assert (second.status, code(second), second.whole) == (503, "shutting_down", True)
    assert second.headers[b"retry-after"] == b"10"
    assert [row.http_status for row in rows] == [503]
    assert box.is_idle


async def test_whose_body_is_awaited_when_the_gateway_ends_is_told(box: Box) -> None:
    caller = Caller(pieces=[b"{"], endless=True)
    task = asyncio.create_task(serve(box, caller))
    await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert (caller.status, code(caller)) == (503, "shutting_down")
