from __future__ import annotations

import socket
from pathlib import Path

import pytest

ELSEWHERE = "192.0.2.1"  # TEST-NET-1, which is nobody's (RFC 5737)


def guard_name(failure: pytest.ExceptionInfo[BaseException]) -> str:
    return failure.type.__name__


def test_connecting_elsewhere_fails_at_once() -> None:
    with socket.socket() as plug, pytest.raises(BaseException, match="loopback and unix") as failure:
        plug.connect((ELSEWHERE, 9))

    assert guard_name(failure) == "NetworkUsedError"


def test_connecting_elsewhere_over_ipv6_fails_at_once() -> None:
    with socket.socket(socket.AF_INET6) as plug, pytest.raises(BaseException, match="loopback and unix"):
        plug.connect_ex(("2001:db8::1", 9))


def test_sending_a_datagram_elsewhere_fails_at_once() -> None:
    with (
        socket.socket(type=socket.SOCK_DGRAM) as plug,
        pytest.raises(BaseException, match="loopback and unix"),
    ):
        plug.sendto(b"x", (ELSEWHERE, 9))


def test_looking_up_a_name_fails_at_once() -> None:
    with pytest.raises(BaseException, match="loopback and unix"):
        socket.getaddrinfo("example.invalid", 80)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_is_reachable(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        with socket.create_connection((host, port)) as plug:
            assert plug.getpeername()[1] == port


def test_unix_sockets_are_reachable(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as plug:
        server.bind(path)
        server.listen()

        plug.connect(path)
