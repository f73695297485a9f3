from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from appliance.__main__ import COMMANDS, cli
from appliance.errors import ControlUnreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.settings import Settings

OURS = [name for name, place in COMMANDS.items() if place.startswith("appliance.admin.verbs.")]


def _leaves(name: str, command: click.Command | None) -> Iterator[str]:
    if not isinstance(command, click.Group):
        yield name
        return
    for sub, found in command.commands.items():
        yield from _leaves(f"{name} {sub}", found)


VERBS = [leaf for name in OURS for leaf in _leaves(name, cli.get_command(click.Context(cli), name))]


def test_without_control_every_verb_says_how_to_start_it(settings: Settings) -> None:
    result = CliRunner().invoke(cli, ["status", "--home", str(settings.home)])

    assert isinstance(result.exception, ControlUnreachable)
    assert result.exception.exit_code == 69


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_an_example_and_the_common_options(name: str) -> None:
    shown = CliRunner().invoke(cli, [*name.split(), "--help"], terminal_width=80)

    assert shown.exit_code == 0
    assert f"Example: inferfly {name}" in shown.output
    assert "--json" in shown.output
    assert "--home" in shown.output
    assert max(map(len, shown.output.splitlines())) <= 80


def test_verbs_are_those_of_the_readme_and_no_less() -> None:
    assert {"keys rotate", "limits set", "prices set", "bans lift", "usage", "models"} <= set(VERBS)
