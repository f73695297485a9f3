from __future__ import annotations

from contextlib import ExitStack

import pytest

from appliance.domain import Call, Engine
from appliance.errors import NotReady
from appliance.gateway.routing import Routing

CALL = Call("chat", "m", False, False, False)  # noqa: FBT003  # its fields
A, B = Engine("a", "m", "/a"), Engine("b", "m", "/b")


@pytest.mark.parametrize("engines", [{}, {"m": ()}, {"other": (A,)}], ids=["none", "none ready", "another's"])
def test_no_ready_engine_is_not_ready(engines: dict[str, tuple[Engine, ...]]) -> None:
    with pytest.raises(NotReady), Routing().choose(CALL, engines):
        pass


def test_the_replica_with_the_fewest_requests_is_chosen() -> None:
    routing = Routing()

    with ExitStack() as running:
        chosen = [running.enter_context(routing.choose(CALL, {"m": (A, B)})) for _ in range(6)]

    assert sorted(engine.name for engine in chosen) == ["a", "a", "a", "b", "b", "b"]


def test_a_request_that_ended_makes_room_however_it_ended() -> None:
    routing = Routing()

    with pytest.raises(ZeroDivisionError), routing.choose(CALL, {"m": (A, B)}):
        raise ZeroDivisionError
    with routing.choose(CALL, {"m": (A, B)}) as first, routing.choose(CALL, {"m": (A, B)}) as second:
        pass

    assert (first, second) == (A, B)


def test_requests_on_the_only_replica_count_when_a_second_one_comes() -> None:
    routing = Routing()

    with routing.choose(CALL, {"m": (A,)}), routing.choose(CALL, {"m": (A, B)}) as chosen:
        pass

    assert chosen == B
