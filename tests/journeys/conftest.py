"""Two appliances for all journeys: one serves the real model, the other a tiny one whose parts may be killed."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from tests.appliance_under_test import Appliance
from tests.models import engine_python, lend_weights, real_catalog, tiny_catalog
from tests.processes import await_true

WHOLE_SECONDS_MAX = 120


@pytest.fixture(scope="session")
def box() -> Iterator[Appliance]:
    """The appliance as a newcomer has it. Journeys leave it as they find it."""
    appliance = Appliance(real_catalog(), engine_python())
    lend_weights(appliance.home)
    with appliance:
        yield appliance


@pytest.fixture(scope="session")
def mortal() -> Iterator[Appliance]:
    with Appliance(tiny_catalog(), engine_python()) as appliance:
        yield appliance


@pytest.fixture
def sturdy(mortal: Appliance) -> Appliance:
    """An appliance for deaths, whole again after the one before."""
    await_true(mortal.ready, WHOLE_SECONDS_MAX, "the appliance is whole again")
    return mortal


@pytest.fixture
def client(box: Appliance) -> Iterator[openai.OpenAI]:
    """The unmodified SDK of an application, with the key that the greeting shows."""
    with box.sdk() as sdk:
        yield sdk
