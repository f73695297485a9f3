"""`inferfly`: the command line. The only place that exits."""

from __future__ import annotations

import importlib
import sys

import click

from appliance import __version__
from appliance.errors import InferflyError, OperatorError

COMMANDS = {
    "up": "appliance.app:up",
    "gateway": "appliance.app:gateway",
    "control": "appliance.app:control",
    "engine": "appliance.app:engine",
    "check": "appliance.app:check",
    "setup": "appliance.engine.setup:setup",
    "weights": "appliance.engine.setup:weights",
    "status": "appliance.admin.verbs:status",
    "models": "appliance.admin.verbs:models",
    "keys": "appliance.admin.verbs:keys",
    "accounts": "appliance.admin.verbs:accounts",
    "usage": "appliance.admin.verbs:usage",
}
"""Verb -> where its click command is. Loaded when asked for, so that each verb starts in a blink."""


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name].split(":")
        return getattr(importlib.import_module(module), name)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="inferfly")
def cli() -> None:
    """Run and administer an Inferfly Appliance."""


def main() -> None:
    """Entry point. Every named failure becomes one message on stderr and its exit code; none a traceback."""
    try:
        cli()
    except InferflyError as error:
        click.echo(f"inferfly: {error}", err=True)
        sys.exit(error.exit_code if isinstance(error, OperatorError) else 1)


if __name__ == "__main__":
    main()
