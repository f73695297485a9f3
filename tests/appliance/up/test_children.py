import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Protocol

import pytest

from appliance.domain import EngineState
from appliance.engine.lifecycle import Restarts
from appliance.up.children import LOG_BYTES_MAX, Child, Part, how_it_ended

REPOSITORY = Path(__file__).parents[3]
WAIT_SECONDS_MAX = 20.0


class Keep(Protocol):
    def __call__(
        self, mode: str, *, in_a_row_max: int = 2, changed: Callable[[Child], None] = ...
    ) -> Child: ...


@pytest.fixture
async def keep(short_folder: Path) -> AsyncIterator[Keep]:
    """Gives a child of some mode of tests/fakes/part.py, not started."""
    kept: list[Child] = []

    def child(
        mode: str, *, in_a_row_max: int = 2, changed: Callable[[Child], None] = lambda _child: None
    ) -> Child:
        part = Part(
            name=mode,
            argv=(sys.executable, str(REPOSITORY / "tests" / "fakes" / "part.py"), mode),
            environment={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)},
            log=short_folder / "logs" / "part.log",
            notify=short_folder / "notify",
            stop_seconds_max=0.5,
            watchdog_seconds_max=0.5,
        )
        restarts = Restarts(delay_seconds_min=0.05, delay_seconds_max=0.1, in_a_row_max=in_a_row_max)
        kept.append(Child(part, restarts, changed))
        return kept[-1]

    yield child
    for one in kept:
        one.kill()
        await one.ended()


async def until(child: Child, state: EngineState, *, restarts: int = 0) -> None:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not (child.unit.state is state and child.unit.restarts >= restarts):
        assert time.monotonic() < deadline, child.unit
        await asyncio.sleep(0.02)


async def test_a_child_is_ready_once_it_says_so(keep: Keep) -> None:
    seen: list[EngineState] = []
    child = keep("serve", changed=lambda child: seen.append(child.unit.state))

    child.start()

    await until(child, EngineState.READY)
    assert seen == [EngineState.LOADING, EngineState.READY]
    assert child.unit.pid == child.pid


async def test_starting_twice_starts_once(keep: Keep) -> None:
    child = keep("serve")
    child.start()
    await until(child, EngineState.READY)
    pid = child.pid

    child.start()

    await asyncio.sleep(0.2)
    assert child.pid == pid


async def test_stopping_ends_it(keep: Keep) -> None:
    child = keep("serve")
    child.start()
    await until(child, EngineState.READY)

    child.stop()
    await child.ended()

    assert (child.unit.state, child.pid, child.exit_code) == (EngineState.STOPPED, None, -signal.SIGTERM)


async def test_one_that_is_deaf_is_killed_at_its_deadline(keep: Keep) -> None:
    child = keep("deaf")
    child.start()
    await until(child, EngineState.READY)

    child.stop()
    await child.ended()

    assert (child.unit.state, child.exit_code) == (EngineState.STOPPED, -signal.SIGKILL)


async def test_one_that_dies_is_started_again(keep: Keep) -> None:
    child = keep("serve")
    child.start()
    await until(child, EngineState.READY)
    assert child.pid is not None

    os.kill(child.pid, signal.SIGKILL)

    await until(child, EngineState.READY, restarts=1)
    assert (child.unit.restarts, child.unit.cause) == (1, "")


async def test_while_it_waits_to_be_started_again_it_says_why_it_died(keep: Keep) -> None:
    causes: list[str] = []
    child = keep("serve", changed=lambda child: causes.append(child.unit.cause))
    child.start()
    await until(child, EngineState.READY)
    assert child.pid is not None

    os.kill(child.pid, signal.SIGKILL)

    await until(child, EngineState.READY, restarts=1)
    assert "it was ended by SIGKILL" in causes


async def test_it_is_given_up_after_its_row_of_tries(keep: Keep) -> None:
    child = keep("crash")

    child.start()
    await child.ended()

    unit = child.unit
    assert (unit.state, unit.restarts, unit.cause, unit.cure) == (
        EngineState.FAILED,
        2,
        "it is broken.",
        "Mend it.",
    )


async def test_what_trying_again_cannot_mend_is_given_up_at_once(keep: Keep) -> None:
    child = keep("broken")

    child.start()
    await child.ended()

    assert (child.unit.state, child.unit.restarts) == (EngineState.FAILED, 0)


async def test_one_that_gets_ready_each_time_is_not_given_up(keep: Keep) -> None:
    child = keep("flaky", in_a_row_max=1)

    child.start()

    await until(child, EngineState.READY, restarts=2)
    assert child.unit.restarts == 2


async def test_a_failed_one_gets_a_fresh_row_of_tries(keep: Keep) -> None:
    child = keep("crash")
    child.start()
    await child.ended()

    child.start()
    await child.ended()

    assert child.unit.restarts == 2


async def test_restarting_gives_a_new_process_at_once(keep: Keep) -> None:
    child = keep("serve")
    child.start()
    await until(child, EngineState.READY)
    pid = child.pid

    child.restart()
    while child.pid in (pid, None):
        await asyncio.sleep(0.02)

    await until(child, EngineState.READY)
    assert child.unit.restarts == 0


async def test_one_that_falls_silent_is_hung_and_replaced(keep: Keep) -> None:
    causes: list[str] = []
    child = keep("mute", changed=lambda child: causes.append(child.unit.cause))

    child.start()

    await until(child, EngineState.READY, restarts=1)
    assert "it hung: no sign of life" in causes


async def test_one_that_is_stopped_while_it_waits_stays_stopped(keep: Keep) -> None:
    child = keep("crash", in_a_row_max=1000)
    child.start()
    await until(child, EngineState.LOADING, restarts=1)

    child.stop()
    await child.ended()

    assert child.unit.state is EngineState.STOPPED


async def test_its_log_is_for_the_owner_only_and_bounded(keep: Keep, short_folder: Path) -> None:
    log = short_folder / "logs" / "part.log"
    log.parent.mkdir()
    log.write_bytes(b"x" * (LOG_BYTES_MAX + 1))
    child = keep("refuse", in_a_row_max=0)

    child.start()
    await child.ended()

    assert log.read_text() == "inferfly: The database is of another shape. Restore it.\n"
    assert log.stat().st_mode & 0o777 == 0o600
    assert (short_folder / "logs" / "part.log.1").stat().st_size == LOG_BYTES_MAX + 1


async def test_noise_on_its_notify_socket_is_no_failure(keep: Keep, short_folder: Path) -> None:
    child = keep("slow")
    child.start()
    while child.pid is None:
        await asyncio.sleep(0.02)
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as noise:
        for message in (b"\xff\xfe", b"STATUS=[]", b"STATUS={}", b"STATUS={", b"X"):
            noise.sendto(message, str(short_folder / "notify"))
            await asyncio.sleep(0.02)

    assert child.unit.state is EngineState.LOADING


@pytest.mark.parametrize(
    ("code", "words"),
    [(3, "it ended by itself with exit code 3"), (-9, "it was ended by SIGKILL")],
)
def test_an_exit_code_in_words(code: int, words: str) -> None:
    assert how_it_ended(code) == words
