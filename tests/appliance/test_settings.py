from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from appliance.errors import SettingsError
from appliance.settings import Settings


def test_the_defaults_listen_on_this_machine_only() -> None:
    settings = Settings.load()

    assert (settings.host, settings.port) == ("127.0.0.1", 8080)


def test_days_begin_in_india_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Settings.load()
    monkeypatch.setenv("INFERFLY_TIMEZONE", "Europe/Berlin")

    assert (before.zone.key, before.currency) == ("Asia/Kolkata", "INR")
    assert Settings.load().zone.key == "Europe/Berlin"


def test_state_is_kept_where_one_stands(working_folder: Path) -> None:
    settings = Settings.load()

    assert (settings.home, settings.models) == (working_folder / ".inferfly", working_folder / "models.yaml")


def test_a_variable_of_the_environment_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFERFLY_PORT", "9000")

    assert Settings.load().port == 9000


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch, working_folder: Path) -> None:
    """An empty INFERFLY_HOME would otherwise make the working folder itself the state folder."""
    monkeypatch.setenv("INFERFLY_HOME", "")

    assert Settings.load().home == working_folder / ".inferfly"


def test_the_command_line_wins_over_the_environment(
    monkeypatch: pytest.MonkeyPatch, short_folder: Path
) -> None:
    monkeypatch.setenv("INFERFLY_HOME", "/elsewhere")

    assert Settings.load(short_folder).home == short_folder


def test_relative_paths_come_back_absolute(working_folder: Path) -> None:
    assert Settings.load(Path("state")).registry_db == working_folder / "state" / "registry.db"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "high"),
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("BODY_BYTES_MAX", "10"),
        ("DRAIN_SECONDS_MAX", "-1"),
        ("DRAIN_SECONDS_MAX", "inf"),
        ("ENGINE_STALL_SECONDS_MAX", "nan"),
        ("ENGINE_START_SECONDS_MAX", "0"),
        ("TIMEZONE", "Asia/Atlantis"),
        ("TIMEZONE", "Asia"),
        ("TIMEZONE", "../../etc/passwd"),
        ("TIMEZONE", "a\nb"),
        ("CURRENCY", "rupees"),
        ("CURRENCY", "inr"),
        ("TLS_VERSION_MIN", "1.1"),
        ("TLS_VERSION_MIN", "TLSv1.3"),
        ("CONNECTIONS_PER_SOURCE_MAX", "0"),
        ("GUESSES_MAX", "0"),
        ("BAN_SECONDS", "0"),
        ("QUEUE_SECONDS_MAX", "-1"),
        ("FAST_LANE", "perhaps"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"INFERFLY_{name}", value)

    with pytest.raises(SettingsError, match=rf"not valid: INFERFLY_{name}\..*Correct or unset"):
        Settings.load()


@pytest.mark.parametrize("name", ["TLS_CERTIFICATE", "TLS_KEY"])
def test_a_certificate_and_its_key_go_together(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"INFERFLY_{name}", "here.pem")

    with pytest.raises(SettingsError, match="not valid: INFERFLY_TLS_KEY"):
        Settings.load()


def test_tls_is_at_its_newest_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFERFLY_TLS_CERTIFICATE", "here.pem")
    monkeypatch.setenv("INFERFLY_TLS_KEY", "key.pem")
    newest = Settings.load().tls_version_min
    monkeypatch.setenv("INFERFLY_TLS_VERSION_MIN", "1.2")

    assert (newest, Settings.load().tls_version_min) == ("1.3", "1.2")


def test_the_fast_lane_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Settings.load().fast_lane
    monkeypatch.setenv("INFERFLY_FAST_LANE", "false")

    assert (before, Settings.load().fast_lane) == (True, False)


def test_a_refusal_does_not_quote_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFERFLY_PORT", "s3cret")

    with pytest.raises(SettingsError) as failure:
        Settings.load()

    assert "s3cret" not in str(failure.value)
    assert failure.value.__cause__ is None


def test_all_wrong_values_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFERFLY_PORT", "x")
    monkeypatch.setenv("INFERFLY_BODY_BYTES_MAX", "x")

    with pytest.raises(SettingsError, match="INFERFLY_BODY_BYTES_MAX, INFERFLY_PORT"):
        Settings.load()


def test_a_misspelt_variable_is_refused_not_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFERFLY_PROT", "9000")

    with pytest.raises(SettingsError, match="not known: INFERFLY_PROT"):
        Settings.load()


def test_the_engines_python_is_that_of_its_environment_unless_named(short_folder: Path) -> None:
    assert (
        Settings.load(short_folder).engine_interpreter
        == short_folder / "engine" / "current" / "bin" / "python"
    )
    assert Settings(engine_python=Path("/usr/bin/python3")).engine_interpreter == Path("/usr/bin/python3")


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        Settings.load().port = 1
