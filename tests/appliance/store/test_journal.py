from __future__ import annotations

import os
import random
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.domain import Usage
from appliance.errors import AlreadyRunning, StoreError
from appliance.store.journal import (
    HEADER_BYTES,
    MAGIC,
    SLOT_BYTES,
    USAGE_BYTES_MAX,
    Journal,
    OpenRequest,
    parse_usage,
)


def request(number: int, ts_start_ms: int = 1000) -> OpenRequest:
    return OpenRequest(ts_start_ms, f"{number:026d}", "a-model", "a-deployment", "abcdefghij")


def usage(prompt: int, completion: int) -> bytes:
    return b'{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d}' % (
        prompt,
        prompt + completion,
        completion,
    )


def left(path: Path, slots: int = 4) -> dict[int, Usage]:
    """Number -> tokens of each request that the next start finds open, which it then closes."""
    journal = Journal(path, slots)
    found = journal.left_open()
    for slot, _ in found:
        journal.close(slot)
    journal.release()
    return {int(row.request_id): Usage(row.prompt_tokens, row.completion_tokens) for _, row in found}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "usage.journal"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    journal = Journal(path, 4)
    yield journal
    journal.release()


def taken(journal: Journal, number: int) -> int:
    slot = journal.open(request(number))
    assert slot is not None
    return slot


def test_a_request_left_open_is_found_with_all_its_facts(path: Path) -> None:
    journal = Journal(path, 4)
    slot = taken(journal, 1)
    journal.note(slot, usage(7, 2))
    journal.beat(5000)
    journal.release()

    journal = Journal(path, 4)
    ((_, row),) = journal.left_open()
    journal.release()

    assert row == (
        *(
            f"{1:026d}",
            1000,
            5000,
            7,
            2,
            "interrupted",
            "a-model",
            "a-deployment",
            500,
            4000,
            None,
            None,
            1,
            9,
        ),
        "abcdefghij",
    )


def test_an_end_is_never_before_its_start(path: Path) -> None:
    """The last sign of life may be older than the request."""
    journal = Journal(path, 4)
    journal.beat(10)
    taken(journal, 1)

    ((_, row),) = journal.left_open()
    journal.release()

    assert (row.ts_start_ms, row.ts_end_ms, row.latency_total_ms) == (1000, 1000, 0)


def test_a_closed_request_leaves_nothing(journal: Journal) -> None:
    journal.close(taken(journal, 1))

    assert journal.left_open() == []


def test_a_full_journal_takes_no_more_until_one_is_closed(journal: Journal) -> None:
    slots = [taken(journal, number) for number in range(4)]

    assert journal.open(request(9)) is None
    journal.close(slots[2])
    assert journal.open(request(9)) == slots[2]


def test_a_slot_forgets_the_usage_of_the_request_before(journal: Journal) -> None:
    slots = [taken(journal, number) for number in range(4)]
    journal.note(slots[0], usage(7, 99))
    journal.close(slots[0])
    taken(journal, 9)

    tokens = {row.request_id: row.rl_tokens_used for _, row in journal.left_open()}

    assert tokens[f"{9:026d}"] == 0


def test_the_last_note_counts(journal: Journal) -> None:
    slot = taken(journal, 1)
    for completion in range(1, 50):
        journal.note(slot, usage(7, completion))

    assert journal.left_open()[0][1].completion_tokens == 49


def test_a_note_never_overwrites_the_one_that_counts(journal: Journal, path: Path) -> None:
    """A kill in the middle of it would leave a number that nobody reported."""
    slot = taken(journal, 1)
    notes = [usage(7, completion) for completion in (111, 222, 333)]
    for note in notes:
        journal.note(slot, note)

    kept = path.read_bytes()

    assert [note in kept for note in notes] == [False, True, True]


@pytest.mark.parametrize("padding", [0, 1, 300], ids=["just fits", "just too long", "long"])
def test_counts_are_kept_however_long_the_usage(journal: Journal, padding: int) -> None:
    short = usage(7, 2)
    filled = short[:-1] + b',"x":"' + b"y" * (USAGE_BYTES_MAX - len(short) - 7 + padding) + b'"}'
    slot = taken(journal, 1)

    journal.note(slot, filled)

    row = journal.left_open()[0][1]
    assert len(filled) == USAGE_BYTES_MAX + padding
    assert (row.prompt_tokens, row.completion_tokens) == (7, 2)


def test_it_grows_with_the_settings_and_keeps_what_it_knows(path: Path) -> None:
    journal = Journal(path, 1)
    taken(journal, 1)
    journal.beat(5000)
    journal.release()

    journal = Journal(path, 3)
    ((_, row),) = journal.left_open()
    fresh = [journal.open(request(number)) for number in (2, 3, 4)]
    journal.release()

    assert (row.request_id, row.ts_end_ms) == (f"{1:026d}", 5000)
    assert fresh == [1, 2, None]
    assert left(path, 3).keys() == {1, 2, 3}


def test_it_never_shrinks(path: Path) -> None:
    journal = Journal(path, 3)
    for number in range(3):
        taken(journal, number)
    journal.release()

    assert left(path, 1).keys() == {0, 1, 2}


def test_it_is_for_its_owner_only_and_takes_its_room_at_once(path: Path) -> None:
    """A sparse file would kill the gateway on a full disk: a mapping can't refuse a write."""
    Journal(path, 256).release()

    found = path.stat()
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert found.st_size == HEADER_BYTES + 256 * SLOT_BYTES
    assert found.st_blocks * 512 >= found.st_size


