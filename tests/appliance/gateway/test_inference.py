from __future__ import annotations

import asyncio
import json

import pytest

from appliance.domain import Call
from appliance.errors import (
    BadRequest,
    BodyTooLarge,
    InvalidKey,
    Overloaded,
    ShuttingDown,
    UnknownModel,
    WrongMediaType,
)
from appliance.gateway.asgi import AsgiExchange, Message, Scope
from appliance.gateway.inference import Endpoint
from appliance.gateway.public import INFERENCE
from appliance.privacy.content import Content
from tests.fakes import engine as fake
from tests.fakes.box import KEY, OPEN_MAX, Box, chat
from tests.fakes.caller import Caller, scope
from tests.fakes.engine import Exchange, ScriptedEngine

BEARER = f"Bearer {KEY.plaintext}"
HEAD = scope(authorization=BEARER)
ENDPOINT = INFERENCE["/v1/chat/completions"]


async def serve(box: Box, caller: Caller, head: Scope = HEAD, endpoint: Endpoint = ENDPOINT) -> None:
    exchange = AsgiExchange(head, caller.receive, caller.send, 100_000, 5)
    await asyncio.wait_for(box.gateway.serve(endpoint, exchange), 5)


async def refused(box: Box, body: bytes = b"", head: Scope = HEAD, endpoint: Endpoint = ENDPOINT) -> str:
    """The code of a refusal."""
    caller = Caller(body)
    await serve(box, caller, head, endpoint)
    assert caller.whole
    return error_code(caller.received)


def error_code(body: bytes) -> str:
    return json.loads(body.split(b"data: ")[-1])["error"]["code"]


async def test_a_stream_is_answered_and_charged(box: Box) -> None:
    caller = Caller(chat("nonce=N tokens=3", stream=True))
    async with ScriptedEngine(box.socket):
        await serve(box, caller)
        (row,) = await box.rows()

    events = [fake.event(f"N.{n} ", n, with_usage=False) for n in (1, 2, 3)]
    assert caller.received == b"".join([*events, fake.DONE])
    assert row[3:9] == (fake.PROMPT_TOKENS, 3, "exact", "m", "m", 200)
    assert row.api_key_id == KEY.key_id
    assert caller.headers[b"x-request-id"] == row.request_id.encode()
    assert box.gateway.admission.open == 0


async def test_the_engine_gets_the_rebuilt_body_with_the_accounts_salt(box: Box) -> None:
    async with ScriptedEngine(box.socket) as engine:
        await serve(box, Caller(chat("nonce=N", user="somebody", temperature=0)))
        await serve(box, Caller(chat("nonce=N")))

    first, second = (exchange.json for exchange in engine.exchanges)
    assert first.pop("cache_salt") == second.pop("cache_salt") != ""
    assert first == {"model": "m", "messages": [{"role": "user", "content": "nonce=N"}], "temperature": 0}
    assert b"authorization" not in engine.exchanges[0].head.lower()


async def test_each_endpoint_goes_to_its_own_address(box: Box) -> None:
    body = json.dumps({"model": "m", "prompt": "nonce=N"}).encode()
    async with ScriptedEngine(box.socket) as engine:
        await serve(box, Caller(chat("nonce=N")))
        await serve(box, Caller(body), endpoint=INFERENCE["/v1/completions"])

    assert [exchange.path for exchange in engine.exchanges] == ["/v1/chat/completions", "/v1/completions"]


REFUSALS: dict[str, tuple[Scope, bytes, str]] = {
    "no key": (scope(), chat("x"), InvalidKey.code),
    "no key and a bad body": (scope(), b"{", InvalidKey.code),
    "no JSON": (HEAD, b"{", "invalid_json"),
    "another media type": (
        scope(authorization=BEARER, content_type="text/plain"),
        chat("x"),
        WrongMediaType.code,
    ),
    "too large": (HEAD, chat("x" * 200_000), BodyTooLarge.code),
    "another model": (HEAD, chat("x", model="other"), UnknownModel.code),
}


@pytest.mark.parametrize(("head", "body", "refusal"), REFUSALS.values(), ids=REFUSALS.keys())
async def test_a_refused_request_is_neither_admitted_nor_charged(
    box: Box, head: Scope, body: bytes, refusal: str
) -> None:
    assert await refused(box, body, head) == refusal
    assert await box.rows() == []
    assert box.journal.left_open() == []


class Unwritable:
    """Words that can be read but not written again."""

    def encode(self, cache_salt: str) -> bytes:  # noqa: ARG002  # as a body's
        raise BadRequest

    def translator(self, request_id: str) -> None:  # noqa: ARG002  # as a body's
        return None


async def test_what_cant_be_written_for_the_engine_takes_no_place(box: Box) -> None:
    """Or a few thousand of them would fill the gateway for ever."""
    endpoint = Endpoint(lambda _: (Call("chat", "m"), Content(Unwritable())), "/v1/x")

    assert await refused(box, b"{}", endpoint=endpoint) == BadRequest.code
    assert box.gateway.admission.open == 0
    assert box.journal.left_open() == []


