from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest

from appliance.errors import KeyRevoked
from appliance.gateway.relay import HUNG_UP
from tests.fakes import engine as fake
from tests.fakes.engine import answer, chunk, event, whole
from tests.fakes.relayed import CANARY, EVENTS, Run, call, error_of, streamed

# Another try


async def failed_unheard(run: Run, how: Callable[[Run], None]) -> None:
    """The engine fails before it has answered, where something else can be tried."""
    run.begin()
    run.relay.may_retry(lost=True, refused=True)
    await asyncio.sleep(0)
    how(run)
    await asyncio.sleep(0.01)


def refuses(status: int) -> Callable[[Run], None]:
    return lambda run: run.arrive(whole(CANARY.encode(), status))


UNHEARD: dict[str, tuple[Callable[[Run], None], str]] = {
    "lost": (Run.lose, "lost"),
    "full": (refuses(503), "refused"),
    "broken": (refuses(500), "refused"),
}


@pytest.mark.parametrize(("how", "told"), UNHEARD.values(), ids=UNHEARD.keys())
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_an_engine_that_fails_before_it_has_answered_is_not_heard(
    how: Callable[[Run], None], told: str, *, stream: bool
) -> None:
    run = Run(call(stream=stream))
    await failed_unheard(run, how)
    unheard = run.relay.unheard
    run.relay.may_retry(lost=False, refused=False)
    run.connect()
    run.arrive(streamed(*EVENTS) if stream else whole(answer("a", 2)))
    outcome = await run.end()

    assert unheard == told
    assert (run.caller.status, run.relay.unheard) == (200, "")
    assert CANARY.encode() not in run.caller.received
    assert outcome[:3] == (200, fake.usage(2), "exact")


HEARD: dict[str, tuple[bytes, int, str]] = {
    "in a stream": (fake.STREAM_HEAD + chunk(event("a", 1)), 200, "engine_lost"),
    "behind its head": (fake.STREAM_HEAD, 200, "engine_lost"),
    "in a refusal": (whole(b"abc", 400)[:-1], 502, "engine_lost"),
    "with a refusal that no other would change": (whole(b"", 404), 502, "engine_error"),
}


@pytest.mark.parametrize(("bytes_", "status", "code"), HEARD.values(), ids=HEARD.keys())
async def test_an_engine_that_has_answered_has_no_second_try(bytes_: bytes, status: int, code: str) -> None:
    run = Run()
    run.begin()
    run.relay.may_retry(lost=True, refused=True)
    await asyncio.sleep(0)
    run.arrive(bytes_)
    run.lose()
    outcome = await run.end()

    assert (run.relay.unheard, outcome.status) == ("", 502)
    assert run.caller.status == status
    assert error_of(run) == code or json.loads(run.caller.received)["error"]["code"] == code


ENDED: dict[str, tuple[Callable[[Run], None], int]] = {
    "the caller hangs up": (lambda run: run.relay._on_gone(), HUNG_UP),
    "the key is revoked": (lambda run: run.relay.fail(KeyRevoked()), 401),
}


@pytest.mark.parametrize(("end", "status"), ENDED.values(), ids=ENDED.keys())
async def test_a_request_that_ends_as_its_engine_fails_is_not_tried_again(
    end: Callable[[Run], None], status: int
) -> None:
    """Nobody would be left to end it."""

    def both(run: Run) -> None:
        run.lose()
        end(run)

    run = Run()
    await failed_unheard(run, both)
    outcome = await run.end()

    assert run.relay.unheard == ""
    assert outcome.status == status
