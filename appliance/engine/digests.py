"""SHA-256 of files and of folders of weights."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

CHUNK_BYTES: Final = 4 * 1024 * 1024
THREADS_MAX: Final = 8


def of_file(file: Path, on_bytes: Callable[[int], None] = lambda _: None) -> str:
    """SHA-256 of a file in hexadecimal. `on_bytes` hears the size of each chunk."""
    found = hashlib.sha256()
    with file.open("rb") as opened:
        while chunk := opened.read(CHUNK_BYTES):
            found.update(chunk)
            on_bytes(len(chunk))
    return found.hexdigest()


def of_files(
    folder: Path, names: Sequence[str], on_progress: Callable[[int, int], None] = lambda _done, _total: None
) -> dict[str, str]:
    """SHA-256 of each file named, several at a time: hashing leaves Python's lock free."""
    total = sum((folder / name).stat().st_size for name in names)
    done = 0

    def count(size: int) -> None:
        nonlocal done
        done += size
        on_progress(done, total)

    with ThreadPoolExecutor(min(THREADS_MAX, os.cpu_count() or 1)) as pool:
        jobs = {name: pool.submit(of_file, folder / name, count) for name in names}
        return {name: job.result() for name, job in jobs.items()}


def of_listing(digests: Mapping[str, str]) -> str:
    """One digest for a whole folder: that of the list which `sha256sum` prints of its files, sorted by name."""
    lines = [f"{digests[name]}  {name}\n" for name in sorted(digests, key=os.fsencode)]
    return hashlib.sha256(os.fsencode("".join(lines))).hexdigest()
