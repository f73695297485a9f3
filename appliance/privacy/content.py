"""Content: a caller's words, which can be carried to an engine and nowhere else."""

from __future__ import annotations

from typing import Never, Protocol


class Encodable(Protocol):
    """A parsed request body that can write itself for an engine."""

    def encode(self, cache_salt: str) -> bytes: ...


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

    def __repr__(self) -> str:
        return "<content>"

    __str__ = __repr__

    def __format__(self, format_spec: str) -> str:
        return "<content>"

    def __reduce_ex__(self, protocol: object) -> Never:
        raise TypeError("content can't be pickled or copied")

    def __getstate__(self) -> Never:
        raise TypeError("content can't be pickled or copied")