FOREIGN = {
    "text": b"# some file of somebody\n" * 100,
    "one byte": b"x",
    "zeros": bytes(4096),
    "another magic": b"IFLYJNL2" + bytes(4096),
    "other slots": MAGIC + (1024).to_bytes(4, "little") + (1).to_bytes(4, "little") + bytes(4096),
    "more slots than room": MAGIC
    + SLOT_BYTES.to_bytes(4, "little")
    + (99).to_bytes(4, "little")
    + bytes(1000),
}


@pytest.mark.parametrize("data", FOREIGN.values(), ids=FOREIGN.keys())
def test_a_foreign_file_is_refused_and_left_alone(path: Path, data: bytes) -> None:
    path.write_bytes(data)

    with pytest.raises(StoreError):
        Journal(path, 4)

    assert path.read_bytes() == data


def test_a_folder_or_a_link_in_its_place_is_refused(path: Path) -> None:
    target = path.with_name("target")
    path.symlink_to(target)

    with pytest.raises(StoreError):
        Journal(path, 4)
    with pytest.raises(StoreError):
        Journal(path.parent, 4)

    assert not target.exists()


def test_a_second_gateway_is_refused(journal: Journal, path: Path) -> None:
    taken(journal, 1)

    with pytest.raises(AlreadyRunning):
        Journal(path, 4)

    assert len(journal.left_open()) == 1


# At the boundary of the process: kills, and a disk that has no room

WRITER = """
import os, random, sys
from pathlib import Path
from appliance.store.journal import Journal, OpenRequest

random.seed(int(sys.argv[2]))
journal, open_, number = Journal(Path(sys.argv[1]), 16), {}, 0

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

while True:
    act = random.random()
    if act < 0.3 and len(open_) < 16:
        number += 1
        say("open", number)
        open_[number] = journal.open(OpenRequest(1000, f"{number:026d}", "m" * 40, "d" * 40, "abcdefghij"))
    elif act < 0.85 and open_:
        chosen, tokens = random.choice(list(open_)), random.randrange(10**9)
        say("note", chosen, tokens)
        journal.note(open_[chosen], b'{"prompt_tokens":%d,"x":{"y":null},"completion_tokens":%d}' % (tokens, tokens))
    elif open_:
        chosen = random.choice(list(open_))
        say("close", chosen)
        journal.close(open_.pop(chosen))
"""


def replay(lines: list[str]) -> dict[int, Usage]:
    """What is open after these acts."""
    state: dict[int, Usage] = {}
    for act, *words in map(str.split, lines):
        number, *tokens = map(int, words)
        if act == "close":
            del state[number]
        else:
            state[number] = Usage(*(tokens * 2))
    return state


def python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]


ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.mark.parametrize("seed", range(8))
def test_a_kill_at_any_moment_leaves_exactly_what_was_open(path: Path, seed: int) -> None:
    """Only the act that the kill hit may have happened or not."""
    with subprocess.Popen(
        python("-c", WRITER, str(path), str(seed)), stdout=subprocess.PIPE, env=ENVIRONMENT
    ) as child:
        assert child.stdout is not None
        first = child.stdout.readline().decode()
        time.sleep(random.Random(seed).uniform(0, 0.03))
        child.send_signal(signal.SIGKILL)
        lines = [first, *child.stdout.read().decode().splitlines()]

    assert left(path, 16) in (replay(lines[:-1]), replay(lines))


PREPARER = """
import resource, signal, sys
from pathlib import Path
from appliance.errors import StoreError
from appliance.store.journal import Journal

if sys.argv[3] == "kill":
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    Journal(Path(sys.argv[1]), 64)
except StoreError as error:
    print(error)
"""


@pytest.mark.parametrize("room", [0, 64, 10_000], ids=["nothing written", "only its head", "a part"])
def test_a_kill_while_it_is_made_leaves_one_that_can_be_used(path: Path, room: int) -> None:
    child = subprocess.run(python("-c", PREPARER, str(path), str(room), "kill"), env=ENVIRONMENT, check=False)

    assert child.returncode == -signal.SIGXFSZ
    assert left(path, 64) == {}


@pytest.mark.parametrize("room", [0, 64, 10_000], ids=["nothing", "only its head", "a part"])
def test_no_room_for_it_is_said_at_the_start(path: Path, room: int) -> None:
    child = subprocess.run(
        python("-c", PREPARER, str(path), str(room), "refuse"),
        env=ENVIRONMENT,
        check=True,
        capture_output=True,
        text=True,
    )

    assert "usage.journal can't be used" in child.stdout
    assert "Check free disk space" in child.stdout


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        (b'{"prompt_tokens":1,"total_tokens":3,"completion_tokens":2}', Usage(1, 2)),
        (b'{"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}', Usage(1, 2)),
        (
            b'{"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":9},"prompt_tokens":1}',
            Usage(1, 2),
        ),
        (b'{"completion_tokens_details":{"reasoning_tokens":9}}', Usage()),
        (b'{"prompt_tokens":null,"completion_tokens":2}', Usage(0, 2)),
        (b'{"prompt_tokens":-1,"completion_tokens":1.5}', Usage()),
        (b'{"prompt_tokens":9999999999999,"completion_tokens":2}', Usage(0, 2)),
        (b"", Usage()),
    ],
    ids=[
        "as vLLM writes it",
        "spaced",
        "with details",
        "details only",
        "null",
        "no counts",
        "too many digits",
        "nothing",
    ],
)
def test_counts_are_read_from_a_usage_object(text: bytes, counts: Usage) -> None:
    assert parse_usage(text) == counts


@given(st.binary(max_size=200))
def test_any_bytes_are_some_counts(text: bytes) -> None:
    counts = parse_usage(text)

    assert min(counts.prompt_tokens, counts.completion_tokens) >= 0
