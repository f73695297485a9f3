"""identify: an Authorization header becomes a Caller, or the request ends here."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping

from appliance import apikey
from appliance.clock import now_ms
from appliance.domain import Caller
from appliance.errors import InvalidKey
from appliance.store.registry import KeyRecord

_NOBODY = KeyRecord(key_id="0" * 10, account_id="", sha256=bytes(32), expires_at_ms=0)


def identify(headers: Iterable[tuple[bytes, bytes]], keys: Mapping[str, KeyRecord]) -> Caller:
    """The holder of the key in `Authorization: Bearer KEY`. Raises InvalidKey, the same for every reason.

    The key is found by its public part; its digest is then compared in constant time, against a record that
    nobody holds if there is none, so that answers and their timing don't tell unknown from wrong.
    """
    text = _bearer(headers)
    key_id = apikey.parse(text) if text is not None else None
    if text is None or key_id is None:
        raise InvalidKey
    record = keys.get(key_id, _NOBODY)
    good = hmac.compare_digest(apikey.digest(text), record.sha256)
    if not good or (record.expires_at_ms is not None and record.expires_at_ms <= now_ms()):
        raise InvalidKey
    return Caller(account_id=record.account_id, key_id=record.key_id)


def _bearer(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    found = [value for name, value in headers if name == b"authorization"]
    if len(found) != 1 or found[0][:7].lower() != b"bearer ":
        return None
    try:
        return found[0][7:].strip().decode("ascii")
    except UnicodeDecodeError:
        return None
