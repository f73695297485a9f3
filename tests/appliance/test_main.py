from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from appliance.__main__ import COMMANDS, cli
from tests.tidy.tree import ROOT

BROKEN = "import sys; from appliance import __main__ as m; {change}; sys.argv[1:] = ['check']; m.main()"


def commands(
    group: click.Group, prefix: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every verb with its words, and every verb under it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*prefix, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*prefix, name))


ALL = dict(commands(cli))
IDS = [" ".join(words) for words in ALL]


def inferfly(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return run("-m", "appliance", *arguments, cwd=cwd, **environment)


def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("command", ALL.values(), ids=IDS)
def test_every_verb_says_what_it_does(command: click.Command) -> None:
    assert command.help
    assert command.help.split("\n\n")[0].strip().endswith(".")
    assert "\\b" not in command.help, "click's mark for a fixed block is the character, not its escape"


@pytest.mark.parametrize("command", ALL.values(), ids=IDS)
def test_every_option_says_what_it_does(command: click.Command) -> None:
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]

    assert [option.name for option in options if not option.help] == []


def test_help_lists_every_verb(tmp_path: Path) -> None:
    done = inferfly("--help", cwd=tmp_path)

    assert done.returncode == 0
    assert [verb for verb in COMMANDS if f"\n  {verb} " not in done.stdout] == []


def test_an_unknown_verb_is_a_usage_error(tmp_path: Path) -> None:
    done = inferfly("fly", cwd=tmp_path)

    assert done.returncode == 2
    assert "No such command 'fly'" in done.stderr


def test_a_named_failure_is_one_message_and_its_exit_code(tmp_path: Path) -> None:
    done = inferfly("check", "gone.yaml", cwd=tmp_path)

    assert done.returncode == 78
    assert done.stderr.startswith("inferfly: gone.yaml can't be read: No such file or directory.")
    assert len(done.stderr.splitlines()) == 1


def test_a_wrong_setting_is_one_message_and_its_exit_code(tmp_path: Path) -> None:
    done = inferfly("check", cwd=tmp_path, INFERFLY_PORT="high")

    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.startswith("inferfly: These settings are not valid: INFERFLY_PORT.")


def test_a_defect_is_told_by_type_and_place_only(tmp_path: Path) -> None:
    """An exception's text may quote a request; so no traceback is printed, whatever happens."""
    fault = "def f(*a, **k): raise KeyError('the words of a prompt')\nm.cli = f\n0"

    done = run("-c", BROKEN.replace("; ", "\n").format(change=fault), cwd=tmp_path)

    assert done.returncode == 70
    assert done.stderr == "inferfly: This is a defect of ours: KeyError at __main__:3. Please report it.\n"


def test_a_closed_pipe_is_no_defect(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)

    with os.fdopen(write, "w") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "appliance", "check", "--schema"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )

    assert "defect" not in done.stderr
    assert "Traceback" not in done.stderr
