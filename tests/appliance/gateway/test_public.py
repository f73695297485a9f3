from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from appliance.gateway import public
from appliance.gateway.asgi import Scope
from tests.fakes.box import KEY, Box, chat
from tests.fakes.caller import Caller, scope
from tests.fakes.engine import ScriptedEngine

BEARER = f"Bearer {KEY.plaintext}"
CANARY = "CANARY5d1f"
HERE = {"server": ("/run/gateway.sock", None)}
"""What uvicorn says of a unix socket."""


@pytest.fixture
async def box(short_folder: Path) -> AsyncIterator[Box]:
    box = Box(short_folder)
    yield box
    box.close()


async def ask(box: Box, head: Scope, body: bytes = b"") -> Caller:
    caller = Caller(body)
    await public.build(box.gateway)(head, caller.receive, caller.send)  # type: ignore[arg-type]  # ASGI's loose types
    return caller


def get(path: str, **headers: str) -> Scope:
    return scope(path, method="GET", content_type="", **headers)


def error(caller: Caller) -> dict[str, Any]:
    body = json.loads(caller.received)
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    return body["error"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_inference_is_served(box: Box, path: str) -> None:
    body = chat("nonce=N") if "chat" in path else b'{"model":"m","prompt":"nonce=N"}'
    async with ScriptedEngine(box.socket):
        caller = await ask(box, scope(path, authorization=BEARER), body)

    assert (caller.status, caller.whole) == (200, True)
    assert json.loads(caller.received)["choices"][0]["message"]["content"] == "N"


async def test_models_are_listed_as_openai_lists_them(box: Box) -> None:
    caller = await ask(box, get("/v1/models", authorization=BEARER))

    model = {
        "id": "m",
        "object": "model",
        "created": 1_700_000_000,
        "owned_by": "inferfly",
        "max_model_len": 4096,
    }
    assert (caller.status, json.loads(caller.received)) == (200, {"object": "list", "data": [model]})


REFUSED: dict[str, tuple[Scope, bytes, int, str]] = {
    "inference without a key": (scope(), chat(CANARY), 401, "invalid_api_key"),
    "models without a key": (get("/v1/models"), b"", 401, "invalid_api_key"),
    "another key": (scope(authorization=f"Bearer {CANARY}"), b"", 401, "invalid_api_key"),
    "no such address": (get(f"/v1/{CANARY}", authorization=BEARER), b"", 404, "not_found"),
    "another of OpenAI's": (scope("/v1/embeddings", authorization=BEARER), b"{}", 404, "not_found"),
    "something below an address": (
        scope("/v1/chat/completions/x", authorization=BEARER),
        b"",
        404,
        "not_found",
    ),
    "API docs": (get("/schema"), b"", 404, "not_found"),
    "engines' own addresses": (get("/v1/load_lora_adapter", authorization=BEARER), b"", 404, "not_found"),
    "metrics over TCP": (get("/metrics", authorization=BEARER), b"", 404, "not_found"),
    "GET of inference": (get("/v1/chat/completions", authorization=BEARER), b"", 405, "method_not_allowed"),
    "POST of models": (scope("/v1/models", authorization=BEARER), b"", 405, "method_not_allowed"),
    "too large": (scope(authorization=BEARER), chat("x" * 200_000), 413, "request_too_large"),
    "another media type": (
        scope(authorization=BEARER, content_type="text/xml"),
        b"<x/>",
        415,
        "unsupported_media_type",
    ),
    "compressed": (scope(authorization=BEARER, content_encoding="gzip"), b"x", 415, "unsupported_media_type"),
    "a query": (
        scope(authorization=BEARER) | {"query_string": CANARY.encode()},
        b"{}",
        400,
        "invalid_request",
    ),
    "no JSON": (scope(authorization=BEARER), CANARY.encode(), 400, "invalid_json"),
    "an unknown field": (scope(authorization=BEARER), chat("x", **{CANARY: 1}), 400, "unknown_field"),
    "a wrong value": (scope(authorization=BEARER), chat("x", temperature=CANARY), 400, "invalid_value"),
    "another model": (scope(authorization=BEARER), chat("x", model=CANARY), 404, "model_not_found"),
    "no engine": (scope(authorization=BEARER), chat("x"), 503, "model_not_ready"),
}


@pytest.mark.parametrize(("head", "body", "status", "code"), REFUSED.values(), ids=REFUSED.keys())
async def test_every_refusal_has_openais_shape_and_none_of_the_callers_words(
    box: Box, capfd: pytest.CaptureFixture[str], head: Scope, body: bytes, status: int, code: str
) -> None:
    caller = await ask(box, head, body)

    assert (caller.status, error(caller)["code"]) == (status, code)
    assert caller.headers[b"content-type"] == b"application/json"
    assert caller.headers[b"cache-control"] == b"no-store"
    assert caller.headers[b"content-length"] == b"%d" % len(caller.received)
    assert CANARY not in caller.received.decode() + str(caller.headers) + "".join(capfd.readouterr())


async def test_a_body_too_slow_is_408(box: Box) -> None:
    box.gateway.body_seconds_max = 0.05
    caller = Caller(pieces=[b"{"], endless=True)

    await public.build(box.gateway)(scope(authorization=BEARER), caller.receive, caller.send)  # type: ignore[arg-type]  # as above

    assert (caller.status, error(caller)["code"]) == (408, "request_timeout")


async def test_nobody_is_answered_who_has_left(box: Box) -> None:
    caller = Caller(pieces=[b"{"], endless=True)
    caller.hang_up()

    await public.build(box.gateway)(scope(authorization=BEARER), caller.receive, caller.send)  # type: ignore[arg-type]  # as above

    assert caller.sent == []
    assert b"client_gone" not in box.gateway.metrics.exposition()


async def test_the_process_is_healthy(box: Box) -> None:
    caller = await ask(box, get("/healthz"))

    assert (caller.status, json.loads(caller.received)) == (200, {"status": "ok"})


async def test_the_box_is_ready_when_every_model_has_an_engine(box: Box) -> None:
    assert (await ask(box, get("/readyz"))).status == 200


async def test_the_box_is_not_ready_while_a_model_has_no_engine(box: Box) -> None:
    box.gateway.table = box.table(ready=False)

    caller = await ask(box, get("/readyz"))

    assert (caller.status, json.loads(caller.received)) == (503, {"ready": False})


async def test_the_box_is_not_ready_while_it_drains(box: Box) -> None:
    box.gateway.admission.draining = True

    assert (await ask(box, get("/readyz"))).status == 503


async def test_metrics_are_for_the_box_itself(box: Box) -> None:
    await ask(box, scope(), chat("x"))

    caller = await ask(box, get("/metrics") | HERE)

    assert caller.status == 200
    assert caller.headers[b"content-type"] == b"text/plain; version=0.0.4; charset=utf-8"
    assert b'inferfly_refusals_total{reason="invalid_api_key"} 1.0' in caller.received
    assert b"inferfly_requests_open 0.0" in caller.received


def test_the_routes_are_these_and_no_others(short_folder: Path) -> None:
    box = Box(short_folder)
    app = public.build(box.gateway)
    box.close()

    assert {route.path for route in app.routes} == {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/models",
        "/healthz",
        "/readyz",
        "/metrics",
    }
    assert app.debug is False
    assert app.logging_config is None
