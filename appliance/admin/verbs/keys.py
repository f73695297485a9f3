"""`inferfly keys`: API keys, with what they may be used for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, get_args

import click

from appliance.admin import tables
from appliance.admin.client import Client
from appliance.admin.contract import (
    EXPIRES_DAYS_DEFAULT,
    EXPIRES_DAYS_MAX,
    GRACE_HOURS_DEFAULT,
    GRACE_HOURS_MAX,
    Endpoint,
    Key,
)
from appliance.admin.verbs import answer
from appliance.errors import Refused

_EXPIRES: Final[dict[str, Any]] = {
    "type": click.IntRange(1, EXPIRES_DAYS_MAX),
    "default": EXPIRES_DAYS_DEFAULT,
    "show_default": True,
}


@click.group(context_settings=answer.CONTEXT)
def keys() -> None:
    """Create, list, rotate and revoke API keys."""


@keys.command("create", context_settings=answer.CONTEXT)
@click.option("--account", required=True, metavar="NAME", help="Account that the key's usage counts for.")
@click.option(
    "--name", required=True, help="What the key is for, such as `ticket-search`. At most 40 characters."
)
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="MODEL",
    help="Only this model. Can be given again. Default: all.",
)
@click.option(
    "--endpoint",
    "endpoints",
    type=click.Choice(get_args(Endpoint)),
    multiple=True,
    metavar="FAMILY",
    help=f"Only this API family: {', '.join(get_args(Endpoint))}. Can be given again. Default: all.",
)
@click.option(
    "--network",
    "networks",
    metavar="NETWORK",
    multiple=True,
    help="Only from this network, such as 10.1.0.0/16. Can be given again. Default: from anywhere.",
)
@click.option("--expires-days", **_EXPIRES, help="Days until the key stops working.")
@answer.common
def create_key(  # noqa: PLR0913  # the options of the verb
    home: Path | None,
    account: str,
    name: str,
    models: tuple[str, ...],
    endpoints: tuple[str, ...],
    networks: tuple[str, ...],
    expires_days: int,
    *,
    as_json: bool,
) -> None:
    """Make an API key. It is shown once: only its SHA-256 is kept.

    It may be bound to models, API families and networks. What it may use is set with `inferfly limits`.

    Example: inferfly keys create --account default --name ticket-search
    """
    created = answer.client(home).create_key(
        account=account,
        name=name,
        expires_days=expires_days,
        models=models,
        endpoints=endpoints,
        networks=networks,
    )
    answer.print_json(created) if as_json else tables.show_created_key(created)


@keys.command("list", context_settings=answer.CONTEXT)
@click.option("--account", default=None, metavar="NAME", help="Only the keys of this account.")
@answer.common
def list_keys(home: Path | None, account: str | None, *, as_json: bool) -> None:
    """List API keys, without their secrets.

    Below the table stands what a key is bound to, and which key it continues.

    Example: inferfly keys list --account default
    """
    found = answer.client(home).list_keys(account)
    answer.print_json(found) if as_json else tables.show_keys(found)


@keys.command("rotate", context_settings=answer.CONTEXT)
@click.argument("key_id")
@click.option(
    "--grace-hours",
    type=click.IntRange(0, GRACE_HOURS_MAX),
    default=GRACE_HOURS_DEFAULT,
    show_default=True,
    help="Hours that the old key still works, if it does not expire before.",
)
@click.option("--expires-days", **_EXPIRES, help="Days until the new key stops working.")
@answer.common
def rotate_key(home: Path | None, key_id: str, grace_hours: int, expires_days: int, *, as_json: bool) -> None:
    """Make a key's successor. It is shown once, and both work for a while.

    The new key has the old one's account, name, scopes, limits and counts.

    Example: inferfly keys rotate 7Fq2mZ0aBc --grace-hours 48
    """
    created = answer.client(home).rotate_key(key_id, grace_hours=grace_hours, expires_days=expires_days)
    answer.print_json(created) if as_json else tables.show_created_key(created)


@keys.command("revoke", context_settings=answer.CONTEXT)
@click.argument("key_id")
@click.option(
    "--line",
    is_flag=True,
    help="Also revoke every key that it was rotated from or into.",
)
@click.option("--yes", is_flag=True, help="Don't ask.")
@answer.common
def revoke_key(home: Path | None, key_id: str, *, line: bool, yes: bool, as_json: bool) -> None:
    """Stop a key from working, for good and within a second.

    Requests that run with it are ended.

    A key that was rotated and its successor are two keys: revoke one and the other works on. --line revokes both.

    Example: inferfly keys revoke 7Fq2mZ0aBc
    """
    client = answer.client(home)
    if not yes:
        _confirm(client, key_id, line=line)
    if line:
        revoked = client.revoke_line(key_id)
        answer.print_json(revoked) if as_json else [answer.say(_told(key)) for key in revoked]
    else:
        key = client.revoke_key(key_id)
        answer.print_json(key) if as_json else answer.say(_told(key))


def _confirm(client: Client, key_id: str, *, line: bool) -> None:
    known = client.list_keys()
    found = next((key for key in known if key.key_id == key_id), None)
    if found is None:
        raise Refused("There is no key with that id.", fix="`inferfly keys list` shows them.")
    others = [key.key_id for key in known if key.origin == found.origin and key.key_id != key_id]
    also = f" and {', '.join(others)}" if line and others else ""
    click.confirm(
        f"Revoke the key {key_id}{also} ({found.name} of {found.account})? Applications that use it stop working.",
        abort=True,
        err=True,
    )


def _told(key: Key) -> str:
    return f"Revoked the key {key.key_id} ({key.name} of {key.account})."
