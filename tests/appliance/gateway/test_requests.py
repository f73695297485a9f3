from __future__ import annotations

import pytest

from appliance.errors import BadRequest, BodyTooLarge, RequestError, WrongMediaType, WrongMethod
from appliance.gateway.asgi import AsgiExchange, Scope
from appliance.gateway.requests import check
from tests.fakes.caller import Caller, scope


def exchange(head: Scope) -> AsgiExchange:
    caller = Caller()
    return AsgiExchange(head, caller.receive, caller.send, 1000, 5)


@pytest.mark.parametrize(
    "head",
    [
        scope(),
        scope(content_type="application/json; charset=utf-8"),
        scope(content_type="Application/JSON"),
        scope(content_encoding="identity"),
        scope(content_length="1000"),
    ],
    ids=["plain", "charset", "capitals", "identity", "just small enough"],
)
def test_a_post_of_json_passes(head: Scope) -> None:
    check(exchange(head), 1000)


@pytest.mark.parametrize(
    ("head", "refusal"),
    [
        (scope(method="GET"), WrongMethod),
        (scope(method="PUT"), WrongMethod),
        (scope() | {"query_string": b"stream=true"}, BadRequest),
        (scope(content_type=""), WrongMediaType),
        (scope(content_type="text/plain"), WrongMediaType),
        (scope(content_type="application/json-patch+json"), WrongMediaType),
        (scope(content_type="multipart/form-data; boundary=application/json"), WrongMediaType),
        (scope(content_encoding="gzip"), WrongMediaType),
        (scope(content_encoding="identity, gzip"), WrongMediaType),
        (scope(content_length="1001"), BodyTooLarge),
        (scope(content_length="9" * 5000), BodyTooLarge),
        (scope(content_length="-1"), BodyTooLarge),
    ],
    ids=[
        "GET",
        "PUT",
        "query",
        "no type",
        "text",
        "patch",
        "form",
        "gzip",
        "gzip inside",
        "too long",
        "endless",
        "negative",
    ],
)
def test_anything_else_is_refused_by_its_head(head: Scope, refusal: type[RequestError]) -> None:
    with pytest.raises(refusal):
        check(exchange(head), 1000)
