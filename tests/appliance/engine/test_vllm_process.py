import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from appliance.engine.command import Command
from appliance.engine.folder import RunFolder
from appliance.engine.vllm_process import OUTPUT_BYTES_MAX, VllmProcess


@asynccontextmanager
async def running(folder: Path, script: str) -> AsyncIterator[VllmProcess]:
    run = RunFolder(folder / "tiny")
    run.create()
    vllm = await VllmProcess.start(Command(("/bin/sh", "-c", script), {"PATH": os.environ["PATH"]}), run)
    try:
        yield vllm
    finally:
        await vllm.kill()


async def test_the_output_of_loading_is_kept(short_folder: Path) -> None:
    async with running(short_folder, "echo one; echo two >&2; exit 3") as vllm:
        assert await vllm.exited() == 3
        assert vllm.output() == ["one", "two"]


async def test_only_the_end_of_it_is_kept(short_folder: Path) -> None:
    async with running(short_folder, "head -c 2000000 /dev/zero | tr '\\0' x; echo; echo last") as vllm:
        await vllm.exited()
        lines = vllm.output()

    assert lines[-1] == "last"
    assert sum(len(line) + 1 for line in lines) <= OUTPUT_BYTES_MAX


async def test_once_forgotten_nothing_of_it_is_left(short_folder: Path) -> None:
    async with running(
        short_folder, "echo c4nary; sleep 0.3; echo c4nary; head -c 2000000 /dev/zero"
    ) as vllm:
        await asyncio.sleep(0.1)
        vllm.forget_output()

        assert await vllm.exited() == 0
        assert vllm.output() == []


async def test_its_end_is_noticed_though_a_helper_holds_its_output_open(short_folder: Path) -> None:
    async with running(short_folder, "sleep 60 & exit 4") as vllm:
        async with asyncio.timeout(5):
            assert await vllm.exited() == 4


async def test_stopping_takes_its_whole_session_along(short_folder: Path) -> None:
    script = f"sleep 60 & echo $! > {short_folder}/helper; trap '' TERM; wait; sleep 60"
    async with running(short_folder, script) as vllm:
        while not (short_folder / "helper").exists() or not (short_folder / "helper").read_text():
            await asyncio.sleep(0.02)
        helper = int((short_folder / "helper").read_text())

        await vllm.stop(0.2)

    state = Path(f"/proc/{helper}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"


async def test_killing_twice_is_no_failure(short_folder: Path) -> None:
    async with running(short_folder, "exit 0") as vllm:
        await vllm.kill()
