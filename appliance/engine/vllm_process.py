"""One run of vLLM: its processes, what they print while they load, and their sealed log lines."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Final, Self

from appliance.engine import leash
from appliance.engine.log_relay import LogRelay

if TYPE_CHECKING:
    from appliance.engine.command import Command
    from appliance.engine.folder import RunFolder

OUTPUT_BYTES_MAX: Final = 256 * 1024
READ_BYTES: Final = 65536
GROUP_SECONDS_MAX: Final = 3.0
"""How long the helpers of a vLLM that is gone may take to tidy up after themselves."""


class VllmProcess:
    """Runs in a session of its own and dies with this process."""

    def __init__(self, process: asyncio.subprocess.Process, log: LogRelay, output: int) -> None:
        self._process = process
        self.log = log
        self._pipe = output
        self._output: bytearray | None = bytearray()
        os.set_blocking(output, False)
        asyncio.get_running_loop().add_reader(output, self._read)

    @classmethod
    async def start(cls, command: Command, folder: RunFolder) -> Self:
        log = LogRelay(folder.log_socket)
        # Not asyncio's own pipes: with them, waiting for vLLM waits for every helper that holds its output open.
        output, written = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), "-"),
                *command.argv,
                env=dict(command.environment),
                cwd=folder.root,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=written,
                stderr=written,
                start_new_session=True,
            )
        finally:
            os.close(written)
        return cls(process, log, output)

    async def exited(self) -> int:
        """Exit code; a signal's number as a negative one."""
        return await self._process.wait()

    def output(self) -> list[str]:
        """The last lines printed while loading, once vLLM has ended."""
        while self._read():
            pass
        return bytes(self._output or b"").decode(errors="replace").splitlines()

    def forget_output(self) -> None:
        """From now on content may pass through vLLM: what it prints goes nowhere."""
        self._output = None

    async def stop(self, seconds: float) -> None:
        """SIGTERM, then `seconds` to end; a vLLM whose own deadline has passed never does."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), seconds)
        await self.kill()

    async def kill(self) -> None:
        """End every process of the session. The main one goes first, so that its helpers can tidy /dev/shm."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + GROUP_SECONDS_MAX
        while _group_lives(self._process.pid) and loop.time() < deadline:  # noqa: ASYNC110  # no event tells of it
            await asyncio.sleep(0.05)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        if self._pipe >= 0:
            loop.remove_reader(self._pipe)
            os.close(self._pipe)
            self._pipe = -1
        self.log.close()

    def _read(self) -> bool:
        """Take a piece of what is there; False where nothing is. Never stop reading: a full pipe blocks vLLM."""
        try:
            piece = os.read(self._pipe, READ_BYTES)
        except BlockingIOError:
            return False
        if not piece:
            asyncio.get_running_loop().remove_reader(self._pipe)
        elif self._output is not None:
            self._output += piece
            del self._output[:-OUTPUT_BYTES_MAX]
        return bool(piece)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
