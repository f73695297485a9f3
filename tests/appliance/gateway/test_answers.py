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
    body = json.loads(answers.OPENAI.body(error(param="p"), None))

    assert body == {"error": {"message": error.message, "type": error.type, "param": "p", "code": error.code}}


def test_an_error_event_is_one_event_with_the_same_body() -> None:
    event = answers.OPENAI.event(EngineFault())

    assert event == b"data: " + answers.OPENAI.body(EngineFault(), None) + b"\n\n"
    assert event.count(b"\n") == 2


def test_errors_are_not_to_be_kept() -> None:
    assert dict(answers.pairs(answers.error_head(BadRequest(), None))) == {
        b"content-type": b"application/json",
        b"cache-control": b"no-store",
        b"x-content-type-options": b"nosniff",
    }


def test_an_error_says_which_request_and_when_to_come_back() -> None:
    headers = dict(answers.pairs(answers.error_head(Overloaded(), "RID")))

    assert (headers[b"x-request-id"], headers[b"retry-after"]) == (b"RID", b"1")


def test_a_request_id_stands_where_its_protocol_looks_for_it() -> None:
    shape = answers.OPENAI._replace(request_id_headers=(b"request-id", b"x-request-id"))

    head = answers.error_head(BadRequest(), "RID", shape)

    assert head.endswith(b"\r\nrequest-id: RID\r\nx-request-id: RID\r\n")


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (200, b"HTTP/1.1 200 OK\r\n"),
        (431, b"HTTP/1.1 431 Request Header Fields Too Large\r\n"),
        (499, b"HTTP/1.1 499 \r\n"),
    ],
)
def test_a_status_has_its_line(status: int, line: bytes) -> None:
    assert answers.status_line(status) == line


COUNTS = {
    "none": (b"", (0, 0)),
    "both": (answers.usage(7, 5), (7, 5)),
    "spaced": (b'{"prompt_tokens": 7, "completion_tokens": 5}', (7, 5)),
    "one": (b'{"prompt_tokens":7}', (7, 0)),
    "none known": (b'{"prompt_tokens":null,"completion_tokens":-1}', (0, 0)),
    "endless": (b'{"prompt_tokens":' + b"9" * 5000 + b"}", (0, 0)),
}


@pytest.mark.parametrize(("usage", "counts"), COUNTS.values(), ids=COUNTS.keys())
def test_tokens_are_read_of_usage_and_nothing_else(usage: bytes, counts: tuple[int, int]) -> None:
    assert answers.counts(usage) == counts


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (400, "", BadRequest, "invalid_request"),
        (422, "", BadRequest, "invalid_request"),
        (413, "", BadRequest, "invalid_request"),
        (400, "This model's maximum context length is 10 tokens", BadRequest, "context_length_exceeded"),
        (400, '"auto" tool choice requires --tool-call-parser to be set', BadRequest, "unsupported_tool"),
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
    assert CANARY.encode() not in answers.OPENAI.body(refusal, None)
