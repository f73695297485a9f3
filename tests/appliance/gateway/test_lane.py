"""One exchange of the fast lane, on a line in the hands of a test."""

from __future__ import annotations

import asyncio

import pytest
from uvicorn.protocols.http.flow_control import FlowControl

from appliance.errors import BodyTooLarge, BodyTooSlow, ClientGone
from appliance.gateway.lane import UNWANTED_BYTES_MAX, LaneExchange
from tests.fakes.engine import Transport


class Line:
    """A connection that keeps what is written, and how often an answer left it free."""

    standing_head = b"date: today\r\n"

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.socket = Transport()
        self.transport: asyncio.Transport = self.socket
        self.flow = FlowControl(self.transport)
        self.freed: list[tuple[bool, bool]] = []

    def free(self, exchange: LaneExchange, *, keep_alive: bool, body_read: bool) -> None:  # noqa: ARG002  # the signature of Line
        self.freed.append((keep_alive, body_read))

    @property
    def written(self) -> bytes:
        return b"".join(self.socket.written)


@pytest.fixture
async def line() -> Line:
    return Line()


def exchange(line: Line, body_bytes_max: int = 10, **headers: str) -> LaneExchange:
    named = {name.encode(): value.encode() for name, value in headers.items()}
    return LaneExchange(line, "POST", named, "127.0.0.1", body_bytes_max, keep_alive=True)


HEAD = b"HTTP/1.1 200 OK\r\nx: y\r\n"


@pytest.mark.parametrize(
    "pieces", [[b"x" * 10], [b"x" * 4, b"y" * 6], [b"x"] * 10, []], ids=["one", "two", "many", "none"]
)
async def test_a_body_is_the_same_in_any_pieces(line: Line, pieces: list[bytes]) -> None:
    one = exchange(line)
    for piece in pieces:
        one.take(piece)
    one.take_end()

    assert await one.body() == b"".join(pieces)


async def test_a_body_may_come_while_it_is_awaited(line: Line) -> None:
    one = exchange(line)
    body = asyncio.create_task(one.body())
    await asyncio.sleep(0)
    one.take(b"ab")
    await asyncio.sleep(0)
    one.take(b"c")
    one.take_end()

    assert await body == b"abc"


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "not whole"])
@pytest.mark.parametrize("awaited", [True, False], ids=["awaited", "not awaited"])
async def test_a_body_that_is_too_large_is_refused(line: Line, *, awaited: bool, whole: bool) -> None:
    """Whether all of it is there by then or not."""
    one = exchange(line)
    body = asyncio.create_task(one.body())
    await asyncio.sleep(0 if awaited else -1)
    one.take(b"x" * 11)
    if whole:
        one.take_end()

    with pytest.raises(BodyTooLarge):
        await body


async def test_the_first_fault_of_a_body_is_told(line: Line) -> None:
    one = exchange(line)
    one.fail_body(BodyTooSlow())
    one.take(b"x" * 11)

    with pytest.raises(BodyTooSlow):
        await one.body()


async def test_a_caller_that_hangs_up_within_its_body_is_gone(line: Line) -> None:
    one = exchange(line)
    body = asyncio.create_task(one.body())
    await asyncio.sleep(0)
    one.lose()

    with pytest.raises(ClientGone):
        await body


async def test_so_much_is_taken_of_a_body_that_nobody_has_asked_for(line: Line) -> None:
    one = exchange(line, 10 * UNWANTED_BYTES_MAX)
    one.take(b"x" * UNWANTED_BYTES_MAX)
    before = line.socket.reading
    one.take(b"x")
    paused = not line.socket.reading
    body = asyncio.create_task(one.body())
    await asyncio.sleep(0)
    resumed = line.socket.reading
    one.take(b"x" * UNWANTED_BYTES_MAX)
    one.take_end()

    assert (before, paused, resumed, line.socket.reading) == (True, True, True, True)
    assert len(await body) == 2 * UNWANTED_BYTES_MAX + 1


async def test_a_caller_that_waits_for_100_is_told_once_its_body_is_asked_for(line: Line) -> None:
    one = exchange(line, expect="100-Continue")
    before = line.written
    body = asyncio.create_task(one.body())
    await asyncio.sleep(0)
    told = line.written
    one.take_end()
    await body

    assert (before, told, line.written) == (b"", b"HTTP/1.1 100 Continue\r\n\r\n", told)


async def test_an_answer_of_known_length_goes_out_with_its_head(line: Line) -> None:
    one = exchange(line)
    one.take_end()
    one.start(200, b"x: y\r\n", 3)
    before = line.written
    one.write(b"abc")
    one.end()

    assert before == b""
    assert line.socket.written == [HEAD + b"content-length: 3\r\ndate: today\r\n\r\nabc"]
    assert line.freed == [(True, True)]
    assert await one.over()


async def test_an_answer_without_a_length_comes_in_chunks(line: Line) -> None:
    one = exchange(line)
    one.take_end()
    one.start(200, b"x: y\r\n")
    one.write(b"abc")
    one.write(b"d" * 17)
    one.end()

    head, _, rest = line.written.partition(b"\r\n\r\n")
    assert head == HEAD + b"transfer-encoding: chunked\r\ndate: today"
    assert rest == b"3\r\nabc\r\n11\r\n" + b"d" * 17 + b"\r\n0\r\n\r\n"


async def test_an_empty_answer_in_chunks_has_its_head(line: Line) -> None:
    one = exchange(line)
    one.take_end()
    one.start(200, b"x: y\r\n")
    one.end()

    assert line.written.startswith(HEAD)
    assert line.written.endswith(b"\r\n\r\n0\r\n\r\n")


async def test_an_answer_before_the_body_is_whole_is_the_last(line: Line) -> None:
    one = exchange(line)
    one.take(b"x")
    one.start(401, b"", 1)
    one.write(b"x")
    one.end()

    assert b"\r\nconnection: close\r\n" in line.written
    assert line.freed == [(False, False)]


async def test_an_answer_is_out_when_a_slow_reader_has_taken_it(line: Line) -> None:
    one = exchange(line)
    paces: list[str] = []
    one.pace(lambda: paces.append("full"), lambda: paces.append("drained"))
    one.take_end()
    one.start(200, b"")
    one.write(b"a")
    one.fill()
    one.drain()
    one.fill()
    one.end()
    over = asyncio.create_task(one.over())
    await asyncio.sleep(0)
    before = over.done(), line.freed.copy()
    one.drain()

    assert await over
    assert (before, line.freed) == ((False, []), [(True, True)])
    assert paces == ["full", "drained", "full"]


async def test_nothing_is_written_to_a_caller_that_has_gone(line: Line) -> None:
    one = exchange(line)
    one.take_end()
    gone: list[str] = []
    one.when_gone(lambda: gone.append("first"))
    one.lose()
    one.when_gone(lambda: gone.append("second"))
    one.start(200, b"", 1)
    one.write(b"x")
    one.end()

    assert (line.written, line.freed) == (b"", [])
    assert gone == ["first", "second"]
    assert not await one.over()


async def test_who_hangs_up_while_its_answer_goes_out_has_not_had_it(line: Line) -> None:
    one = exchange(line)
    one.take_end()
    one.start(200, b"", 1)
    one.write(b"x")
    one.fill()
    one.end()
    over = asyncio.create_task(one.over())
    await asyncio.sleep(0)
    one.lose()

    assert not await over
