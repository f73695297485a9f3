from __future__ import annotations

import pytest

from tests.appliance_under_test import Appliance
from tests.processes import await_true

KNOWN_SECONDS_MAX = 1.0


def test_a_new_key_works_and_a_revoked_one_stops_within_a_second(box: Appliance) -> None:
    made = box.asked("keys", "create", "--account", "default", "--name", "short-lived")
    await_true(lambda: box.accepts(made["key"]), KNOWN_SECONDS_MAX, "the new key works")

    box.asked("keys", "revoke", made["key_id"], "--yes")

    await_true(lambda: not box.accepts(made["key"]), KNOWN_SECONDS_MAX, "the revoked key is refused")


def test_usage_of_a_key_is_shown(box: Appliance) -> None:
    made = box.new_key()
    with box.sdk(made["key"]) as client:
        raw = client.completions.with_raw_response.create(model=box.model, prompt="a b c", max_tokens=3)
    row = box.row(raw.headers["x-request-id"])

    shown = box.asked("usage", "--by", "key")["rows"]

    (mine,) = [totals for totals in shown if totals["group"] == made["key_id"]]
    assert (mine["requests"], mine["failed"]) == (1, 0)
    assert (mine["prompt_tokens"], mine["completion_tokens"]) == (row.prompt_tokens, row.completion_tokens)


@pytest.mark.parametrize("verb", [("keys", "list"), ("status",), ("usage",), ("accounts", "list")])
def test_no_verb_shows_a_key_again(box: Appliance, verb: tuple[str, ...]) -> None:
    done = box.cli(*verb, "--json")

    assert done.returncode == 0
    assert box.key not in done.stdout
    assert box.key[-20:] not in done.stdout
