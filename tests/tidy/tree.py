"""The files that a rule looks at: this repository's, or a few made up to show what the rule refuses."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Tree:
    """Path from the root -> text. Files that aren't text are in `paths` only."""

    texts: Mapping[str, str]
    binaries: frozenset[str] = frozenset()

    @cached_property
    def paths(self) -> frozenset[str]:
        return frozenset(self.texts) | self.binaries

    def matching(self, *patterns: str) -> Iterator[tuple[str, str]]:
        """Path and text of the files that match one of the patterns; `*` also matches `/`."""
        for path, text in self.texts.items():
            if any(fnmatch(path, pattern) for pattern in patterns):
                yield path, text

    def parsed(self, *patterns: str) -> Iterator[tuple[str, ast.Module]]:
        for path, text in self.matching(*patterns):
            yield path, ast.parse(text, path)

    @classmethod
    def of(cls, root: Path) -> Tree:
        """All files that git tracks or would track."""
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=root,
            capture_output=True,
            check=True,
        )
        texts: dict[str, str] = {}
        binaries: set[str] = set()
        for path in sorted(filter(None, listed.stdout.decode().split("\0"))):
            file = root / path
            if not file.is_file():
                continue  # deleted, and not yet committed
            try:
                texts[path] = file.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                binaries.add(path)
        return cls(texts, frozenset(binaries))
