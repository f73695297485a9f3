from __future__ import annotations

import io
import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pytest
from rich.console import Console

from appliance.catalog import ModelSpec
from appliance.engine import staging, weights
from appliance.engine.progress import Reporter
from appliance.errors import WeightsError
from appliance.settings import Settings

SOURCE: Final = b"GGUF of a small model"
CONVERTER: Final = """#!/bin/sh
# Stands for the engine's Python, run as: python -I convert.py SOURCE FOLDER
[ ! -e "$(dirname "$0")/fails" ] || { echo "no such architecture"; exit 1; }
echo '{}' > "$4/config.json"
cp "$3" "$4/model.safetensors"
echo converted >> "$(dirname "$0")/calls"
"""


class Box:
    """A machine with an engine's environment that has one package with a model in it."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(home=folder / "home", models=folder / "models.yaml")
        interpreter = self.settings.engine_interpreter
        self.bin = interpreter.parent
        self.bin.mkdir(parents=True)
        interpreter.write_text(CONVERTER, encoding="utf-8")
        interpreter.chmod(0o755)
        packages = self.bin.parent / "lib" / "python3.11" / "site-packages"
        self.source = packages / "small" / "model.gguf"
        self.source.parent.mkdir(parents=True)
        self.source.write_bytes(SOURCE)
        info = packages / "small_model-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: small-model\nVersion: 1.0\n", encoding="utf-8"
        )
        (info / "LICENSE").write_text("Use it well.", encoding="utf-8")
        (info / "RECORD").write_text(
            "small_model-1.0.dist-info/LICENSE,,\nsmall/model.gguf,,\n", encoding="utf-8"
        )
        self.own = folder / "own"

    @property
    def kept(self) -> Path:
        return weights.store_folder(spec(), self.settings)

    def conversions(self) -> int:
        calls = self.bin / "calls"
        return len(calls.read_text(encoding="utf-8").splitlines()) if calls.exists() else 0

    def obtain(self, wanted: ModelSpec, *, repair: bool = False) -> Path:
        return weights.obtain(wanted, self.settings, Reporter(Console(file=io.StringIO())), repair=repair)

    def fill_own_folder(self) -> None:
        self.own.mkdir()
        (self.own / "config.json").write_text("{}", encoding="utf-8")
        (self.own / "model.safetensors").write_bytes(b"weights")


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def spec(**changes: Any) -> ModelSpec:
    entry: dict[str, Any] = {
        "name": "small",
        "source": {"package": "small-model", "file": "small/model.gguf"},
        "revision": "1.0",
        "digest": f"sha256:{sha256(SOURCE).hexdigest()}",
        "licence": "Apache-2.0",
        "engine": {"max_context": 512},
    }
    return ModelSpec.model_validate(entry | changes)


def own_spec(path: Path | str, digest: str) -> ModelSpec:
    return spec(source={"path": str(path)}, digest=digest)


def test_a_packages_model_is_converted_and_kept_by_its_digest(box: Box) -> None:
    folder = box.obtain(spec())

    assert folder == box.settings.weights / f"sha256-{sha256(SOURCE).hexdigest()}"
    assert weights.locate(spec(), box.settings) == folder
    assert (folder / "model.safetensors").read_bytes() == SOURCE


def test_the_licence_travels_along(box: Box) -> None:
    folder = box.obtain(spec())

    assert (folder / "LICENSE").read_text(encoding="utf-8") == "Use it well."


def test_the_manifest_says_what_each_file_has_to_be(box: Box) -> None:
    folder = box.obtain(spec())

    manifest = json.loads((folder / weights.MANIFEST).read_text(encoding="utf-8"))
    assert manifest["licence"] == "Apache-2.0"
    assert manifest["files"]["model.safetensors"] == {
        "sha256": sha256(SOURCE).hexdigest(),
        "size": len(SOURCE),
    }


def test_a_second_time_nothing_is_converted(box: Box) -> None:
    box.obtain(spec())

    box.obtain(spec())

    assert box.conversions() == 1


def test_what_another_recipe_made_is_made_anew(box: Box) -> None:
    manifest = box.obtain(spec()) / weights.MANIFEST
    older = json.loads(manifest.read_text(encoding="utf-8")) | {"recipe": weights.RECIPE - 1}
    manifest.write_text(json.dumps(older), encoding="utf-8")

    with pytest.raises(WeightsError, match="not here"):
        weights.locate(spec(), box.settings)
    box.obtain(spec())

    assert box.conversions() == 2


def test_missing_files_point_to_setup(box: Box) -> None:
    with pytest.raises(WeightsError, match=r"small are not here\. Run `inferfly setup`\."):
        weights.locate(spec(), box.settings)


def flip(folder: Path) -> None:
    with (folder / "model.safetensors").open("r+b") as file:
        file.write(b"X")


DAMAGE: Final[dict[str, tuple[Callable[[Path], object], str]]] = {
    "one byte": (flip, "model.safetensors"),
    "cut short": (
        lambda folder: (folder / "model.safetensors").write_bytes(SOURCE[:-1]),
        "model.safetensors",
    ),
    "gone": (lambda folder: (folder / "config.json").unlink(), "config.json"),
    "added": (lambda folder: (folder / "modeling.py").touch(), "modeling.py"),
    "no manifest": (lambda folder: (folder / weights.MANIFEST).unlink(), weights.MANIFEST),
    "bad manifest": (lambda folder: (folder / weights.MANIFEST).write_text("{"), weights.MANIFEST),
}


@pytest.mark.parametrize(("damage", "file"), DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_found_at_every_use_and_repaired_on_request(
    box: Box, damage: Callable[[Path], object], file: str
) -> None:
    folder = box.obtain(spec())
    damage(folder)

    with pytest.raises(WeightsError, match=rf"damaged: .*{file}.*`inferfly setup --repair`"):
        weights.locate(spec(), box.settings)
    with pytest.raises(WeightsError, match="damaged"):
        box.obtain(spec())
    box.obtain(spec(), repair=True)

    assert weights.locate(spec(), box.settings) == folder


def test_a_damaged_source_is_refused_before_it_is_converted(box: Box) -> None:
    box.source.write_bytes(SOURCE[:-1])

    with pytest.raises(WeightsError, match=r"source of small is damaged.*setup --repair"):
        box.obtain(spec())

    assert box.conversions() == 0
    assert list(box.settings.weights.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({"revision": "2.0"}, "in version 1.0, and models.yaml wants 2.0", id="version"),
        pytest.param({"source": {"package": "other", "file": "x.gguf"}}, "has no other", id="package"),
        pytest.param({"source": {"package": "small-model", "file": "x.gguf"}}, "has no x.gguf", id="file"),
        pytest.param(
            {
                "source": {"package": "small-model", "file": "small/model.bin"},
                "digest": f"sha256:{sha256(b'').hexdigest()}",
            },
            "Only GGUF files can",
            id="format",
        ),
    ],
)
def test_a_source_that_is_not_there_is_explained(box: Box, changes: dict[str, Any], says: str) -> None:
    box.source.with_suffix(".bin").touch()

    with pytest.raises(WeightsError, match=says):
        box.obtain(spec(**changes))


def test_a_failed_conversion_says_why_and_leaves_nothing(box: Box) -> None:
    (box.bin / "fails").touch()

    with pytest.raises(WeightsError, match=r"could not be converted\. no such architecture"):
        box.obtain(spec())

    assert list(box.settings.weights.iterdir()) == []


def test_what_an_interrupted_conversion_left_is_removed_by_the_next(box: Box) -> None:
    stale = box.settings.weights / f"{staging.UNFINISHED}stale"
    stale.mkdir(parents=True)

    box.obtain(spec())

    assert [path.name for path in box.settings.weights.iterdir()] == [box.kept.name]


def test_the_operators_own_folder_is_used_where_it_is(box: Box) -> None:
    box.fill_own_folder()
    wanted = own_spec(box.own, weights.digest_of(box.own))

    assert box.obtain(wanted) == box.own
    assert weights.locate(wanted, box.settings) == box.own
    assert not box.settings.weights.exists()


def test_a_relative_folder_is_meant_from_models_yaml(box: Box) -> None:
    box.fill_own_folder()

    assert weights.locate(own_spec("own", weights.digest_of(box.own)), box.settings) == box.own


def test_hidden_files_do_not_count(box: Box) -> None:
    box.fill_own_folder()
    digest = weights.digest_of(box.own)
    (box.own / ".cache").mkdir()
    (box.own / ".cache" / "state.bin").touch()

    assert weights.digest_of(box.own) == digest


def test_a_changed_folder_is_refused_with_the_way_to_its_digest(box: Box) -> None:
    box.fill_own_folder()
    wanted = own_spec(box.own, weights.digest_of(box.own))
    flip(box.own)

    with pytest.raises(WeightsError, match=r"not what models\.yaml says.*inferfly weights digest /"):
        weights.locate(wanted, box.settings)


def test_a_missing_folder_is_explained(box: Box) -> None:
    with pytest.raises(WeightsError, match=r"correct source\.path"):
        weights.locate(own_spec(box.own, spec().digest), box.settings)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "optimizer.PKL", "code/modeling_small.py"])
def test_files_that_run_code_are_refused(box: Box, name: str) -> None:
    box.fill_own_folder()
    (box.own / "code").mkdir()
    (box.own / name).touch()

    with pytest.raises(WeightsError, match="not allowed beside weights"):
        weights.digest_of(box.own)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_folder_without_a_model_is_refused(box: Box, name: str) -> None:
    box.fill_own_folder()
    (box.own / name).unlink()

    with pytest.raises(WeightsError, match="holds no model"):
        weights.digest_of(box.own)


def test_a_folder_that_is_a_link_is_refused(box: Box, tmp_path: Path) -> None:
    """It could hold anything, and would not be looked into."""
    box.fill_own_folder()
    (box.own / "more").symlink_to(tmp_path)

    with pytest.raises(WeightsError, match="not a plain file"):
        weights.digest_of(box.own)


def test_progress_reaches_the_end(box: Box) -> None:
    box.obtain(spec())
    seen: list[tuple[int, int]] = []

    weights.locate(spec(), box.settings, lambda done, total: seen.append((done, total)))

    done, total = max(seen)
    assert done == total > len(SOURCE)
