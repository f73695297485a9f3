"""Open requests in a memory-mapped file: what a kill -9 of the gateway leaves behind to be settled.

A slot is taken when a request is admitted and freed once its ledger row is committed. Pages of a shared
mapping belong to the kernel, so they survive the death of the process at any instruction. While a stream runs,
its slot holds the engine's own running usage, so that even then token counts are the engine's.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import re
import struct
from collections import deque
from pathlib import Path
from typing import NamedTuple

from appliance.domain import LedgerRow, Usage
from appliance.errors import AlreadyRunning, StoreError

MAGIC = b"IFLYJNL1"
HEADER_BYTES = 64
SLOT_BYTES = 512
USAGE_BYTES_MAX = 160
INTERRUPTED_STATUS = 500

_HEADER = struct.Struct("<8sIIq")
"""magic, bytes of a slot, slots, last sign of life in ms since the epoch"""
_FACTS = struct.Struct("<q26s40s40s10s")
"""start in ms, request id, model, deployment, key id"""
_FACTS_AT = 4
_USAGE_AT = (160, 328)
"""Running usage is written to the two places in turn; byte 1 of the slot names the valid one, so that no kill
between two bytes leaves a mixed number."""
_LENGTH = struct.Struct("<H")

_FREE, _OPEN = 0, 1
_NO_USAGE = 0xFF

_USUAL = re.compile(
    rb'\{"prompt_tokens":(\d{1,12}),"total_tokens":\d{1,12},"completion_tokens":(\d{1,12})[,}]'
)
"""As vLLM writes it."""
_TOKENS = re.compile(rb'"(prompt|completion)_tokens": ?(\d{1,12})(?=[,}])')


class OpenRequest(NamedTuple):
    """What is known of a request when it is admitted."""

    ts_start_ms: int
    request_id: str
    model_id: str
    deployment_id: str
    key_id: str


def parse_usage(usage: bytes) -> Usage:
    """Token counts out of the engine's `usage` object. Counts that are not there are 0."""
    usual = _USUAL.match(usage)
    if usual is not None:
        return Usage(int(usual[1]), int(usual[2]))
    counts = {name: int(digits) for name, digits in _TOKENS.findall(usage)}
    return Usage(counts.get(b"prompt", 0), counts.get(b"completion", 0))


