"""What all administrators' verbs have in common: their options, their client and how they answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from pydantic import BaseModel, TypeAdapter

from appliance.admin.client import Client
from appliance.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CONTEXT: Final = {"help_option_names": ["-h", "--help"]}


def common(verb: Callable[..., Any]) -> Callable[..., Any]:
    """The options that every verb has."""
    verb = click.option("--json", "as_json", is_flag=True, help="Print JSON.")(verb)
    return click.option(
        "--home",
        type=click.Path(path_type=Path),
        default=None,
        help="State folder. Default: ./.inferfly or INFERFLY_HOME.",
    )(verb)


def client(home: Path | None) -> Client:
    return Client(Settings.load(home).control_socket)


def say(text: str) -> None:
    click.echo(text)


def print_json(answer: BaseModel | Sequence[BaseModel]) -> None:
    if isinstance(answer, BaseModel):
        click.echo(answer.model_dump_json(indent=2))
    else:
        click.echo(TypeAdapter(list[Any]).dump_json(list(answer), indent=2).decode())
