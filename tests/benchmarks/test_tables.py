from pathlib import Path

import pytest

from benchmarks import install, tables


def test_page_shows_what_the_results_say() -> None:
    """Made by: python -m benchmarks.tables."""
    page = tables.PAGE.read_text()

    assert tables.fill(page, install.RESULTS) == page


def test_page_has_every_table() -> None:
    assert {found["name"] for found in tables.BLOCK.finditer(tables.PAGE.read_text())} == set(tables.BLOCKS)


def test_only_what_is_between_the_markers_is_written() -> None:
    page = "before\n<!-- table pieces -->\nold\n<!-- end -->\nafter\n"

    filled = tables.fill(page, install.RESULTS)

    assert filled.startswith("before\n<!-- table pieces -->\n")
    assert filled.endswith("\n<!-- end -->\nafter\n")
    assert "old" not in filled
    assert "| identify the key |" in filled


def test_unknown_table_is_an_error() -> None:
    with pytest.raises(KeyError):
        tables.fill("<!-- table nothing -->\n<!-- end -->\n", install.RESULTS)


def test_missing_result_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        tables.fill("<!-- table pieces -->\n<!-- end -->\n", tmp_path)
