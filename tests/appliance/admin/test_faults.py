from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING

import pytest

from appliance.errors import Refused
from tests.fakes.control import bytes_under

if TYPE_CHECKING:
    from tests.fakes.control import Control

CANARY = "Kanarienvogel-4711"


BAD_REQUESTS = {
    "unknown_field": ("POST", "/v1/accounts", json.dumps({"name": "ok", "phone": CANARY})),
    "field_named_so": ("POST", "/v1/accounts", json.dumps({"name": "ok", CANARY: 1})),
    "bad_name": ("POST", "/v1/accounts", json.dumps({"name": CANARY})),
    "bad_type": ("POST", "/v1/keys", json.dumps({"account": "default", "name": "a", "expires_days": CANARY})),
    "too_long_life": (
        "POST",
        "/v1/keys",
        json.dumps({"account": "default", "name": "a", "expires_days": 366}),
    ),
    "no_json": ("POST", "/v1/accounts", CANARY),
    "no_object": ("POST", "/v1/accounts", json.dumps([CANARY])),
    "bad_utf8": ("POST", "/v1/accounts", b'{"name": "' + CANARY.encode() + b'\xff"}'),
    "unknown_path": ("GET", f"/v1/{CANARY}", None),
    "bad_group": ("GET", f"/v1/usage?by={CANARY}", None),
    "bad_days": ("GET", f"/v1/usage?days={CANARY}", None),
    "no_days": ("GET", "/v1/usage?days=0", None),
    "too_many_rows": ("GET", "/v1/requests?limit=100000", None),
    "bad_key_id": ("DELETE", f"/v1/keys/{CANARY}", None),
    "wrong_method": ("PATCH", f"/v1/keys/{CANARY}", None),
    "too_large": ("POST", "/v1/accounts", json.dumps({"name": CANARY * 10_000})),
}


@pytest.mark.parametrize(("method", "path", "body"), BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
def test_refusal_has_one_shape_and_echoes_nothing(
    control: Control, caplog: pytest.LogCaptureFixture, method: str, path: str, body: str | bytes | None
) -> None:
    status, answer = control.ask(method, path, body.encode() if isinstance(body, str) else body)

    error = json.loads(answer)["error"]
    assert 400 <= status < 500
    assert set(error) == {"code", "message"}
    assert CANARY.encode() not in answer
    assert CANARY not in caplog.text
    assert CANARY.encode() not in bytes_under(control.settings.home)


def test_large_body_is_refused_for_its_size(control: Control) -> None:
    status, answer = control.ask("POST", "/v1/accounts", b" " * 65_537)

    assert (status, json.loads(answer)["error"]["code"]) == (413, "request_too_large")


def test_what_control_refuses_comes_with_its_reason(control: Control) -> None:
    with pytest.raises(Refused, match="no active account of that name"):
        control.client.create_key(account="nobody", name="a")
    with pytest.raises(Refused, match="already"):
        control.client.create_account("default")
    with pytest.raises(Refused, match="no key with that id"):
        control.client.revoke_key("0123456789")


def test_broken_store_answers_500_with_its_cure(control: Control) -> None:
    control.settings.usage_db.write_bytes(b"x" * 5000)

    status, answer = control.ask("GET", "/v1/usage")

    assert status == 500
    assert "last good copy" in json.loads(answer)["error"]["message"]


def test_defect_of_ours_shows_nothing_of_itself(control: Control, caplog: pytest.LogCaptureFixture) -> None:
    with sqlite3.connect(control.settings.registry_db) as connection:
        connection.execute(f"ALTER TABLE account RENAME COLUMN slug TO '{CANARY}'")
    connection.close()

    status, answer = control.ask("GET", "/v1/accounts")

    assert (status, json.loads(answer)["error"]["code"]) == (500, "internal_error")
    assert CANARY.encode() not in answer
    assert CANARY not in caplog.text
