"""TLS in the gateway's own process: 1.3, or 1.2 with authenticated ciphers, from files that may change under it."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final, Literal

from appliance.errors import SettingsError
from appliance.privacy.logs import log

CIPHERS_OF_1_2: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Forward secrecy and authenticated encryption only. Those of 1.3 are all like that."""
_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

_State = tuple[tuple[int, int, int], ...]


class Tls:
    """The context that new connections get. `renew` it now and then: streams that run keep what they began with."""

    def __init__(self, certificate: Path, key: Path, version_min: Literal["1.2", "1.3"]) -> None:
        """Raises SettingsError where the files can't be used."""
        self._certificate, self._key = certificate, key
        self._version_min: Literal["1.2", "1.3"] = version_min
        self._seen = self._state()
        try:
            self.context = self._load()
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise SettingsError(
                "The TLS certificate and its key can't be used.",
                why=f"{certificate} and {key} can't be read, or don't belong together ({type(error).__name__}).",
                fix="Check INFERFLY_TLS_CERTIFICATE and INFERFLY_TLS_KEY: PEM files, the key without a passphrase.",
            ) from None

    def renew(self) -> None:
        """Use what the files hold now, if it has changed. A pair that does not work leaves the old one in use."""
        state = self._state()
        if state == self._seen:
            return
        self._seen = state
        try:
            self._load()
            self.context.load_cert_chain(self._certificate, self._key, _no_passphrase)
        except (OSError, ValueError) as error:
            log("certificate_unusable", error=type(error).__name__.lower())
        else:
            log("certificate_renewed")

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = _VERSIONS[self._version_min]
        context.set_ciphers(CIPHERS_OF_1_2)
        context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        context.num_tickets = 0
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(self._certificate, self._key, _no_passphrase)
        return context

    def _state(self) -> _State:
        """What tells that a file was written or put in another's place."""
        found: list[tuple[int, int, int]] = []
        for path in (self._certificate, self._key):
            try:
                stat = path.stat()
            except OSError:
                found.append((0, 0, 0))
            else:
                found.append((stat.st_ino, stat.st_mtime_ns, stat.st_size))
        return tuple(found)


def _no_passphrase() -> str:
    """OpenSSL would ask for one on the terminal."""
    return ""
