"""A GPU is there when NVIDIA's driver says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.engine import gpus


@pytest.mark.parametrize("trace", ["proc/driver/nvidia/version", "dev/nvidiactl"])
def test_the_driver_is_known_by_either_trace(trace: str, tmp_path: Path) -> None:
    (tmp_path / trace).parent.mkdir(parents=True)
    (tmp_path / trace).touch()

    assert gpus.has_nvidia(tmp_path)


def test_a_machine_without_the_driver_has_none(tmp_path: Path) -> None:
    assert not gpus.has_nvidia(tmp_path)
