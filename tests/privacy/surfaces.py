"""Every place where the appliance could have left a caller's words, read once its requests have been made."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.appliance_under_test import Appliance
from tests.privacy.scanner import Finding, Scanner

SHARED = (Path("/dev/shm"), Path("/tmp"), Path("/var/tmp"))  # where a careless program would write
FILE_BYTES_MAX = 64 * 1024 * 1024
"""For files of others in shared folders. The appliance's own are read whole, whatever their size."""
TOKEN_IDS_MIN = 6
VERBS = (
    *(("status",), ("usage", "--limit", "1000"), ("usage", "--by", "key")),
    *(("keys", "list"), ("accounts", "list"), ("limits", "list"), ("bans", "list")),
)

_TOKENISE = """
import json, sys
from tokenizers import Tokenizer
tokenizer = Tokenizer.from_file(sys.argv[1])
words = json.load(sys.stdin)
json.dump({what: tokenizer.encode(text, add_special_tokens=False).ids for what, text in words.items()}, sys.stdout)
"""


def token_ids(words: Mapping[str, str], tokenizer: Path, engine_python: Path) -> dict[str, list[int]]:
    """Each word as the model reads it, without its ends: those melt with what stands beside them."""
    done = subprocess.run(
        [engine_python, "-c", _TOKENISE, tokenizer],
        input=json.dumps(dict(words)).encode(),
        capture_output=True,
        check=True,
        timeout=60,
    )
    inner = {what: ids[2:-2] for what, ids in json.loads(done.stdout).items()}
    return {what: ids for what, ids in inner.items() if len(ids) >= TOKEN_IDS_MIN}


class Surfaces:
    """Remembers when the appliance began, so as to read only what was written since."""

    def __init__(self, appliance: Appliance) -> None:
        self._appliance = appliance
        self._began = time.time() - 1

    def scan(self, scanner: Scanner) -> list[Finding]:
        """What was written, while the appliance runs or once it has ended."""
        return [*self._files(scanner), *self._screen(scanner), *self._processes(scanner)]

    def scan_served(self, scanner: Scanner) -> list[Finding]:
        """What the running appliance tells whoever asks about it."""
        return list(self._served(scanner))

    def _files(self, scanner: Scanner) -> Iterator[Finding]:
        own = self._appliance.folder
        for path in _regular_files(own):
            place = str(path.relative_to(own))
            yield from scanner.scan_file(place, path)
            yield from scanner.scan("a file's name", [str(path).encode()])
        for path in (path for root in SHARED for path in _regular_files(root) if own not in path.parents):
            facts = _facts(path)
            if facts and facts.st_mtime >= self._began and facts.st_size <= FILE_BYTES_MAX:
                yield from scanner.scan_file(str(path), path)

    def _screen(self, scanner: Scanner) -> Iterator[Finding]:
        yield from scanner.scan("stdout", [bytes(self._appliance.stdout)])
        yield from scanner.scan("stderr", [bytes(self._appliance.stderr)])

    def _processes(self, scanner: Scanner) -> Iterator[Finding]:
        """Command lines, environments, and every file they hold open, wherever it lies and deleted or not."""
        for process in self._appliance.processes():
            shown = process.text("cmdline", "environ", "comm", "status")
            yield from scanner.scan(f"ps of {process.title}", [shown])
            for number in _listed(process.folder / "fd"):
                facts = _facts(number)
                if facts and stat.S_ISREG(facts.st_mode) and facts.st_mtime >= self._began:
                    yield from scanner.scan_file(f"open file of {process.title}", number)

    def _served(self, scanner: Scanner) -> Iterator[Finding]:
        yield from scanner.scan("metrics of the gateway", [self._appliance.gateway_metrics()])
        for engine in _listed(self._appliance.home / "run" / "engines"):
            yield from scanner.scan("metrics of an engine", [self._appliance.engine_metrics(engine.name)])
        for verb in VERBS:
            done = self._appliance.cli(*verb, "--json")
            yield from scanner.scan(
                f"inferfly {' '.join(verb)}", [done.stdout.encode(), done.stderr.encode()]
            )


def _regular_files(root: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(root):
        for path in (Path(folder, name) for name in names):
            facts = _facts(path, follow=False)
            if facts and stat.S_ISREG(facts.st_mode):
                yield path


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _facts(path: Path, *, follow: bool = True) -> os.stat_result | None:
    try:
        return path.stat(follow_symlinks=follow)
    except OSError:
        return None
