"""Control's door: a unix socket that only its owner may use, by file mode and by the kernel's word on who calls."""

from __future__ import annotations

import os
import socket
import stat
import struct
from typing import TYPE_CHECKING, Any, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from appliance.errors import AlreadyRunning, EnvironmentBroken

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, MutableMapping
    from pathlib import Path

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]

ROOT: Final = 0
PEER_UID: Final = "inferfly.peer_uid"
"""Where the ASGI scope keeps the caller's user id."""

_UCRED: Final = struct.Struct("3i")
"""struct ucred of unix(7): pid, uid, gid."""
_FORBIDDEN: Final = (
    b'{"error":{"code":"forbidden",'
    b'"message":"Only root and the user that runs the appliance may use this socket."}}'
)


class PeerProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which also asks the kernel once per connection who connected."""

    peer_uid: int | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        connected = cast("socket.socket", transport.get_extra_info("socket"))
        raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        self.peer_uid = _UCRED.unpack(raw)[1]

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast("dict[str, Any]", self.scope)[PEER_UID] = self.peer_uid


def allow_only(app: App, uids: frozenset[int]) -> App:
    """Answer 403 to any caller whose user id is not among `uids`, before anything of the request is looked at."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or scope.get(PEER_UID) in uids:
            await app(scope, receive, send)
            return
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_FORBIDDEN))]
        await send({"type": "http.response.start", "status": 403, "headers": headers})
        await send({"type": "http.response.body", "body": _FORBIDDEN})

    return guarded


def owners() -> frozenset[int]:
    """The user this process runs as, and root."""
    return frozenset({ROOT, os.getuid()})


def bind(path: Path) -> socket.socket:
    """A socket at `path` with mode 0600. Takes the place of a stale one; never of one that answers, nor of a file."""
    _clear(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        bound.bind(str(path))
        path.chmod(0o600)  # nobody can connect before listen()
    except OSError as error:
        bound.close()
        raise EnvironmentBroken(
            f"{path} can't be made: {error.strerror}.",
            fix="Check that the state folder exists and belongs to the user that runs the appliance.",
        ) from None
    return bound


def _clear(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise EnvironmentBroken(
            f"{path} is in the way: it is not a socket.",
            fix="Look at what it is, move it away and start again.",
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise AlreadyRunning(
        "Control is already running on this state folder.", fix="`inferfly status` shows it."
    )
