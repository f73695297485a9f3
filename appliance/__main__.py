"""`inferfly`: the command line. The only place that exits."""

from __future__ import annotations

import importlib
import sys

import click

from appliance import __version__
from appliance.errors import InferflyError, OperatorError

COMMANDS = {
    "up": "appliance.app:up",
    "status": "appliance.admin.verbs.status:status",
    "models": "appliance.admin.verbs.status:models",
    "keys": "appliance.admin.verbs.keys:keys",
    "accounts": "appliance.admin.verbs.accounts:accounts",
    "limits": "appliance.admin.verbs.limits:limits",
    "prices": "appliance.admin.verbs.prices:prices",
    "usage": "appliance.admin.verbs.usage:usage",
    "bans": "appliance.admin.verbs.bans:bans",
    "check": "appliance.app:check",
    "setup": "appliance.engine.setup:setup",
    "weights": "appliance.engine.setup:weights",
    "gateway": "appliance.app:gateway",
    "control": "appliance.app:control",
    "engine": "appliance.app:engine",
}
"""Verb -> where its click command is. Loaded when asked for, so that each verb starts in a blink.

In the order of the help: what an operator needs most is first, what only `inferfly up` and systemd call is last.
"""

EXIT_DEFECT = 70
"""EX_SOFTWARE of sysexits.h."""


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's signature
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name].split(":")
        return getattr(importlib.import_module(module), name)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="inferfly")
def cli() -> None:
    """Run and administer an Inferfly Appliance.

    `inferfly up` serves in this terminal. Ask everything else in another one, from the same folder or with --home.
    Every verb has --help.
    """


def main() -> None:
    """Entry point. Every named failure becomes one message on stderr and its exit code; none a traceback."""
    try:
        cli(prog_name="inferfly")
    except InferflyError as error:
        click.echo(f"inferfly: {error}", err=True)
        sys.exit(error.exit_code if isinstance(error, OperatorError) else 1)
    except Exception as error:  # noqa: BLE001  # the last resort: a traceback could quote what it must not
        click.echo(f"inferfly: This is a defect of ours: {_where(error)}. Please report it.", err=True)
        sys.exit(EXIT_DEFECT)


def _where(error: BaseException) -> str:
    """Type and place of an error, never its text."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    place = f" at {trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno}" if trace else ""
    return f"{type(error).__name__}{place}"


if __name__ == "__main__":
    main()
