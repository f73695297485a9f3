"""Limits: what a key, an account or a model may use."""

from __future__ import annotations

from typing import Annotated, Final

from litestar import delete, get, patch
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, PathParameter

from appliance.admin import money
from appliance.admin.contract import SUBJECT_PATTERN, LimitChanges, SubjectKind, SubjectLimits
from appliance.admin.handlers import Plane
from appliance.domain import Limits
from appliance.privacy.logs import log
from appliance.store.limits import LimitRow

_COSTS: Final = {"cost_per_day": "cost_per_day_micros", "cost_per_month": "cost_per_month_micros"}
"""Money outside -> millionths inside. All other limits are called the same in both."""

SubjectName = Annotated[str, PathParameter(pattern=SUBJECT_PATTERN)]


@get("/v1/limits", sync_to_thread=True)
def list_limits(plane: NamedDependency[Plane]) -> list[SubjectLimits]:
    return [_limits(row, plane.currency) for row in plane.registry.limits()]


@patch("/v1/limits/{kind:str}/{name:str}", sync_to_thread=True)
def change_limits(
    plane: NamedDependency[Plane],
    kind: FromPath[SubjectKind],
    name: SubjectName,
    data: JSONBody[LimitChanges],
) -> SubjectLimits:
    row = plane.registry.change_limits(kind, name, _inside(data))
    log("limits_changed")
    return _limits(row, plane.currency)


@delete("/v1/limits/{kind:str}/{name:str}", status_code=200, sync_to_thread=True)
def clear_limits(
    plane: NamedDependency[Plane], kind: FromPath[SubjectKind], name: SubjectName
) -> SubjectLimits:
    plane.registry.clear_limits(kind, name)
    log("limits_cleared")
    return _limits(LimitRow(kind, name, Limits()), plane.currency)


def _inside(changes: LimitChanges) -> dict[str, int | None]:
    """The limits that the message names, as the store keeps them."""
    given = changes.model_dump(exclude_unset=True)
    return {
        _COSTS.get(name, name): money.to_micros(value) if isinstance(value, str) else value
        for name, value in given.items()
    }


def _limits(row: LimitRow, currency: str) -> SubjectLimits:
    limits = row.limits
    return SubjectLimits(
        kind=row.kind,
        name=row.name,
        currency=currency,
        requests_per_minute=limits.requests_per_minute,
        input_tokens_per_minute=limits.input_tokens_per_minute,
        output_tokens_per_minute=limits.output_tokens_per_minute,
        concurrent_requests=limits.concurrent_requests,
        tokens_per_day=limits.tokens_per_day,
        tokens_per_month=limits.tokens_per_month,
        cost_per_day=_text(limits.cost_per_day_micros),
        cost_per_month=_text(limits.cost_per_month_micros),
    )


def _text(micros: int | None) -> str | None:
    return None if micros is None else money.to_text(micros)
