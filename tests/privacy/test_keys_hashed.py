from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing

import httpx

from tests.appliance_under_test import Appliance
from tests.models import engine_python, tiny_catalog
from tests.privacy.scanner import Scanner
from tests.privacy.surfaces import Surfaces

SECRET_AT = len("ifk_live_") + 10
"""A key's public id ends here; behind it nothing may be kept."""


def test_a_new_key_is_nowhere_on_disk_but_as_its_digest() -> None:
    """Nor in a log, a command line, an environment or a shared folder, once it has been used, refused and revoked."""
    with Appliance(tiny_catalog(), engine_python()) as appliance:
        surfaces = Surfaces(appliance)
        made = appliance.new_key()
        keys = {"first": appliance.key, "made": made["key"], "mistyped": made["key"][:-1] + "_"}
        statuses = [used(appliance, key) for key in keys.values()]
        appliance.asked("keys", "revoke", made["key_id"], "--yes")
        scanner = Scanner({what: key[SECRET_AT:] for what, key in keys.items()})
        found = surfaces.scan(scanner) + surfaces.scan_served(scanner)
        digests = stored_digests(appliance)
        appliance.stop()
        found += surfaces.scan(scanner)

    assert statuses == [200, 200, 401]
    assert {(finding.place, finding.what) for finding in found} == {("stdout", "first")}, (
        "shown once, to its owner"
    )
    assert {hashlib.sha256(keys[what].encode()).digest() for what in ("first", "made")} == digests


def used(appliance: Appliance, key: str) -> int:
    """HTTP status of a request with this key."""
    headers = {"Authorization": f"Bearer {key}"}
    body = {"model": appliance.model, "prompt": "one", "max_tokens": 1}
    return httpx.post(f"{appliance.base_url}/completions", headers=headers, json=body).status_code


def stored_digests(appliance: Appliance) -> set[bytes]:
    with closing(sqlite3.connect(f"file:{appliance.home / 'registry.db'}?mode=ro", uri=True)) as db:
        return {digest for (digest,) in db.execute("SELECT sha256 FROM api_key")}
