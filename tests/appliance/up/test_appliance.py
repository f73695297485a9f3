"""The whole of `up` in a process of its own, over stand-ins for its parts."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
WAIT_SECONDS_MAX = 30.0


class Up:
    def __init__(self, home: Path, modes: tuple[str, ...], settings: dict[str, str]) -> None:
        self.home = home
        self.process = subprocess.Popen(
            [sys.executable, str(REPOSITORY / "tests" / "fakes" / "up.py"), str(home), *modes],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)} | settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.shown = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.shown += line

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while text not in self.shown:
            assert time.monotonic() < deadline, f"never {text!r}: {self.shown}"
            time.sleep(0.05)

    def children(self) -> dict[str, int]:
        """Mode -> pid of its children that run."""
        found: dict[str, int] = {}
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, IndexError, ValueError):
                if (entry / "stat").read_text().rpartition(")")[2].split()[1] == str(self.process.pid):
                    found[(entry / "cmdline").read_text().split("\0")[2]] = int(entry.name)
        return found

    def end(self) -> tuple[int, str]:
        code = self.process.wait(WAIT_SECONDS_MAX)
        self._reader.join(WAIT_SECONDS_MAX)
        assert self.process.stderr is not None
        return code, self.process.stderr.read()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.process.stdout.close()
        self.process.stderr.close()


Start = Callable[..., Up]


@pytest.fixture
def start(short_folder: Path) -> Iterator[Start]:
    started: list[Up] = []

    def run(*modes: str, **settings: str) -> Up:
        started.append(Up(short_folder / "home", modes, settings))
        return started[-1]

    yield run
    for up in started:
        up.kill()


def parts_of(home: Path) -> list[str]:
    """Command lines of living processes that work on a home."""
    found: list[str] = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_text()
            if str(home) in command:
                found.append(command)
    return found


def test_it_shows_progress_then_how_to_use_it(start: Start) -> None:
    up = start("control", "serve", "serve")

    up.wait_for("print(answer")

    assert "engine e0: ready\n\nThe appliance is ready." in up.shown
    assert "http://127.0.0.1:" in up.shown
    assert "ifk_live_AAAAAAAAAA_plaintext" in up.shown


def test_the_address_is_that_of_a_gateway_with_a_certificate(start: Start) -> None:
    up = start("control", "serve", "serve", INFERFLY_TLS_CERTIFICATE="/any.pem", INFERFLY_TLS_KEY="/any.key")

    up.wait_for("print(answer")

    assert "Base URL  https://127.0.0.1:" in up.shown


def test_a_first_key_is_made_only_where_there_never_was_one(start: Start) -> None:
    up = start("nokey", "serve", "serve")

    up.wait_for("print(answer")

    assert "plaintext" not in up.shown
    assert "inferfly keys create" in up.shown


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_stops_and_leaves_nothing(start: Start, number: signal.Signals) -> None:
    up = start("control", "serve", "serve", "litter")
    up.wait_for("print(answer")

    up.process.send_signal(number)

    assert up.end() == (0, "")
    assert parts_of(up.home) == []
    assert not (up.home / "run").exists()


def test_it_stops_in_the_middle_of_loading(start: Start) -> None:
    up = start("control", "serve", "slow")
    up.wait_for("engine e0: loading")

    up.process.terminate()

    assert up.end() == (0, "")
    assert parts_of(up.home) == []


def test_a_second_interrupt_stops_at_once(start: Start) -> None:
    up = start("control", "deaf", "deaf", "deaf")
    up.wait_for("print(answer")

    up.process.send_signal(signal.SIGINT)
    up.wait_for("Ctrl-C again")
    began = time.monotonic()
    up.process.send_signal(signal.SIGINT)

    assert up.end()[0] == 0
    assert time.monotonic() - began < 2


def test_nothing_survives_a_kill_of_it(start: Start) -> None:
    up = start("control", "deaf", "deaf")
    up.wait_for("print(answer")

    up.process.kill()

    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while parts_of(up.home) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert parts_of(up.home) == []


def test_a_gateway_that_dies_is_started_again_and_told(start: Start) -> None:
    up = start("control", "deaf", "serve")
    up.wait_for("print(answer")

    os.kill(up.children()["deaf"], signal.SIGKILL)

    up.wait_for("gateway is back")
    assert "gateway stopped: it was ended by SIGKILL. It is started again." in up.shown


def test_an_engine_that_dies_is_started_again_and_told(start: Start) -> None:
    up = start("control", "serve", "deaf")
    up.wait_for("print(answer")

    os.kill(up.children()["deaf"], signal.SIGKILL)

    up.wait_for("engine e0 is ready")
    assert "engine e0 stopped: it was ended by SIGKILL" in up.shown


def test_one_engine_of_several_that_fails_is_told_and_the_rest_serves(start: Start) -> None:
    up = start("control", "serve", "broken", "serve")

    up.wait_for("print(answer")

    assert "engine e0 failed: it is broken. Mend it." in up.shown
    assert up.process.poll() is None


def test_where_no_engine_can_be_started_it_says_why_and_ends(start: Start) -> None:
    up = start("control", "serve", "broken", "crash")

    code, stderr = up.end()

    assert code == 1
    assert "No engine could be started." in stderr
    assert stderr.count("it is broken. Mend it.") == 2
    assert parts_of(up.home) == []
    assert not (up.home / "run").exists()


@pytest.mark.parametrize(
    ("modes", "part"),
    [(("refuse", "serve", "serve"), "control"), (("control", "refuse", "serve"), "gateway")],
    ids=["control", "gateway"],
)
def test_a_part_that_cannot_start_ends_it_with_that_parts_own_words(
    start: Start, modes: tuple[str, ...], part: str
) -> None:
    up = start(*modes)

    code, stderr = up.end()

    assert code == 1
    assert stderr.startswith(
        f"inferfly: The {part} did not start. The database is of another shape. Restore it."
    )
    assert parts_of(up.home) == []


def test_a_part_that_dies_without_a_word_is_told_by_its_exit(start: Start) -> None:
    up = start("control", "crash", "serve")

    assert "It ended by itself with exit code 70." in up.end()[1]
