"""Exchange: one request of a caller and the means to answer it, whatever server carries it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

from appliance.errors import BadRequest
from appliance.gateway.answers import Header

STALL_SECONDS_MAX: Final = 30.0
"""A caller that does not take what is buffered for it within this time is cut off: it holds an engine and a slot."""

ONCE: Final = (
    b"host",
    b"content-length",
    b"transfer-encoding",
    b"content-type",
    b"content-encoding",
    b"authorization",
    b"x-api-key",
)
"""Headers of which a second one could be read differently by somebody else."""


class Exchange(Protocol):
    """What the request path asks of a server. Everything but `body` and `over` returns at once.

    `start`, then `write` as often as needed, then `end`. What is written while the caller reads too slowly is kept.
    """

    method: str
    query: bytes
    headers: Mapping[bytes, bytes]
    """By name in lower case."""
    source: str | None
    """The caller's address; None on the box's own unix socket."""

    @property
    def full(self) -> bool:
        """Whether the caller has yet to take what was written."""
        ...

    def pace(self, on_full: Callable[[], None], on_drained: Callable[[], None]) -> None:
        """Have these called when the caller falls behind, and when it has caught up."""
        ...

    async def body(self) -> bytes:
        """The whole body. Raises BodyTooLarge, BodyTooSlow, or ClientGone when nobody is left to answer."""
        ...

    def when_gone(self, call: Callable[[], None]) -> None:
        """Have this called if the caller hangs up from now on. The last one asked for counts."""
        ...

    def start(self, status: int, head: bytes, length: int | None = None) -> None:
        """`head` has the headers as they stand on the wire. Without a length of the body, it comes in chunks."""
        ...

    def write(self, data: bytes) -> None: ...

    def end(self) -> None: ...

    async def over(self) -> bool:
        """Wait until the answer is out (True) or the caller has hung up (False)."""
        ...


def by_name(headers: Iterable[Header]) -> Mapping[bytes, bytes]:
    """Headers by name. Raises BadRequest where one that must be there once comes twice."""
    listed = list(headers)
    found = dict(listed)
    if len(found) != len(listed) and any(_times(listed, name) > 1 for name in ONCE):
        raise BadRequest("A header that may come once came twice.", code="invalid_headers")
    return found


def _times(headers: list[Header], name: bytes) -> int:
    return sum(found == name for found, _ in headers)


def nothing() -> None:
    """What an exchange calls before anybody has asked for more."""
