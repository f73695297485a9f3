import asyncio
import json
import socket
from pathlib import Path

import pytest

from appliance.engine.log_relay import LINES_PER_MINUTE_MAX, LogRelay


async def say(path: Path, *lines: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as engine:
        for line in lines:
            engine.sendto(line, str(path))
            await asyncio.sleep(0)
    await asyncio.sleep(0.05)


def line(template: str, level: str = "error") -> bytes:
    return json.dumps({"level": level, "template": template}).encode()


async def test_lines_are_passed_on(short_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    relay = LogRelay(short_folder / "log")

    await say(short_folder / "log", line("one"), line("two"))

    relay.close()
    assert capsys.readouterr().err == (line("one") + b"\n" + line("two") + b"\n").decode()


async def test_the_last_error_is_kept(short_folder: Path) -> None:
    relay = LogRelay(short_folder / "log")

    await say(short_folder / "log", line("first"), line("last"), line("later", "warning"))

    relay.close()
    assert relay.last_error == "last"


async def test_a_flood_is_cut_off(short_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An engine that complains about each request must not fill the disk."""
    relay = LogRelay(short_folder / "log")

    await say(short_folder / "log", *[line("again")] * (LINES_PER_MINUTE_MAX * 3))

    relay.close()
    # A minute may turn while this runs.
    assert len(capsys.readouterr().err.splitlines()) <= LINES_PER_MINUTE_MAX * 2


async def test_what_is_no_line_of_ours_is_dropped(
    short_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    relay = LogRelay(short_folder / "log")

    await say(short_folder / "log", b"free text", line("x" * 5000))

    relay.close()
    assert capsys.readouterr().err == ""
