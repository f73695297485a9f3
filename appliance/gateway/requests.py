"""What is refused of a request by its head alone: method, query, media type, size."""

from __future__ import annotations

from appliance.errors import BadRequest, BodyTooLarge, WrongMediaType, WrongMethod
from appliance.gateway.exchange import Exchange

_JSON = b"application/json"


def check(exchange: Exchange, body_bytes_max: int, queries: tuple[bytes, ...] = (b"",)) -> None:
    """Raise the refusal that a POST with a JSON body deserves by its head alone."""
    if exchange.method != "POST":
        raise WrongMethod
    if exchange.query not in queries:
        raise BadRequest("This address takes no query string. Put fields into the JSON body.")
    headers = exchange.headers
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise WrongMediaType
    kind = headers.get(b"content-type", b"")
    if kind != _JSON and kind.partition(b";")[0].strip().lower() != _JSON:
        raise WrongMediaType
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or len(length) > 15 or int(length) > body_bytes_max:
        raise BodyTooLarge
