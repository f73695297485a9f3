"""An authority for certificates of the tests' own, made anew for each folder."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

DAYS = "2"
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc")


class Authority:
    """Signs certificates for 127.0.0.1. `certificate` and `key` are what a server shows; `issue` renews them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.root = folder / "root.pem"
        self.certificate = folder / "server.pem"
        self.key = folder / "server.key"
        self._root_key = folder / "root.key"
        ends = ("-keyout", str(self._root_key), "-out", str(self.root))
        _openssl("req", "-x509", *_KEY, *ends, "-subj", "/CN=Tests", "-days", DAYS)
        self.issue()

    def issue(self) -> None:
        """A new key and certificate, put in the place of the old ones at once, as renewing tools do."""
        new_key, new = self._folder / "new.key", self._folder / "new.pem"
        _openssl(
            *("req", "-x509", *_KEY, "-keyout", str(new_key), "-out", str(new), "-subj", "/CN=127.0.0.1"),
            *("-CA", str(self.root), "-CAkey", str(self._root_key), "-days", DAYS),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"),
        )
        new_key.rename(self.key)
        new.rename(self.certificate)

    def trusted(self) -> ssl.SSLContext:
        """What a client needs that trusts this authority and no other."""
        return ssl.create_default_context(cafile=str(self.root))


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=30)
