"""Content: a caller's words, which can be carried to an engine and nowhere else."""

from __future__ import annotations

from typing import Never, Protocol

from appliance.errors import RequestError


class Translator(Protocol):
    """Turns an engine's chat answer into another protocol's, for one request.

    Each method may raise ValueError where the engine's answer is not what it should be.
    """

    def event(self, event: bytes) -> bytes:
        """What the caller gets for one whole server-sent event of the engine: `data: {...}`, two line ends, with usage.

        Called for each event but `data: [DONE]`. May be empty.
        """
        ...

    def end(self) -> bytes:
        """What closes the caller's stream, in place of `data: [DONE]`."""
        ...

    def fail(self, error: RequestError) -> bytes:
        """What ends a stream that has begun with an error."""
        ...

    def whole(self, body: bytes) -> bytes:
        """The body of an answer that is not streamed."""
        ...


class Encodable(Protocol):
    """A parsed request body that can write itself for an engine."""

    def encode(self, cache_salt: str) -> bytes: ...
    def translator(self, request_id: str) -> Translator | None:
        """What turns the answer into the caller's protocol; None where it is the engine's own. Call after `encode`."""
        ...


class Content:
    """The words of one request. Printing, formatting, logging, copying or pickling one never shows them.

    `for_engine` is the only way out. The modules that may hold a Content are listed in pyproject.toml,
    contract "content stays on the request path".
    """

    __slots__ = ("__request",)

    def __init__(self, request: Encodable) -> None:
        self.__request = request

    def for_engine(self, cache_salt: str) -> bytes:
        """The body for the engine, as JSON. `cache_salt` keeps accounts apart in the engine's prefix cache."""
        return self.__request.encode(cache_salt)

    def translator(self, request_id: str) -> Translator | None:
        """What turns the engine's answer into the caller's protocol; None where nothing has to be done."""
        return self.__request.translator(request_id)

    def __repr__(self) -> str:
        return "<content>"

    __str__ = __repr__

    def __format__(self, format_spec: str) -> str:
        return "<content>"

    def __reduce_ex__(self, protocol: object) -> Never:
        raise TypeError("content can't be pickled or copied")

    def __getstate__(self) -> Never:
        raise TypeError("content can't be pickled or copied")
