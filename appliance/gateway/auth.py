"""identify: a request's key becomes a Caller, or the request ends here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from ipaddress import ip_address

from appliance.clock import now_ms
from appliance.domain import Caller
from appliance.errors import InvalidKey
from appliance.store.registry import KeyRecord


def identify(headers: Mapping[bytes, bytes], source: str | None, keys: Mapping[bytes, KeyRecord]) -> Caller:
    """The holder of the key in `Authorization: Bearer KEY` or, as Anthropic's SDKs send it, `x-api-key: KEY`.

    `keys` are by digest. Raises InvalidKey, the same for every reason, and in the same time: any text is hashed and
    looked up once, and how far a wrong digest agrees with a right one tells nothing of a key.
    """
    record = keys.get(hashlib.sha256(_key(headers)).digest())
    if record is None or (record.expires_at_ms is not None and record.expires_at_ms <= now_ms()):
        raise InvalidKey
    if record.networks and source is not None and not _within(source, record):
        raise InvalidKey
    return Caller(record.account_id, record.key_id, record.origin or record.key_id)


def _key(headers: Mapping[bytes, bytes]) -> bytes:
    """The key as it was sent; empty if there is none, or two."""
    bearer, plain = headers.get(b"authorization"), headers.get(b"x-api-key")
    if bearer is None:
        return plain or b""
    if plain is not None or bearer[:7].lower() != b"bearer ":
        return b""
    return bearer[7:].strip()


def _within(source: str, record: KeyRecord) -> bool:
    """Whether the caller's address is in one of the key's networks. IPv4 in IPv6's clothes counts as IPv4."""
    address = ip_address(source.partition("%")[0])
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in network for network in record.networks)