async def test_a_caller_that_leaves_within_its_body_is_not_charged(box: Box) -> None:
    caller = Caller(pieces=[b"{"], endless=True)
    caller.hang_up()

    await serve(box, caller)

    assert caller.sent == []
    assert await box.rows() == []


async def test_without_a_ready_engine_the_answer_is_503_and_a_row(box: Box) -> None:
    box.gateway.table = box.table(ready=False)
    caller = Caller(chat("x", stream=True))

    await serve(box, caller)

    (row,) = await box.rows()
    assert (caller.status, error_code(caller.received), row.http_status) == (503, "model_not_ready", 503)
    assert caller.headers[b"retry-after"] == b"5"


async def test_an_engine_that_does_not_listen_is_503_and_a_row(box: Box) -> None:
    caller = Caller(chat("x"))

    await serve(box, caller)

    (row,) = await box.rows()
    assert (caller.status, row.http_status, row.rl_tokens_used) == (503, 503, 0)


async def test_a_gateway_that_holds_all_it_can_refuses_more(box: Box) -> None:
    async with ScriptedEngine(box.socket) as engine:
        callers = [Caller(chat("nonce=N then=hang", stream=True)) for _ in range(OPEN_MAX)]
        running = [asyncio.create_task(serve(box, caller)) for caller in callers]
        while len(engine.exchanges) < OPEN_MAX:
            await asyncio.sleep(0.01)
        refusal = await refused(box, chat("x"))
        for caller in callers:
            caller.hang_up()
        await asyncio.gather(*running)
        rows = await box.rows()

    assert refusal == Overloaded.code
    assert [row.http_status for row in rows] == [499] * OPEN_MAX
    assert box.gateway.admission.open == 0


async def test_a_draining_gateway_refuses_what_is_new(box: Box) -> None:
    box.gateway.admission.draining = True

    assert await refused(box, chat("x")) == ShuttingDown.code


async def test_a_hang_up_charges_the_tokens_so_far_and_tells_the_engine(box: Box) -> None:
    told = asyncio.Event()

    async def endless(exchange: Exchange) -> None:
        await exchange.send(fake.STREAM_HEAD, *[fake.chunk(fake.event("x", n)) for n in (1, 2, 3)])
        await exchange.gone()
        told.set()

    caller = Caller(chat("x", stream=True))
    async with ScriptedEngine(box.socket, endless):
        running = asyncio.create_task(serve(box, caller))
        while len(caller.sent) < 4:
            await asyncio.sleep(0.01)
        caller.hang_up()
        await running
        await asyncio.wait_for(told.wait(), 1)
        (row,) = await box.rows()

    assert (row.http_status, row.token_counts, row.prompt_tokens, row.completion_tokens) == (
        499,
        "partial",
        7,
        3,
    )


@pytest.mark.parametrize(("then", "code"), [("die", "engine_lost"), ("error", "engine_error")])
async def test_an_engine_that_fails_in_a_stream_ends_it_with_an_error_event(
    box: Box, then: str, code: str
) -> None:
    caller = Caller(chat(f"nonce=N tokens=2 then={then}", stream=True))
    async with ScriptedEngine(box.socket):
        await serve(box, caller)
        (row,) = await box.rows()

    assert (error_code(caller.received), caller.whole) == (code, True)
    assert b"then=" not in caller.received
    assert (row.http_status, row.token_counts, row.completion_tokens) == (502, "partial", 2)


async def test_a_cancelled_request_says_so_and_is_charged(box: Box) -> None:
    caller = Caller(chat("nonce=N tokens=2 then=hang", stream=True))
    async with ScriptedEngine(box.socket):
        running = asyncio.create_task(serve(box, caller))
        while len(caller.sent) < 3:
            await asyncio.sleep(0.01)
        running.cancel()
        (outcome,) = await asyncio.gather(running, return_exceptions=True)
        (row,) = await box.rows()

    assert isinstance(outcome, asyncio.CancelledError)
    assert (error_code(caller.received), caller.whole) == ("shutting_down", True)
    assert (row.http_status, row.token_counts, row.completion_tokens) == (503, "partial", 2)


async def test_a_bug_of_ours_ends_one_request_and_is_charged(box: Box) -> None:
    """What uvicorn would raise if the relay spoke out of turn."""
    caller = Caller(chat("nonce=N"))

    async def broken(message: Message) -> None:
        raise RuntimeError(message["type"])

    async with ScriptedEngine(box.socket):
        await box.gateway.serve(ENDPOINT, AsgiExchange(HEAD, caller.receive, broken, 100_000, 5))
        (row,) = await box.rows()

    assert row.http_status == 499
    assert box.gateway.admission.open == 0


async def test_a_large_prompt_reaches_the_engine_whole(box: Box) -> None:
    prompt = "nonce=N " + "x" * 90_000
    async with ScriptedEngine(box.socket) as engine:
        await serve(box, Caller(chat(prompt)))

    assert engine.exchanges[0].prompt == prompt
