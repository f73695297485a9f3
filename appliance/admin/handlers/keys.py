"""API keys: made and shown once, listed without their secret, revoked for good."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from litestar import delete, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, PathParameter

from appliance import apikey, clock
from appliance.admin.contract import KEY_ID_PATTERN, CreatedKey, Key, NewKey
from appliance.admin.handlers import Plane
from appliance.privacy.logs import log
from appliance.store.registry import KeyRow

DAY_MS: Final = 24 * 60 * 60 * 1000


@get("/v1/keys", sync_to_thread=True)
def list_keys(plane: NamedDependency[Plane]) -> list[Key]:
    last_used = plane.usage.last_used_days()
    return [_key(row, last_used.get(row.key_id)) for row in plane.registry.api_keys()]


@post("/v1/keys", sync_to_thread=True)
def create_key(plane: NamedDependency[Plane], data: JSONBody[NewKey]) -> CreatedKey:
    key = apikey.new()
    expires_at_ms = clock.now_ms() + data.expires_days * DAY_MS
    row = plane.registry.add_key(key, account=data.account, name=data.name, expires_at_ms=expires_at_ms)
    log("key_created")
    return CreatedKey(**_key(row, None).model_dump(), key=key.plaintext)


@delete("/v1/keys/{key_id:str}", status_code=200, sync_to_thread=True)
def revoke_key(
    plane: NamedDependency[Plane], key_id: Annotated[str, PathParameter(pattern=KEY_ID_PATTERN)]
) -> Key:
    row = plane.registry.revoke_key(key_id)
    log("key_revoked")
    return _key(row, plane.usage.last_used_days().get(key_id))


def _key(row: KeyRow, last_used_day: str | None) -> Key:
    return Key(
        key_id=row.key_id,
        account=row.account,
        name=row.name,
        state=_state(row),
        created_at_ms=row.created_at_ms,
        expires_at_ms=row.expires_at_ms,
        revoked_at_ms=row.revoked_at_ms,
        last_used_day=last_used_day,
    )


def _state(row: KeyRow) -> Literal["active", "expired", "revoked"]:
    if row.revoked_at_ms is not None:
        return "revoked"
    return "active" if row.expires_at_ms > clock.now_ms() else "expired"
