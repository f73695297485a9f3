"""`inferfly limits`: what keys, accounts and models may use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import click

from appliance.admin import tables
from appliance.admin.contract import LimitChanges, SubjectKind
from appliance.admin.verbs import answer

if TYPE_CHECKING:
    from collections.abc import Callable

NONE: Final = "none"
"""What lifts a limit."""

_HELP: Final = {
    "requests_per_minute": "Requests within 60 seconds.",
    "input_tokens_per_minute": "Tokens of prompts within 60 seconds.",
    "output_tokens_per_minute": "Tokens of answers within 60 seconds.",
    "concurrent_requests": "Requests open at the same time.",
    "tokens_per_day": "Tokens of prompts and answers in a day.",
    "tokens_per_month": "Tokens of prompts and answers in a calendar month.",
    "cost_per_day": "Cost in a day, in the site's currency, such as 1500.50.",
    "cost_per_month": "Cost in a calendar month, in the site's currency.",
}


class _Count(click.ParamType[int | str]):
    """A whole number, or `none`."""

    name = "number|none"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        if value == NONE:
            return NONE
        if not (value.isascii() and value.isdecimal()):
            self.fail(f"Give a whole number, or `{NONE}` to lift the limit.", param, ctx)
        return int(value)


def _options(verb: Callable[..., Any]) -> Callable[..., Any]:
    """One option for each limit there is."""
    for name in reversed(LimitChanges.model_fields):
        option, words = f"--{name.replace('_', '-')}", _HELP[name]
        if name.startswith("cost"):
            verb = click.option(option, metavar="AMOUNT|NONE", default=None, help=words)(verb)
        else:
            verb = click.option(option, type=_Count(), default=None, help=words)(verb)
    return verb


_KIND: Final = click.Choice(get_args(SubjectKind))


@click.group(context_settings=answer.CONTEXT)
def limits() -> None:
    """Set, list and clear what keys, accounts and models may use."""


@limits.command("set", context_settings=answer.CONTEXT)
@click.argument("kind", type=_KIND)
@click.argument("name")
@_options
@answer.common
def set_limits(
    home: Path | None, kind: SubjectKind, name: str, *, as_json: bool, **given: int | str | None
) -> None:
    """Set limits of a key, an account or a model.

    NAME is a key's id, or the name of an account or a model. Limits that are not named stay as they are; `none` lifts
    one. A key keeps its limits when it is rotated.

    A request has to fit the limits of its key, its account and its model. One that doesn't is refused, and told when
    to try again. Days and months begin at midnight in INFERFLY_TIMEZONE.

    Example: inferfly limits set account default --requests-per-minute 600
    """
    changes = {limit: None if value == NONE else value for limit, value in given.items() if value is not None}
    if not changes:
        raise click.UsageError("Name at least one limit, such as --requests-per-minute 600.")
    changed = answer.client(home).change_limits(kind, name, changes)
    answer.print_json(changed) if as_json else tables.show_limits([changed])


@limits.command("list", context_settings=answer.CONTEXT)
@answer.common
def list_limits(home: Path | None, *, as_json: bool) -> None:
    """List all limits that are set.

    Example: inferfly limits list
    """
    found = answer.client(home).limits()
    answer.print_json(found) if as_json else tables.show_limits(found)


@limits.command("clear", context_settings=answer.CONTEXT)
@click.argument("kind", type=_KIND)
@click.argument("name")
@answer.common
def clear_limits(home: Path | None, kind: SubjectKind, name: str, *, as_json: bool) -> None:
    """Lift all limits of a key, an account or a model.

    Example: inferfly limits clear account default
    """
    cleared = answer.client(home).clear_limits(kind, name)
    answer.print_json(cleared) if as_json else answer.say(f"The {kind} {name} has no limits now.")
