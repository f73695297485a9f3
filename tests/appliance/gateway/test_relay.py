from __future__ import annotations

import asyncio
import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.domain import Call
from appliance.errors import EngineFault, EngineLost, NotReady
from appliance.gateway.asgi import AsgiExchange
from appliance.gateway.relay import HUNG_UP, Relay
from tests.fakes import engine as fake
from tests.fakes.caller import Caller as Application
from tests.fakes.caller import scope
from tests.fakes.engine import DONE, answer, chunk, event, last_event, whole
from tests.fakes.relayed import (
    BARE,
    CANARY,
    ERROR,
    EVENTS,
    Run,
    call,
    error_of,
    relayed,
    reservation,
    streamed,
)


@pytest.mark.parametrize(
    ("call", "seen"),
    [
        (call(), [*BARE, DONE]),
        (call(include_usage=True), [*BARE, last_event(2), DONE]),
        (call(include_usage=True, continuous_usage=True), EVENTS),
    ],
    ids=["no usage", "total", "running"],
)
async def test_a_caller_sees_the_usage_it_asked_for_and_no_other(call: Call, seen: list[bytes]) -> None:
    run, outcome = await relayed(call, streamed(*EVENTS))

    assert run.caller.received == b"".join(seen)
    assert run.caller.whole
    assert outcome[:3] == (200, fake.usage(2), "exact")


async def test_a_stream_has_its_headers() -> None:
    run, _ = await relayed(call(), streamed(*EVENTS))

    assert run.caller.status == 200
    assert run.caller.headers == {
        b"content-type": b"text/event-stream; charset=utf-8",
        b"cache-control": b"no-store",
        b"x-content-type-options": b"nosniff",
        b"x-request-id": b"RID",
        b"openai-processing-ms": b"0",
    }


TRICKY = {
    "usage in a text": '"usage":{"completion_tokens":999}',
    "usage in a text that looks nested": '{"a":{"usage":{"prompt_tokens":5}}}',
    "an end of choices in a text": '],"choices":[],"usage":{"completion_tokens":9}',
    "an event in a text": 'data: {"error": 1}\n\ndata: [DONE]\n\n',
    "backslashes": '\\"usage\\":{\\\\"usage":{',
    "braces": '{"usage":{',
}


@pytest.mark.parametrize("text", TRICKY.values(), ids=TRICKY.keys())
async def test_texts_stay_as_they_are_whatever_they_look_like(text: str) -> None:
    events = [event(text, 1), event(json.dumps({"arguments": text}), 2), last_event(2), DONE]
    bare = [
        event(text, 1, with_usage=False),
        event(json.dumps({"arguments": text}), 2, with_usage=False),
        DONE,
    ]

    run, outcome = await relayed(call(), streamed(*events))

    assert run.caller.received == b"".join(bare)
    assert outcome[:3] == (200, fake.usage(2), "exact")


async def test_nested_usage_is_taken_out_whole() -> None:
    nested = (
        b'{"prompt_tokens":7,"completion_tokens":1,"prompt_tokens_details":{"cached":{"tokens":4}},"x":null}'
    )
    bare = event("a", 1, with_usage=False)
    full = bare.replace(b"]}\n\n", b'],"usage":' + nested + b"}\n\n")

    run, outcome = await relayed(call(), streamed(full, DONE))

    assert run.caller.received == bare + DONE
    assert outcome.usage == nested
    assert run.noted == [nested]


async def test_running_usage_is_noted_with_each_event() -> None:
    run, _ = await relayed(call(), streamed(*EVENTS))

    assert run.noted == [fake.usage(1), fake.usage(2), fake.usage(2)]


async def test_several_events_in_one_chunk_are_each_looked_at() -> None:
    run, outcome = await relayed(call(), streamed(b"".join(EVENTS)))

    assert run.caller.received == b"".join([*BARE, DONE])
    assert outcome[:3] == (200, fake.usage(2), "exact")


