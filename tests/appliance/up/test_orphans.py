"""In a process of its own: who adopts orphans adopts those of every other test, too."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]

ADOPT = """
import asyncio, os, subprocess, time
from appliance.up.orphans import GRACE_SECONDS, Orphans

own = subprocess.Popen(["sleep", "60"])
orphans = Orphans(lambda: {own.pid})
subprocess.run(["sh", "-c", "SLEEP & echo"], stdout=subprocess.DEVNULL)
STEPS
print(own.poll() is None)
own.kill()
"""


def adopt(sleep: str, steps: str) -> list[str]:
    run = subprocess.run(
        [sys.executable, "-c", ADOPT.replace("SLEEP", sleep).replace("STEPS", steps)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return run.stdout.split()


def test_what_a_child_leaves_behind_is_killed_after_its_grace() -> None:
    steps = """
print(orphans.sweep(0), orphans.sweep(GRACE_SECONDS - 1))
orphans.sweep(GRACE_SECONDS)
time.sleep(0.2)
print(orphans.sweep(GRACE_SECONDS))
"""

    assert adopt("sleep 60", steps) == ["1", "1", "0", "True"]


def test_what_ends_by_itself_is_only_reaped() -> None:
    assert adopt("sleep 0.1", "time.sleep(0.5)\nprint(orphans.sweep(0))") == ["0", "True"]


def test_at_the_end_none_is_left() -> None:
    steps = """
asyncio.run(orphans.settle())
print(orphans.sweep(0))
"""

    assert adopt("sleep 60", steps) == ["0", "True"]
