"""The client believes nothing: whatever happens to a stream on its way is an error."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from benchmarks import launch, load, upstream
from benchmarks.plan import Plan, Result

TOKENS = 8
STREAM_END = b"0\r\n\r\n"
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":1,"total_tokens":2,"completion_tokens":1}}\n\n'

Tamper = Callable[[list[bytes]], list[bytes]]


def nothing(chunks: list[bytes]) -> list[bytes]:
    return chunks


def lose_one(chunks: list[bytes]) -> list[bytes]:
    return chunks[:4] + chunks[5:]


def lose_the_last(chunks: list[bytes]) -> list[bytes]:
    return chunks[:-3] + chunks[-2:]


def swap_two(chunks: list[bytes]) -> list[bytes]:
    return [*chunks[:4], chunks[5], chunks[4], *chunks[6:]]


def double_one(chunks: list[bytes]) -> list[bytes]:
    return [*chunks[:5], *chunks[4:]]


def lose_done(chunks: list[bytes]) -> list[bytes]:
    return [*chunks[:-2], chunks[-1]]


def go_on_after_done(chunks: list[bytes]) -> list[bytes]:
    return [*chunks[:-1], upstream.http_chunk(b"data: {}\n\n"), chunks[-1]]


def tell_usage_unasked(chunks: list[bytes]) -> list[bytes]:
    return [*chunks[:-2], upstream.http_chunk(USAGE), *chunks[-2:]]


def break_off(chunks: list[bytes]) -> list[bytes]:
    return chunks[:5]


def break_the_framing(chunks: list[bytes]) -> list[bytes]:
    return [*chunks[:5], b"zz\r\n", *chunks[5:]]


@contextlib.asynccontextmanager
async def engine(folder: Path) -> AsyncIterator[Path]:
    """The scripted engine, on a socket of its own."""
    socket = folder / "engine"
    serving = asyncio.create_task(upstream.serve(socket, None, "scripted", 0.001))
    while not socket.exists():
        await asyncio.sleep(0.01)
    yield socket
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving


@contextlib.asynccontextmanager
async def gateway(folder: Path, tamper: Tamper) -> AsyncIterator[Path]:
    """Stands between client and engine, and does to a stream's chunks what `tamper` says."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_engine, to_engine = await asyncio.open_unix_connection(folder / "engine")
        to_engine.write(await reader.read(65536))
        head = await from_engine.readuntil(b"\r\n\r\n")
        chunks = [await from_engine.readuntil(b"\n\n\r\n") for _ in range(TOKENS + 2)]
        chunks.append(await from_engine.readexactly(len(STREAM_END)))
        writer.write(head + b"".join(tamper(chunks)))
        to_engine.close()
        writer.close()

    socket = folder / "gateway"
    async with await asyncio.start_unix_server(pass_on, socket):
        yield socket


async def stream_through(folder: Path, tamper: Tamper) -> Result:
    async with engine(folder), gateway(folder, tamper) as socket:
        return await load.measure(
            Plan(socket=str(socket), requests=1, stream=True, tokens=TOKENS, timeout_seconds=5)
        )


async def test_whole_stream_is_counted(tmp_path: Path) -> None:
    result = await stream_through(tmp_path, nothing)

    assert (result.errors, result.answers, result.events) == (0, 1, TOKENS)


@pytest.mark.parametrize(
    ("tamper", "fault"),
    [
        (lose_one, "event 5 came where 4 was due"),
        (lose_the_last, "7 of 8 events"),
        (swap_two, "event 5 came where 4 was due"),
        (double_one, "event 4 came where 5 was due"),
        (lose_done, "[DONE] last: False"),
        (go_on_after_done, "events after [DONE]"),
        (tell_usage_unasked, "usage told 1 times in place of 0"),
        (break_off, "connection lost after 4 events"),
        (break_the_framing, "not HTTP"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
async def test_tampered_stream_is_an_error(tmp_path: Path, tamper: Tamper, fault: str) -> None:
    result = await stream_through(tmp_path, tamper)

    assert (result.errors, result.answers) == (1, 0)
    assert fault in result.first_errors[0]


async def test_usage_is_told_once_when_asked_for(tmp_path: Path) -> None:
    async with engine(tmp_path) as socket:
        result = await load.measure(
            Plan(socket=str(socket), requests=4, stream=True, tokens=TOKENS, usage=True)
        )

    assert (result.errors, result.answers) == (0, 4)


async def test_whole_answer_proves_that_the_prompt_arrived_whole(tmp_path: Path) -> None:
    async with engine(tmp_path) as socket:
        result = await load.measure(Plan(socket=str(socket), connections=4, requests=20, prompt_bytes=50_000))

    assert (result.errors, result.answers) == (0, 20)


async def test_wrong_status_is_an_error(tmp_path: Path) -> None:
    async with engine(tmp_path) as socket:
        result = await load.measure(Plan(socket=str(socket), requests=1, status=401))

    assert (result.errors, result.answers) == (1, 0)


@contextlib.asynccontextmanager
async def tls_gateway(folder: Path) -> AsyncIterator[tuple[int, Path]]:
    """Stands between client and engine, and ends TLS. Gives its port and its certificate."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.transport.abort()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_engine, to_engine = await asyncio.open_unix_connection(folder / "engine")
        async with asyncio.TaskGroup() as pumps:
            passing.extend(
                pumps.create_task(pump(*ends)) for ends in ((reader, to_engine), (from_engine, writer))
            )

    passing: list[asyncio.Task[None]] = []
    certificate, key = launch.make_certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with await asyncio.start_server(pass_on, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1], certificate
        await asyncio.wait_for(asyncio.gather(*passing), 5)


async def test_client_speaks_tls(tmp_path: Path) -> None:
    async with engine(tmp_path), tls_gateway(tmp_path) as (port, certificate):
        result = await load.measure(
            Plan(port=port, certificate=str(certificate), requests=4, stream=True, tokens=TOKENS)
        )

    assert (result.errors, result.answers, result.events) == (0, 4, 4 * TOKENS)


async def test_client_takes_no_other_certificate(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other, _ = launch.make_certificate(tmp_path / "other")

    async with engine(tmp_path), tls_gateway(tmp_path) as (port, _):
        with pytest.raises(ssl.SSLCertVerificationError):
            await load.measure(Plan(port=port, certificate=str(other), requests=1))


async def test_times_of_some_events_are_enough(tmp_path: Path) -> None:
    """A run of minutes has too many to keep them all."""
    async with engine(tmp_path) as socket:
        run = load.Run(Plan(socket=str(socket), requests=1, stream=True, tokens=TOKENS, timed_each=4))
        run.ends_ns = load.now_ns() + 5_000_000_000
        connection = await load.connect(run)
        connection.ask()
        await run.finished
        connection.transport.abort()
        await asyncio.sleep(0)

    assert (run.events, len(run.transit)) == (TOKENS, TOKENS // 4)
