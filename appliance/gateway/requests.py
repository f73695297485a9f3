"""What is refused of a request before its body means anything: method, media type, size and time."""

from __future__ import annotations

import asyncio

from appliance.errors import BadRequest, BodyTooLarge, BodyTooSlow, ClientGone, WrongMediaType, WrongMethod
from appliance.gateway.asgi import Receive, Scope


def check(scope: Scope, body_bytes_max: int) -> None:
    """Raise the refusal that a POST with a JSON body deserves by its head alone."""
    if scope["method"] != "POST":
        raise WrongMethod
    if scope["query_string"]:
        raise BadRequest("This address takes no query string. Put fields into the JSON body.")
    is_json = False
    for name, value in scope["headers"]:
        if name == b"content-type":
            is_json = value.partition(b";")[0].strip().lower() == b"application/json"
        elif name == b"content-encoding" and value.lower() != b"identity":
            raise WrongMediaType
        elif name == b"content-length" and int(value) > body_bytes_max:
            raise BodyTooLarge
    if not is_json:
        raise WrongMediaType


async def read_body(receive: Receive, bytes_max: int, seconds_max: float) -> bytes:
    """The whole body. Raises BodyTooLarge, BodyTooSlow, or ClientGone when nobody is left to answer."""
    try:
        async with asyncio.timeout(seconds_max):
            message = await receive()
            if (
                message["type"] == "http.request"
                and not message["more_body"]
                and len(message["body"]) <= bytes_max
            ):
                return message["body"]
            pieces: list[bytes] = []
            size = 0
            while True:
                if message["type"] == "http.disconnect":
                    raise ClientGone
                pieces.append(message["body"])
                size += len(message["body"])
                if size > bytes_max:
                    raise BodyTooLarge
                if not message["more_body"]:
                    return b"".join(pieces)
                message = await receive()
    except TimeoutError:
        raise BodyTooSlow from None
