"""The privacy manifest: what every column of every store is for, how long it stays and whether it is a person's."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, get_args

Class = Literal["identifier", "label", "digest", "time", "count", "state", "setting"]
Purpose = Literal[
    "provide", "billing", "reliability", "metering", "security", "communicate", "capacity", "legal"
]
Retention = Literal["account", "key", "model", "usage_detail", "usage_total", "database"]
"""How long a column's values stay.

account, key, model: as long as the account, the key's account or the model's entry exists.
usage_detail: the period of detailed request metadata. usage_total: the period of daily totals, which bills need.
database: as long as the file.
"""

_FILE: Final = Path(__file__).with_name("manifest.toml")


@dataclass(frozen=True, slots=True)
class Column:
    """What the manifest says of one column."""

    cls: Class
    purpose: tuple[Purpose, ...]
    retention: Retention
    exportable: bool
    """Part of the copy that the subject of the row is entitled to."""
    erasable: bool
    """Goes when the subject of the row is erased."""


Tables = Mapping[str, Mapping[str, Column]]


def of(store: str) -> Tables:
    """Tables and columns that the store called `store` (`registry`, `usage`) may have: these and no others."""
    return _load()[store]


@cache
def _load() -> Mapping[str, Tables]:
    with _FILE.open("rb") as file:
        stores = tomllib.load(file)
    return {
        store: {
            table: {name: _column(entry) for name, entry in columns.items()}
            for table, columns in tables.items()
        }
        for store, tables in stores.items()
    }


def _column(entry: dict[str, Any]) -> Column:
    column = Column(
        cls=entry.pop("class"),
        purpose=tuple(entry.pop("purpose")),
        retention=entry.pop("retention"),
        exportable=entry.pop("exportable"),
        erasable=entry.pop("erasable"),
    )
    assert not entry, "manifest.toml has a key that Column does not know"
    assert column.cls in get_args(Class)
    assert column.purpose
    assert set(column.purpose) <= set(get_args(Purpose))
    assert column.retention in get_args(Retention)
    assert type(column.exportable) is bool
    assert type(column.erasable) is bool
    return column
