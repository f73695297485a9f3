"""Canaries go through every success and every failure; then every place is searched where one could have stayed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from tests.appliance_under_test import Appliance
from tests.models import engine_python, tiny_catalog, tiny_model
from tests.privacy.canaries import Canaries
from tests.privacy.matrix import Matrix
from tests.privacy.scanner import Finding, Scanner
from tests.privacy.surfaces import Surfaces, token_ids
from tests.processes import await_true

LEAKY = Path(__file__).with_name("leaky")
BACK_SECONDS_MAX = 30.0

SUCCEED = {"chat", "completion", "echo", "chat stream", "completion stream", "forced"}
REFUSED = {
    400: {
        *(
            "text for a number",
            "text for a list",
            "text for an object",
            "unknown field",
            "unknown field inside",
        ),
        *("unknown role", "unknown tool choice", "unknown format", "unknown kind of tool", "cache salt"),
        *("stop string too long", "bias for a word", "image", "half a JSON text", "no JSON", "not UTF-8"),
        *(
            "lone surrogate",
            "deep JSON",
            "query",
            "prompt too long",
            "completion too long",
            "template refuses",
        ),
        *("tools without a parser", "bad pattern", "bad kind", "bad reference", "token of another model"),
        *("at least more than at most", "missing tool"),
    },
    401: {"no key of ours", "shape of a key", "other scheme"},
    404: {"unknown model", "unknown path", "path below", "path that is no UTF-8", "unknown list", "metrics"},
    405: {"other method"},
    413: {"large body", "large body in chunks"},
    415: {"packed body", "form", "plain text"},
}
OF_NO_MATTER = {"query of a list", "broken arguments"}
"""A list of models takes no notice of a query, nor the tiny model's template of tool calls."""
EXPECTED = {case: status for status, cases in REFUSED.items() for case in cases} | dict.fromkeys(
    SUCCEED | OF_NO_MATTER, 200
)


def left_by_requests(matrix: Matrix, surfaces: Surfaces) -> list[Finding]:
    """The canary test itself: every request of the matrix, a hang-up, a kill -9, and all that can be found after."""
    matrix.run()
    assert sorted(matrix.statuses.items()) == sorted(EXPECTED.items())
    with matrix.open_stream("hang-up"):
        pass
    kill_mid_stream(matrix, "gateway killed", lambda: matrix.appliance.part("inferfly gateway").pid)
    await_true(matrix.appliance.ready, BACK_SECONDS_MAX, "the gateway is back")
    scanner = scanner_for(matrix.canaries)
    return surfaces.scan(scanner) + surfaces.scan_served(scanner) + quoted(scanner, matrix.refusals)


def left_by_death(matrix: Matrix, surfaces: Surfaces) -> list[Finding]:
    """What an engine leaves that is killed while it answers, and what the whole appliance leaves when it stops."""
    kill_mid_stream(matrix, "engine killed", lambda: matrix.appliance.vllm().pid)
    scanner = scanner_for(matrix.canaries)
    found = surfaces.scan(scanner)
    matrix.appliance.stop()
    return found + surfaces.scan(scanner) + quoted(scanner, matrix.refusals)


def kill_mid_stream(matrix: Matrix, what: str, pid: Callable[[], int]) -> None:
    """kill -9 of a process that holds a canary in its memory. The caller gets an error or a broken connection."""
    with matrix.open_stream(what) as lines:
        os.kill(pid(), signal.SIGKILL)
        ending = "\n".join(until_broken(lines))
    assert ending, "the answer ended well before the kill"
    matrix.refusals[what] = ending.encode()


def until_broken(lines: Iterator[str]) -> Iterator[str]:
    """What came of an answer that was not to end well; only its errors, the rest is the caller's own."""
    try:
        yield from (line for line in lines if '"error"' in line)
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


def test_no_canary_is_left_anywhere() -> None:
    with Appliance(tiny_catalog(), engine_python()) as appliance:
        matrix, surfaces = Matrix(appliance, Canaries()), Surfaces(appliance)

        assert left_by_requests(matrix, surfaces) == []
        assert left_by_death(matrix, surfaces) == []


@pytest.fixture(scope="module")
def leaky() -> Iterator[Appliance]:
    """An appliance whose gateway has a leak, another one after each of its deaths."""
    appliance = Appliance(tiny_catalog(), engine_python(), command=("-P", str(LEAKY / "up.py")))
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
    ],
)
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


def test_an_engine_that_talks_is_caught(tmp_path: Path) -> None:
    """vLLM as it comes prints sampling parameters, stop strings and schemas."""
    log = tmp_path / "engine.log"
    with Appliance(tiny_catalog(), talking_engine(tmp_path / "engine", log)) as appliance:
        found = left_by_requests(Matrix(appliance, Canaries()), Surfaces(appliance))

    assert {finding.what for finding in found if finding.place == str(log)} >= {"stop string"}
