from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from hashlib import sha256
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner, Result

from appliance.engine import environment, setup, staging
from appliance.engine.progress import Reporter
from appliance.errors import AlreadyRunning, CatalogError, EnvironmentBroken, InferflyError
from appliance.settings import Settings

SOURCE: Final = b"GGUF of a small model"
CONVERTER: Final = """#!/bin/sh
echo '{}' > "$4/config.json"
cp "$3" "$4/model.safetensors"
[ ! -e "$(dirname "$0")/hangs" ] || { touch "$(dirname "$0")/hanging"; exec sleep 60; }
"""
CATALOG: Final = f"""
models:
  - name: small
    source:
      package: small-model
      file: small/model.gguf
    revision: "1.0"
    digest: sha256:{sha256(SOURCE).hexdigest()}
    licence: Apache-2.0
    engine:
      max_context: 512
"""


class Box:
    """A machine whose operator brought an engine's environment (INFERFLY_ENGINE_PYTHON), with one model in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.bin = folder / "engine" / "bin"
        self.bin.mkdir(parents=True)
        (self.bin / "python").write_text(CONVERTER, encoding="utf-8")
        (self.bin / "python").chmod(0o755)
        packages = folder / "engine" / "lib" / "python3.11" / "site-packages"
        (packages / "small").mkdir(parents=True)
        (packages / "small" / "model.gguf").write_bytes(SOURCE)
        (packages / "small_model-1.0.dist-info").mkdir()
        metadata = "Metadata-Version: 2.1\nName: small-model\nVersion: 1.0\n"
        (packages / "small_model-1.0.dist-info" / "METADATA").write_text(metadata, encoding="utf-8")
        (folder / "models.yaml").write_text(CATALOG, encoding="utf-8")

    def variables(self) -> dict[str, str]:
        return {
            "INFERFLY_HOME": str(self.home),
            "INFERFLY_MODELS": str(self.folder / "models.yaml"),
            "INFERFLY_ENGINE_PYTHON": str(self.bin / "python"),
        }

    def setup(self, *arguments: str) -> Result:
        return CliRunner(env=self.variables()).invoke(setup.setup, arguments)

    def weights(self, *arguments: str) -> Result:
        return CliRunner(env=self.variables()).invoke(setup.weights, arguments)

    @property
    def kept(self) -> Path:
        return self.home / "models" / f"sha256-{sha256(SOURCE).hexdigest()}"


@pytest.fixture
def box() -> Generator[Box]:
    """In a folder of a short name: the state folder's sockets have to fit into Linux's limit."""
    with tempfile.TemporaryDirectory(prefix="if-") as folder:
        yield Box(Path(folder))


def failure(result: Result) -> InferflyError:
    assert isinstance(result.exception, InferflyError), result.output
    return result.exception


def test_setup_obtains_every_model_into_a_private_folder(box: Box) -> None:
    done = box.setup()

    assert done.output.endswith("Everything is in place.\n")
    assert (box.kept / "model.safetensors").exists()
    assert box.home.stat().st_mode & 0o777 == 0o700


def test_a_second_setup_only_verifies(box: Box) -> None:
    box.setup()

    again = box.setup()

    assert "Verifying small" in again.output
    assert "Converting" not in again.output


def test_repair_mends_damaged_weights(box: Box) -> None:
    box.setup()
    (box.kept / "model.safetensors").write_bytes(b"")

    assert "damaged" in str(failure(box.setup()))
    assert box.setup("--repair").exit_code == 0
    assert box.weights("verify").exit_code == 0


def test_two_setups_at_once_are_refused(box: Box) -> None:
    box.home.mkdir()
    with (box.home / "setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        refused = failure(box.setup())

    assert isinstance(refused, AlreadyRunning)
    assert "Another setup is under way" in str(refused)


def test_nothing_is_repaired_under_a_running_appliance(box: Box) -> None:
    box.home.mkdir()
    with (box.home / "up.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        refused = failure(box.setup("--repair"))
        plain = box.setup()

    assert isinstance(refused, AlreadyRunning)
    assert plain.exit_code == 0


def test_a_broken_catalog_is_refused_before_anything_is_made(box: Box) -> None:
    (box.folder / "models.yaml").write_text("models: []", encoding="utf-8")

    assert isinstance(failure(box.setup()), CatalogError)
    assert not box.home.exists()


def test_what_the_disk_refuses_is_said_in_words(box: Box) -> None:
    box.home.mkdir()
    (box.home / "models").touch()

    refused = failure(box.setup())

    assert isinstance(refused, EnvironmentBroken)
    assert "The setup stopped: " in str(refused)
    assert "run `inferfly setup` again" in str(refused)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupted_setup_leaves_nothing_half_done(box: Box, number: signal.Signals) -> None:
    (box.bin / "hangs").touch()
    with subprocess.Popen(
        [sys.executable, "-m", "appliance", "setup"],
        env=dict(os.environ) | box.variables(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        wait_for(box.bin / "hanging")
        assert list((box.home / "models").glob(f"{staging.UNFINISHED}*"))

        process.send_signal(number)

    assert process.returncode != 0
    assert list((box.home / "models").iterdir()) == []


def test_weights_fetch_and_verify_take_one_model_by_name(box: Box) -> None:
    assert box.weights("fetch", "small").exit_code == 0

    verified = box.weights("verify", "small")

    assert verified.output.endswith(f"small: {box.kept}\n")


@pytest.mark.parametrize("verb", ["fetch", "verify"])
def test_an_unknown_model_is_refused(box: Box, verb: str) -> None:
    assert isinstance(failure(box.weights(verb, "other")), CatalogError)


def test_weights_digest_prints_what_models_yaml_wants(box: Box) -> None:
    file = box.folder / "engine" / "lib" / "python3.11" / "site-packages" / "small" / "model.gguf"

    assert box.weights("digest", str(file)).output == f"sha256:{sha256(SOURCE).hexdigest()}\n"


def test_the_builder_looks_for_packages_where_pip_looks(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    variables = {"PATH": os.environ["PATH"], "PIP_FIND_LINKS": str(tmp_path)}

    builder = environment.builder(settings, variables, Reporter())

    assert builder.variables["UV_FIND_LINKS"] == str(tmp_path)
    assert builder.folder == tmp_path / "home" / "engine"


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 30
    while not file.exists():
        assert time.monotonic() < deadline, f"{file} never came"
        time.sleep(0.02)
