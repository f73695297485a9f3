"""Three appliances for all journeys: as a newcomer has it, as a site runs it, and one whose parts may be killed."""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import openai
import pytest

from tests.appliance_under_test import Appliance
from tests.certificates import Authority
from tests.models import catalog, engine_python, lend_weights, minilm, real_catalog, tiny, tiny_catalog
from tests.processes import await_true

WHOLE_SECONDS_MAX = 120
SITE_CONTEXT = 2048


@pytest.fixture(scope="session")
def box() -> Iterator[Appliance]:
    """The appliance as a newcomer has it. Journeys leave it as they find it."""
    appliance = Appliance(real_catalog(), engine_python())
    lend_weights(appliance.home)
    with appliance:
        yield appliance


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who signs the site's certificate."""
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def site(authority: Authority) -> Iterator[Appliance]:
    """As a site runs it: TLS, a model that calls tools on two engines, and one that turns texts into numbers."""
    twin = tiny("twin", replicas=2, max_context=SITE_CONTEXT, tool_parser="hermes")
    with Appliance(
        catalog(twin, minilm()),
        engine_python(),
        trust=authority.trusted(),
        tls_certificate=authority.certificate,
        tls_key=authority.key,
    ) as appliance:
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


@pytest.fixture
def site_client(site: Appliance) -> Iterator[openai.OpenAI]:
    with site.sdk() as sdk:
        yield sdk


@pytest.fixture
def claude(site: Appliance) -> Iterator[anthropic.Anthropic]:
    """Anthropic's SDK, on the site."""
    with site.anthropic_sdk() as sdk:
        yield sdk
