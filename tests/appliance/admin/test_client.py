from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.__main__ import COMMANDS
from appliance.admin.client import Client
from appliance.errors import ControlUnreachable, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPO = Path(__file__).parents[3]
ANSWERS = {
    "not_json": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
    "other_shape": b'HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{"ready":"?"}',
    "other_error": b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 2\r\n\r\n{}",
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


@pytest.fixture
def listening(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
        bound.listen()
        yield bound


def _answer_once(listening: socket.socket, answer: bytes) -> threading.Thread:
    def main() -> None:
        connection, _ = listening.accept()
        connection.recv(65536)
        connection.sendall(answer)
        connection.close()

    thread = threading.Thread(target=main)
    thread.start()
    return thread


def test_control_that_does_not_run_says_how_to_start_it(path: Path) -> None:
    with pytest.raises(ControlUnreachable, match=r"not running.*inferfly up.*--home"):
        Client(path).status()


def test_stale_socket_is_a_control_that_does_not_run(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    with pytest.raises(ControlUnreachable, match="not running"):
        Client(path).status()


def test_control_that_hangs_is_given_up(path: Path, listening: socket.socket) -> None:
    with pytest.raises(ControlUnreachable, match="did not answer in time"):
        Client(path, seconds=0.1).status()


def test_connection_cut_without_an_answer(path: Path, listening: socket.socket) -> None:
    thread = _answer_once(listening, b"")

    with pytest.raises(ControlUnreachable):
        Client(path).status()

    thread.join()


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_answer_of_another_release_is_said_to_be_one(
    path: Path, listening: socket.socket, answer: bytes
) -> None:
    thread = _answer_once(listening, answer)

    with pytest.raises(ControlUnreachable, match="different releases"):
        Client(path).status()

    thread.join()


def test_bad_values_are_explained_without_asking_control(path: Path) -> None:
    client = Client(path)

    with pytest.raises(Refused, match="A name has 1 to 40 lower case letters"):
        client.create_account("Not A Slug")
    with pytest.raises(Refused, match="A key lives 1 to 365 days"):
        client.create_key(account="default", name="a", expires_days=366)
    with pytest.raises(Refused, match="An account's name has"):
        client.create_key(account="../x", name="a")


ADDRESSED: dict[str, Callable[[Client, str], object]] = {
    "revoke a key": Client.revoke_key,
    "revoke a line": Client.revoke_line,
    "rotate a key": Client.rotate_key,
    "limit a key": lambda client, name: client.change_limits("key", name, {}),
    "limit a model": lambda client, name: client.clear_limits("model", name),
    "price a model": lambda client, name: client.set_price(
        name, input_per_million="1", output_per_million="1"
    ),
    "clear a price": Client.clear_price,
}
"""Acts whose address holds a name."""


@pytest.mark.parametrize("act", ADDRESSED.values(), ids=ADDRESSED.keys())
@pytest.mark.parametrize("name", ["", "a/b", "..", "a b", "ключ", "a?b", "abcdefghij\n"])
def test_a_name_can_not_reach_another_address(
    path: Path, act: Callable[[Client, str], object], name: str
) -> None:
    with pytest.raises(Refused, match=r"not a key's id|neither a key's id nor|not a model's name"):
        act(Client(path), name)


def test_command_line_starts_without_the_servers_libraries() -> None:
    """Each verb waits for its imports: none of control's own may be among them."""
    heavy = [
        "litestar",
        "uvicorn",
        "httpx",
        "sqlite_utils",
        "appliance.store",
        "appliance.engine",
        "appliance.catalog",
    ]
    ours = [place.split(":")[0] for place in COMMANDS.values() if place.startswith("appliance.admin.verbs.")]
    script = f"import sys, {', '.join(ours)}; print([name for name in {heavy!r} if name in sys.modules])"

    found = subprocess.run(
        [sys.executable, "-c", script], cwd=REPO, capture_output=True, text=True, check=True
    )

    assert found.stdout.strip() == "[]"


def test_contract_imports_nothing_of_ours() -> None:
    script = "import sys, appliance.admin.contract; print(sorted(n for n in sys.modules if n.startswith('appliance')))"

    found = subprocess.run(
        [sys.executable, "-c", script], cwd=REPO, capture_output=True, text=True, check=True
    )

    assert found.stdout.strip() == "['appliance', 'appliance.admin', 'appliance.admin.contract']"
