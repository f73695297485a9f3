from __future__ import annotations

import io

from rich.console import Console

from appliance.engine.progress import SECONDS_BETWEEN_LINES, Reporter


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_without_a_terminal_a_step_is_a_line_at_its_start_and_one_at_its_end() -> None:
    out, clock = io.StringIO(), Clock()
    reporter = Reporter(Console(file=out), clock)

    with reporter.step("Building [x]"):
        clock.now = 7

    assert out.getvalue() == "  Building [x] ...\n  Building [x]: done in 7 s\n"


def test_a_long_step_says_now_and_then_that_it_is_alive() -> None:
    out, clock = io.StringIO(), Clock()
    reporter = Reporter(Console(file=out), clock)

    with reporter.step("Hashing") as step:
        step.update(1, 4)
        clock.now += SECONDS_BETWEEN_LINES
        step.update(2, 4)
        step.note("too soon")

    assert [line.strip() for line in out.getvalue().splitlines()[1:-1]] == ["Hashing: 50 %"]


def test_on_a_terminal_only_the_ending_stays() -> None:
    out = io.StringIO()
    terminal = Console(file=out, force_terminal=True, width=80, color_system=None)
    reporter = Reporter(terminal, Clock())

    with reporter.step("Hashing") as step:
        step.update(1, 2)
        step.note("a file")

    erase_line = "\x1b[1A\x1b[2K"
    assert out.getvalue().splitlines()[-1] == f"{erase_line}  Hashing: done in 0 s"


def test_a_step_that_fails_has_no_ending() -> None:
    out = io.StringIO()
    reporter = Reporter(Console(file=out), Clock())

    try:
        with reporter.step("Hashing"):
            raise ValueError  # noqa: TRY301  # the failure is the point
    except ValueError:
        pass

    assert "done" not in out.getvalue()


def test_a_long_line_is_not_cut_in_two() -> None:
    out = io.StringIO()

    Reporter(Console(file=out, width=20)).say("/a/very/long/path/that/somebody/will/copy")

    assert out.getvalue() == "  /a/very/long/path/that/somebody/will/copy\n"
