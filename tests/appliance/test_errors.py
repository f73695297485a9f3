from __future__ import annotations

import inspect

import pytest

from appliance import errors
from appliance.errors import BadRequest, InferflyError, OperatorError, RequestError, TooManyRequests

ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, InferflyError)]
REQUEST = [kind for kind in ALL if issubclass(kind, RequestError)]
OPERATOR = [kind for kind in ALL if issubclass(kind, OperatorError)]

OPENAI_TYPES = {
    "authentication_error",
    "insufficient_quota",
    "invalid_request_error",
    "permission_error",
    "rate_limit_error",
    "requests",
    "server_error",
    "tokens",
}


def test_an_error_says_what_why_and_what_to_do() -> None:
    error = InferflyError("It stopped.", why="The disk is full.", fix="Make room.")

    assert str(error) == "It stopped. The disk is full. Make room."
    assert (error.what, error.why, error.fix) == ("It stopped.", "The disk is full.", "Make room.")


def test_an_error_may_say_less() -> None:
    assert str(InferflyError("It stopped.", fix="Start it.")) == "It stopped. Start it."


@pytest.mark.parametrize("kind", REQUEST)
def test_a_refused_request_has_status_type_and_a_full_sentence(kind: type[RequestError]) -> None:
    assert 400 <= kind.status <= 599
    assert kind.type in OPENAI_TYPES
    assert (kind.type == "server_error") == (kind.status >= 500)
    assert kind.message[0].isupper()
    assert kind.message.endswith(".")


@pytest.mark.parametrize("kind", REQUEST)
def test_a_refused_request_has_its_fixed_message_unless_told_another(kind: type[RequestError]) -> None:
    assert str(kind()) == kind.message
    assert str(kind("Another sentence.")) == "Another sentence."


def test_codes_and_types_tell_the_kinds_apart() -> None:
    codes = [(kind.code, kind.type) for kind in REQUEST]

    assert len(codes) == len(set(codes))


def test_one_refusal_may_carry_a_closer_reason_and_the_field() -> None:
    error = BadRequest("The prompt is too long.", param="messages", code="context_length_exceeded")

    assert (error.reason, error.param, error.code) == (
        "context_length_exceeded",
        "messages",
        "invalid_request",
    )


@pytest.mark.parametrize("kind", [kind for kind in REQUEST if kind.status in (429, 503)])
def test_whoever_is_told_to_come_back_is_told_when(kind: type[RequestError]) -> None:
    assert kind.retry_after_seconds
    assert kind.retry_after_seconds > 0


def test_one_refusal_may_know_better_when_to_come_back() -> None:
    assert TooManyRequests(retry_after_seconds=7).retry_after_seconds == 7
    assert TooManyRequests().retry_after_seconds == 1


@pytest.mark.parametrize("kind", OPERATOR)
def test_an_operators_error_ends_the_process_with_a_code_of_its_own(kind: type[OperatorError]) -> None:
    assert 1 <= kind.exit_code <= 78
    assert kind.__doc__


def test_all_errors_are_in_one_tree() -> None:
    found = [
        kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__
    ]

    assert [kind for kind in found if not issubclass(kind, InferflyError)] == []
