"""A model's files: obtained, converted, kept by the digest of their source, and verified before every use."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from appliance.catalog import ModelSpec, PackageSource, PathSource
from appliance.engine import digests, logged, staging
from appliance.engine.environment import site_packages
from appliance.engine.progress import Reporter
from appliance.errors import WeightsError
from appliance.settings import Settings

RECIPE: Final = 1
"""Version of the conversion. Raise it whenever convert.py gives other files: kept ones are then made anew."""
MANIFEST: Final = "manifest.json"
MANIFEST_BYTES_MAX: Final = 1024 * 1024
CONVERT: Final = Path(__file__).with_name("convert.py")
RUNS_CODE: Final = {".bin", ".ckpt", ".h5", ".pickle", ".pkl", ".pt", ".pth", ".py"}
"""Endings of files that run code when they are read, or are code."""

OnProgress = Callable[[int, int], None]
"""Hears of bytes done and in all."""


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]


class Manifest(BaseModel):
    """What stands beside a converted model's files: where they come from, and what they have to be."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    format: Literal[1] = 1
    source: str
    revision: str
    digest: str
    licence: str
    recipe: int
    files: dict[str, _File]


def locate(spec: ModelSpec, settings: Settings, on_progress: OnProgress = lambda _done, _total: None) -> Path:
    """The folder of a model's files, every one of them verified now. Blocks: about a second for each gigabyte."""
    if isinstance(spec.source, PathSource):
        folder = settings.models.parent / spec.source.path
        _verify_own(spec, folder, on_progress)
        return folder
    folder = store_folder(spec, settings)
    manifest = _read_manifest(spec, folder)
    if manifest is None:
        raise WeightsError(f"The files of {spec.name} are not here.", fix="Run `inferfly setup`.")
    _verify_kept(spec, folder, manifest, on_progress)
    return folder


def obtain(spec: ModelSpec, settings: Settings, reporter: Reporter, *, repair: bool = False) -> Path:
    """Make a model's files ready for `locate`, and return their folder. Those that are here are only verified.

    With `repair`, damaged files are made anew from their source. A folder of the operator's own stays as it is.
    """
    source = spec.source
    if isinstance(source, PathSource):
        with reporter.step(f"Verifying {spec.name}") as step:
            return locate(spec, settings, step.update)
    folder = store_folder(spec, settings)
    if not (folder.exists() and _is_whole(spec, settings, reporter, repair=repair)):
        with reporter.step(f"Converting {spec.name}"), staging.unfinished(settings.weights) as building:
            _convert(spec, _verified_source(spec, source, settings), building, settings)
            _copy_licences(source, settings, building)
            _write_manifest(spec, source, building)
            staging.put(building, folder)
    return folder


def store_folder(spec: ModelSpec, settings: Settings) -> Path:
    """Where the files made of a package are kept. The name is the source's digest: no two can be mixed up."""
    return settings.weights / spec.digest.replace(":", "-")


def digest_of(path: Path, on_progress: OnProgress = lambda _done, _total: None) -> str:
    """What models.yaml has to say of a file, or of a folder in Hugging Face layout."""
    if path.is_dir():
        return f"sha256:{digests.of_listing(digests.of_files(path, _own_files(path), on_progress))}"
    return f"sha256:{digests.of_files(path.parent, [path.name], on_progress)[path.name]}"


def _is_whole(spec: ModelSpec, settings: Settings, reporter: Reporter, *, repair: bool) -> bool:
    """Whether kept files can stay. Damaged ones are an error, unless they are about to be repaired."""
    try:
        if _read_manifest(spec, store_folder(spec, settings)) is None:
            return False
        with reporter.step(f"Verifying {spec.name}") as step:
            locate(spec, settings, step.update)
    except WeightsError:
        if not repair:
            raise
        return False
    return True


def _verify_own(spec: ModelSpec, folder: Path, on_progress: OnProgress) -> None:
    """The operator's own folder is used where it is: its digest in models.yaml says what it has to hold."""
    if not folder.is_dir():
        raise WeightsError(
            f"The folder of {spec.name} is not there: {folder}.",
            fix="Put it there, or correct source.path in models.yaml.",
        )
    if digest_of(folder, on_progress) != spec.digest:
        raise WeightsError(
            f"The folder of {spec.name} is not what models.yaml says: {folder}.",
            why="Its digest differs: files were damaged, changed, added or removed.",
            fix="Restore it. If it was changed on purpose, write the digest into models.yaml that"
            f" `inferfly weights digest {folder}` prints.",
        )


