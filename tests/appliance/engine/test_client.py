from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine import client
from appliance.engine.client import Connection, EngineClient, EnginePool
from appliance.errors import NotReady
from tests.fakes import engine as fake
from tests.fakes.engine import Exchange, ScriptedEngine, Transport, chunk, whole


@dataclass
class Heard:
    """A sink that keeps what it hears."""

    status: int = 0
    data: list[bytes] = field(default_factory=list[bytes])
    ends: list[str] = field(default_factory=list[str])
    over: asyncio.Event = field(default_factory=asyncio.Event)
    when_data: Callable[[], None] | None = None

    def on_head(self, status: int) -> None:
        self.status = status

    def on_data(self, data: bytes) -> None:
        self.data.append(data)
        if self.when_data is not None:
            self.when_data()

    def on_end(self) -> None:
        self.ends.append("end")
        self.over.set()

    def on_lost(self) -> None:
        self.ends.append("lost")
        self.over.set()

    @property
    def heard(self) -> tuple[int, bytes, list[str]]:
        return self.status, b"".join(self.data), self.ends


def arrive(pieces: list[bytes]) -> tuple[Heard, Transport]:
    """What the sink hears, and what becomes of the connection, when an answer arrives in these pieces."""

    async def run() -> tuple[Heard, Transport]:
        heard, transport, connection = Heard(), Transport(), Connection(EnginePool("/nowhere"))
        connection.connection_made(transport)
        connection.send(b"request", heard)
        for piece in pieces:
            if not transport.is_closing():
                connection.data_received(piece)
        if transport.is_closing():
            connection.connection_lost(None)
        return heard, transport

    return asyncio.run(run())


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % len(data) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(edges)]


CHUNKED = fake.STREAM_HEAD + chunk(b"one") + chunk(b"two\r\n0\r\n\r\n") + chunk(b"x" * 300) + fake.END
COUNTED = whole(b"not\r\n\r\nchunked", 400)
BODIES = {"chunked": (200, b"onetwo\r\n0\r\n\r\n" + b"x" * 300), "counted": (400, b"not\r\n\r\nchunked")}


@pytest.mark.parametrize(
    ("answer", "heard"),
    [(CHUNKED, BODIES["chunked"]), (COUNTED, BODIES["counted"])],
    ids=["chunked", "counted"],
)
def test_an_answer_is_the_same_cut_at_any_byte(answer: bytes, heard: tuple[int, bytes]) -> None:
    outcomes = [arrive([answer[:at], answer[at:]]) for at in range(1, len(answer))]

    assert [sink.heard for sink, _ in outcomes] == [(*heard, ["end"])] * (len(answer) - 1)
    assert not any(transport.is_closing() for _, transport in outcomes)


@given(
    st.lists(st.binary(min_size=1, max_size=400), max_size=8), st.lists(st.integers(0, 10_000), max_size=30)
)
@settings(max_examples=150, deadline=None)
def test_chunks_come_out_as_they_went_in_however_they_are_cut(chunks: list[bytes], places: list[int]) -> None:
    heard, transport = arrive(cut(fake.STREAM_HEAD + b"".join(map(chunk, chunks)) + fake.END, places))

    assert heard.data == chunks
    assert heard.ends == ["end"]
    assert not transport.is_closing()


def test_an_answer_byte_by_byte_is_the_same() -> None:
    heard, _ = arrive([CHUNKED[at : at + 1] for at in range(len(CHUNKED))])

    assert heard.heard == (*BODIES["chunked"], ["end"])


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
@settings(max_examples=150, deadline=None)
def test_no_bytes_whatever_raise_or_leave_the_sink_waiting_on_an_open_connection(
    noise: bytes, places: list[int]
) -> None:
    heard, transport = arrive(cut(b"HTTP/1.1 " + noise, places))

    assert heard.ends == ["lost"] * transport.is_closing()


