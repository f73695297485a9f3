"""The run folder is private, short enough for every socket, and gone afterwards."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from appliance.settings import Settings
from appliance.up import run_folder
from appliance.up.run_folder import LONGEST_SOCKET, SOCKET_PATH_BYTES_MAX

ENGINE = "e" * 40


@pytest.fixture(params=[10, 60, 200], ids=lambda length: f"path of {length} more bytes")
def settings(request: pytest.FixtureRequest, short_folder: Path) -> Settings:
    home = short_folder / ("h" * request.param)
    home.mkdir(mode=0o700)
    return Settings.load(home)


def test_the_longest_socket_fits_whatever_the_home(settings: Settings) -> None:
    with run_folder.made(settings, [ENGINE]):
        longest = settings.run / LONGEST_SOCKET.format(ENGINE)

        assert len(bytes(longest)) <= SOCKET_PATH_BYTES_MAX
        assert settings.run.is_dir()


def test_only_its_owner_may_enter(settings: Settings) -> None:
    with run_folder.made(settings, [ENGINE]):
        assert stat.S_IMODE(settings.run.stat().st_mode) == 0o700


def test_nothing_is_left_of_it(settings: Settings) -> None:
    with run_folder.made(settings, [ENGINE]):
        was = settings.run
        (was / "control.sock").touch()

    assert not was.exists()
    assert not (settings.home / "run").is_symlink()


def test_what_a_killed_predecessor_left_is_removed(settings: Settings) -> None:
    stale = run_folder.made(settings, [ENGINE])
    stale.__enter__()  # and never left: the predecessor was killed
    left = settings.run
    (left / "engines").mkdir()

    with run_folder.made(settings, [ENGINE]):
        assert list(settings.run.iterdir()) == []

    assert not left.exists()


def test_a_link_to_somebody_elses_folder_is_not_followed(settings: Settings, short_folder: Path) -> None:
    theirs = short_folder / "theirs"
    theirs.mkdir()
    (theirs / "letter").touch()
    (settings.home / "run").symlink_to(theirs)

    run_folder.clear(settings)

    assert (theirs / "letter").exists()
    assert not (settings.home / "run").is_symlink()


def test_a_short_home_holds_its_run_folder_itself(short_folder: Path) -> None:
    settings = Settings.load(short_folder)

    with run_folder.made(settings, ["tiny"]):
        assert settings.run == short_folder / "run"
