"""`inferfly status` and `inferfly models`: how the appliance is."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from appliance.admin import tables
from appliance.admin.verbs import answer

NOT_READY: Final = 3
"""Exit code of `inferfly status` while an application would not get an answer."""


@click.command(context_settings=answer.CONTEXT)
@answer.common
@click.pass_context
def status(ctx: click.Context, home: Path | None, *, as_json: bool) -> None:
    """Show whether the appliance serves, and why not.

    Exit code 0: ready. 3: running, but not ready. 69: control is not running.

    Example: inferfly status --json
    """
    found = answer.client(home).status()
    if as_json:
        answer.print_json(found)
    else:
        tables.show_status(found)
    ctx.exit(0 if found.ready else NOT_READY)


@click.command(context_settings=answer.CONTEXT)
@answer.common
def models(home: Path | None, *, as_json: bool) -> None:
    """List the models of this box, and what each serves.

    Example: inferfly models
    """
    found = answer.client(home).status().models
    if as_json:
        answer.print_json(found)
    else:
        tables.show_models(found)
