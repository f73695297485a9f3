from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance import apikey
from appliance.domain import EngineState
from appliance.store.registry import Registry
from tests.fakes import engine as fake
from tests.fakes.engine import Exchange, ScriptedEngine
from tests.fakes.gateway import FAR_MS, GatewayProcess, chat
from tests.processes import soon

CHAT = "/v1/chat/completions"


@pytest.fixture
async def application(gateway: GatewayProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with gateway.application() as application:
        yield application


async def exit_code(gateway: GatewayProcess, seconds: float = 10) -> int | None:
    await soon(lambda: gateway.children[-1].poll() is not None, seconds)
    return gateway.children[-1].poll()


def texts(body: str) -> list[str]:
    """The words of a stream's events."""
    return re.findall(r'"content":"([^"]*)"', body)


async def test_refusals_have_openais_shape(gateway: GatewayProcess, application: httpx.AsyncClient) -> None:
    gateway.start(body_bytes_max=2000, body_seconds_max=0.3)
    asked: list[tuple[int, str, dict[str, Any]]] = [
        (401, "invalid_api_key", {"url": CHAT, "headers": {"authorization": "Bearer x"}}),
        (404, "not_found", {"url": "/v1/nothing"}),
        (405, "method_not_allowed", {"url": CHAT, "method": "GET"}),
        (413, "request_too_large", {"url": CHAT, "json": chat("x" * 2000)}),
        (415, "unsupported_media_type", {"url": CHAT, "content": b"{}"}),
        (
            400,
            "invalid_json",
            {"url": CHAT, "content": b"{", "headers": {"content-type": "application/json"}},
        ),
        (400, "unknown_field", {"url": CHAT, "json": chat("x", cache_salts="x")}),
        (404, "model_not_found", {"url": CHAT, "json": chat("x", model="x")}),
        (503, "model_not_ready", {"url": CHAT, "json": chat("x")}),
        (
            408,
            "request_timeout",
            {"url": CHAT, "content": never(), "headers": {"content-type": "application/json"}},
        ),
    ]

    answers = [await application.request(request.pop("method", "POST"), **request) for _, _, request in asked]

    assert [(answer.status_code, answer.json()["error"]["code"]) for answer in answers] == [
        one[:2] for one in asked
    ]
    assert {frozenset(answer.json()["error"]) for answer in answers} == {
        frozenset({"message", "type", "param", "code"})
    }
    assert not any("server" in answer.headers for answer in answers)


async def never() -> AsyncIterator[bytes]:
    yield b"{"
    await asyncio.sleep(2)


async def test_bytes_that_are_no_http_are_refused_quietly(
    gateway: GatewayProcess, application: httpx.AsyncClient
) -> None:
    gateway.start()
    for noise in (
        b"\x16\x03\x01\x00\xff",
        b"GET / HTTP/9\r\n\r\n",
        b"POST " + CHAT.encode() + b" HTTP/1.1\r\nx",
    ):
        reader, writer = await asyncio.open_unix_connection(gateway.socket)
        writer.write(noise)
        writer.write_eof()
        await asyncio.wait_for(reader.read(), 5)
        writer.close()
        await writer.wait_closed()

    assert (await application.get("/healthz")).status_code == 200


async def test_it_serves_on_its_port_and_tells_its_supervisor(
    gateway: GatewayProcess, short_folder: Path
) -> None:
    with socket.socket() as probe, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        supervisor.bind(str(short_folder / "notify"))
        supervisor.setblocking(False)  # noqa: FBT003  # socket's signature
        probe.close()
        os.environ["NOTIFY_SOCKET"] = str(short_folder / "notify")
        try:
            gateway.start(port=port)
        finally:
            del os.environ["NOTIFY_SOCKET"]
        async with gateway.application(at=f"http://127.0.0.1:{port}") as application:
            healthy, metrics = await application.get("/healthz"), await application.get("/metrics")
        gateway.children[-1].send_signal(signal.SIGTERM)
        code = await exit_code(gateway)
        told = [supervisor.recv(100), supervisor.recv(100)]

    assert (healthy.status_code, metrics.status_code, code) == (200, 404, 0)
    assert told == [b"READY=1", b"STOPPING=1"]


async def test_a_taken_port_is_said_in_one_line(gateway: GatewayProcess) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        gateway.spawn(port=other.getsockname()[1])
        code = await exit_code(gateway)

    said = gateway.log
    for path in gateway.folder.glob("log.*"):
        path.write_text("")  # a message to its operator is no event
    assert code == 75
    assert re.fullmatch(r"inferfly: 127\.0\.0\.1 port \d+ can't be used: .*INFERFLY_PORT\.\n", said)


async def test_a_second_gateway_is_refused_and_the_first_serves_on(
    gateway: GatewayProcess, application: httpx.AsyncClient
) -> None:
    gateway.start()
    gateway.spawn()
    code = await exit_code(gateway)

    said = (gateway.folder / "log.1").read_text()
    (gateway.folder / "log.1").write_text("")
    assert code == 75
    assert said.startswith("inferfly: Another gateway runs on this state folder.")
    assert (await application.get("/healthz")).status_code == 200


async def test_keys_count_from_within_a_second_until_a_second_after(gateway: GatewayProcess) -> None:
    gateway.start()
    late = apikey.new()

    async with gateway.application(late.plaintext) as application:
        with closing(Registry(gateway.home / "registry.db")) as registry:
            registry.add_key(late, account="default", name="late", expires_at_ms=FAR_MS)
            accepted = await until(application, 200)
            registry.revoke_key(late.key_id)
            refused = await until(application, 401)

    assert max(accepted, refused) < 1


async def until(application: httpx.AsyncClient, status: int) -> float:
    """Seconds until models are listed, or no longer."""
    began = time.monotonic()
    while (await application.get("/v1/models")).status_code != status:
        await asyncio.sleep(0.02)
        assert time.monotonic() - began < 5
    return time.monotonic() - began


async def test_an_engine_that_is_no_longer_ready_gets_no_more_requests(
    gateway: GatewayProcess, application: httpx.AsyncClient
) -> None:
    gateway.start()
    async with ScriptedEngine(gateway.engine_socket) as engine:
        before = await application.post(CHAT, json=chat("nonce=N"))
        gateway.engine_is(EngineState.DRAINING)
        await asyncio.sleep(0.5)
        after = await application.post(CHAT, json=chat("nonce=N"))

    assert (before.status_code, after.status_code, len(engine.exchanges)) == (200, 503, 1)


async def test_a_registry_that_cant_be_read_does_not_end_what_is_served(
    gateway: GatewayProcess, application: httpx.AsyncClient
) -> None:
    gateway.start()
    with closing(sqlite3.connect(gateway.home / "registry.db")) as db:
        (definition,) = db.execute("SELECT sql FROM sqlite_schema WHERE name = 'model'").fetchone()
        db.execute("ALTER TABLE model RENAME TO gone")
        db.commit()
    broken = await soon(lambda: "registry_unreadable" in gateway.log_events)
    answer = await application.get("/v1/models")

    assert "CREATE TABLE" in definition
    assert broken
    assert [model["id"] for model in answer.json()["data"]] == ["m"]
    assert gateway.log_events.count("registry_unreadable") == 1


async def test_sigterm_lets_a_stream_end_and_exits_cleanly(
    gateway: GatewayProcess, application: httpx.AsyncClient
) -> None:
    gateway.start()
    async with ScriptedEngine(gateway.engine_socket):
        async with application.stream(
            "POST", CHAT, json=chat("nonce=N tokens=8 gap=0.1", stream=True)
        ) as answer:
            lines = answer.aiter_lines()
            await anext(lines)
            gateway.children[-1].send_signal(signal.SIGTERM)
            rest = [line async for line in lines]
        code = await exit_code(gateway)

    (row,) = gateway.rows()
    assert texts("".join(rest)) == [f"N.{n} " for n in range(2, 9)]
    assert rest[-2] == "data: [DONE]"
    assert (code, row.http_status, row.token_counts, row.completion_tokens) == (0, 200, "exact", 8)
    assert gateway.log_events[-1] == "stopped"


async def test_a_request_that_is_still_arriving_long_after_sigterm_is_refused(
    gateway: GatewayProcess,
) -> None:
    gateway.start()
    reader, writer = await asyncio.open_unix_connection(gateway.socket)
    writer.write(
        f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key.plaintext}\r\n".encode()
    )
    body = json.dumps(chat("x")).encode()
    writer.write(b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body[:5])
    await asyncio.sleep(0.2)
    gateway.children[-1].send_signal(signal.SIGTERM)
    await asyncio.sleep(1.4)
    writer.write(body[5:])
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    code = await exit_code(gateway)

    assert b'"code":"shutting_down"' in answer
    assert (code, gateway.rows()) == (0, [])


