from __future__ import annotations

import itertools
import shutil
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.appliance_under_test import Appliance
from tests.models import engine_python, tiny_catalog, tiny_model
from tests.processes import await_true

STREAMS = 32
RUNNING_MAX = 16
"""As many as the tiny model's catalog entry lets run at the same time."""
TRACES = {"up.lock", "models"}
"""What a refused start may leave: the lock that says who runs, and weights that were there before."""


@pytest.fixture
def fresh() -> Iterator[Appliance]:
    """An appliance that has not been started."""
    appliance = Appliance(tiny_catalog(), engine_python())
    yield appliance
    appliance.discard()


def refused(appliance: Appliance) -> tuple[int, str]:
    """Exit code and last words of a start that must not succeed."""
    appliance.launch()
    exit_code = appliance.ended()
    return exit_code, appliance.stderr.decode()


def left_in(home: Path) -> set[str]:
    return {path.name for path in home.iterdir()} - TRACES if home.exists() else set()


def test_ctrl_c_lets_open_streams_end_and_leaves_nothing(fresh: Appliance) -> None:
    fresh.start()
    with fresh.sdk() as client:
        raw = client.completions.with_raw_response.create(
            model="tiny", prompt="one", max_tokens=480, stream=True, extra_body={"ignore_eos": True}
        )
        stream = raw.parse()
        assert len(list(itertools.islice(stream, 3))) == 3
        processes = fresh.processes()
        fresh.interrupt()
        last = list(stream)[-1]

    assert fresh.ended() == 0
    assert last.choices[0].finish_reason == "length"
    assert [process.title for process in processes if process.lives()] == []
    assert not (fresh.home / "run").exists()
    row = fresh.row(raw.headers["x-request-id"])
    assert (row.token_counts, row.http_status, row.completion_tokens) == ("exact", 200, 480)


def test_a_stream_longer_than_the_drain_is_ended_with_an_error() -> None:
    with Appliance(tiny_catalog(), engine_python(), drain_seconds_max=0.2) as appliance:
        with appliance.sdk() as client:
            streams = [
                client.completions.with_raw_response.create(
                    model="tiny", prompt="one", max_tokens=480, stream=True, extra_body={"ignore_eos": True}
                )
                for _ in range(STREAMS)
            ]
            appliance.interrupt()
            endings = [ending(raw.parse()) for raw in streams]
        assert appliance.ended() == 0
        rows = [appliance.row(raw.headers["x-request-id"]) for raw in streams]

    assert set(endings) <= {"whole", "shutting_down"}
    assert endings.count("shutting_down") >= STREAMS - RUNNING_MAX, "those that waited never began"
    assert [row.http_status for row in rows].count(503) == endings.count("shutting_down")


def ending(stream: openai.Stream[openai.types.Completion]) -> str | None:
    try:
        list(stream)
    except openai.APIError as error:
        return error.code
    return "whole"


def test_kill_9_of_it_all_leaves_no_process_and_the_next_start_is_clean(fresh: Appliance) -> None:
    """The sockets of the dead are still there; the key of the first start is still good, and shown no more."""
    fresh.start()
    first_key, first_screen = fresh.key, fresh.screen
    processes = fresh.kill()
    await_true(lambda: not any(process.lives() for process in processes), 5, "nobody survives")
    assert (fresh.home / "run" / "control.sock").is_socket(), "a stale socket is there"

    fresh.start()

    assert first_screen.count("Shown once") == 1
    assert "ifk_live_" not in fresh.screen
    assert "one exists already" in fresh.screen
    with fresh.sdk(first_key) as client:
        assert client.completions.create(model="tiny", prompt="one", max_tokens=1).usage
    assert fresh.stop() == []


def test_a_second_up_on_the_same_folder(sturdy: Appliance) -> None:
    second = sturdy.cli("up")

    assert second.returncode == 75
    assert second.stderr.startswith("inferfly: Another `inferfly up` runs on")
    assert "--home" in second.stderr
    assert sturdy.ready()


def test_a_taken_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        appliance = Appliance(tiny_catalog(), engine_python(), port=taken.getsockname()[1])
        exit_code, words = refused(appliance)
    left = left_in(appliance.home)
    appliance.discard()

    assert exit_code == 75
    assert "can't be used: Address already in use" in words
    assert "INFERFLY_PORT" in words
    assert left == set()


def test_a_broken_catalog(fresh: Appliance) -> None:
    broken = fresh.models_yaml.read_text().replace("max_context: 512", "max_contxt: 512")
    fresh.models_yaml.write_text(broken)

    exit_code, words = refused(fresh)

    assert exit_code == 78
    assert "tiny" in words
    assert "max_contxt" in words
    assert "max_context" in words, "the cure"
    assert left_in(fresh.home) == set()


def test_no_catalog(fresh: Appliance) -> None:
    fresh.models_yaml.unlink()

    exit_code, words = refused(fresh)

    assert exit_code == 78
    assert "INFERFLY_MODELS" in words


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
def test_damaged_weights(tmp_path: Path, file: str) -> None:
    weights = shutil.copytree(tiny_model(), tmp_path / "weights")
    catalog = tiny_catalog(folder=weights)
    damaged = bytearray((weights / file).read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (weights / file).write_bytes(damaged)
    appliance = Appliance(catalog, engine_python())

    exit_code, words = refused(appliance)

    left = left_in(appliance.home)
    appliance.discard()
    assert exit_code == 66
    assert "tiny" in words
    assert left == set()


def test_an_engine_that_is_not_there(tmp_path: Path) -> None:
    appliance = Appliance(tiny_catalog(), tmp_path / "bin" / "python")

    exit_code, words = refused(appliance)

    appliance.discard()
    assert exit_code == 69
    assert "./install.sh --local" in words


def test_a_ledger_of_a_newer_release(fresh: Appliance) -> None:
    fresh.home.mkdir(mode=0o700)
    with sqlite3.connect(fresh.home / "usage.db") as newer:
        newer.execute("CREATE TABLE usage_of_tomorrow (x INTEGER) STRICT")
    newer.close()

    exit_code, words = refused(fresh)

    assert exit_code != 0
    assert "usage.db" in words


def test_an_engine_that_cannot_load_says_why(fresh: Appliance) -> None:
    """The last cause in one line, with its cure; and nothing goes on running."""
    broken = fresh.models_yaml.read_text().replace("max_context: 512", "max_context: 4096")
    fresh.models_yaml.write_text(broken)

    exit_code, words = refused(fresh)

    assert exit_code == 69
    assert "max_context is 4096, but the model was made for 2048 tokens" in words
    assert "Set max_context to 2048 or less" in words
    assert not (fresh.home / "run").exists()