@given(st.lists(st.integers(1, 700), max_size=12), st.lists(st.text(max_size=20), min_size=1, max_size=6))
@settings(max_examples=150, deadline=None)
def test_events_cut_anywhere_come_out_the_same(places: list[int], texts: list[str]) -> None:
    events = [*(event(text, tokens) for tokens, text in enumerate(texts, 1)), last_event(len(texts)), DONE]
    flow = b"".join(events)
    edges = sorted({0, len(flow), *(place % len(flow) for place in places)})
    cut = [flow[start:end] for start, end in itertools.pairwise(edges)]

    run, outcome = asyncio.run(relayed(call(), streamed(*cut)))

    assert run.caller.received == b"".join([*(event(text, 0, with_usage=False) for text in texts), DONE])
    assert outcome[:3] == (200, fake.usage(len(texts)), "exact")


@pytest.mark.parametrize("at", [0, 1, 2, 5, 13, len(ERROR) - 1], ids=str)
async def test_an_engines_error_event_is_replaced_however_it_is_cut(at: int) -> None:
    pieces = [piece for piece in (ERROR[:at], ERROR[at:], DONE) if piece]

    run, outcome = await relayed(call(), streamed(event("a", 1), *pieces))

    assert CANARY.encode() not in run.caller.received
    assert error_of(run) == EngineFault.code
    assert run.caller.whole
    assert outcome[:3] == (EngineFault.status, fake.usage(1), "partial")


async def test_an_engine_lost_in_a_stream_is_an_error_event() -> None:
    run = Run()
    run.begin()
    await asyncio.sleep(0)
    run.arrive(fake.STREAM_HEAD, chunk(event("a", 1)), b"20\r\nda")
    run.lose()
    outcome = await run.end()

    assert run.caller.received.startswith(event("a", 1, with_usage=False) + b"data: {")
    assert error_of(run) == EngineLost.code
    assert run.caller.whole
    assert outcome[:3] == (EngineLost.status, fake.usage(1), "partial")


async def test_a_stream_that_ends_within_an_event_is_lost() -> None:
    run, outcome = await relayed(call(), streamed(event("a", 1), event("b", 2)[:-1]))

    assert error_of(run) == EngineLost.code
    assert outcome[:3] == (EngineLost.status, fake.usage(1), "partial")


async def test_an_engine_lost_before_its_head_is_a_response() -> None:
    run = Run()
    run.begin()
    await asyncio.sleep(0)
    run.lose()
    outcome = await run.end()

    assert run.caller.status == EngineLost.status
    assert json.loads(run.caller.received)["error"]["code"] == EngineLost.code
    assert outcome[:3] == (EngineLost.status, b"", "partial")


async def test_an_answer_in_one_piece_passes_untouched() -> None:
    body = answer('"usage":{"x":1}', 5)

    run, outcome = await relayed(call(stream=False), whole(body))

    assert run.caller.received == body
    assert run.caller.headers[b"content-length"] == b"%d" % len(body)
    assert run.caller.headers[b"x-request-id"] == b"RID"
    assert outcome == (200, fake.usage(5), "exact", 0, 0)
    assert run.noted == [fake.usage(5)]


@pytest.mark.parametrize(
    ("status", "body", "seen"),
    [
        (400, b"This model's maximum context length is 8 tokens", (400, "context_length_exceeded", "exact")),
        (400, b"anything else", (400, "invalid_request", "exact")),
        (503, b"", (503, "overloaded", "exact")),
        (404, b"", (502, "engine_error", "partial")),
        (500, b"", (502, "engine_error", "partial")),
    ],
    ids=["too long", "bad", "overloaded", "unknown model", "fault"],
)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_a_refusal_is_put_in_words_of_ours(
    status: int, body: bytes, seen: tuple[int, str, str], *, stream: bool
) -> None:
    run, outcome = await relayed(call(stream=stream), whole(body + CANARY.encode() * 5000, status))

    assert run.caller.status == seen[0]
    assert json.loads(run.caller.received)["error"]["code"] == seen[1]
    assert CANARY.encode() not in run.caller.received
    assert outcome[:3] == (seen[0], b"", seen[2])


