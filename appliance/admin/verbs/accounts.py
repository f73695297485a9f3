"""`inferfly accounts`: who keys and usage belong to."""

from __future__ import annotations

from pathlib import Path

import click

from appliance.admin import tables
from appliance.admin.verbs import answer


@click.group(context_settings=answer.CONTEXT)
def accounts() -> None:
    """Create and list accounts: whom keys and usage belong to."""


@accounts.command("create", context_settings=answer.CONTEXT)
@click.argument("name")
@answer.common
def create_account(home: Path | None, name: str, *, as_json: bool) -> None:
    """Make an account.

    It stands for a team or an application, whose keys share its limits and are counted together.

    Example: inferfly accounts create search-team
    """
    created = answer.client(home).create_account(name)
    if as_json:
        answer.print_json(created)
    else:
        answer.say(
            f"Created the account {created.name}. Next: inferfly keys create --account {created.name} --name NAME"
        )


@accounts.command("list", context_settings=answer.CONTEXT)
@answer.common
def list_accounts(home: Path | None, *, as_json: bool) -> None:
    """List accounts.

    Example: inferfly accounts list
    """
    found = answer.client(home).accounts()
    if as_json:
        answer.print_json(found)
    else:
        tables.show_accounts(found)
