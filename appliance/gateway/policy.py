"""permit: what this caller may ask of this box."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import secrets

from appliance.domain import Call, Caller
from appliance.errors import BadRequest, NotAllowed, UnknownModel
from appliance.store.registry import ModelRecord, RoutingTable

_NOT_SERVED = "The model does not serve this endpoint. GET /v1/models lists what each model serves."
_NO_IMAGES = "The model does not take images. Send text only, or choose another model."
_MANY_IMAGES = "The request holds more images than the model takes."
_NO_SWITCH = "`chat_template_kwargs` sets something that this model does not declare. Remove it."

_SALT_KEY = secrets.token_bytes(32)
"""Lives as long as the gateway: after a restart engines' cached prefixes are out of everybody's reach."""


def permit(caller: Caller, call: Call, table: RoutingTable) -> ModelRecord:
    """The model that the call names. Raises UnknownModel, NotAllowed or BadRequest where it can't be used so.

    A model outside the key's scope looks like one that is not there.
    """
    key = table.keys.get(caller.key_id)
    model = table.models.get(call.model)
    if model is None or key is None or (key.models is not None and model.name not in key.models):
        raise UnknownModel(param="model")
    if call.endpoint not in model.endpoints:
        raise UnknownModel(_NOT_SERVED, param="model", code="endpoint_not_served")
    if key.endpoints is not None and call.endpoint not in key.endpoints:
        raise NotAllowed
    if call.images > model.images_max:
        raise BadRequest(_NO_IMAGES if not model.images_max else _MANY_IMAGES, code="unsupported_images")
    if call.switches and not model.switches.issuperset(call.switches):
        raise BadRequest(_NO_SWITCH, param="chat_template_kwargs", code="unsupported_switch")
    return model


def cache_salt(caller: Caller, call: Call) -> str:
    """What keeps this account's prefixes apart from every other's in an engine's cache: 43 URL-safe characters.

    Whatever the caller sends under that name is refused by the schema.
    """
    return _salt(caller.account_id, call.model)


@functools.lru_cache(maxsize=4096)
def _salt(account_id: str, model: str) -> str:
    digest = hmac.digest(_SALT_KEY, f"{account_id}\0{model}".encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
