from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

LOCKS: Final = Path(__file__).parents[2] / "locks"
NAMES: Final = ("bootstrap", "appliance", "dev", "engine-cpu", "engine-cuda")


def requirements(name: str) -> dict[str, str]:
    """Package -> its version and hashes."""
    text = (LOCKS / f"{name}.txt").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return {line.split("==")[0]: line.split("==")[1] for line in lines}


@pytest.mark.parametrize("name", NAMES)
def test_every_package_is_pinned_by_version_and_hash(name: str) -> None:
    pins = requirements(name)

    assert pins
    assert [
        package for package, pin in pins.items() if not re.search(r"--hash=sha256:[0-9a-f]{64}", pin)
    ] == []


@pytest.mark.parametrize("file", sorted(LOCKS.iterdir()), ids=lambda file: file.name)
def test_no_lock_names_a_place_to_fetch_from(file: Path) -> None:
    """Where packages come from is the operator's choice, told to pip."""
    text = file.read_text(encoding="utf-8")

    assert re.findall(r"https?:|file:|--(?:extra-)?index-url|--find-links|/opt/|/home/|/root/", text) == []


@pytest.mark.parametrize("name", ["bootstrap", "dev"])
def test_what_shares_the_appliances_environment_agrees_with_it(name: str) -> None:
    appliance, other = requirements("appliance"), requirements(name)

    assert {p: pin.split()[0] for p, pin in other.items() if p in appliance} == {
        p: appliance[p].split()[0] for p in other if p in appliance
    }


def test_the_cpu_engine_brings_no_gpu_build_and_nothing_to_compile() -> None:
    unwanted = {"torchvision", "torchaudio", "torchcodec", "triton", "llama-cpp-python", "sentry-sdk"}

    pins = requirements("engine-cpu")

    assert pins["torch"].split()[0].endswith("+cpu")
    assert unwanted.isdisjoint(pins)
