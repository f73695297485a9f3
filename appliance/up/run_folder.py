"""The run folder: sockets, and the engines' private folders, for as long as the appliance runs."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from appliance.settings import Settings

SOCKET_PATH_BYTES_MAX: Final = 107
"""Linux keeps a unix socket's path in 108 bytes, the last one zero (unix(7))."""
LONGEST_SOCKET: Final = "engines/{}/tmp/01234567-89ab-cdef-0123-456789abcdef"
"""What vLLM's processes talk over among themselves: a UUID in an engine's folder for temporary files."""
SHORT: Final = "/tmp/ifr-"  # noqa: S108  # made by mkdtemp: private, and under no name that could be guessed


@contextlib.contextmanager
def made(settings: Settings, engines: Iterable[str]) -> Iterator[None]:
    """Have an empty run folder, mode 0700; gone afterwards. Only under the lock of the state folder.

    It is `run` in the state folder. Where that path leaves too little for the sockets of these engines, `run` is a
    link to a folder with a short one.
    """
    clear(settings)
    run = settings.home / "run"
    if max(len(bytes(run / LONGEST_SOCKET.format(name))) for name in engines) <= SOCKET_PATH_BYTES_MAX:
        run.mkdir(mode=0o700)
    else:
        short = Path(SHORT)
        run.symlink_to(tempfile.mkdtemp(prefix=short.name, dir=short.parent))
    try:
        yield
    finally:
        clear(settings)


def clear(settings: Settings) -> None:
    """Remove the run folder, also one that a killed `inferfly up` has left."""
    run = settings.home / "run"
    if not run.is_symlink():
        shutil.rmtree(run, ignore_errors=True)
        return
    target = run.readlink()
    if str(target).startswith(SHORT):
        shutil.rmtree(target, ignore_errors=True)
    run.unlink()
