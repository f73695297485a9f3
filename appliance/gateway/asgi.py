"""An exchange over ASGI: the path through Litestar (asgi.readthedocs.io, HTTP message format)."""

from __future__ import annotations

import asyncio
import types
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

from appliance.errors import BodyTooLarge, BodyTooSlow, ClientGone
from appliance.gateway import answers
from appliance.gateway.exchange import by_name, nothing

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Coroutine[Any, Any, None]]

BODY_FAULT = "body_fault"
"""Where a request's state holds the RequestError for which its connection takes no more of its body."""


class AsgiExchange:
    """`send` runs to its end at once unless the caller reads too slowly; then what follows waits in an outbox."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, body_bytes_max: int, body_seconds_max: float
    ) -> None:
        """Raises BadRequest where a header that must be there once comes twice."""
        self.method: str = scope["method"]
        self.query: bytes = scope["query_string"]
        self.headers = by_name(scope["headers"])
        client = scope["client"]
        self.source: str | None = client[0] if client else None
        self._on_full: Callable[[], None] = nothing
        self._on_drained: Callable[[], None] = nothing
        self._state: dict[str, Any] = scope["state"]
        self._receive = receive
        self._send = send
        self._body_bytes_max = body_bytes_max
        self._body_seconds_max = body_seconds_max
        self._on_gone: Callable[[], None] = nothing
        self._listener: asyncio.Task[None] | None = None
        self._outbox: deque[Message] = deque()
        self._writer: asyncio.Task[None] | None = None
        self._ended = False
        self._gone = False

    @property
    def full(self) -> bool:
        return self._writer is not None

    async def body(self) -> bytes:
        try:
            async with asyncio.timeout(self._body_seconds_max):
                return await self._read()
        except TimeoutError:
            raise BodyTooSlow from None

    async def _read(self) -> bytes:
        body = bytearray()
        while True:
            message = await self._receive()
            if BODY_FAULT in self._state:
                raise self._state[BODY_FAULT]
            if message["type"] == "http.disconnect":
                raise ClientGone
            body += message["body"]
            if len(body) > self._body_bytes_max:
                raise BodyTooLarge
            if not message["more_body"]:
                return bytes(body)

    def pace(self, on_full: Callable[[], None], on_drained: Callable[[], None]) -> None:
        self._on_full, self._on_drained = on_full, on_drained

    def when_gone(self, call: Callable[[], None]) -> None:
        self._on_gone = call
        if self._gone:
            call()
        elif self._listener is None:
            self._listener = asyncio.get_running_loop().create_task(self._listen())

    async def _listen(self) -> None:
        """Until the caller hangs up or, says uvicorn, the answer is out."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._ended or self._writer is not None:
            self._lose()

    def _lose(self) -> None:
        self._gone = True
        self._on_gone()

    def start(self, status: int, head: bytes, length: int | None = None) -> None:
        headers = answers.pairs(head)
        if length is not None:
            headers.append((b"content-length", b"%d" % length))
        self._put({"type": "http.response.start", "status": status, "headers": headers})

    def write(self, data: bytes) -> None:
        self._put({"type": "http.response.body", "body": data, "more_body": True})

    def end(self) -> None:
        self._ended = True
        self._put({"type": "http.response.body", "body": b"", "more_body": False})

    async def over(self) -> bool:
        if self._writer is not None:
            await asyncio.wait({self._writer})
        if self._listener is not None:
            self._listener.cancel()
        self._on_gone = nothing  # whoever asked for that call holds on to this exchange as well
        return not self._gone

    def _put(self, message: Message) -> None:
        if self._gone:
            return
        if self._writer is not None:
            self._outbox.append(message)
            return
        sending = self._send(message)
        try:
            waits_for = sending.send(None)
        except StopIteration:
            return
        except Exception:  # noqa: BLE001  # whatever the server raises ends this request, not the loop's callback
            self._lose()
            return
        self._on_full()
        self._writer = asyncio.get_running_loop().create_task(self._catch_up(sending, waits_for))

    async def _catch_up(self, sending: Coroutine[Any, Any, None], waits_for: object) -> None:
        """Finish a `send` that had to wait for the caller, then what piled up behind it, then go on."""
        try:
            await _resume(sending, waits_for)
            while self._outbox:
                await self._send(self._outbox.popleft())
        except Exception:  # noqa: BLE001  # as in `_put`
            self._lose()
            return
        finally:
            self._writer = None
        self._on_drained()


@types.coroutine
def _resume(sending: Coroutine[Any, Any, None], waits_for: object) -> Generator[object, None, None]:
    """Carry on, inside a task, a coroutine that was begun outside of one and now waits for a future."""
    while True:
        yield waits_for
        try:
            waits_for = sending.send(None)
        except StopIteration:
            return
