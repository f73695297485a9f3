"""`inferfly prices`: what the tokens of models cost."""

from __future__ import annotations

from pathlib import Path

import click

from appliance.admin import tables
from appliance.admin.verbs import answer


@click.group(context_settings=answer.CONTEXT)
def prices() -> None:
    """Set, list and clear what the tokens of models cost."""


@prices.command("set", context_settings=answer.CONTEXT)
@click.argument("model")
@click.option(
    "--input-per-million",
    required=True,
    metavar="AMOUNT",
    help="Price of a million tokens of prompts, such as 12.50.",
)
@click.option(
    "--output-per-million", required=True, metavar="AMOUNT", help="Price of a million tokens of answers."
)
@answer.common
def set_price(
    home: Path | None, model: str, input_per_million: str, output_per_million: str, *, as_json: bool
) -> None:
    """Set what a model's tokens cost from now on.

    Amounts are in the site's currency, INFERFLY_CURRENCY. Nothing is converted.

    Example: inferfly prices set chat --input-per-million 9 --output-per-million 40
    """
    price = answer.client(home).set_price(
        model, input_per_million=input_per_million, output_per_million=output_per_million
    )
    answer.print_json(price) if as_json else tables.show_prices([price])


@prices.command("list", context_settings=answer.CONTEXT)
@answer.common
def list_prices(home: Path | None, *, as_json: bool) -> None:
    """List the prices. A model that is not among them costs nothing.

    Example: inferfly prices list
    """
    found = answer.client(home).prices()
    answer.print_json(found) if as_json else tables.show_prices(found)


@prices.command("clear", context_settings=answer.CONTEXT)
@click.argument("model")
@answer.common
def clear_price(home: Path | None, model: str, *, as_json: bool) -> None:
    """Make a model's tokens free from now on. What was used before keeps its cost.

    Example: inferfly prices clear my-model
    """
    price = answer.client(home).clear_price(model)
    answer.print_json(price) if as_json else answer.say(f"The model {model} has no price now.")
