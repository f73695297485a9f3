from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from appliance.engine import logged

SHELL = ("/bin/sh", "-c")


def test_output_goes_to_the_log_and_line_by_line_to_the_listener(tmp_path: Path) -> None:
    heard: list[str] = []

    ended = logged.run(
        [*SHELL, "echo one; echo two >&2; exit 3"], {}, tmp_path / "logs" / "log", heard.append
    )

    assert ended == logged.Run(3, ("one", "two"))
    assert heard == ["one", "two"]
    assert (tmp_path / "logs" / "log").read_text(encoding="utf-8") == "one\ntwo\n"


def test_the_log_is_the_operators_alone(tmp_path: Path) -> None:
    logged.run([*SHELL, "echo x"], {}, tmp_path / "log")

    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_quiet_keeps_the_log_short(tmp_path: Path) -> None:
    ended = logged.run([*SHELL, "echo x"], {}, tmp_path / "log", quiet=True)

    assert ended.last_lines == ("x",)
    assert (tmp_path / "log").read_text(encoding="utf-8") == ""


def test_only_the_last_lines_are_kept_each_of_bounded_length(tmp_path: Path) -> None:
    script = "import sys\nfor n in range(9): print(str(n) * 1000)"

    ended = logged.run([sys.executable, "-c", script], {}, tmp_path / "log")

    assert ended.last_lines == tuple(digit * logged.LINE_CHARS_MAX for digit in "678")


def test_the_program_sees_only_the_variables_it_is_given(tmp_path: Path) -> None:
    ended = logged.run([*SHELL, "echo ${HOME:-none} $GIVEN"], {"GIVEN": "yes"}, tmp_path / "log")

    assert ended.ending == "none yes"


def test_interrupted_it_kills_the_program(tmp_path: Path) -> None:
    pids: list[int] = []

    def interrupt(line: str) -> None:
        pids.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        logged.run([*SHELL, "echo $$; exec sleep 60"], {"PATH": os.defpath}, tmp_path / "log", interrupt)

    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], signal.SIG_DFL)
