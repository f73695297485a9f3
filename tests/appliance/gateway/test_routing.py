from __future__ import annotations

from contextlib import ExitStack

import pytest

from appliance.domain import Call, Engine
from appliance.errors import NotReady
from appliance.gateway.routing import SUSPECT_SECONDS, SUSPECT_SECONDS_MAX, TRIES_MAX, Routing

CALL = Call("chat", "m")
A, B, C, D = (Engine(name, "m", f"/{name}") for name in "abcd")
BOTH = {"m": (A, B)}


@pytest.fixture
def routing() -> Routing:
    return Routing()


def chosen(routing: Routing, *engines: Engine) -> Engine:
    """Where the next request would go."""
    return routing.choose(CALL, {"m": engines}).engine


@pytest.mark.parametrize("engines", [{}, {"m": ()}, {"other": (A,)}], ids=["none", "none ready", "another's"])
def test_no_ready_engine_is_not_ready(routing: Routing, engines: dict[str, tuple[Engine, ...]]) -> None:
    with pytest.raises(NotReady):
        routing.choose(CALL, engines)


def test_the_replica_with_the_fewest_requests_is_chosen(routing: Routing) -> None:
    with ExitStack() as running:
        routes = [running.enter_context(routing.choose(CALL, BOTH)) for _ in range(6)]

        assert (routing.in_flight("a"), routing.in_flight("b")) == (3, 3)

    assert sorted(route.engine.name for route in routes) == ["a", "a", "a", "b", "b", "b"]
    assert (routing.in_flight("a"), routing.in_flight("b")) == (0, 0)


def test_a_request_that_ended_makes_room_however_it_ended(routing: Routing) -> None:
    with pytest.raises(ZeroDivisionError), routing.choose(CALL, BOTH):
        raise ZeroDivisionError

    assert routing.in_flight("a") == 0


def test_requests_on_the_only_replica_count_when_a_second_one_comes(routing: Routing) -> None:
    with routing.choose(CALL, {"m": (A,)}):
        assert chosen(routing, A, B) == B


# Another try


def test_a_request_moves_on_to_the_next_best_and_counts_there(routing: Routing) -> None:
    with routing.choose(CALL, {"m": (B,)}), routing.choose(CALL, {"m": (A, B, C)}) as route:
        tried = [route.engine]
        route.next(0)
        tried.append(route.engine)
        in_flight = [routing.in_flight(name) for name in "abc"]

    assert tried == [A, C]
    assert in_flight == [0, 1, 1]
    assert [routing.in_flight(name) for name in "abc"] == [0, 0, 0]


def test_a_request_is_offered_to_so_many_engines(routing: Routing) -> None:
    with routing.choose(CALL, {"m": (A, B, C, D)}) as route:
        ends = [route.last]
        route.next(0)
        ends.append(route.last)
        route.next(0)
        ends.append(route.last)

    assert (ends, TRIES_MAX) == ([False, False, True], 3)


def test_the_only_engine_is_the_last(routing: Routing) -> None:
    with routing.choose(CALL, {"m": (A,)}) as route:
        assert route.last


# Suspects


def test_an_engine_that_failed_comes_last(routing: Routing) -> None:
    with routing.choose(CALL, BOTH) as route:
        route.next(0)

    assert chosen(routing, A, B) == B
    with routing.choose(CALL, {"m": (B,)}), routing.choose(CALL, {"m": (B,)}):
        assert chosen(routing, A, B) == B


def test_an_engine_that_is_only_full_is_no_suspect(routing: Routing) -> None:
    with routing.choose(CALL, BOTH) as route:
        route.next(0, suspect=False)

    assert chosen(routing, A, B) == A


def test_a_suspect_is_still_asked_where_nobody_else_is_there(routing: Routing) -> None:
    routing.suspect(A, 0)

    assert chosen(routing, A) == A


def test_a_suspect_is_due_when_its_time_is_over(routing: Routing) -> None:
    routing.suspect(A, 100)

    assert routing.due(BOTH, 100 + SUSPECT_SECONDS - 0.01) == []
    assert routing.due(BOTH, 100 + SUSPECT_SECONDS) == [A]
    assert chosen(routing, A, B) == B


def test_a_suspect_that_fails_again_is_suspect_for_twice_as_long(routing: Routing) -> None:
    waits: list[float] = []
    now = 0.0
    for _ in range(7):
        routing.suspect(A, now)
        again = routing._suspects["a"][0]
        waits.append(again - now)
        now = again

    assert waits == [1, 2, 4, 8, 16, SUSPECT_SECONDS_MAX, SUSPECT_SECONDS_MAX]


def test_requests_that_fail_together_are_one_failure(routing: Routing) -> None:
    for _ in range(40):
        routing.suspect(A, 0.5)

    assert routing.due(BOTH, 0.5 + SUSPECT_SECONDS) == [A]


def test_an_engine_that_answers_is_trusted_as_before(routing: Routing) -> None:
    routing.suspect(A, 0)
    routing.suspect(A, SUSPECT_SECONDS)
    routing.trust(A)

    assert chosen(routing, A, B) == A
    assert routing.due(BOTH, 1000) == []
    routing.suspect(A, 0)
    assert routing.due(BOTH, SUSPECT_SECONDS) == [A]


def test_trust_in_one_that_was_no_suspect_changes_nothing(routing: Routing) -> None:
    routing.trust(A)

    assert chosen(routing, A, B) == A


def test_a_suspect_that_is_gone_is_forgotten(routing: Routing) -> None:
    """A new engine of its name starts with a good one."""
    routing.suspect(A, 0)

    assert routing.due({"m": (B,)}, 1000) == []
    assert chosen(routing, A, B) == A
