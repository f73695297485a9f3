from __future__ import annotations

import json
import os
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from appliance.admin import peer
from appliance.admin.client import UnixConnection
from appliance.errors import EnvironmentBroken

if TYPE_CHECKING:
    from collections.abc import Iterator

ME = os.getuid()


class _Server:
    """uvicorn with our protocol on a real socket, in front of an application that tells who called."""

    def __init__(self, path: Path, uids: frozenset[int]) -> None:
        self._path = path
        self._bound = peer.bind(path)
        config = uvicorn.Config(
            peer.allow_only(_who, uids),
            http=peer.PeerProtocol,
            lifespan="off",
            log_config=None,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._bound]})
        self._thread.start()

    def ask(self, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        connection = UnixConnection(self._path, 10)
        while True:
            try:
                connection.request("GET", "/", headers=headers or {})
                break
            except ConnectionRefusedError:
                connection.close()
                self._thread.join(0.01)
        answer = connection.getresponse()
        found = answer.status, answer.read()
        connection.close()
        return found

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self._bound.close()


async def _who(scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(scope[peer.PEER_UID]).encode()})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "s"


@pytest.fixture
def open_door(path: Path) -> Iterator[_Server]:
    server = _Server(path, frozenset({ME}))
    yield server
    server.stop()


@pytest.fixture
def closed_door(path: Path) -> Iterator[_Server]:
    server = _Server(path, frozenset({ME + 1}))
    yield server
    server.stop()


def test_kernel_says_who_calls(open_door: _Server) -> None:
    assert open_door.ask() == (200, str(ME).encode())


def test_other_users_are_refused(closed_door: _Server) -> None:
    """Even where the socket's mode let them connect."""
    status, answer = closed_door.ask()

    assert status == 403
    assert json.loads(answer)["error"]["code"] == "forbidden"


def test_nobody_gets_in_by_claiming_to_be_somebody(closed_door: _Server) -> None:
    status, _ = closed_door.ask({peer.PEER_UID: str(ME + 1), "x-forwarded-for": "root"})

    assert status == 403


async def test_caller_without_a_word_of_the_kernel_is_refused() -> None:
    """Such as one who came over TCP."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("a stranger's request was looked at")

    await peer.allow_only(_who, frozenset({ME}))({"type": "http"}, receive, send)

    assert sent[0]["status"] == 403


def test_folder_and_socket_are_made_for_the_owner_alone(path: Path) -> None:
    former = os.umask(0)
    bound = peer.bind(path)
    os.umask(former)
    modes = path.parent.stat().st_mode & 0o777, path.stat().st_mode & 0o777
    bound.close()

    assert modes == (0o700, 0o600)


def test_nobody_can_connect_before_the_mode_is_set(path: Path) -> None:
    bound = peer.bind(path)

    with socket.socket(socket.AF_UNIX) as caller, pytest.raises(ConnectionRefusedError):
        caller.connect(str(path))

    bound.close()


def test_missing_state_folder_is_named(path: Path) -> None:
    with pytest.raises(EnvironmentBroken, match=r"No such file or directory.*state folder"):
        peer.bind(path.parent / "deeper" / "still" / "s")
