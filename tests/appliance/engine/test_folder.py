import json
from pathlib import Path

from appliance.engine.folder import RunFolder


def test_only_the_owner_can_look_in(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "engines" / "tiny")

    folder.create()

    made = [folder.root, folder.temporary, folder.home, folder.code]
    assert {oct(path.stat().st_mode & 0o777) for path in made} == {"0o700"}


def test_it_holds_what_vllm_imports_of_ours(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "tiny")

    folder.create()

    assert {path.name for path in folder.code.iterdir()} == {
        "inferfly_launcher.py",
        "inferfly_sealed_log.py",
        "logging.json",
    }
    assert json.loads(folder.logging_config.read_text())["root"]["handlers"] == ["sealed"]


def test_what_a_killed_engine_left_is_gone(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "tiny")
    folder.create()
    folder.socket.write_text("stale")
    (folder.temporary / "vllm_dist_1").write_text("stale")

    folder.create()

    assert not folder.socket.exists()
    assert list(folder.temporary.iterdir()) == []


def test_removing_leaves_nothing(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "tiny")
    folder.create()

    folder.remove()
    folder.remove()

    assert list(tmp_path.iterdir()) == []