class Journal:
    """`open` and `note` are for the event loop, `close` for the ledger's thread."""

    def __init__(self, path: Path, slots: int) -> None:
        """Map the journal at `path`, made with `slots` slots of 512 bytes if there is none.

        Raises StoreError if the file is no journal or holds open requests of another shape.
        """
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            _lock(self._file, path)
            self._slots = self._prepare(path, slots)
        except OSError as error:
            raise StoreError(
                f"{path} can't be used: {error.strerror}.",
                fix="Check free disk space, and that the state folder belongs to the user that runs the appliance.",
            ) from None
        self._map = mmap.mmap(self._file, HEADER_BYTES + self._slots * SLOT_BYTES)
        self._free = deque(slot for slot in range(self._slots) if not self._map[self._at(slot)])

    def _prepare(self, path: Path, slots: int) -> int:
        """Have room for at least `slots` slots. Gives how many there are. A kill at any step leaves a good journal.

        The room is reserved on disk, not sparse: writing to a mapping on a full disk would kill the process.
        """
        if os.fstat(self._file).st_size == 0:
            os.pwrite(self._file, _HEADER.pack(MAGIC, SLOT_BYTES, 0, 0).ljust(HEADER_BYTES, b"\0"), 0)
        head = os.pread(self._file, _HEADER.size, 0).ljust(_HEADER.size, b"\0")
        magic, slot_bytes, found, alive_ms = _HEADER.unpack(head)
        size = os.fstat(self._file).st_size
        if magic != MAGIC or slot_bytes != SLOT_BYTES or size < HEADER_BYTES + found * SLOT_BYTES:
            os.close(self._file)
            raise StoreError(
                f"{path} is not a journal of this release.",
                why="It may come from a newer release, or be damaged.",
                fix="Start the release that wrote it, or move the file away: requests open in it then get no row.",
            )
        slots = max(slots, found)
        os.posix_fallocate(self._file, 0, HEADER_BYTES + slots * SLOT_BYTES)
        os.pwrite(self._file, _HEADER.pack(MAGIC, SLOT_BYTES, slots, alive_ms), 0)
        return slots

    def open(self, request: OpenRequest) -> int | None:
        """Journal an admitted request. Gives its slot, or None when every slot is taken."""
        if not self._free:
            return None
        slot = self._free.popleft()
        at = self._at(slot)
        buffer = self._map
        _FACTS.pack_into(
            buffer,
            at + _FACTS_AT,
            request.ts_start_ms,
            request.request_id.encode(),
            request.model_id.encode(),
            request.deployment_id.encode(),
            request.key_id.encode(),
        )
        buffer[at + 1] = _NO_USAGE
        buffer[at] = _OPEN
        return slot

    def note(self, slot: int, usage: bytes) -> None:
        """Keep the engine's running `usage` object, JSON; of one longer than 160 bytes only the two counts."""
        if len(usage) > USAGE_BYTES_MAX:
            counts = parse_usage(usage)
            usage = b'{"prompt_tokens":%d,"completion_tokens":%d}' % (
                counts.prompt_tokens,
                counts.completion_tokens,
            )
        length = len(usage)
        at = self._at(slot)
        buffer = self._map
        place = 1 if buffer[at + 1] == 0 else 0
        start = at + _USAGE_AT[place]
        _LENGTH.pack_into(buffer, start, length)
        buffer[start + 2 : start + 2 + length] = usage
        buffer[at + 1] = place

    def close(self, slot: int) -> None:
        """Free a slot. Only once its row is committed."""
        self._map[self._at(slot)] = _FREE
        self._free.append(slot)

    def beat(self, now_ms: int) -> None:
        """Leave a sign of life: requests found open at the next start ended after it, not before."""
        struct.pack_into("<q", self._map, 16, now_ms)

    def left_open(self) -> list[tuple[int, LedgerRow]]:
        """Slots that a former gateway left open, each with the row that settles it."""
        alive_ms = struct.unpack_from("<q", self._map, 16)[0]
        return [
            (slot, self._interrupted(slot, alive_ms))
            for slot in range(self._slots)
            if self._map[self._at(slot)]
        ]

    def release(self) -> None:
        """Unmap and unlock. Open slots stay for the next start."""
        self._map.flush()
        self._map.close()
        os.close(self._file)

    def _at(self, slot: int) -> int:
        return HEADER_BYTES + slot * SLOT_BYTES

    def _interrupted(self, slot: int, alive_ms: int) -> LedgerRow:
        at = self._at(slot)
        start_ms, *texts = _FACTS.unpack_from(self._map, at + _FACTS_AT)
        request_id, model_id, deployment_id, key_id = (text.rstrip(b"\0").decode() for text in texts)
        usage = self._noted(at)
        end_ms = max(start_ms, alive_ms)
        return LedgerRow(
            request_id=request_id,
            ts_start_ms=start_ms,
            ts_end_ms=end_ms,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            token_counts="interrupted",
            model_id=model_id,
            deployment_id=deployment_id,
            http_status=INTERRUPTED_STATUS,
            latency_total_ms=end_ms - start_ms,
            latency_ttft_ms=None,
            latency_itl_mean_us=None,
            rl_requests_used=1,
            rl_tokens_used=usage.prompt_tokens + usage.completion_tokens,
            api_key_id=key_id,
        )

    def _noted(self, at: int) -> Usage:
        place = self._map[at + 1]
        if place == _NO_USAGE:
            return Usage()
        start = at + _USAGE_AT[place]
        length = min(_LENGTH.unpack_from(self._map, start)[0], USAGE_BYTES_MAX)
        return parse_usage(self._map[start + 2 : start + 2 + length])


def _lock(file: int, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise AlreadyRunning(
            "Another gateway runs on this state folder.", why=f"It holds {path}.", fix="Stop it first."
        ) from None
