import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.catalog import Catalog
from appliance.settings import Settings
from appliance.up.parts import Parts, environment, parts


@pytest.fixture
def found() -> Iterator[Parts]:
    catalog = Catalog.model_validate(
        {
            "models": [
                {
                    "name": "tiny",
                    "source": {"path": "/m"},
                    "revision": "1",
                    "digest": "sha256:" + "0" * 64,
                    "licence": "MIT",
                    "replicas": 2,
                    "engine": {"max_context": 64},
                }
            ]
        }
    )
    with socket.socket() as listening:
        yield parts(Settings(home=Path("/box"), drain_seconds_max=5), catalog, listening)


def test_each_part_is_a_verb_of_ours(found: Parts) -> None:
    everything = [found.control, found.gateway, *found.engines.values()]

    assert [part.argv[2:] for part in everything] == [
        ("-m", "appliance", "control"),
        ("-m", "appliance", "gateway"),
        ("-m", "appliance", "engine", "tiny-1"),
        ("-m", "appliance", "engine", "tiny-2"),
    ]


def test_only_the_gateway_gets_the_public_socket(found: Parts) -> None:
    assert found.gateway.listening is not None
    assert [part.listening for part in (found.control, *found.engines.values())] == [None] * 3


def test_each_part_has_its_own_log_and_ear(found: Parts) -> None:
    everything = [found.control, found.gateway, *found.engines.values()]

    assert len({part.log for part in everything}) == len({part.notify for part in everything}) == 4


def test_who_drains_gets_the_time_for_it(found: Parts) -> None:
    assert found.gateway.stop_seconds_max > 5
    assert found.engines["tiny-1"].stop_seconds_max > found.gateway.stop_seconds_max


def test_an_engine_knows_its_model(found: Parts) -> None:
    assert found.model_of == {"tiny-1": "tiny", "tiny-2": "tiny"}
    assert found.models == ("tiny",)


def test_a_part_gets_ups_settings_and_nothing_else_of_the_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://outside.invalid")
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv("PATH", "/bin")
    settings = Settings(home=Path("/box"), port=0, engine_python=None)

    given = environment(settings)

    assert given["PATH"] == "/bin"
    assert (given["INFERFLY_HOME"], given["INFERFLY_PORT"]) == ("/box", "0")
    assert {"HTTPS_PROXY", "SECRET", "INFERFLY_ENGINE_PYTHON"} & set(given) == set()


def test_the_settings_come_out_as_they_went_in(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(home=Path("/box"), models=Path("/m.yaml"), host="::1", drain_seconds_max=1.5)
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)

    assert Settings() == settings
