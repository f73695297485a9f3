"""ASGI's types, as the raw handlers use them (asgi.readthedocs.io, HTTP message format)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Coroutine[Any, Any, None]]
