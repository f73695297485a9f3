from __future__ import annotations

import json
import logging
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.admin import peer
from appliance.admin.client import Client
from appliance.domain import EngineState
from appliance.engine.supervisor import UnitState
from appliance.errors import AlreadyRunning, ControlUnreachable, EnvironmentBroken, StoreError
from appliance.store.registry import RegistryReader
from tests.fakes.control import running, until

if TYPE_CHECKING:
    from appliance.catalog import Catalog
    from appliance.settings import Settings
    from tests.fakes.control import Control, FakeSupervisor

REPO = Path(__file__).parents[3]


def test_socket_is_for_its_owner_alone(control: Control) -> None:
    mode = control.settings.control_socket.stat().st_mode

    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert stat.S_IMODE(control.settings.run.stat().st_mode) == 0o700


def test_socket_is_gone_after_a_stop(
    settings: Settings, catalog: Catalog, supervisor: FakeSupervisor
) -> None:
    with running(settings, catalog, supervisor):
        pass

    assert not settings.control_socket.exists()


def test_stale_socket_is_replaced(settings: Settings, catalog: Catalog, supervisor: FakeSupervisor) -> None:
    settings.run.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(settings.control_socket))

    with running(settings, catalog, supervisor) as control:
        assert control.client.status()


def test_second_control_is_refused(control: Control, catalog: Catalog, supervisor: FakeSupervisor) -> None:
    with pytest.raises(AlreadyRunning), running(control.settings, catalog, supervisor):
        pass

    assert control.client.status()


def test_file_in_the_way_is_kept(settings: Settings, catalog: Catalog, supervisor: FakeSupervisor) -> None:
    settings.run.mkdir()
    settings.control_socket.write_text("mine")

    with pytest.raises(EnvironmentBroken, match="not a socket"), running(settings, catalog, supervisor):
        pass

    assert settings.control_socket.read_text() == "mine"


def test_damaged_registry_ends_the_start(
    settings: Settings, catalog: Catalog, supervisor: FakeSupervisor
) -> None:
    settings.registry_db.write_bytes(b"x" * 5000)

    with pytest.raises(StoreError, match="damaged"), running(settings, catalog, supervisor):
        pass


def test_gateway_learns_of_a_ready_engine_within_a_second(control: Control) -> None:
    reader = RegistryReader(control.settings.registry_db)
    reader.load()
    control.supervisor.units["tiny"] = UnitState(EngineState.READY, 1, 1, 0, "", "")

    seen = until(lambda: reader.changed() and "tiny" in reader.load().engines, seconds=1)

    reader.close()
    assert seen


def test_no_api_pages_are_served(control: Control) -> None:
    assert {control.ask("GET", path)[0] for path in ("/schema", "/schema/openapi.json", "/docs", "/")} == {
        404
    }


def test_loggers_are_left_as_they_were(
    settings: Settings, catalog: Catalog, supervisor: FakeSupervisor
) -> None:
    """Litestar and uvicorn would set up loggers that print what people sent."""
    before = (list(logging.root.handlers), logging.root.level)

    with running(settings, catalog, supervisor) as control:
        control.client.status()
        during = (list(logging.root.handlers), logging.root.level)
        others = [
            name for name in ("litestar", "uvicorn", "uvicorn.access") if logging.getLogger(name).handlers
        ]

    assert during == before
    assert others == []


def _start(settings: Settings, tmp_path: Path) -> subprocess.Popen[bytes]:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(REPO),
        "INFERFLY_MODELS": str(REPO / "models.yaml"),
    }
    command = [sys.executable, "-m", "appliance", "control", "--home", str(settings.home)]
    with (tmp_path / "stderr").open("wb") as stderr:
        return subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=stderr)


def _answers(settings: Settings) -> bool:
    try:
        return bool(Client(settings.control_socket).status())
    except ControlUnreachable:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_process_stops_cleanly_on_a_signal(
    settings: Settings, tmp_path: Path, number: signal.Signals
) -> None:
    process = _start(settings, tmp_path)
    try:
        assert until(lambda: _answers(settings), seconds=30)
        title = Path(f"/proc/{process.pid}/cmdline").read_bytes().strip(b"\0")
        process.send_signal(number)
        ended = process.wait(10)
    finally:
        process.kill()
        process.wait()

    assert title == b"inferfly control"
    assert ended == 0
    assert not settings.control_socket.exists()
    assert [json.loads(line)["event"] for line in (tmp_path / "stderr").read_text().splitlines()] == [
        "reconcile_failed",
        "started",
        "stopped",
    ]


def test_killed_control_starts_again_on_its_stale_socket(settings: Settings, tmp_path: Path) -> None:
    created: set[str] = set()
    for _ in range(2):
        process = _start(settings, tmp_path)
        try:
            assert until(lambda: _answers(settings), seconds=30)
            created.add(Client(settings.control_socket).create_key(account="default", name="a").key_id)
        finally:
            process.kill()
            process.wait()

    reader = RegistryReader(settings.registry_db)
    keys = reader.load().keys
    reader.close()
    assert set(keys) == created


def test_strangers_are_turned_away(settings: Settings, catalog: Catalog, supervisor: FakeSupervisor) -> None:
    """By the kernel's word on who calls, should the file's mode ever fail."""
    with running(settings, catalog, supervisor, callers=frozenset({os.getuid() + 1})) as control:
        answers = [control.ask("GET", "/v1/status"), control.ask("POST", "/v1/accounts", b'{"name": "mine"}')]

    assert [status for status, _ in answers] == [403, 403]


def test_only_root_and_the_owner_are_let_in() -> None:
    assert peer.owners() == {0, os.getuid()}
