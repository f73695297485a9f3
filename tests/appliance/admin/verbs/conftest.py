from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from appliance.__main__ import cli

if TYPE_CHECKING:
    from tests.fakes.control import Control


@pytest.fixture
def run(control: Control) -> Callable[..., str]:
    """Run one verb against the running control; an operator's error is raised, as `main()` would see it."""

    def run_verb(*arguments: str, typed: str | None = None, code: int = 0) -> str:
        result = CliRunner().invoke(cli, [*arguments, "--home", str(control.settings.home)], input=typed)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result.stdout

    return run_verb


@pytest.fixture
def run_json(run: Callable[..., str]) -> Callable[..., Any]:
    """The same, with --json."""

    def run_verb(*arguments: str, code: int = 0) -> Any:
        return json.loads(run(*arguments, "--json", code=code))

    return run_verb
