"""Which GPUs this machine has. Here: whether it has any of NVIDIA's."""

from __future__ import annotations

from pathlib import Path


def has_nvidia(root: Path = Path("/")) -> bool:
    """Whether NVIDIA's driver is loaded; the engine's environment then holds the CUDA build. install.sh asks too."""
    return (root / "proc/driver/nvidia/version").exists() or (root / "dev/nvidiactl").exists()