async def test_at_the_deadline_a_stream_is_cut_with_an_error_event(
    gateway: GatewayProcess, application: httpx.AsyncClient
) -> None:
    gateway.start(drain_seconds_max=1)
    async with ScriptedEngine(gateway.engine_socket):
        async with application.stream(
            "POST", CHAT, json=chat("nonce=N tokens=3 then=hang", stream=True)
        ) as answer:
            lines = answer.aiter_lines()
            await anext(lines)
            gateway.children[-1].send_signal(signal.SIGTERM)
            rest = [line async for line in lines if line]
        code = await exit_code(gateway)

    (row,) = gateway.rows()
    assert json.loads(rest[-1].removeprefix("data: "))["error"]["code"] == "shutting_down"
    assert (code, row.http_status, row.token_counts, row.completion_tokens) == (0, 503, "partial", 3)


async def test_a_kill_under_streams_leaves_one_row_each_with_the_tokens_so_far(
    gateway: GatewayProcess,
) -> None:
    gateway.start()
    received: dict[str, int] = {}

    async def stream(application: httpx.AsyncClient) -> None:
        request = chat("nonce=N tokens=500 gap=0.01", stream=True)
        async with application.stream("POST", CHAT, json=request) as answer:
            request_id = answer.headers["x-request-id"]
            async for line in answer.aiter_lines():
                received[request_id] = received.get(request_id, 0) + len(texts(line))

    async with ScriptedEngine(gateway.engine_socket), gateway.application() as application:
        streams = [asyncio.create_task(stream(application)) for _ in range(32)]
        assert await soon(lambda: len(received) == 32 and min(received.values()) > 5, 15)
        gateway.children[-1].send_signal(signal.SIGKILL)
        lost = await asyncio.gather(*streams, return_exceptions=True)

    gateway.start()
    rows = await asyncio.to_thread(gateway.rows_soon, 32)
    assert all(isinstance(error, httpx.TransportError) for error in lost)
    assert {row.request_id for row in rows} == set(received)
    assert {(row.token_counts, row.http_status, row.prompt_tokens) for row in rows} == {
        ("interrupted", 500, 7)
    }
    assert all(0 <= row.completion_tokens - received[row.request_id] < 100 for row in rows)
    assert all(row.ts_end_ms >= row.ts_start_ms for row in rows)
    assert "requests_interrupted" in gateway.log_events


async def test_a_slow_reader_holds_back_the_engine_and_not_memory(gateway: GatewayProcess) -> None:
    child = gateway.start()
    sent: list[int] = []

    async def much(exchange: Exchange) -> None:
        await exchange.send(fake.STREAM_HEAD)
        for number in range(1, 1001):
            await exchange.send(fake.chunk(fake.event(f"{number:05d}" + "x" * 20_000, number)))
            sent.append(number)
        await exchange.send(fake.chunk(fake.DONE), fake.END)

    def resident() -> int:
        pages = int(Path(f"/proc/{child.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    async with ScriptedEngine(gateway.engine_socket, much), gateway.application() as application:
        before = resident()
        async with application.stream("POST", CHAT, json=chat("x", stream=True)) as answer:
            await asyncio.sleep(1)
            held, grown = len(sent), resident() - before
            body = "".join([line[:300] async for line in answer.aiter_lines()])

    assert held < 200
    assert grown < 20_000_000
    assert [int(text) for text in re.findall(r'"content":"(\d{5})', body)] == list(range(1, 1001))
