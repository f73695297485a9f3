"""The models of models.yaml in the registry, as the gateway has to know them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING, Final, get_args

from appliance.domain import Endpoint

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlite_utils import Database

    from appliance.catalog import ModelSpec


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """What the gateway knows of a model."""

    name: str
    endpoints: frozenset[str]
    max_context: int
    created_at_s: int
    images_max: int = 0
    """Images in one request; 0: it takes none."""
    switches: frozenset[str] = frozenset()
    """What callers may set in `chat_template_kwargs`."""
    sequences_max: int = 16
    """Requests that one replica works on at the same time."""
    queue_max: int = 256
    """Requests that wait in the gateway when all replicas are busy."""


_ENDPOINTS: Final[tuple[str, ...]] = get_args(Endpoint)
_SERVES: Final = tuple(f"serves_{endpoint}" for endpoint in _ENDPOINTS)
_ALL: Final = f"""SELECT name, max_context, created_at_s, images_max, max_concurrent_sequences, queue_max,
  {", ".join(_SERVES)} FROM model ORDER BY name"""  # noqa: S608  # names of ours
_SWITCHES: Final = "SELECT model, name FROM model_switch"
_COLUMNS: Final = (
    "revision",
    "sha256",
    "max_context",
    "quantization",
    "tensor_parallel",
    "max_concurrent_sequences",
    "replicas",
    "images_max",
    "queue_max",
    *_SERVES,
)
"""What follows models.yaml. Beside these a row has its name, and the date that it keeps."""
_PUT: Final = f"""INSERT INTO model (name, created_at_s, {", ".join(_COLUMNS)})
VALUES (:name, :created_at_s, {", ".join(f":{column}" for column in _COLUMNS)})
ON CONFLICT (name) DO UPDATE SET {", ".join(f"{column} = excluded.{column}" for column in _COLUMNS)}"""  # noqa: S608  # names of ours
_DELETE: Final = "DELETE FROM model WHERE name = ?"
_SWITCHES_DELETE: Final = "DELETE FROM model_switch WHERE model = ?"
_SWITCH_ADD: Final = "INSERT OR IGNORE INTO model_switch (model, name) VALUES (?, ?)"


def models(db: Database) -> dict[str, ModelRecord]:
    """By name, in the order of names."""
    switches: dict[str, set[str]] = {}
    for model, switch in db.execute(_SWITCHES).fetchall():
        switches.setdefault(model, set()).add(switch)
    return {
        name: ModelRecord(
            name=name,
            endpoints=frozenset(compress(_ENDPOINTS, serves)),
            max_context=max_context,
            created_at_s=created_at_s,
            images_max=images_max,
            switches=frozenset(switches.get(name, ())),
            sequences_max=sequences_max,
            queue_max=queue_max,
        )
        for name, max_context, created_at_s, images_max, sequences_max, queue_max, *serves in db.execute(
            _ALL
        ).fetchall()
    }


def put(db: Database, specs: Iterable[ModelSpec], now_s: int) -> None:
    """Make the table say what models.yaml says. A model that stays keeps its creation date."""
    wanted = {spec.name: spec for spec in specs}
    for name in models(db).keys() - wanted:
        db.execute(_DELETE, (name,))
    for spec in wanted.values():
        db.execute(_PUT, _values(spec, now_s))
        db.execute(_SWITCHES_DELETE, (spec.name,))
        for switch in spec.switches:
            db.execute(_SWITCH_ADD, (spec.name, switch))


def _values(spec: ModelSpec, created_at_s: int) -> dict[str, str | int | bytes | None]:
    return {
        "name": spec.name,
        "created_at_s": created_at_s,
        "revision": spec.revision,
        "sha256": bytes.fromhex(spec.digest.removeprefix("sha256:")),
        "max_context": spec.engine.max_context,
        "quantization": spec.engine.quantization,
        "tensor_parallel": spec.engine.tensor_parallel,
        "max_concurrent_sequences": spec.engine.max_concurrent_sequences,
        "replicas": spec.replicas,
        "images_max": spec.images_max,
        "queue_max": spec.engine.max_queued_requests,
        **{f"serves_{endpoint}": endpoint in spec.endpoints for endpoint in _ENDPOINTS},
    }
