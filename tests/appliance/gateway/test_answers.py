from __future__ import annotations

import json

import pytest

from appliance import errors
from appliance.errors import BadRequest, EngineFault, Overloaded, RequestError
from appliance.gateway import answers

CANARY = "CANARY5d1f"
EVERY = [
    error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, RequestError)
]


@pytest.mark.parametrize("error", EVERY, ids=lambda error: error.__name__)
def test_every_error_has_openais_shape(error: type[RequestError]) -> None:
    body = json.loads(answers.error_body(error(param="p")))

    assert body == {"error": {"message": error.message, "type": error.type, "param": "p", "code": error.code}}


def test_an_error_event_is_one_event_with_the_same_body() -> None:
    event = answers.error_event(EngineFault())

    assert event == b"data: " + answers.error_body(EngineFault()) + b"\n\n"
    assert event.count(b"\n") == 2


def test_errors_are_not_to_be_kept() -> None:
    assert dict(answers.error_headers(BadRequest(), None)) == {
        b"content-type": b"application/json",
        b"cache-control": b"no-store",
        b"x-content-type-options": b"nosniff",
    }


def test_an_error_says_which_request_and_when_to_come_back() -> None:
    headers = dict(answers.error_headers(Overloaded(), "RID"))

    assert (headers[b"x-request-id"], headers[b"retry-after"]) == (b"RID", b"1")


def test_headers_of_one_error_are_not_those_of_the_next() -> None:
    answers.error_headers(Overloaded(), "RID")

    assert (b"x-request-id", b"RID") not in answers.JSON


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (400, "", BadRequest, "invalid_request"),
        (422, "", BadRequest, "invalid_request"),
        (413, "", BadRequest, "invalid_request"),
        (400, "This model's maximum context length is 10 tokens", BadRequest, "context_length_exceeded"),
        (429, "", Overloaded, "overloaded"),
        (503, "", Overloaded, "overloaded"),
        (500, "", EngineFault, "engine_error"),
        (401, "", EngineFault, "engine_error"),
        (404, "", EngineFault, "engine_error"),
        (302, "", EngineFault, "engine_error"),
        (0, "", EngineFault, "engine_error"),
    ],
)
def test_an_engines_refusal_chooses_between_words_of_ours(
    status: int, body: str, kind: type[RequestError], code: str
) -> None:
    refusal = answers.refusal_of(status, f"{CANARY} {body} {CANARY}".encode())

    assert (type(refusal), refusal.reason) == (kind, code)
    assert CANARY.encode() not in answers.error_body(refusal)
