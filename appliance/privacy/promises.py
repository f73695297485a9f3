"""What the appliance promises: each sentence with its control and its proof. Data only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Promise:
    """One promise. `control` and `proof` are `path::name`; a test checks that both exist."""

    id: str
    sentence: str
    control: str
    proof: str


PROMISES = (
    Promise(
        "no-content-at-rest",
        "No prompt and no answer is written to a file, a database, a log, a metric or an error.",
        "appliance/privacy/content.py::Content",
        "tests/privacy/test_no_content_at_rest.py::test_no_canary_is_left_anywhere",
    ),
    Promise(
        "no-content-in-logs",
        "Log lines are fixed events with declared fields; the engine logs only constants of its own source.",
        "appliance/privacy/logs.py::AllowListFormatter",
        "tests/privacy/test_no_content_at_rest.py::test_each_leaky_variant_is_caught",
    ),
    Promise(
        "keys-hashed",
        "An API key is shown once and kept only as its SHA-256.",
        "appliance/apikey.py::digest",
        "tests/privacy/test_keys_hashed.py::test_a_new_key_is_nowhere_on_disk_but_as_its_digest",
    ),
    Promise(
        "no-egress",
        "Nothing of a running appliance connects to anything but its own sockets.",
        "appliance/engine/command.py::SEALED_ENVIRONMENT",
        "tests/privacy/test_no_egress.py::test_a_running_appliance_opens_no_connection_to_the_outside",
    ),
    Promise(
        "no-column-for-content",
        "No column of any database can hold a prompt.",
        "appliance/store/migrations.py::m001_usage",
        "tests/appliance/store/test_migrations.py::test_no_column_can_hold_a_prompt",
    ),
    Promise(
        "accounts-apart",
        "What one account asked, another can't tell from the engine's prefix cache.",
        "appliance/gateway/policy.py::cache_salt",
        "tests/journeys/test_isolation.py::test_the_prefix_cache_of_one_account_is_closed_to_another",
    ),
    Promise(
        "budgets-hold",
        "No budget is passed: the most that a request may use is reserved before it starts.",
        "appliance/gateway/limits.py::Book",
        "tests/appliance/gateway/test_limits_model.py::AgainstAModel.nobody_is_over_a_limit",
    ),
    Promise(
        "revoked-within-a-second",
        "A revoked key stops within a second, and so does what runs with it.",
        "appliance/gateway/inference.py::Gateway.follow",
        "tests/journeys/test_limits.py::test_a_revoked_keys_stream_is_cut",
    ),
    Promise(
        "one-row-each",
        "After kill -9 of anything, every admitted request has exactly one ledger row.",
        "appliance/store/journal.py::Journal",
        "tests/journeys/test_deaths.py::test_a_gateway_killed_under_load",
    ),
)
