"""What keys, accounts and models may use, and what tokens cost, in the registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.domain import Limits, Price, Subject, SubjectKind
from appliance.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlite_utils import Database


@dataclass(frozen=True, slots=True)
class LimitRow:
    """The limits of one subject, as its administrator sees them."""

    kind: SubjectKind
    name: str
    """The account's or model's name; of a key, the id of the first of its line."""
    limits: Limits


_COLUMNS: Final = ", ".join(Limits._fields)
_MARKS: Final = ", ".join("?" for _ in Limits._fields)
_LIMITS: Final = f"SELECT subject_kind, subject_id, {_COLUMNS} FROM usage_limit ORDER BY 1, 2"  # noqa: S608  # names of ours
_LIMITS_PUT: Final = f"""INSERT OR REPLACE INTO usage_limit (subject_kind, subject_id, {_COLUMNS})
VALUES (?, ?, {_MARKS})"""  # noqa: S608  # names of ours
_LIMITS_CLEAR: Final = "DELETE FROM usage_limit WHERE subject_kind = ? AND subject_id = ?"
_SUBJECTS: Final[dict[SubjectKind, str]] = {
    "key": "SELECT origin FROM api_key WHERE key_id = ?",
    "account": "SELECT id FROM account WHERE slug = ?",
    "model": "SELECT name FROM model WHERE name = ?",
}
_UNKNOWN: Final[dict[SubjectKind, tuple[str, str]]] = {
    "key": ("There is no key with that id.", "`inferfly keys list` shows them."),
    "account": ("There is no account of that name.", "`inferfly accounts list` shows them."),
    "model": ("There is no model of that name.", "`inferfly models` shows them."),
}
_SLUGS: Final = "SELECT id, slug FROM account"
_PRICES: Final = "SELECT model, input_micros_per_million, output_micros_per_million FROM price ORDER BY model"
_PRICE_PUT: Final = "INSERT OR REPLACE INTO price VALUES (?, ?, ?)"
_PRICE_CLEAR: Final = "DELETE FROM price WHERE model = ?"


def limits(db: Database) -> dict[Subject, Limits]:
    return {Subject(kind, id_): Limits(*values) for kind, id_, *values in db.execute(_LIMITS).fetchall()}


def rows(db: Database) -> list[LimitRow]:
    """Limits with accounts by their names."""
    slugs = dict(db.execute(_SLUGS).fetchall())
    return [
        LimitRow(kind, slugs.get(id_, id_) if kind == "account" else id_, found)
        for (kind, id_), found in limits(db).items()
    ]


def change(db: Database, kind: SubjectKind, name: str, changes: Mapping[str, int | None]) -> LimitRow:
    """Set the named limits; None lifts one, the others stay. Raises Refused where the subject is not there."""
    subject = _subject(db, kind, name)
    after = limits(db).get(subject, Limits())._replace(**changes)
    if any(value is not None for value in after):
        db.execute(_LIMITS_PUT, (*subject, *after))
    else:
        db.execute(_LIMITS_CLEAR, subject)
    return LimitRow(kind, subject.id if kind == "key" else name, after)


def clear(db: Database, kind: SubjectKind, name: str) -> None:
    """Lift all limits of a subject. A model may have left models.yaml. Raises Refused where there are none."""
    subject = Subject(kind, name) if kind == "model" else _subject(db, kind, name)
    if not db.execute(_LIMITS_CLEAR, subject).rowcount:
        raise Refused("It has no limits.", fix="`inferfly limits list` shows all there are.")


def prices(db: Database) -> dict[str, Price]:
    """By model."""
    return {model: Price(*values) for model, *values in db.execute(_PRICES).fetchall()}


def set_price(db: Database, model: str, price: Price) -> None:
    """Raises Refused where there is no such model."""
    require_models(db, (model,))
    db.execute(_PRICE_PUT, (model, *price))


def clear_price(db: Database, model: str) -> None:
    """The model may have left models.yaml. Raises Refused where it has no price."""
    if not db.execute(_PRICE_CLEAR, (model,)).rowcount:
        raise Refused("It has no price.", fix="`inferfly prices list` shows all there are.")


def require_models(db: Database, models: tuple[str, ...]) -> None:
    """Raises Refused where one of them is not there."""
    for model in models:
        _subject(db, "model", model)


def _subject(db: Database, kind: SubjectKind, name: str) -> Subject:
    found = db.execute(_SUBJECTS[kind], (name,)).fetchone()
    if found is None:
        what, fix = _UNKNOWN[kind]
        raise Refused(what, fix=fix)
    return Subject(kind, found[0])