MALFORMED = {
    "another protocol": b"SSH-2.0-x\r\n\r\n",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\ncontent-length: 0\r\n\r\n",
    "a status with a sign": b"HTTP/1.1 +20 OK\r\ncontent-length: 0\r\n\r\n",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\ncontent-length: 0\r\n\r\n",
    "neither length nor chunks": b"HTTP/1.1 200 OK\r\n\r\n",
    "both length and chunks": b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n"
    + chunk(b"abc")
    + fake.END,
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
    "a negative length": b"HTTP/1.1 200 OK\r\ncontent-length: -3\r\n\r\n",
    "a length in words": b"HTTP/1.1 200 OK\r\ncontent-length: 1_0\r\n\r\n0123456789",
    "an unknown coding": b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a head without end": b"HTTP/1.1 200 OK\r\nx: " + b"x" * client.HEAD_BYTES_MAX,
    "more body than announced": b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcd",
    "a chunk size that is no number": fake.STREAM_HEAD + b"xyz\r\nabc\r\n",
    "an empty chunk size": fake.STREAM_HEAD + b"\r\nabc\r\n",
    "a negative chunk size": fake.STREAM_HEAD + b"-1\r\nabc\r\n",
    "a chunk size without end": fake.STREAM_HEAD + b"1" * 40,
    "a chunk too large": fake.STREAM_HEAD + b"fffffffff\r\nabc",
    "a chunk longer than its size": fake.STREAM_HEAD + b"3\r\nabcd\r\n0\r\n\r\n",
    "trailers": fake.STREAM_HEAD + b"0\r\nx: y\r\n\r\n",
}


