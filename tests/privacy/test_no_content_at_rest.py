"""Canaries go through every success and every failure; then every place is searched where one could have stayed."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from tests.appliance_under_test import Appliance
from tests.models import TINY, catalog, engine_python, minilm, tiny, tiny_model
from tests.privacy.canaries import Canaries
from tests.privacy.matrix import GUESSES_MAX, QUEUED_MAX, RUNNING_MAX, STREAMS, Matrix
from tests.privacy.scanner import Finding, Scanner
from tests.privacy.surfaces import Surfaces, token_ids
from tests.processes import await_true

LEAKY = Path(__file__).with_name("leaky")
BACK_SECONDS_MAX = 30.0
CONTEXT = 2048
SECONDS_MAX = 400
"""For one test: two engines start, and some 250 requests are made, some of which have to wait."""


def left_by_requests(matrix: Matrix, surfaces: Surfaces) -> list[Finding]:
    """The canary test itself: every request of the matrix, a hang-up, a kill -9, and all that can be found after."""
    matrix.run()
    assert matrix.statuses == matrix.expected
    for path in STREAMS:
        with matrix.open_stream(f"hang-up of {path}", path):
            pass
    kill_mid_stream(matrix, "gateway killed", lambda: matrix.appliance.part("inferfly gateway").pid)
    await_true(matrix.appliance.ready, BACK_SECONDS_MAX, "the gateway is back")
    scanner = scanner_for(matrix.canaries)
    return surfaces.scan(scanner) + surfaces.scan_served(scanner) + quoted(scanner, matrix.refusals)


def left_by_death(matrix: Matrix, surfaces: Surfaces) -> list[Finding]:
    """What an engine leaves that is killed while it answers, and what the whole appliance leaves when it stops."""
    kill_mid_stream(matrix, "engine killed", lambda: matrix.appliance.vllm(TINY).pid)
    scanner = scanner_for(matrix.canaries)
    found = surfaces.scan(scanner)
    matrix.appliance.stop()
    return found + surfaces.scan(scanner) + quoted(scanner, matrix.refusals)


def kill_mid_stream(matrix: Matrix, what: str, pid: Callable[[], int]) -> None:
    """kill -9 of a process that holds canaries in its memory. The callers get an error or a broken connection."""
    with contextlib.ExitStack() as opened:
        streams = {
            f"{what} under {path}": opened.enter_context(matrix.open_stream(f"{what} under {path}", path))
            for path in STREAMS
        }
        os.kill(pid(), signal.SIGKILL)
        endings = {name: "\n".join(until_broken(lines)) for name, lines in streams.items()}
    assert all(endings.values()), "an answer ended well before the kill"
    matrix.refusals |= {name: ending.encode() for name, ending in endings.items()}


def until_broken(lines: Iterator[str]) -> Iterator[str]:
    """What came of an answer that was not to end well; only its errors, the rest is the caller's own.

    So is what `response.failed` holds: the whole response as far as it came.
    """
    try:
        yield from (line for line in lines if '"error":{' in line and '"response.failed"' not in line)
    except httpx.HTTPError as error:
        yield type(error).__name__


def scanner_for(canaries: Canaries) -> Scanner:
    tokens = token_ids(canaries.words, tiny_model() / "tokenizer.json", engine_python())
    return Scanner(canaries.words, tokens)


def quoted(scanner: Scanner, refusals: Mapping[str, bytes]) -> list[Finding]:
    answers = refusals.items()
    return [finding for case, answer in answers for finding in scanner.scan(f"answer to {case}", [answer])]


def talking_engine(folder: Path, log: Path) -> Path:
    """An engine's environment whose Python starts vLLM as it comes, and keeps what it prints."""
    real = engine_python()
    (folder / "bin").mkdir(parents=True)
    (folder / "lib").symlink_to(real.parents[1] / "lib")
    python = folder / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{real}" "{LEAKY / "engine.py"}" "{log}" "$@"\n')
    python.chmod(0o700)
    return python


def served() -> str:
    """A models.yaml whose every endpoint the matrix asks, with an engine that is soon full."""
    writes = tiny(
        TINY,
        max_context=CONTEXT,
        tool_parser="hermes",
        max_concurrent_sequences=RUNNING_MAX,
        max_queued_requests=QUEUED_MAX,
    )
    return catalog(writes, minilm())


@pytest.mark.timeout(SECONDS_MAX)
def test_no_canary_is_left_anywhere() -> None:
    with Appliance(served(), engine_python(), guesses_max=GUESSES_MAX) as appliance:
        matrix, surfaces = Matrix(appliance, Canaries()), Surfaces(appliance)

        assert left_by_requests(matrix, surfaces) == []
        assert left_by_death(matrix, surfaces) == []


@pytest.fixture(scope="module")
def leaky() -> Iterator[Appliance]:
    """An appliance whose gateway has a leak, another one after each of its deaths."""
    command = ("-P", str(LEAKY / "up.py"))
    appliance = Appliance(served(), engine_python(), command=command, guesses_max=GUESSES_MAX)
    name_leak(appliance, "access log")
    with appliance:
        yield appliance


def name_leak(appliance: Appliance, leak: str) -> None:
    (appliance.folder / "leak").write_text(leak)


@pytest.fixture
def spools(leaky: Appliance) -> Iterator[None]:
    """What the leak puts into the machine's own folder holds canaries, but doesn't stay."""
    yield
    for file in Path("/tmp").glob(f"{leaky.folder.name}-spool-*"):
        file.unlink()


@pytest.mark.parametrize(
    ("leak", "place"),
    [
        ("stock formatter", "home/logs/gateway.log"),
        ("access log", "home/logs/gateway.log"),
        ("echoing errors", "answer to unknown field"),
        ("spooled bodies", "/tmp/ifly-"),
        ("kept events", "home/events"),
        ("quoting limits", "answer to spent budget"),
    ],
)
@pytest.mark.timeout(SECONDS_MAX)
@pytest.mark.usefixtures("spools")
def test_each_leaky_variant_is_caught(leaky: Appliance, leak: str, place: str) -> None:
    """The same test on a gateway with one leaky part: a canary test that has never failed is no evidence."""
    name_leak(leaky, leak)
    clean = leaky.part("inferfly gateway")
    os.kill(clean.pid, signal.SIGKILL)
    await_true(lambda: not clean.lives(), BACK_SECONDS_MAX, "the former gateway is gone")
    await_true(leaky.ready, BACK_SECONDS_MAX, "the leaky gateway is there")

    found = left_by_requests(Matrix(leaky, Canaries()), Surfaces(leaky))

    assert [finding for finding in found if finding.place.startswith(place)] != []


@pytest.mark.timeout(SECONDS_MAX)
def test_an_engine_that_talks_is_caught(tmp_path: Path) -> None:
    """vLLM as it comes prints sampling parameters, stop strings and schemas."""
    log = tmp_path / "engine.log"
    talking = talking_engine(tmp_path / "engine", log)
    with Appliance(served(), talking, guesses_max=GUESSES_MAX) as appliance:
        found = left_by_requests(Matrix(appliance, Canaries()), Surfaces(appliance))

    assert {finding.what for finding in found if finding.place == str(log)} >= {"stop string"}
