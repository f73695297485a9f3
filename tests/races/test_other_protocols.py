from __future__ import annotations

import asyncio
import json

import pytest

from appliance.errors import EngineFault, RequestError
from appliance.gateway.relay import HUNG_UP
from tests.fakes import engine as fake
from tests.fakes.engine import DONE, answer, chunk, event, last_event, whole
from tests.fakes.relayed import CANARY, ERROR, EVENTS, Run, call, relayed, streamed

# Several answers to one request


def one_of(index: int, text: str, tokens: int) -> bytes:
    """An event of one answer: its running usage counts the tokens of this answer only, as vLLM's does."""
    return event(text, tokens).replace(b'"index":0', b'"index":%d' % index)


SEVERAL = [one_of(0, "a", 1), one_of(1, "b", 1), one_of(0, "c", 2), one_of(2, "d", 1), one_of(1, "e", 5)]


async def test_tokens_of_all_answers_are_counted_if_a_stream_is_cut() -> None:
    run = Run(call(choices=3))
    run.begin()
    await asyncio.sleep(0)
    run.arrive(fake.STREAM_HEAD, *map(chunk, SEVERAL))
    run.caller.hang_up()
    outcome = await run.end()

    assert run.noted == [fake.usage(tokens) for tokens in (1, 2, 3, 4, 8)]
    assert outcome[:3] == (HUNG_UP, fake.usage(8), "partial")


async def test_the_total_of_all_answers_is_the_engines() -> None:
    run, outcome = await relayed(call(choices=3), streamed(*SEVERAL, last_event(9), DONE))

    assert outcome[:3] == (200, fake.usage(9), "exact")
    assert run.caller.received.count(b"usage") == 0


async def test_running_usage_that_a_caller_asked_for_passes_as_it_is() -> None:
    run, _ = await relayed(
        call(choices=3, include_usage=True, continuous_usage=True), streamed(*SEVERAL, last_event(9), DONE)
    )

    assert run.caller.received == b"".join([*SEVERAL, last_event(9), DONE])


async def test_events_that_name_no_answer_count_once() -> None:
    odd = event("a", 3).replace(b'"index":0', b'"x":0')

    _, outcome = await relayed(call(choices=2), streamed(odd, odd))

    assert outcome[:3] == (200, fake.usage(3), "partial")


# Other protocols


class Upper:
    """A protocol in which everything is said in capitals, and one word is beyond it."""

    def event(self, event: bytes) -> bytes:
        if b"impossible" in event:
            raise ValueError(CANARY)
        return b"" if b"silence" in event else event.upper()

    def end(self) -> bytes:
        return b"END\n\n"

    def fail(self, error: RequestError) -> bytes:
        return b"FAILED %b\n\n" % error.reason.encode()

    def whole(self, body: bytes) -> bytes:
        return self.event(body)


async def test_a_stream_is_told_in_the_callers_protocol() -> None:
    run, outcome = await relayed(call(), streamed(*EVENTS), translator=Upper())

    assert run.caller.received == b"".join([event.upper() for event in EVENTS[:3]]) + b"END\n\n"
    assert outcome[:3] == (200, fake.usage(2), "exact")


async def test_an_event_of_which_nothing_is_told_counts_all_the_same() -> None:
    run, outcome = await relayed(
        call(), streamed(event("silence", 1), event("a", 2), DONE), translator=Upper()
    )

    assert run.caller.received == event("a", 2).upper() + b"END\n\n"
    assert run.noted == [fake.usage(1), fake.usage(2)]
    assert outcome.status == 200


async def test_an_answer_in_one_piece_is_told_in_the_callers_protocol() -> None:
    body = answer("hello", 5)

    run, outcome = await relayed(call(stream=False), whole(body), translator=Upper())

    assert run.caller.received == body.upper()
    assert run.caller.headers[b"content-length"] == b"%d" % len(body)
    assert outcome[:3] == (200, fake.usage(5), "exact")


FAULTS = {
    "an event that makes no sense": [event("a", 1), event("impossible", 2), event("b", 3), DONE],
    "an engine's error": [event("a", 1), ERROR, DONE],
    "an end within an event": [event("a", 1), b"data: {"],
}


@pytest.mark.parametrize("events", FAULTS.values(), ids=FAULTS.keys())
@pytest.mark.parametrize("at_once", [True, False], ids=["in one piece", "one by one"])
async def test_a_stream_that_fails_ends_in_the_callers_protocol(
    events: list[bytes], *, at_once: bool
) -> None:
    pieces = [streamed(*events)] if at_once else [fake.STREAM_HEAD, *map(chunk, events), fake.END]

    run, outcome = await relayed(call(), *pieces, translator=Upper())

    assert run.caller.received.startswith(event("a", 1).upper() + b"FAILED engine_")
    assert run.caller.received.count(b"\n\n") == 2
    assert run.caller.whole
    assert CANARY.encode() not in run.caller.received
    assert outcome[0] == 502
    assert outcome.counts == "partial"


async def test_an_answer_that_makes_no_sense_is_the_engines_fault() -> None:
    run, outcome = await relayed(call(stream=False), whole(answer("impossible", 5)), translator=Upper())

    assert (run.caller.status, json.loads(run.caller.received)["error"]["code"]) == (502, EngineFault.code)
    assert outcome[:3] == (502, fake.usage(5), "exact")


async def test_a_refusal_of_the_engine_is_told_in_the_callers_shape_of_errors() -> None:
    run, _ = await relayed(call(), whole(b"", 400), translator=Upper())

    assert json.loads(run.caller.received)["error"]["code"] == "invalid_request"
