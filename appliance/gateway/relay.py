"""relay: the byte pump. An engine's answer goes to the caller as it comes; only token counts are read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, Literal

from appliance.domain import Outcome, Reservation, TokenCounts
from appliance.engine.client import Connection
from appliance.errors import EngineFault, EngineLost, RequestError
from appliance.gateway import answers
from appliance.gateway.answers import ErrorShape
from appliance.gateway.exchange import Exchange, nothing
from appliance.privacy.content import Translator

ERROR_BYTES_MAX: Final = 64 * 1024
EVENT_BYTES_MAX: Final = 16 * 1024 * 1024
HUNG_UP: Final = 499
"""What the ledger says of a caller that left before the end (nginx's number; no standard has one)."""

_USAGE = b'"usage":{'
_AT_OBJECT = len(_USAGE) - 1
_INDEX = b'"choices":[{"index":'
_ERROR = b'data: {"error"'
_DONE = b"data: [DONE]\n\n"
"""The last event of a stream. SDKs hang up when they have read it, often before the body's own end."""
_NO_CHOICES = b'"choices":[]'
_RETRIED = (500, 503)
"""What an engine says that is full, or that drains: another one may well answer."""


class Relay:
    """The sink of one engine's answer.

    It is driven from the engine's socket: an event costs no task switch. While the caller reads too slowly,
    reading from the engine pauses.
    """

    __slots__ = (
        "_carry",
        "_choices",
        "_connection",
        "_counts",
        "_ended",
        "_exchange",
        "_first_ns",
        "_hide_usage",
        "_last_ns",
        "_note",
        "_of_choice",
        "_pieces",
        "_reservation",
        "_retry_lost",
        "_retry_refused",
        "_settled",
        "_shape",
        "_show_total",
        "_size",
        "_started",
        "_status",
        "_stream",
        "_told_done",
        "_translator",
        "_usage",
        "unheard",
    )

    def __init__(
        self,
        exchange: Exchange,
        reservation: Reservation,
        note: Callable[[bytes], None],
        translator: Translator | None = None,
        shape: ErrorShape = answers.OPENAI,
    ) -> None:
        """`note` keeps the engine's running usage where a kill of this process can't lose it."""
        call = reservation.call
        self._exchange = exchange
        self._reservation = reservation
        self._note = note
        self._translator = translator
        self._shape = shape
        self._stream = call.stream
        self._show_total = call.include_usage
        self._hide_usage = not call.continuous_usage
        self._choices = call.choices
        self._of_choice: dict[bytes, int] | None = None
        self._connection: Connection | None = None
        self._carry = b""
        self._pieces: list[bytes] = []
        self._size = 0
        self._started = False
        self._status = HUNG_UP
        self._usage = b""
        self._counts: TokenCounts = "partial"
        self._first_ns = self._last_ns = 0
        self._ended = False
        self._told_done = False
        self._settled = asyncio.get_running_loop().create_future()
        self._retry_lost = self._retry_refused = False
        self.unheard: Literal["", "lost", "refused"] = ""
        """How the engine failed before it had answered anything, where that is to be tried again."""
        exchange.when_gone(self._on_gone)

    @property
    def key_id(self) -> str:
        """Whose request it is."""
        return self._reservation.caller.key_id

    def may_retry(self, *, lost: bool, refused: bool) -> None:
        """Whether something else can be tried if the engine is lost, or refuses, before it has answered."""
        self.unheard = ""
        self._retry_lost, self._retry_refused = lost, refused

    async def run(self, connection: Connection) -> None:
        """Wait until the answer is out, the caller has hung up, or the engine has failed unheard."""
        self._connection = connection
        self._exchange.pace(connection.pause, connection.resume)
        await self._settled
        if self._ended:
            self.unheard = ""  # it was over when its engine failed: there is nothing to try again
        if self.unheard:
            self._settled = asyncio.get_running_loop().create_future()
        else:
            await self.finish()

    async def finish(self) -> None:
        """Wait until what there is to say is out or the caller has hung up."""
        if not await self._exchange.over():
            self._hang_up()

    def outcome(self) -> Outcome:
        """How the request ended, for its ledger row."""
        return Outcome(self._status, self._usage, self._counts, self._first_ns, self._last_ns)

    def close(self) -> None:
        """Let go of the engine, which aborts the request if it still runs."""
        connection = self._let_go()
        if connection is not None:
            connection.cut()

    def _let_go(self) -> Connection | None:
        """The connection is no longer ours: what the caller's pace does must not reach it."""
        connection, self._connection = self._connection, None
        self._exchange.pace(nothing, nothing)
        return connection

    def fail(self, error: RequestError) -> None:
        """End the answer with an error: a response of its own, or an event if a stream has begun."""
        if self._ended:
            return
        self._ended = True
        self._status = error.status
        self.close()
        exchange = self._exchange
        if self._started:
            translator = self._translator
            exchange.write(self._shape.event(error) if translator is None else translator.fail(error))
        else:
            body = self._shape.body(error, self._reservation.request_id)
            head = answers.error_head(error, self._reservation.request_id, self._shape)
            exchange.start(error.status, head + self._reservation.head, len(body))
            exchange.write(body)
        exchange.end()
        self._settle()

    def on_head(self, status: int) -> None:
        if self._retry_refused and status in _RETRIED:
            self._fail_unheard("refused")
            return
        self._retry_lost = False
        self._status = status
        if status == 200 and self._stream:
            self._started = True
            self._exchange.start(200, answers.EVENT_STREAM + self._head())

    def on_data(self, data: bytes) -> None:
        if not self._started:
            self._collect(data)
        elif self._carry or data.find(b"\n\n") != len(data) - 2 or len(data) < 2:
            self._split(data)
        else:
            self._event(data)

    def on_end(self) -> None:
        if self._ended:
            return
        self._let_go()
        if self._carry:
            self.fail(EngineLost())
        elif self._started:
            self._ended = True
            self._exchange.end()
            self._settle()
        elif self._status == 200:
            self._finish_whole(b"".join(self._pieces))
        else:
            refusal = answers.refusal_of(self._status, b"".join(self._pieces))
            if refusal.status != EngineFault.status:
                self._counts = "exact"
            self.fail(refusal)

    def on_lost(self) -> None:
        if self._retry_lost and not self._ended:
            self._fail_unheard("lost")
        else:
            self.fail(EngineLost())

    def _on_gone(self) -> None:
        """The caller has hung up."""
        self._ended = True
        self._hang_up()
        self._settle()

    def _hang_up(self) -> None:
        if not self._told_done or self._exchange.full:
            self._status = HUNG_UP

    def _fail_unheard(self, how: Literal["lost", "refused"]) -> None:
        self.unheard = how
        self.close()
        self._settle()

    def _settle(self) -> None:
        if not self._settled.done():
            self._settled.set_result(None)

    def _event(self, event: bytes) -> None:
        """One whole server-sent event."""
        at = event.rfind(_USAGE)
        shown = event
        if at >= 0:
            shown = self._metered(event, at)
        elif event == _DONE:
            self._told_done = True
        elif event.startswith(_ERROR):
            self.fail(EngineFault())
            return
        if self._translator is not None:
            shown = self._translated(event)
        if not shown or self._ended:
            return
        self._last_ns = now = time.monotonic_ns()
        if not self._first_ns:
            self._first_ns = now
        self._exchange.write(shown)

    def _metered(self, event: bytes, at: int) -> bytes:
        """Note the usage that an event tells at `at`. Gives what the caller sees: the usage only if it asked for it."""
        start = at + _AT_OBJECT
        end = event.find(b"}", start) + 1
        if not end or event.find(b"{", start + 1, end) >= 0:
            end = _object_end(event, start)
        usage = event[start:end]
        if event.find(_NO_CHOICES, 0, at) >= 0:
            self._counts = "exact"
            shown = event if self._show_total else b""
        else:
            if self._choices > 1:
                usage = self._of_all_choices(event, usage)
            shown = event[: at - 1] + event[end:] if self._hide_usage else event
        self._usage = usage
        self._note(usage)
        return shown

    def _translated(self, event: bytes) -> bytes:
        assert self._translator is not None
        try:
            return self._translator.end() if self._told_done else self._translator.event(event)
        except ValueError:
            self.fail(EngineFault())
            return b""

    def _of_all_choices(self, event: bytes, usage: bytes) -> bytes:
        """Usage of the whole request: vLLM's running usage counts the tokens of one of its answers only."""
        if self._of_choice is None:
            self._of_choice = {}
        at = event.find(_INDEX)
        index = event[at + len(_INDEX) : event.find(b",", at + len(_INDEX))] if at >= 0 else b""
        prompt, completion = answers.counts(usage)
        self._of_choice[index] = completion
        return answers.usage(prompt, sum(self._of_choice.values()))

    def _split(self, data: bytes) -> None:
        """Events that came cut, or several at once."""
        *events, self._carry = (self._carry + data).split(b"\n\n")
        if len(self._carry) > EVENT_BYTES_MAX:
            self.fail(EngineFault())
        for event in events:
            if self._ended:
                return
            self._event(event + b"\n\n")

    def _collect(self, data: bytes) -> None:
        self._size += len(data)
        if self._status == 200 or self._size <= ERROR_BYTES_MAX:
            self._pieces.append(data)

    def _finish_whole(self, body: bytes) -> None:
        at = body.rfind(_USAGE)
        if at >= 0:
            start = at + _AT_OBJECT
            self._usage = body[start : _object_end(body, start)]
            self._note(self._usage)
            self._counts = "exact"
        elif self._reservation.call.output_tokens_max == 0:
            self._counts = "exact"  # tokens that are only counted come without usage: nothing was computed
        if self._translator is not None:
            try:
                body = self._translator.whole(body)
            except ValueError:
                self.fail(EngineFault())
                return
        self._ended = True
        exchange = self._exchange
        exchange.start(200, answers.JSON + self._head(), len(body))
        exchange.write(body)
        exchange.end()
        self._settle()

    def _head(self) -> bytes:
        """What every answer tells of its request: its id, how long it took to begin, and what is left of the limits."""
        reservation = self._reservation
        spent_ms = (time.monotonic_ns() - reservation.started_ns) // 1_000_000
        return b"%bopenai-processing-ms: %d\r\n%b" % (
            answers.request_id_head(reservation.request_id, self._shape),
            spent_ms,
            reservation.head,
        )


def _object_end(data: bytes, start: int) -> int:
    """Index just behind the JSON object that begins at `start` and holds no strings with braces."""
    end = data.find(b"}", start)
    nested = data.find(b"{", start + 1, end)
    while nested >= 0 and end >= 0:
        end = data.find(b"}", end + 1)
        nested = data.find(b"{", nested + 1, end)
    return end + 1 if end >= 0 else len(data)
