"""TLS on the gateway's own port: a certificate that changes under a stream, and files that can't be used."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import httpx
import pytest

from tests.fakes import certificate
from tests.fakes.certificate import Pair
from tests.fakes.engine import ScriptedEngine
from tests.fakes.gateway import GatewayProcess, chat

CHAT = "/v1/chat/completions"


@pytest.fixture
def pair(short_folder: Path) -> Pair:
    return certificate.make(short_folder)


def application(gateway: GatewayProcess, port: int, trusted: Path) -> httpx.AsyncClient:
    """It trusts one certificate only."""
    context = ssl.create_default_context(cafile=trusted)
    return httpx.AsyncClient(
        base_url=f"https://127.0.0.1:{port}",
        verify=context,
        headers={"authorization": f"Bearer {gateway.key.plaintext}"},
        timeout=10,
    )


async def test_a_certificate_is_renewed_while_a_stream_runs(
    gateway: GatewayProcess, pair: Pair, tmp_path: Path
) -> None:
    old, new = tmp_path / "old.crt", certificate.make(tmp_path, "b")
    old.write_bytes(pair.certificate.read_bytes())
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        gateway.start(listening, tls_certificate=pair.certificate, tls_key=pair.key)
        async with (
            ScriptedEngine(gateway.engine_socket),
            application(gateway, port, old) as before,
            application(gateway, port, new.certificate) as after,
        ):
            async with before.stream(
                "POST", CHAT, json=chat("nonce=N tokens=40 gap=0.05", stream=True)
            ) as stream:
                lines = stream.aiter_lines()
                await anext(lines)
                pair.key.write_bytes(new.key.read_bytes())
                pair.certificate.write_bytes(new.certificate.read_bytes())
                renewed = await becomes_known(gateway)
                answer = await after.post(CHAT, json=chat("nonce=N"))
                rest = [line async for line in lines if line]
            with pytest.raises(httpx.ConnectError):
                await application(gateway, port, old).get("/healthz")

    assert renewed
    assert (answer.status_code, answer.http_version) == (200, "HTTP/1.1")
    assert (len(rest), rest[-1]) == (40, "data: [DONE]")


async def becomes_known(gateway: GatewayProcess) -> bool:
    for _ in range(100):
        if "certificate_renewed" in gateway.log_events:
            return True
        await asyncio.sleep(0.05)
    return False


async def test_plain_http_on_a_port_with_tls_gets_nothing(gateway: GatewayProcess, pair: Pair) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        gateway.start(listening, tls_certificate=pair.certificate, tls_key=pair.key)
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        told = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        async with gateway.application() as box:  # its own socket has none
            healthy = await box.get("/healthz")

    assert b"HTTP" not in told
    assert healthy.status_code == 200


@pytest.mark.parametrize("gateway", [True], ids=["fast lane"], indirect=True)
async def test_a_key_that_does_not_fit_is_said_in_one_line(
    gateway: GatewayProcess, pair: Pair, tmp_path: Path
) -> None:
    child = gateway.spawn(tls_certificate=pair.certificate, tls_key=certificate.make(tmp_path, "b").key)
    code = await asyncio.to_thread(child.wait, 20)

    said = gateway.log
    (gateway.folder / "log.0").write_text("")  # a message to its operator is no event
    assert code == 78
    assert said.startswith("inferfly: The TLS certificate and its key can't be used.")
    assert said.count("\n") == 1


async def test_a_refusal_can_be_read_over_tls_while_the_body_is_being_sent(
    gateway: GatewayProcess, pair: Pair
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        gateway.start(listening, tls_certificate=pair.certificate, tls_key=pair.key)
        reader, writer = await asyncio.open_connection(
            *listening.getsockname(), ssl=ssl.create_default_context(cafile=pair.certificate)
        )
        head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 90000\r\n\r\n"
        writer.write(head.encode() + b"x" * 80_000)
        told = await reader.readuntil(b"\r\n\r\n")
        rest = await asyncio.wait_for(reader.read(), 6)
        writer.transport.abort()

    assert told.startswith(b"HTTP/1.1 401 ")
    assert b"connection: close\r\n" in told
    assert rest.endswith(b"}}")
