from __future__ import annotations

from pathlib import Path

import pytest

from appliance.engine import staging


def test_a_filled_folder_takes_its_place_and_nothing_else_is_left(tmp_path: Path) -> None:
    with staging.unfinished(tmp_path) as building:
        (building / "new").touch()
        staging.put(building, tmp_path / "target")

    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert (tmp_path / "target" / "new").exists()


def test_a_folder_of_that_name_gives_way(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "old").touch()

    with staging.unfinished(tmp_path) as building:
        staging.put(building, tmp_path / "target")

    assert list((tmp_path / "target").iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with staging.unfinished(tmp_path) as building:
            (building / "half").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()

    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_one_left_is_removed_before_the_next(tmp_path: Path) -> None:
    stale = tmp_path / f"{staging.UNFINISHED}stale"
    stale.mkdir()

    with staging.unfinished(tmp_path):
        assert not stale.exists()
