"""Runs a program of the installation to its end, with its output in the install log."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

LAST_LINES_MAX: Final = 3
LINE_CHARS_MAX: Final = 600


@dataclass(frozen=True, slots=True)
class Run:
    """How a program ended: its exit code and the last lines that it printed."""

    code: int
    last_lines: tuple[str, ...]

    @property
    def ending(self) -> str:
        return " ".join(self.last_lines)


def run(
    command: Sequence[str],
    variables: Mapping[str, str],
    log: Path,
    on_line: Callable[[str], None] = lambda _: None,
    *,
    quiet: bool = False,
) -> Run:
    """Run `command` in an environment of exactly `variables`, and give each line it prints to `on_line`.

    `quiet` keeps them out of the log. Interrupted, it kills the program first.
    """
    last: list[str] = []
    with (
        _opened(log) as file,
        subprocess.Popen(  # noqa: S603  # commands of ours, no shell
            command,
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for printed in process.stdout:
                line = printed.strip()[:LINE_CHARS_MAX]
                if line:
                    last = [*last, line][-LAST_LINES_MAX:]
                    on_line(line)
                if not quiet:
                    file.write(printed)
        except BaseException:
            process.kill()
            raise
    return Run(process.returncode, tuple(last))


def _opened(log: Path) -> IO[str]:
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w", encoding="utf-8")