async def test_a_hang_up_cuts_the_engine_and_keeps_the_usage_so_far() -> None:
    run = Run()
    run.begin()
    await asyncio.sleep(0)
    run.arrive(fake.STREAM_HEAD, chunk(event("a", 1)), chunk(event("b", 2)))
    run.caller.hang_up()
    outcome = await run.end()

    assert run.transport.aborted
    assert outcome[:3] == (HUNG_UP, fake.usage(2), "partial")


async def test_a_caller_that_leaves_after_done_has_had_everything() -> None:
    """OpenAI's SDKs hang up when they have read [DONE], without waiting for the end of the body."""
    run = Run()
    run.begin()
    await asyncio.sleep(0)
    run.arrive(fake.STREAM_HEAD, *map(chunk, EVENTS))
    run.caller.hang_up()
    outcome = await run.end()

    assert outcome[:3] == (200, fake.usage(2), "exact")


async def test_a_hang_up_before_the_last_bytes_are_out_is_a_hang_up() -> None:
    run = Run()
    run.begin()
    await asyncio.sleep(0)
    run.caller.stop_reading()
    run.arrive(streamed(*EVENTS))
    run.caller.hang_up()
    outcome = await run.end()

    assert outcome[:3] == (HUNG_UP, fake.usage(2), "exact")


async def test_a_slow_reader_pauses_the_engine_and_gets_everything_in_order() -> None:
    run = Run()
    run.begin()
    await asyncio.sleep(0)
    events = [event(str(n), n) for n in range(1, 101)]
    run.arrive(fake.STREAM_HEAD, chunk(events[0]))
    run.caller.stop_reading()
    run.arrive(b"".join(map(chunk, events[1:10])))
    await asyncio.sleep(0.01)
    paused, seen = not run.transport.reading, len(run.caller.sent)
    run.caller.read_on()
    await asyncio.sleep(0.01)
    reads_on = run.transport.reading
    run.arrive(b"".join(map(chunk, [*events[10:], last_event(100), DONE])) + fake.END)
    outcome = await run.end()

    assert (paused, seen, reads_on) == (True, 2, True)
    assert run.caller.received == b"".join([event(str(n), n, with_usage=False) for n in range(1, 101)]) + DONE
    assert outcome[:3] == (200, fake.usage(100), "exact")


async def test_a_connection_given_back_to_its_pool_is_not_paused_by_a_slow_reader() -> None:
    """Its next request would never be answered."""
    run = Run()
    run.begin()
    await asyncio.sleep(0)
    run.arrive(fake.STREAM_HEAD, chunk(event("a", 1)))
    run.caller.stop_reading()
    run.arrive(b"".join(map(chunk, [event("b", 2), last_event(2), DONE])) + fake.END)
    await asyncio.sleep(0.01)
    at_end = run.transport.reading
    run.caller.read_on()
    outcome = await run.end()

    assert at_end
    assert run.transport.reading
    assert not run.transport.is_closing()
    assert run.caller.received == event("a", 1, with_usage=False) + event("b", 2, with_usage=False) + DONE
    assert outcome.status == 200


async def test_an_engine_lost_while_the_caller_reads_slowly_still_ends_in_an_error_event() -> None:
    run = Run()
    run.begin()
    await asyncio.sleep(0)
    run.arrive(fake.STREAM_HEAD, chunk(event("a", 1)))
    run.caller.stop_reading()
    run.transport.abort()
    run.lose()
    await asyncio.sleep(0.01)
    run.caller.read_on()
    outcome = await run.end()

    assert error_of(run) == EngineLost.code
    assert run.caller.whole
    assert outcome[:3] == (EngineLost.status, fake.usage(1), "partial")


async def test_a_refusal_waits_for_a_slow_reader() -> None:
    caller = Application()
    exchange = AsgiExchange(scope(), caller.receive, caller.send, 1000, 5)
    await exchange.body()
    caller.stop_reading()
    relay = Relay(exchange, reservation(call()), lambda _: None)
    relay.fail(NotReady())
    waiting = asyncio.create_task(relay.finish())
    await asyncio.sleep(0.01)
    caller.read_on()
    await asyncio.wait_for(waiting, 1)
    relay.close()

    assert caller.whole
    assert relay.outcome().status == NotReady.status
