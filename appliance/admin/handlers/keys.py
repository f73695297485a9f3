"""API keys: made and shown once, rotated, listed without their secret, revoked for good."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from litestar import delete, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, PathParameter

from appliance import apikey, clock
from appliance.admin.contract import KEY_ID_PATTERN, CreatedKey, Key, NewKey, Rotation
from appliance.admin.handlers import Plane
from appliance.privacy.logs import log
from appliance.store.keys import KeyRow, Scopes

HOUR_MS: Final = 60 * 60 * 1000
DAY_MS: Final = 24 * HOUR_MS

KeyId = Annotated[str, PathParameter(pattern=KEY_ID_PATTERN)]


@get("/v1/keys", sync_to_thread=True)
def list_keys(plane: NamedDependency[Plane]) -> list[Key]:
    last_used = plane.usage.last_used_days()
    return [_key(row, last_used) for row in plane.registry.api_keys()]


@post("/v1/keys", sync_to_thread=True)
def create_key(plane: NamedDependency[Plane], data: JSONBody[NewKey]) -> CreatedKey:
    key = apikey.new()
    row = plane.registry.add_key(
        key,
        account=data.account,
        name=data.name,
        expires_at_ms=clock.now_ms() + data.expires_days * DAY_MS,
        scopes=Scopes(data.models, data.endpoints, data.networks),
    )
    log("key_created")
    return _created(row, key)


@post("/v1/keys/{key_id:str}/rotate", sync_to_thread=True)
def rotate_key(plane: NamedDependency[Plane], key_id: KeyId, data: JSONBody[Rotation]) -> CreatedKey:
    key = apikey.new()
    expires_at_ms = clock.now_ms() + data.expires_days * DAY_MS
    row = plane.registry.rotate_key(key_id, key, data.grace_hours * HOUR_MS, expires_at_ms)
    log("key_rotated")
    return _created(row, key)


@delete("/v1/keys/{key_id:str}", status_code=200, sync_to_thread=True)
def revoke_key(plane: NamedDependency[Plane], key_id: KeyId) -> Key:
    row = plane.registry.revoke_key(key_id)
    log("key_revoked")
    return _key(row, plane.usage.last_used_days())


@delete("/v1/keys/{key_id:str}/line", status_code=200, sync_to_thread=True)
def revoke_line(plane: NamedDependency[Plane], key_id: KeyId) -> list[Key]:
    """The key and all that it was rotated from and into."""
    rows = plane.registry.revoke_line(key_id)
    log("line_revoked", count=len(rows))
    last_used = plane.usage.last_used_days()
    return [_key(row, last_used) for row in rows]


def _created(row: KeyRow, key: apikey.ApiKey) -> CreatedKey:
    return CreatedKey(**_key(row, {}).model_dump(), key=key.plaintext)


def _key(row: KeyRow, last_used: dict[str, str]) -> Key:
    return Key(
        key_id=row.key_id,
        origin=row.origin,
        account=row.account,
        name=row.name,
        state=_state(row),
        created_at_ms=row.created_at_ms,
        expires_at_ms=row.expires_at_ms,
        revoked_at_ms=row.revoked_at_ms,
        last_used_day=last_used.get(row.key_id),
        models=row.scopes.models,
        endpoints=row.scopes.endpoints,
        networks=row.scopes.networks,
    )


def _state(row: KeyRow) -> Literal["active", "expired", "revoked"]:
    if row.revoked_at_ms is not None:
        return "revoked"
    return "active" if row.expires_at_ms > clock.now_ms() else "expired"
