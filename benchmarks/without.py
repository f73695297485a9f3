"""The real gateway with one step of the request path replaced by nothing: what that step costs is the difference.

Only for benchmarks. Each of these steps has no switch in the product, because none is to be had without it.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from appliance.domain import Outcome, Price, Reservation, Used
from appliance.gateway import guard, meter, policy, server, shape
from appliance.gateway.schema import fields
from appliance.settings import Settings
from appliance.store import journal

if TYPE_CHECKING:
    from appliance.domain import Call, Caller
    from appliance.store.journal import Journal, OpenRequest


def salts() -> None:
    """All accounts share what engines have cached."""

    def none(_caller: Caller, _call: Call) -> str:
        return ""

    policy.cache_salt = none


def structure() -> None:
    """The typed decode alone judges a body: a key given twice gets through."""

    def nothing(_body: bytes) -> None: ...

    shape.check = nothing


def running_usage() -> None:
    """The engine tells usage at the end only: what a hang-up or a kill cuts off is not metered."""
    fields._ALL_USAGE = fields.StreamOptions(include_usage=True)  # noqa: SLF001  # the very step that is left out


def metering() -> None:
    """A request that ends leaves no row and no count; its place in the journal is free at once."""

    def forget(
        self: meter.Meter,
        reservation: Reservation,
        outcome: Outcome,  # noqa: ARG001  # the real one's signature
        price: Price | None,  # noqa: ARG001  # the real one's signature
    ) -> Used:
        self._ledger._journal.close(reservation.slot)  # noqa: SLF001  # what the ledger's thread would do
        return Used(0, 0, 0)

    meter.Meter.charge = forget


def journalling() -> None:
    """Nothing is known of an open request once the gateway is killed."""
    places = itertools.count()

    def open_none(self: Journal, request: OpenRequest) -> int:  # noqa: ARG001  # the real one's signature
        return next(places)

    def note(self: Journal, slot: int, usage: bytes) -> None: ...

    def close(self: Journal, slot: int) -> None: ...

    journal.Journal.open, journal.Journal.note, journal.Journal.close = open_none, note, close


def delays() -> None:
    """The guard counts wrong keys as ever, but delays no answer, so that the cost of a refusal can be measured.

    Its window is short: with so many wrong keys as here in a minute, a list that nobody ever has would be dear.
    """
    guard._delay_seconds = lambda failures: 0.0  # noqa: ARG005, SLF001  # the very step that is left out
    server.Guard = functools.partial(guard.Guard, window_seconds=0.001)


STEPS: dict[str, Callable[[], None]] = {
    "salts": salts,
    "structure": structure,
    "running-usage": running_usage,
    "metering": metering,
    "journal": journalling,
    "delays": delays,
}


@click.command(help=__doc__)
@click.argument("step", type=click.Choice(list(STEPS)))
@click.option("--home", type=click.Path(path_type=Path), required=True)
def main(step: str, home: Path) -> None:
    STEPS[step]()
    server.run(Settings.load(home))


if __name__ == "__main__":
    main()