@pytest.mark.parametrize("answer", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_no_proper_answer_ends_as_lost(answer: bytes) -> None:
    heard, transport = arrive([answer])

    assert heard.ends == ["lost"]
    assert transport.aborted


def test_a_chunk_size_may_carry_an_extension() -> None:
    heard, _ = arrive([fake.STREAM_HEAD + b"3;x=y\r\nabc\r\n0\r\n\r\n"])

    assert heard.heard == (200, b"abc", ["end"])


async def test_bytes_on_an_idle_connection_end_it() -> None:
    """A second answer that nobody asked for must not become the answer of the next caller."""
    pool, transport, heard = EnginePool("/nowhere"), Transport(), Heard()
    connection = Connection(pool)
    connection.connection_made(transport)
    connection.send(b"request", heard)
    connection.data_received(CHUNKED)

    connection.data_received(whole(b"somebody else's"))

    assert transport.aborted
    assert heard.heard == (*BODIES["chunked"], ["end"])


def test_bytes_behind_an_answer_end_its_connection() -> None:
    heard, transport = arrive([CHUNKED + b"HTTP/1.1 200 OK\r\n"])

    assert heard.ends == ["end"]
    assert transport.is_closing()


def test_an_answer_that_says_close_is_whole_and_its_connection_closed() -> None:
    heard, transport = arrive([b"HTTP/1.1 200 OK\r\nConnection: close\r\ncontent-length: 2\r\n\r\nok"])

    assert heard.heard == (200, b"ok", ["end"])
    assert transport.closed


async def test_nothing_reaches_the_sink_after_a_cut() -> None:
    transport, heard = Transport(), Heard()
    connection = Connection(EnginePool("/nowhere"))
    connection.connection_made(transport)
    connection.send(b"request", heard)
    heard.when_data = connection.cut

    connection.data_received(CHUNKED)
    connection.connection_lost(None)

    assert (heard.data, heard.ends) == ([b"one"], [])
    assert transport.aborted


async def test_a_connection_cut_in_its_last_piece_is_not_kept() -> None:
    transport, heard = Transport(), Heard()
    connection = Connection(EnginePool("/nowhere"))
    connection.connection_made(transport)
    connection.send(b"request", heard)
    heard.when_data = connection.cut

    connection.data_received(COUNTED)

    assert heard.ends == []
    assert transport.aborted


async def test_a_connection_paused_at_its_end_reads_again_for_the_next_request() -> None:
    """Or the next answer would never be read, and its caller wait for ever."""
    transport, heard = Transport(), Heard()
    connection = Connection(EnginePool("/nowhere"))
    connection.connection_made(transport)
    connection.send(b"request", heard)
    heard.when_data = connection.pause

    connection.data_received(CHUNKED)

    assert heard.ends == ["end"]
    assert transport.reading


# Over a real socket


@pytest.fixture
def path(short_folder: Path) -> Path:
    return short_folder / "sock"


@pytest.fixture
def engines() -> EngineClient:
    return EngineClient()


async def ask(engines: EngineClient, path: Path, body: bytes = b"{}") -> Heard:
    heard = Heard()
    await engines.pool(str(path)).open_stream("/v1/x", body, heard)
    await asyncio.wait_for(heard.over.wait(), 5)
    return heard


async def hello(exchange: Exchange) -> None:
    await exchange.send(whole(b"hello"))


async def test_the_engine_gets_path_and_body(engines: EngineClient, path: Path) -> None:
    async with ScriptedEngine(path, hello) as engine:
        await ask(engines, path, b'{"a":1}')

    assert (engine.exchanges[0].path, engine.exchanges[0].body) == ("/v1/x", b'{"a":1}')
    assert b"content-type: application/json" in engine.exchanges[0].head


async def test_a_connection_is_used_again_after_a_whole_answer(engines: EngineClient, path: Path) -> None:
    async with ScriptedEngine(path, hello) as engine:
        answers = [(await ask(engines, path)).heard for _ in range(3)]

    assert answers == [(200, b"hello", ["end"])] * 3
    assert engine.connections == 1


async def test_a_connection_cut_mid_answer_is_never_used_again(engines: EngineClient, path: Path) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.send(fake.STREAM_HEAD, chunk(b"first"))
        await exchange.gone()
        exchange.die()

    async with ScriptedEngine(path, endless) as engine:
        heard = Heard()
        heard.when_data = heard.over.set
        connection = await engines.pool(str(path)).open_stream("/v1/x", b"{}", heard)
        await asyncio.wait_for(heard.over.wait(), 5)
        connection.cut()
        engine.script = hello
        second = await ask(engines, path)

    assert heard.ends == []
    assert second.heard == (200, b"hello", ["end"])
    assert engine.connections == 2


async def test_a_cut_hangs_up_at_once(engines: EngineClient, path: Path) -> None:
    told = asyncio.Event()

    async def endless(exchange: Exchange) -> None:
        await exchange.send(fake.STREAM_HEAD, chunk(b"first"))
        await exchange.gone()
        told.set()

    async with ScriptedEngine(path, endless):
        heard = Heard()
        heard.when_data = heard.over.set
        connection = await engines.pool(str(path)).open_stream("/v1/x", b"{}", heard)
        await asyncio.wait_for(heard.over.wait(), 5)
        connection.cut()

        await asyncio.wait_for(told.wait(), 1)


async def dies_at_once(exchange: Exchange) -> None:
    exchange.die()


async def dies_in_its_answer(exchange: Exchange) -> None:
    await exchange.send(fake.STREAM_HEAD, chunk(b"first"))
    exchange.writer.close()


@pytest.mark.parametrize(
    ("script", "heard"),
    [(dies_at_once, (0, b"", ["lost"])), (dies_in_its_answer, (200, b"first", ["lost"]))],
    ids=["before its head", "in its answer"],
)
async def test_an_engine_that_dies_is_lost_once(
    engines: EngineClient, path: Path, script: fake.Script, heard: tuple[int, bytes, list[str]]
) -> None:
    async with ScriptedEngine(path, script):
        assert (await ask(engines, path)).heard == heard


async def test_a_connection_that_the_engine_closed_is_not_used_again(
    engines: EngineClient, path: Path
) -> None:
    async def hello_and_bye(exchange: Exchange) -> None:
        await exchange.send(whole(b"hello"))
        exchange.writer.close()

    async with ScriptedEngine(path, hello_and_bye) as engine:
        first = await ask(engines, path)
        await asyncio.sleep(0.05)
        kept = engines._pools[str(path)]._idle[:]
        second = await ask(engines, path)

    assert kept == []
    assert first.heard == second.heard == (200, b"hello", ["end"])
    assert engine.connections == 2


async def test_a_connection_idle_for_too_long_is_not_used_again(engines: EngineClient, path: Path) -> None:
    async with ScriptedEngine(path, hello) as engine:
        heard = Heard()
        connection = await engines.pool(str(path)).open_stream("/v1/x", b"{}", heard)
        await asyncio.wait_for(heard.over.wait(), 5)
        connection.idle_since -= client.IDLE_SECONDS_MAX + 1
        second = await ask(engines, path)

    assert second.heard == (200, b"hello", ["end"])
    assert engine.connections == 2


async def test_an_engine_that_is_gone_is_closed_after_the_answer_it_gives(
    engines: EngineClient, path: Path
) -> None:
    closed = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await asyncio.sleep(0.05)
        await exchange.send(whole(b"hello"))
        await exchange.gone()
        closed.set()

    async with ScriptedEngine(path, slow):
        heard = Heard()
        await engines.pool(str(path)).open_stream("/v1/x", b"{}", heard)
        engines.keep_only(set())
        await asyncio.wait_for(heard.over.wait(), 5)
        await asyncio.wait_for(closed.wait(), 1)

    assert heard.heard == (200, b"hello", ["end"])


async def test_idle_connections_of_an_engine_that_is_gone_are_closed(
    engines: EngineClient, path: Path
) -> None:
    closed = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await hello(exchange)
        await exchange.gone()
        closed.set()

    async with ScriptedEngine(path, script):
        await ask(engines, path)
        engines.close()

        await asyncio.wait_for(closed.wait(), 1)


async def test_no_socket_is_not_ready(engines: EngineClient, path: Path) -> None:
    with pytest.raises(NotReady):
        await engines.pool(str(path)).open_stream("/v1/x", b"{}", Heard())


async def test_a_paused_answer_stays_in_the_socket_and_comes_whole(engines: EngineClient, path: Path) -> None:
    async def much(exchange: Exchange) -> None:
        await exchange.send(
            fake.STREAM_HEAD, *[chunk(b"%06d" % n + b"x" * 10_000) for n in range(500)], fake.END
        )

    async with ScriptedEngine(path, much):
        heard = Heard()
        connection = await engines.pool(str(path)).open_stream("/v1/x", b"{}", heard)
        heard.when_data = connection.pause
        await asyncio.sleep(0.2)
        paused_at = len(heard.data)
        heard.when_data = None
        connection.resume()
        await asyncio.wait_for(heard.over.wait(), 5)

    assert 0 < paused_at < 100
    assert [int(data[:6]) for data in heard.data] == list(range(500))


# Its health


async def test_an_engine_that_says_so_is_healthy(engines: EngineClient, path: Path) -> None:
    async with ScriptedEngine(path, hello):
        assert await engines.healthy(str(path), 1)


async def test_no_engine_is_not_healthy(engines: EngineClient, path: Path) -> None:
    assert not await engines.healthy(str(path), 1)


UNWELL = {
    "says no": b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
    "says nothing": b"",
    "speaks something else": b"SSH-2.0-x\r\n\r\n",
}


@pytest.mark.parametrize("words", UNWELL.values(), ids=UNWELL.keys())
async def test_an_engine_that_says_anything_else_is_not_healthy(
    engines: EngineClient, path: Path, words: bytes
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(words)
        await writer.drain()
        await asyncio.sleep(0.2)
        writer.close()

    async with await asyncio.start_unix_server(answer, path):
        healthy = await engines.healthy(str(path), 0.1)
        await asyncio.sleep(0.2)

    assert not healthy
