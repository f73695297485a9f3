import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from benchmarks import soak
from benchmarks.soak import Moment, Soak


def moments(*memory_mb: float) -> list[Moment]:
    """One a second."""
    return [Moment(float(second), mb, 10) for second, mb in enumerate(memory_mb)]


def test_growth_before_the_memory_has_settled_does_not_count() -> None:
    rising = [*range(60, 80), *(80 for _ in range(81))]

    assert soak.growth(moments(*rising), 100) == (80, 80)


def test_growth_is_from_the_settled_memory_to_the_end() -> None:
    rising = [100 + second for second in range(101)]

    settled, end = soak.growth(moments(*rising), 100)

    assert (settled, end) == (125, 195)


def test_single_peak_is_no_growth() -> None:
    flat = [80.0] * 101
    flat[95] = 200

    assert soak.growth(moments(*flat), 100) == (80, 80)


@pytest.mark.parametrize(
    ("values", "line"),
    [([1, 2, 3, 4, 5, 6, 7, 8], "▁▂▃▄▅▆▇█"), ([5, 5, 5], "▁▁▁"), ([8, 1], "█▁")],
    ids=["rising", "flat", "falling"],
)
def test_sparkline_shows_the_course(values: list[float], line: str) -> None:
    assert soak.sparkline(values) == line


def test_sparkline_is_never_wider_than_its_width() -> None:
    assert len(soak.sparkline([float(number) for number in range(1_000)], width=60)) <= 60


def test_short_soak_checks_every_answer_and_watches_the_memory(short_folder: Path) -> None:
    """So short a run says nothing of growth, so the verdict is not asked for."""
    out = short_folder / "result"

    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.soak"),
            "--minutes",
            "0.1",
            "--streams",
            "20",
            "--out",
            str(out),
        ],
        env=os.environ | {"TMPDIR": str(short_folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    found = msgspec.json.decode(out.with_suffix(".json").read_bytes(), type=Soak)
    assert (found.errors, found.streams) == (0, 20)
    assert found.answers >= 20
    assert found.ledgers["inferfly"].right
    assert len(found.moments) > 50
    assert min(moment.memory_mb for moment in found.moments) > 10
    assert found.flat == (done.returncode == 0)
    assert ("NOT FLAT" in done.stdout) == (not found.flat)
