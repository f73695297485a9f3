"""Models for the appliances that tests start: the real one that `install.sh` made, and a tiny one of random weights."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from appliance.engine import weights

ROOT = Path(__file__).parents[1]
INSTALLED = ROOT / ".inferfly"
TINY = "tiny"
TINY_CONTEXT = 512
TINY_SECONDS_MAX = 120

_TINY_CATALOG = """
models:
  - name: {name}
    source:
      path: {folder}
    revision: "{revision}"
    digest: {digest}
    licence: Apache-2.0
    engine:
      max_context: {context}
      dtype: bfloat16
      max_concurrent_sequences: 16
      kv_cache_bytes: 67108864
"""


def engine_python() -> Path:
    """Python of the engine's environment, as `install.sh --local --no-start` builds it."""
    python = INSTALLED / "engine" / "current" / "bin" / "python"
    assert os.access(python, os.X_OK), "run `./install.sh --local --no-start` first"
    return python


def real_catalog() -> str:
    """What a newcomer's box serves."""
    return (ROOT / "models.yaml").read_text()


def lend_weights(home: Path) -> None:
    """Give another state folder the installed weights, without copying them."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder, _, files in os.walk(INSTALLED / "models"):
        there = home / "models" / Path(folder).relative_to(INSTALLED / "models")
        there.mkdir(mode=0o700)
        for name in files:
            _lend(Path(folder, name), there / name)


def _lend(file: Path, there: Path) -> None:
    try:
        os.link(file, there)
    except OSError:  # on another disk
        shutil.copyfile(file, there)


@functools.cache
def tiny_model() -> Path:
    """A random model of a few hundred KB, kept from one run of the tests to the next."""
    recipe = ROOT / "tests" / "tiny_model.py"
    folder = ROOT / ".build" / f"tiny-{hashlib.sha256(recipe.read_bytes()).hexdigest()[:16]}"
    if not folder.exists():
        building = folder.with_suffix(f".{os.getpid()}")
        subprocess.run([engine_python(), recipe, building], check=True, timeout=TINY_SECONDS_MAX)
        building.rename(folder)
    return folder


def tiny_catalog(name: str = TINY, folder: Path | None = None) -> str:
    folder = folder or tiny_model()
    digest = weights.digest_of(folder)
    return _TINY_CATALOG.format(name=name, folder=folder, revision="1", digest=digest, context=TINY_CONTEXT)
