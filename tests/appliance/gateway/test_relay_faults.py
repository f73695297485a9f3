"""What an engine may do wrong, and what then goes out to the caller."""

from __future__ import annotations

import asyncio
import json

from appliance.domain import Call
from appliance.errors import EngineFault, KeyRevoked, NotReady
from appliance.gateway.relay import EVENT_BYTES_MAX, HUNG_UP
from tests.fakes import engine as fake
from tests.fakes.engine import DONE, chunk, event, last_event, whole
from tests.fakes.relayed import ERROR, Run, call, error_of, relayed, streamed


async def test_an_answer_that_costs_no_tokens_is_known_exactly() -> None:
    counts = Call("tokenize", "m", output_tokens_max=0)

    _, outcome = await relayed(counts, whole(b'{"count":2,"max_model_len":8,"tokens":[1,2]}'))

    assert outcome[:3] == (200, b"", "exact")


async def test_an_answer_without_usage_is_not_known_exactly() -> None:
    run, outcome = await relayed(Call("chat", "m", output_tokens_max=None), whole(b'{"choices":[]}'))

    assert run.caller.received == b'{"choices":[]}'
    assert outcome[:3] == (200, b"", "partial")
    assert run.noted == []


async def test_usage_without_an_end_does_no_harm() -> None:
    broken = b'data: {"choices":[{"index":0}],"usage":{"prompt_tokens":7,"x":{\n\n'

    run, outcome = await relayed(call(), streamed(broken, DONE))

    assert run.caller.whole
    assert outcome.status == 200


async def test_an_event_without_end_is_cut_off() -> None:
    run = Run()
    run.begin()
    await asyncio.sleep(0)
    run.arrive(fake.STREAM_HEAD, chunk(event("a", 1)), *[chunk(b"x" * (EVENT_BYTES_MAX // 4))] * 5)
    outcome = await run.end()

    assert error_of(run) == EngineFault.code
    assert run.transport.aborted
    assert outcome[:3] == (502, fake.usage(1), "partial")


async def test_nothing_is_said_after_the_end() -> None:
    run, outcome = await relayed(call(), fake.STREAM_HEAD, chunk(ERROR), chunk(event("a", 1)), fake.END)

    assert run.caller.received.count(b"data: ") == 1
    assert outcome.status == 502


async def test_nothing_is_said_after_the_end_within_one_piece() -> None:
    run, outcome = await relayed(call(), streamed(event("a", 1) + ERROR + event("b", 2)))

    assert run.caller.received.startswith(event("a", 1, with_usage=False))
    assert run.caller.received.count(b"data: ") == 2
    assert outcome[:3] == (502, fake.usage(1), "partial")


async def test_an_event_without_usage_passes() -> None:
    bare = event("a", 1, with_usage=False)

    run, outcome = await relayed(call(), streamed(bare, last_event(1), DONE))

    assert run.caller.received == bare + DONE
    assert outcome[:3] == (200, fake.usage(1), "exact")


async def test_an_end_that_comes_after_the_caller_has_left_changes_nothing() -> None:
    run = Run()
    run.begin()
    await asyncio.sleep(0)
    run.arrive(fake.STREAM_HEAD, chunk(event("a", 1)))
    run.relay._on_gone()
    run.arrive(*map(chunk, [event("b", 2), last_event(2), DONE]), fake.END)
    outcome = await run.end()

    assert outcome.status == HUNG_UP


async def test_a_long_refusal_of_an_engine_is_not_kept_whole() -> None:
    refused = whole(b"x" * 300_000 + b"context length", 400)
    pieces = [refused[at : at + 50_000] for at in range(0, len(refused), 50_000)]

    run, outcome = await relayed(call(), *pieces)

    assert len(b"".join(run.relay._pieces)) <= 64 * 1024
    assert (run.caller.status, outcome.status) == (400, 400)


async def test_a_request_fails_once() -> None:
    run = Run()
    run.begin()
    await asyncio.sleep(0)
    run.relay.fail(KeyRevoked())
    run.relay.fail(NotReady())
    outcome = await run.end()

    assert run.caller.status == outcome.status == 401
    assert json.loads(run.caller.received)["error"]["code"] == "key_revoked"


async def test_a_stream_whose_key_is_revoked_ends_with_an_error_event_and_its_tokens() -> None:
    run = Run()
    run.begin()
    await asyncio.sleep(0)
    run.arrive(fake.STREAM_HEAD, chunk(event("a", 1)), chunk(event("b", 2)))
    run.relay.fail(KeyRevoked())
    outcome = await run.end()

    assert run.relay.key_id == "key"
    assert error_of(run) == "key_revoked"
    assert run.transport.aborted
    assert outcome[:3] == (401, fake.usage(2), "partial")
