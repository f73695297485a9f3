"""The site's address has a certificate, which is renewed while answers are on their way."""

from __future__ import annotations

import ssl
from urllib.parse import urlsplit

import httpx
import openai
import pytest

from tests.appliance_under_test import Appliance
from tests.certificates import Authority
from tests.processes import await_true

TWIN = "twin"
RENEWED_SECONDS_MAX = 5.0
TOKENS = 1900


def shown(site: Appliance) -> str:
    """The certificate that a new connection gets."""
    address = urlsplit(site.base_url)
    assert address.hostname is not None
    assert address.port is not None
    return ssl.get_server_certificate((address.hostname, address.port))


def test_the_greeting_gives_the_address_as_it_is(site: Appliance) -> None:
    assert site.base_url.startswith("https://127.0.0.1:")


def test_a_client_that_knows_nothing_of_it_refuses(site: Appliance) -> None:
    with (
        openai.OpenAI(base_url=site.base_url, api_key=site.key, max_retries=0) as client,
        pytest.raises(openai.APIConnectionError),
    ):
        client.models.list()


def test_plain_http_is_not_answered(site: Appliance) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(site.base_url.replace("https:", "http:"))


def test_an_old_protocol_is_refused(site: Appliance, authority: Authority) -> None:
    old = authority.trusted()
    old.maximum_version = ssl.TLSVersion.TLSv1_2

    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{site.base_url}/models", verify=old)


def test_a_certificate_is_renewed_under_a_running_stream(
    site: Appliance, site_client: openai.OpenAI, authority: Authority
) -> None:
    before = shown(site)
    raw = site_client.completions.with_raw_response.create(
        model=TWIN, prompt="one", max_tokens=TOKENS, stream=True, extra_body={"ignore_eos": True}
    )
    stream = iter(raw.parse())
    next(stream)

    authority.issue()

    await_true(lambda: shown(site) != before, RENEWED_SECONDS_MAX, "the new certificate is shown")
    assert not site.rows_of(raw.headers["x-request-id"]), "the stream runs on under the old one"
    assert list(stream)[-1].choices[0].finish_reason == "length"
    assert site.row(raw.headers["x-request-id"]).completion_tokens == TOKENS
    with site.sdk() as client:
        assert client.completions.create(model=TWIN, prompt="one", max_tokens=1).usage
