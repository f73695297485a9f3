import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from appliance.catalog import Catalog
from appliance.engine import weights
from appliance.errors import AlreadyRunning, EnvironmentBroken, SettingsError, WeightsError
from appliance.settings import Settings
from appliance.up import checks


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A machine with an engine's environment and a model."""
    environment = tmp_path / "engine" / "current"
    (environment / "lib" / "python3.11" / "site-packages" / "vllm").mkdir(parents=True)
    (environment / "bin").mkdir()
    (environment / "bin" / "python").symlink_to(sys.executable)
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    return Settings(home=tmp_path)


def catalog(settings: Settings, **engine: Any) -> Catalog:
    model = settings.home / "model"
    entry = {
        "name": "tiny",
        "source": {"path": str(model)},
        "revision": "1",
        "digest": weights.digest_of(model),
        "licence": "MIT",
        "engine": {"max_context": 64} | engine,
    }
    return Catalog.model_validate({"models": [entry]})


def meminfo(tmp_path: Path, available_kb: int) -> str:
    file = tmp_path / "meminfo"
    file.write_text(f"MemTotal: 99999999 kB\nMemAvailable: {available_kb} kB\n")
    return str(file)


def test_a_whole_machine_passes(settings: Settings, tmp_path: Path) -> None:
    checks.machine(settings, catalog(settings), gpu=False, meminfo=meminfo(tmp_path, 4_000_000))


def test_too_little_memory_is_told_in_figures(settings: Settings, tmp_path: Path) -> None:
    wanted = catalog(settings, kv_cache_bytes=10_000_000_000)

    with pytest.raises(EnvironmentBroken, match=r"11\.5 GB needed, 4\.1 GB free.*kv_cache_bytes"):
        checks.machine(settings, wanted, gpu=False, meminfo=meminfo(tmp_path, 4_000_000))


def test_on_a_gpu_weights_and_cache_need_no_main_memory(settings: Settings, tmp_path: Path) -> None:
    wanted = catalog(settings, kv_cache_bytes=10_000_000_000)

    checks.machine(settings, wanted, gpu=True, meminfo=meminfo(tmp_path, 4_000_000))


def test_a_missing_engine_environment_names_the_installer(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "engine" / "current" / "bin" / "python").unlink()

    with pytest.raises(EnvironmentBroken, match=r"\./install\.sh --local"):
        checks.machine(settings, catalog(settings), gpu=False)


def test_an_engine_environment_without_vllm_names_the_installer(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "engine" / "current" / "lib" / "python3.11" / "site-packages" / "vllm").rmdir()

    with pytest.raises(EnvironmentBroken, match=r"\./install\.sh --local"):
        checks.machine(settings, catalog(settings), gpu=False)


def test_damaged_weights_are_found(settings: Settings, tmp_path: Path) -> None:
    wanted = catalog(settings)
    (tmp_path / "model" / "model.safetensors").write_bytes(b"damaged")

    with pytest.raises(WeightsError):
        checks.machine(settings, wanted, gpu=False)


def test_a_full_disk_is_told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = os.statvfs_result((4096, 4096, 100, 10, 10, 1, 1, 1, 0, 255))

    def full(_path: Path) -> os.statvfs_result:
        return usage

    monkeypatch.setattr(os, "statvfs", full)

    with pytest.raises(EnvironmentBroken, match="0 MB are free, 100 MB needed"):
        checks.machine(settings, catalog(settings), gpu=False)


def test_a_second_one_is_refused_while_the_first_holds_the_folder(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "box")

    with checks.only_one(settings), pytest.raises(AlreadyRunning, match="Another"), checks.only_one(settings):
        pass

    with checks.only_one(settings):
        assert (tmp_path / "box").stat().st_mode & 0o777 == 0o700


def test_the_socket_listens_before_anybody_accepts(tmp_path: Path) -> None:
    """While the gateway is restarted, callers wait instead of failing."""
    with (
        checks.listen(Settings(home=tmp_path, port=0)) as listening,
        socket.create_connection(listening.getsockname(), timeout=5),
    ):
        assert listening.getsockname()[1] > 0


def test_a_taken_port_is_told_with_its_cure(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        settings = Settings(home=tmp_path, port=other.getsockname()[1])

        with pytest.raises(AlreadyRunning, match="INFERFLY_PORT"):
            checks.listen(settings)


@pytest.mark.parametrize("host", ["not an address", "example.invalid", "192.0.2.7"])
def test_an_address_that_is_not_this_machines_is_told(tmp_path: Path, host: str) -> None:
    with pytest.raises(SettingsError, match="INFERFLY_HOST"):
        checks.listen(Settings(home=tmp_path, host=host, port=0))


@pytest.mark.parametrize(("host", "bound"), [("localhost", "127.0.0.1"), ("::1", "::1")])
def test_names_of_this_machine_are_known_without_asking_anybody(
    tmp_path: Path, host: str, bound: str
) -> None:
    with checks.listen(Settings(home=tmp_path, host=host, port=0)) as listening:
        assert listening.getsockname()[0] == bound
