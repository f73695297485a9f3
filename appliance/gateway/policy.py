"""permit: what this caller may ask of this box."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import secrets
from collections.abc import Mapping

from appliance.domain import Call, Caller
from appliance.errors import UnknownModel
from appliance.store.registry import ModelRecord

_SALT_KEY = secrets.token_bytes(32)
"""Lives as long as the gateway: after a restart engines' cached prefixes are out of everybody's reach."""


def permit(call: Call, models: Mapping[str, ModelRecord]) -> None:
    """Raise UnknownModel unless the model is there and serves this endpoint."""
    model = models.get(call.model)
    if model is None or call.endpoint not in model.endpoints:
        raise UnknownModel(param="model")


def cache_salt(caller: Caller, call: Call) -> str:
    """What keeps this account's prefixes apart from every other's in an engine's cache: 43 URL-safe characters.

    Whatever the caller sends under that name is refused by the schema.
    """
    return _salt(caller.account_id, call.model)


@functools.lru_cache(maxsize=4096)
def _salt(account_id: str, model: str) -> str:
    digest = hmac.digest(_SALT_KEY, f"{account_id}\0{model}".encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
