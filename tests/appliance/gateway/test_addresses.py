from __future__ import annotations

from typing import Any

import pytest

from appliance.gateway import public
from appliance.gateway.addresses import ROUTES, Route, answer

BY_PATH = {route.path: route for route in ROUTES}
GATEWAY: Any = None
"""No handler is called: only their addresses are looked at."""


def test_every_inference_address_is_listed() -> None:
    assert {route.path for route in ROUTES if route.body is not None} == set(public.INFERENCE)


def test_every_address_of_the_application_is_listed() -> None:
    """But those that are there for the box only."""
    app = public.build(GATEWAY, 1.0)
    served = {route.path.replace(":str", "") for route in app.routes}

    assert served == {route.path for route in ROUTES} | {"/metrics", "/bans", "/bans/{source:path}"}


@pytest.mark.parametrize("path", public.INFERENCE)
def test_an_address_speaks_the_protocol_that_the_reference_tells(path: str) -> None:
    assert BY_PATH[path].anthropic == (len(public.INFERENCE[path].errors.request_id_headers) > 1)


@pytest.mark.parametrize("route", [one for one in ROUTES if one.body is not None], ids=lambda one: one.path)
def test_only_bodies_that_know_streams_are_said_to_stream(route: Route) -> None:
    assert route.streams == ("stream" in getattr(route.body, "__struct_fields__", ()))


def test_an_answer_has_at_least_its_fields() -> None:
    assert answer(id={"type": "string"})["required"] == ["id"]
