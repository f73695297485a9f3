"""Makes folders appear whole or not at all: filled aside, then renamed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

UNFINISHED: Final = ".building-"
"""Start of the name of a folder that is still being filled. One that is found later is thrown away."""


@contextmanager
def unfinished(parent: Path) -> Generator[Path]:
    """A folder in `parent` to fill and then `put` in place. One at a time for each parent.

    What is left of it when the block ends is removed, as is what one that was interrupted left.
    """
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _clean(parent)
    try:
        yield Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=parent))
    finally:
        _clean(parent)


def put(building: Path, target: Path) -> None:
    """Rename a filled folder to `target`; a folder of that name gives way."""
    if target.exists():
        target.rename(building.with_name(f"{building.name}-old"))
    building.rename(target)


def _clean(parent: Path) -> None:
    for folder in parent.glob(f"{UNFINISHED}*"):
        shutil.rmtree(folder)
