"""The administrators' verbs of the command line: ask control, print a table or JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from pydantic import BaseModel, TypeAdapter

from appliance.admin import tables
from appliance.admin.client import Client
from appliance.admin.contract import (
    EXPIRES_DAYS_DEFAULT,
    EXPIRES_DAYS_MAX,
    USAGE_DAYS_DEFAULT,
    USAGE_DAYS_MAX,
    USAGE_LIMIT_MAX,
    UsageGroup,
)
from appliance.errors import Refused
from appliance.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NOT_READY: Final = 3
"""Exit code of `inferfly status` while an application would not get an answer."""

_CONTEXT: Final = {"help_option_names": ["-h", "--help"]}


def _common(verb: Callable[..., Any]) -> Callable[..., Any]:
    """The options that every verb has."""
    verb = click.option("--json", "as_json", is_flag=True, help="Print JSON.")(verb)
    return click.option(
        "--home",
        type=click.Path(path_type=Path),
        default=None,
        help="State folder. Default: ./.inferfly or INFERFLY_HOME.",
    )(verb)


def _client(home: Path | None) -> Client:
    return Client(Settings.load(home).control_socket)


def _print_json(answer: BaseModel | Sequence[BaseModel]) -> None:
    if isinstance(answer, BaseModel):
        click.echo(answer.model_dump_json(indent=2))
    else:
        click.echo(TypeAdapter(list[Any]).dump_json(list(answer), indent=2).decode())


@click.command(context_settings=_CONTEXT)
@_common
@click.pass_context
def status(ctx: click.Context, home: Path | None, *, as_json: bool) -> None:
    """Show whether the appliance serves, and why not.

    Exit code 0: ready. 3: running, but not ready. 69: control is not running.

    Example: inferfly status --json
    """
    found = _client(home).status()
    if as_json:
        _print_json(found)
    else:
        tables.show_status(found)
    ctx.exit(0 if found.ready else NOT_READY)


@click.command(context_settings=_CONTEXT)
@_common
def models(home: Path | None, *, as_json: bool) -> None:
    """List the models this box serves.

    Example: inferfly models
    """
    found = _client(home).status().models
    if as_json:
        _print_json(found)
    else:
        tables.show_models(found)


@click.group(context_settings=_CONTEXT)
def keys() -> None:
    """Create, list and revoke API keys."""


@keys.command("create", context_settings=_CONTEXT)
@click.option("--account", required=True, help="Account that the key's usage counts for.")
@click.option(
    "--name", required=True, help="What the key is for, such as `ticket-search`. At most 40 characters."
)
@click.option(
    "--expires-days",
    type=click.IntRange(1, EXPIRES_DAYS_MAX),
    default=EXPIRES_DAYS_DEFAULT,
    show_default=True,
    help="Days until the key stops working.",
)
@_common
def create_key(home: Path | None, account: str, name: str, expires_days: int, *, as_json: bool) -> None:
    """Make an API key. It is shown once: only its SHA-256 is kept.

    Example: inferfly keys create --account default --name ticket-search
    """
    created = _client(home).create_key(account=account, name=name, expires_days=expires_days)
    if as_json:
        _print_json(created)
    else:
        tables.show_created_key(created)


@keys.command("list", context_settings=_CONTEXT)
@click.option("--account", default=None, help="Only the keys of this account.")
@_common
def list_keys(home: Path | None, account: str | None, *, as_json: bool) -> None:
    """List API keys, without their secrets.

    Example: inferfly keys list --account default
    """
    found = _client(home).list_keys(account)
    if as_json:
        _print_json(found)
    else:
        tables.show_keys(found)


@keys.command("revoke", context_settings=_CONTEXT)
@click.argument("key_id")
@click.option("--yes", is_flag=True, help="Don't ask.")
@_common
def revoke_key(home: Path | None, key_id: str, *, yes: bool, as_json: bool) -> None:
    """Stop the key KEY_ID from working, for good and at once.

    Example: inferfly keys revoke 7Fq2mZ0aBc
    """
    client = _client(home)
    if not yes:
        found = next((key for key in client.list_keys() if key.key_id == key_id), None)
        if found is None:
            raise Refused("There is no key with that id.", fix="`inferfly keys list` shows them.")
        click.confirm(
            f"Revoke the key {key_id} ({found.name} of {found.account})? Applications that use it stop working.",
            abort=True,
            err=True,
        )
    revoked = client.revoke_key(key_id)
    if as_json:
        _print_json(revoked)
    else:
        click.echo(f"Revoked the key {revoked.key_id} ({revoked.name} of {revoked.account}).")


@click.group(context_settings=_CONTEXT)
def accounts() -> None:
    """Create and list accounts: who keys and usage belong to."""


@accounts.command("create", context_settings=_CONTEXT)
@click.argument("name")
@_common
def create_account(home: Path | None, name: str, *, as_json: bool) -> None:
    """Make the account NAME. An application's account needs no person.

    Example: inferfly accounts create search-team
    """
    created = _client(home).create_account(name)
    if as_json:
        _print_json(created)
    else:
        click.echo(
            f"Created the account {created.name}. Next: inferfly keys create --account {created.name} --name NAME"
        )


@accounts.command("list", context_settings=_CONTEXT)
@_common
def list_accounts(home: Path | None, *, as_json: bool) -> None:
    """List accounts.

    Example: inferfly accounts list
    """
    found = _client(home).accounts()
    if as_json:
        _print_json(found)
    else:
        tables.show_accounts(found)


@click.command(context_settings=_CONTEXT)
@click.option(
    "--by",
    type=click.Choice(["account", "key", "model", "day"]),
    default="account",
    show_default=True,
    help="What one line of the answer stands for.",
)
@click.option(
    "--days",
    type=click.IntRange(1, USAGE_DAYS_MAX),
    default=USAGE_DAYS_DEFAULT,
    show_default=True,
    help="Days to add up, today (UTC) included.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, USAGE_LIMIT_MAX),
    default=None,
    help="List this many newest requests instead.",
)
@_common
def usage(home: Path | None, by: UsageGroup, days: int, limit: int | None, *, as_json: bool) -> None:
    """Show requests and tokens: totals, or the newest requests with --limit.

    Example: inferfly usage --by model --days 7
    """
    client = _client(home)
    if limit is not None:
        rows = client.newest_requests(limit)
        _print_json(rows) if as_json else tables.show_requests(rows)
        return
    report = client.usage(by=by, days=days)
    _print_json(report) if as_json else tables.show_usage(report)
