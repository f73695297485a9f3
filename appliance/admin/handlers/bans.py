"""Bans: network addresses that the gateway refuses for wrong keys. The gateway alone knows them; control asks it."""

from __future__ import annotations

import http.client
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import quote

from litestar import delete, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from pydantic import TypeAdapter, ValidationError

from appliance.admin.client import UnixConnection
from appliance.admin.contract import SOURCE_PATTERN, Ban, Lifted
from appliance.admin.handlers import Plane
from appliance.errors import Refused
from appliance.privacy.logs import log

GATEWAY_SECONDS_MAX: Final = 5.0
ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024

_BANS: Final = TypeAdapter(list[Ban])


@get("/v1/bans", sync_to_thread=True)
def list_bans(plane: NamedDependency[Plane]) -> list[Ban]:
    status, raw = _ask(plane.gateway_socket, "GET", "/bans")
    try:
        if status == http.HTTPStatus.OK:
            return _BANS.validate_json(raw)
    except ValidationError:
        pass
    raise _not_understood()


@delete("/v1/bans", status_code=200, sync_to_thread=True)
def lift_ban(
    plane: NamedDependency[Plane], source: Annotated[str, QueryParameter(pattern=SOURCE_PATTERN)]
) -> Lifted:
    status, _ = _ask(plane.gateway_socket, "DELETE", f"/bans/{quote(source, safe='')}")
    if status == http.HTTPStatus.NOT_FOUND:
        raise Refused("That address is not banned.", fix="`inferfly bans list` shows those that are.")
    if status != http.HTTPStatus.OK:
        raise _not_understood()
    log("ban_lifted")
    return Lifted(source=source)


def _ask(gateway_socket: Path, method: str, path: str) -> tuple[int, bytes]:
    connection = UnixConnection(gateway_socket, GATEWAY_SECONDS_MAX)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read(ANSWER_BYTES_MAX)
    except (OSError, http.client.HTTPException):
        raise Refused(
            "The gateway does not answer.",
            why="It alone knows the bans, and forgets them when it ends.",
            fix="`inferfly status` shows how it is; `inferfly up` starts it.",
        ) from None
    finally:
        connection.close()


def _not_understood() -> Refused:
    return Refused(
        "The gateway answered something this release does not understand.",
        why="It and control may be of different releases.",
        fix="Stop the appliance and start it again with `inferfly up`.",
    )
