"""Certificates of one's own, made with the `openssl` command."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Pair:
    """A certificate for 127.0.0.1 that signs itself, and its key."""

    certificate: Path
    key: Path


def make(folder: Path, name: str = "a", *, passphrase: str = "") -> Pair:
    """A new pair, valid for a day; its subject bears the name."""
    pair = Pair(folder / f"{name}.crt", folder / f"{name}.key")
    protection = ["-passout", f"pass:{passphrase}"] if passphrase else ["-nodes"]
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            *_EC,
            *protection,
            *_of(name),
            "-out",
            pair.certificate,
            "-keyout",
            pair.key,
        ],
        check=True,
        capture_output=True,
    )
    return pair


_EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-days", "1")


def _of(name: str) -> tuple[str, ...]:
    return ("-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1")
