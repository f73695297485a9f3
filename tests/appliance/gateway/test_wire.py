from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.box import Box, chat
from tests.fakes.engine import ScriptedEngine
from tests.fakes.served import BEARER, Answer, Served, post, read_answer, served

CANARY = "CANARY5d1f"
GOOD = post(chat("nonce=N tokens=2"))
STREAM = post(chat("nonce=N tokens=3", stream=True))


@pytest.fixture
async def box(short_folder: Path) -> AsyncIterator[Box]:
    box = Box(short_folder)
    async with ScriptedEngine(box.socket):
        yield box
    box.close()


@pytest.fixture(params=[True, False], ids=["fast lane", "Litestar"])
async def gateway(request: pytest.FixtureRequest, box: Box) -> AsyncIterator[Served]:
    """With times that a test can wait for."""
    times: dict[str, Any] = {"head_seconds_max": 0.3, "body_seconds_max": 0.3, "sweep_seconds": 0.05}
    async with served(box, fast_lane=request.param, stall_seconds_max=0.3, **times) as gateway:
        yield gateway


def code(body: bytes) -> str:
    return json.loads(body)["error"]["code"]


async def test_a_request_is_answered_and_the_connection_stays(gateway: Served) -> None:
    answer = await gateway.ask(GOOD)

    assert (answer.status, answer.open) == (200, True)
    assert json.loads(answer.body)["choices"][0]["message"]["content"] == "N"
    assert set(answer.headers) >= {"x-request-id", "openai-processing-ms", "content-length"}


async def test_a_stream_comes_in_chunks(gateway: Served) -> None:
    answer = await gateway.ask(STREAM)

    assert (answer.status, answer.open) == (200, True)
    assert answer.body.count(b"data: ") == 4
    assert answer.body.endswith(b"data: [DONE]\n\n")


async def test_requests_follow_each_other_on_one_connection(gateway: Served) -> None:
    reader, writer = await gateway.connect()
    answers: list[Answer] = []
    for request in (GOOD, STREAM, GOOD, b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n", STREAM):
        writer.write(request)
        answers.append(await read_answer(reader))
    writer.close()

    assert [(answer.status, answer.open) for answer in answers] == [(200, True)] * 5


async def test_a_request_cut_anywhere_is_the_same_request(gateway: Served) -> None:
    for at in range(1, len(GOOD), 23):
        answer = await gateway.ask(GOOD[:at], GOOD[at:], gap_seconds=0.001)
        assert answer.status == 200


async def test_a_body_in_chunks_is_taken(gateway: Served) -> None:
    body = chat("nonce=N")
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    head = post(b"", "/v1/chat/completions").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")

    assert (await gateway.ask(head + chunks)).status == 200


async def test_a_caller_that_waits_for_100_gets_it(gateway: Served) -> None:
    body = chat("nonce=N")
    head = post(body, "/v1/chat/completions", "Expect: 100-continue")[: -len(body)]
    reader, writer = await gateway.connect()
    writer.write(head)
    told = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 2)
    writer.write(body)
    answer = await read_answer(reader)
    writer.close()

    assert told.startswith(b"HTTP/1.1 100 ")
    assert answer.status == 200


async def test_a_refused_body_is_not_waited_for(gateway: Served) -> None:
    """A bad key is answered before the body has come."""
    head = GOOD.replace(BEARER.encode(), b"Bearer nobody")[:-10]

    answer = await gateway.ask(head)

    assert (answer.status, code(answer.body)) == (401, "invalid_api_key")


async def test_a_second_request_before_the_first_is_answered_ends_the_connection_after_it(
    gateway: Served,
) -> None:
    answer = await gateway.ask(GOOD + GOOD)

    assert (answer.status, answer.open) == (200, False)


async def test_one_source_has_so_many_connections(box: Box) -> None:
    async with served(box, connections_per_source_max=3) as gateway:
        held = [await gateway.connect() for _ in range(3)]
        await asyncio.sleep(0.05)
        refused = await gateway.ask(GOOD)
        held[0][1].transport.abort()
        await asyncio.sleep(0.05)
        served_again = await gateway.ask(GOOD)
        for _, writer in held:
            writer.transport.abort()

    assert (refused.status, code(refused.body), refused.open) == (429, "too_many_connections", False)
    assert served_again.status == 200


async def test_all_sources_together_have_so_many_connections(box: Box) -> None:
    """There is no room to tell those beyond it: they are closed as they come."""
    async with served(box, connections_max=3) as gateway:
        held = [await gateway.connect() for _ in range(3)]
        await asyncio.sleep(0.05)
        reader, writer = await gateway.connect()
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 2) == b""
        writer.transport.abort()
        held[0][1].transport.abort()
        await asyncio.sleep(0.05)
        served_again = await gateway.ask(GOOD)
        for _, writer in held:
            writer.transport.abort()

    assert served_again.status == 200


SLOW = {
    "nothing at all": (b"", 0),
    "half a head": (GOOD[:40], 408),
    "half a body": (GOOD[:-10], 408),
}


@pytest.mark.parametrize(("sent", "status"), SLOW.values(), ids=SLOW.keys())
async def test_who_sends_too_slowly_is_cut_off(gateway: Served, sent: bytes, status: int) -> None:
    reader, writer = await gateway.connect()
    writer.write(sent)
    told = await asyncio.wait_for(reader.read(), 8)
    writer.close()

    assert (int(told.split(b" ")[1]) if told else 0) == status
