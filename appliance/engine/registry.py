"""The operator's pip settings, in uv's words: where packages come from is told once, and to pip."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

_SECTIONS: Final = ("global", "install", ":env:")
"""Parts of `pip config list` that count for an installation, the strongest last."""


def parse_pip_config(text: str) -> dict[str, str]:
    """Read what `pip config list` prints, such as `global.index-url='...'`, into settings by name."""
    found: dict[tuple[int, str], str] = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if equals and section in _SECTIONS:
            found[_SECTIONS.index(section), name.lower().replace("_", "-")] = _unquoted(value)
    return {name: value for (_, name), value in sorted(found.items()) if value}


def uv_environment(pip: Mapping[str, str], base: Mapping[str, str]) -> dict[str, str]:
    """`base` and what uv needs to look where pip looks. A variable of uv's that is already set wins.

    Passed as variables and not as arguments: an address may hold a password, and arguments can be seen by everyone.
    """
    wanted = {
        "UV_DEFAULT_INDEX": pip.get("index-url", ""),
        "UV_INDEX": " ".join(pip.get("extra-index-url", "").split()),
        "UV_FIND_LINKS": ",".join(place for place in pip.get("find-links", "").split() if _exists(place)),
        "UV_NO_INDEX": "1" if pip.get("no-index", "").lower() in ("1", "true", "yes", "on") else "",
        "UV_INSECURE_HOST": " ".join(pip.get("trusted-host", "").split()),
        "UV_HTTP_TIMEOUT": pip.get("timeout", "") or pip.get("default-timeout", ""),
        "SSL_CERT_FILE": pip.get("cert", ""),
        "SSL_CLIENT_CERT": pip.get("client-cert", ""),
        "ALL_PROXY": pip.get("proxy", ""),
        # pip takes the best match of all indexes; uv's own way is the first index that has the name at all.
        # Each file is pinned by its hash, so that where it comes from makes no difference.
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }
    return {name: value for name, value in wanted.items() if value} | dict(base)


def _unquoted(value: str) -> str:
    try:
        return str(ast.literal_eval(value))
    except (ValueError, SyntaxError):
        return value


def _exists(place: str) -> bool:
    """Whether a place to find wheels is there. pip passes over a folder that is not; uv would stop."""
    parts = urlsplit(place)
    if parts.scheme in ("http", "https"):
        return True
    return Path(unquote(parts.path) if parts.scheme == "file" else place).expanduser().exists()
