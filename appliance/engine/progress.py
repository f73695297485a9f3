"""Shows the steps of a long job: live on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

SECONDS_BETWEEN_LINES = 10
"""How often a step without a terminal says that it is still alive."""


class Step:
    """One step under way. The job calls `update` and `note` as often as it likes."""

    def update(self, done: int, total: int) -> None:
        """Done so far, in whatever unit the step counts."""

    def note(self, text: str) -> None:
        """What it is busy with."""


class _LiveStep(Step):
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def update(self, done: int, total: int) -> None:
        self._progress.update(self._task, completed=done, total=total)

    def note(self, text: str) -> None:
        self._progress.update(self._task, note=text)


@dataclass
class _PlainStep(Step):
    console: Console
    title: str
    clock: Callable[[], float]
    last: float = field(init=False)
    text: str = ""

    def __post_init__(self) -> None:
        self.last = self.clock()

    def update(self, done: int, total: int) -> None:
        self._say(f"{done * 100 // total} %" if total else "")

    def note(self, text: str) -> None:
        self._say(text)

    def _say(self, text: str) -> None:
        if self.clock() - self.last < SECONDS_BETWEEN_LINES:
            return
        self.last = self.clock()
        _print(self.console, f"  {self.title}: {text}")


class Reporter:
    """Where the steps of a job are shown."""

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console or Console()
        self._clock = clock

    @contextmanager
    def step(self, title: str) -> Generator[Step]:
        """Show `title` until the block ends, then leave one line that says how long it took."""
        start = self._clock()
        with self._live(title) if self._console.is_terminal else self._plain(title) as step:
            yield step
        _print(self._console, f"  {title}: done in {self._clock() - start:.0f} s")

    def say(self, line: str) -> None:
        """Leave one line: what was found in place already, for one."""
        _print(self._console, f"  {line}")

    @contextmanager
    def _live(self, title: str) -> Generator[Step]:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
        )
        with Progress(*columns, console=self._console, transient=True) as progress:
            yield _LiveStep(progress, progress.add_task(title, total=None, note=""))

    @contextmanager
    def _plain(self, title: str) -> Generator[Step]:
        _print(self._console, f"  {title} ...")
        yield _PlainStep(self._console, title, self._clock)


def _print(console: Console, line: str) -> None:
    """As it is: no markup, and no wrapping, which would cut a path in two."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)
