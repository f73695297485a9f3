from __future__ import annotations

import pytest

from appliance.errors import (
    BadRequest,
    BodyTooLarge,
    BodyTooSlow,
    ClientGone,
    RequestError,
    WrongMediaType,
    WrongMethod,
)
from appliance.gateway.asgi import Scope
from appliance.gateway.requests import check, read_body
from tests.fakes.caller import Caller, scope


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
    check(head, 1000)


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
    ],
    ids=["GET", "PUT", "query", "no type", "text", "patch", "form", "gzip", "gzip inside", "too long"],
)
def test_anything_else_is_refused_by_its_head(head: Scope, refusal: type[RequestError]) -> None:
    with pytest.raises(refusal):
        check(head, 1000)


@pytest.mark.parametrize(
    "pieces", [[b"x" * 10], [b"x" * 4, b"", b"x" * 6], [b"x"] * 10], ids=["one", "three", "many"]
)
async def test_a_body_is_the_same_in_any_pieces(pieces: list[bytes]) -> None:
    assert await read_body(Caller(pieces=pieces).receive, 10, 1) == b"x" * 10


@pytest.mark.parametrize("pieces", [[b"x" * 11], [b"x" * 10, b"x"]], ids=["one", "two"])
async def test_a_body_larger_than_allowed_is_refused(pieces: list[bytes]) -> None:
    with pytest.raises(BodyTooLarge):
        await read_body(Caller(pieces=pieces).receive, 10, 1)


async def test_an_endless_body_is_refused_as_soon_as_it_is_too_large() -> None:
    caller = Caller(pieces=[b"x" * 6] * 1000, endless=True)

    with pytest.raises(BodyTooLarge):
        await read_body(caller.receive, 10, 1)

    assert len(caller._arriving) == 998


async def test_a_body_that_does_not_come_in_time_is_refused() -> None:
    with pytest.raises(BodyTooSlow):
        await read_body(Caller(pieces=[b"x"], endless=True).receive, 10, 0.05)


async def test_a_caller_that_hangs_up_within_its_body_is_gone() -> None:
    caller = Caller(pieces=[b"x"], endless=True)
    caller.hang_up()

    with pytest.raises(ClientGone):
        await read_body(caller.receive, 10, 1)
