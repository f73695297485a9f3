"""The repository as it stands, read once."""

from __future__ import annotations

import pytest

from tests.tidy.tree import ROOT, Tree


@pytest.fixture(scope="session")
def tree() -> Tree:
    return Tree.of(ROOT)