def _own_files(folder: Path) -> list[str]:
    """Names of the files that count, hidden ones apart. Refuses what runs code when it is read."""
    names: list[str] = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if any(part.startswith(".") for part in name.split("/")) or (path.is_dir() and not path.is_symlink()):
            continue
        if not path.is_file() or "\n" in name:
            raise WeightsError(
                f"{path!s} is not a plain file.", fix="Copy the model's files into one folder."
            )
        if path.suffix.lower() in RUNS_CODE:
            raise WeightsError(
                f"{path} is not allowed beside weights.",
                why="It is code, or of a format that runs code when it is read.",
                fix="Use the model's safetensors files, and remove this one.",
            )
        names.append(name)
    if "config.json" not in names or not any(name.endswith(".safetensors") for name in names):
        raise WeightsError(
            f"{folder} holds no model in Hugging Face layout.",
            why="There has to be a config.json and at least one .safetensors file.",
            fix="Name the folder that has them.",
        )
    return names


def _read_manifest(spec: ModelSpec, folder: Path) -> Manifest | None:
    """None where there is nothing, or what an older release made in another way."""
    if not folder.exists():
        return None
    try:
        with (folder / MANIFEST).open("rb") as file:
            manifest = Manifest.model_validate_json(file.read(MANIFEST_BYTES_MAX))
    except (OSError, ValidationError):
        raise _damaged(spec, folder / MANIFEST) from None
    return manifest if manifest.recipe == RECIPE and manifest.digest == spec.digest else None


def _verify_kept(spec: ModelSpec, folder: Path, manifest: Manifest, on_progress: OnProgress) -> None:
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    different = sorted(present.symmetric_difference({*manifest.files, MANIFEST}))
    sizes = {name: (folder / name).stat().st_size for name in present}
    different += [name for name, file in manifest.files.items() if name in sizes and sizes[name] != file.size]
    if different:
        raise _damaged(spec, folder / different[0])
    for name, found in digests.of_files(folder, sorted(manifest.files), on_progress).items():
        if found != manifest.files[name].sha256:
            raise _damaged(spec, folder / name)


def _damaged(spec: ModelSpec, file: Path) -> WeightsError:
    return WeightsError(
        f"The files of {spec.name} are damaged: {file}.",
        why="It is not what it was when it was made.",
        fix="Run `inferfly setup --repair`.",
    )


def _verified_source(spec: ModelSpec, source: PackageSource, settings: Settings) -> Path:
    """The file inside the package that models.yaml names, if it is the one that its digest means."""
    packages = site_packages(settings.engine_interpreter)
    file = packages / source.file
    version = _version(source, packages)
    if version is None or not file.is_file():
        raise WeightsError(
            f"The engine's environment has no {source.file if version else source.package}.",
            why="Packages come with the engine's lock.",
            fix="Correct source of this model in models.yaml, or name a folder of your own by source.path.",
        )
    if version != spec.revision:
        raise WeightsError(
            f"{source.package} is there in version {version}, and models.yaml wants {spec.revision}.",
            fix="Correct revision and digest in models.yaml.",
        )
    if f"sha256:{digests.of_file(file)}" != spec.digest:
        raise WeightsError(
            f"The source of {spec.name} is damaged: {file}.",
            why="Its SHA-256 is not the digest in models.yaml.",
            fix="Run `inferfly setup --repair`. If you changed the model, correct digest in models.yaml.",
        )
    return file


def _version(source: PackageSource, packages: Path) -> str | None:
    found = next(iter(metadata.distributions(name=source.package, path=[str(packages)])), None)
    return found.version if found else None


def _convert(spec: ModelSpec, source: Path, folder: Path, settings: Settings) -> None:
    if source.suffix != ".gguf":
        raise WeightsError(
            f"{source.name} can't be converted.", why="Only GGUF files can.", fix="Use source.path instead."
        )
    command = [str(settings.engine_interpreter), "-I", str(CONVERT), str(source), str(folder)]
    log = settings.home / "logs" / "install.log"
    with tempfile.TemporaryDirectory() as empty:
        variables = {"PATH": os.defpath, "HOME": empty, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
        ended = logged.run(command, variables, log)
    if ended.code:
        raise WeightsError(
            f"{spec.name} could not be converted.",
            why=ended.last_lines[-1] if ended.last_lines else f"Exit code {ended.code}.",
            fix=f"Use a folder in Hugging Face layout (source.path). All of it: {log}",
        )


def _copy_licences(source: PackageSource, settings: Settings, folder: Path) -> None:
    """The licence travels with the model, also where the folder is copied to another machine."""
    packages = site_packages(settings.engine_interpreter)
    for distribution in metadata.distributions(name=source.package, path=[str(packages)]):
        for file in distribution.files or ():
            if ".dist-info" in str(file.parent) and re.match(
                r"(LICEN[CS]E|COPYING|NOTICE)", file.name, re.IGNORECASE
            ):
                shutil.copyfile(str(file.locate()), folder / file.name)


def _write_manifest(spec: ModelSpec, source: PackageSource, folder: Path) -> None:
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    found = digests.of_files(folder, names)
    manifest = Manifest(
        source=f"{source.package} {source.file}",
        revision=spec.revision,
        digest=spec.digest,
        licence=spec.licence,
        recipe=RECIPE,
        files={name: _File(sha256=found[name], size=(folder / name).stat().st_size) for name in names},
    )
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    os.sync()  # the rename that follows must not outlive a power cut that the files do not
