"""`inferfly bans`: addresses that the gateway refuses for wrong keys."""

from __future__ import annotations

from pathlib import Path

import click

from appliance.admin import tables
from appliance.admin.verbs import answer


@click.group(context_settings=answer.CONTEXT)
def bans() -> None:
    """List and lift bans of addresses that sent wrong keys.

    Bans end by themselves after INFERFLY_BAN_SECONDS, and when the gateway starts anew.
    """


@bans.command("list", context_settings=answer.CONTEXT)
@answer.common
def list_bans(home: Path | None, *, as_json: bool) -> None:
    """List the addresses that are banned now.

    Example: inferfly bans list
    """
    found = answer.client(home).bans()
    answer.print_json(found) if as_json else tables.show_bans(found)


@bans.command("lift", context_settings=answer.CONTEXT)
@click.argument("source")
@answer.common
def lift_ban(home: Path | None, source: str, *, as_json: bool) -> None:
    """Let a banned address try again, at once.

    SOURCE is an address, or an IPv6 network as `inferfly bans list` shows it.

    Example: inferfly bans lift 10.1.2.3
    """
    lifted = answer.client(home).lift_ban(source)
    answer.print_json(lifted) if as_json else answer.say(f"The ban of {lifted.source} is lifted.")
