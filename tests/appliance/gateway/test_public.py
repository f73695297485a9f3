from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from litestar import Request
from litestar.exceptions import HTTPException

from appliance.admin.contract import Ban
from appliance.gateway import public
from appliance.gateway.asgi import Scope
from appliance.gateway.guard import network_of
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
    await public.build(box.gateway, 5)(head, caller.receive, caller.send)  # type: ignore[arg-type]  # ASGI's loose types
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
        "endpoints": ["chat", "completions", "messages"],
    }
    assert (caller.status, json.loads(caller.received)) == (200, {"object": "list", "data": [model]})


async def test_one_model_is_shown_by_its_name(box: Box) -> None:
    listed = await ask(box, get("/v1/models", authorization=BEARER))
    shown = await ask(box, get("/v1/models/m", authorization=BEARER))

    assert (shown.status, json.loads(shown.received)) == (200, json.loads(listed.received)["data"][0])


@pytest.mark.parametrize(("models", "names"), [({"m"}, ["m"]), ({"other"}, [])], ids=["its own", "another"])
async def test_a_key_sees_the_models_of_its_scope(box: Box, models: set[str], names: list[str]) -> None:
    keys = {KEY.key_id: replace(box.gateway.table.keys[KEY.key_id], models=frozenset(models))}
    box.gateway.table = replace(box.gateway.table, keys=keys)

    listed = await ask(box, get("/v1/models", authorization=BEARER))
    shown = await ask(box, get("/v1/models/m", authorization=BEARER))

    assert [model["id"] for model in json.loads(listed.received)["data"]] == names
    assert shown.status == (200 if names else 404)


REFUSED: dict[str, tuple[Scope, bytes, int, str]] = {
    "inference without a key": (scope(), chat(CANARY), 401, "invalid_api_key"),
    "models without a key": (get("/v1/models"), b"", 401, "invalid_api_key"),
    "another key": (scope(authorization=f"Bearer {CANARY}"), b"", 401, "invalid_api_key"),
    "no such address": (get(f"/v1/{CANARY}", authorization=BEARER), b"", 404, "not_found"),
    "another of OpenAI's": (scope("/v1/audio/speech", authorization=BEARER), b"{}", 404, "not_found"),
    "a model that is not there": (
        get(f"/v1/models/{CANARY}", authorization=BEARER),
        b"",
        404,
        "model_not_found",
    ),
    "a model without a key": (get("/v1/models/m"), b"", 401, "invalid_api_key"),
    "bans over TCP": (get("/bans", authorization=BEARER), b"", 404, "not_found"),
    "lifting a ban over TCP": (scope("/bans/127.0.0.1", method="DELETE"), b"", 404, "not_found"),
    "lifting a ban that is not there": (
        scope(f"/bans/{CANARY}", method="DELETE") | HERE,
        b"",
        404,
        "not_found",
    ),
    "two keys": (
        scope() | {"headers": [(b"authorization", BEARER.encode())] * 2},
        b"",
        400,
        "invalid_headers",
    ),
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


async def test_an_error_before_inference_has_the_shape_of_its_protocol(box: Box) -> None:
    caller = await ask(box, scope("/v1/messages") | {"headers": [(b"x-api-key", b"x")] * 2})

    assert caller.status == 400
    assert json.loads(caller.received)["type"] == "error"


async def test_a_bug_of_ours_is_an_error_without_a_word_of_it(
    box: Box, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "inferfly")
    monkeypatch.setattr(box.gateway, "guard", CANARY)

    caller = await ask(box, get("/v1/models", authorization=BEARER))

    assert (caller.status, error(caller)["code"]) == (500, "internal_error")
    assert CANARY not in caller.received.decode()
    assert [record.__dict__["inferfly"] for record in caplog.records] == [
        ("request_failed", {"error": "attributeerror"})
    ]


def test_what_else_the_framework_refuses_is_a_bad_request() -> None:
    answer = public._refuse(Request(cast("Any", get("/x"))), HTTPException(CANARY, status_code=400))

    assert (answer.status_code, json.loads(answer.content)["error"]["code"]) == (400, "invalid_request")
    assert CANARY.encode() not in answer.content


async def test_a_body_too_slow_is_408(box: Box) -> None:
    caller = Caller(pieces=[b"{"], endless=True)

    await public.build(box.gateway, 0.05)(scope(authorization=BEARER), caller.receive, caller.send)  # type: ignore[arg-type]  # as above

    assert (caller.status, error(caller)["code"]) == (408, "request_timeout")


async def test_nobody_is_answered_who_has_left(box: Box) -> None:
    caller = Caller(pieces=[b"{"], endless=True)
    caller.hang_up()

    await public.build(box.gateway, 5)(scope(authorization=BEARER), caller.receive, caller.send)  # type: ignore[arg-type]  # as above

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


BANNED = {
    "IPv4": ("192.0.2.7", "192.0.2.7"),
    "IPv6, by its network": ("2001:db8::7", "2001:db8::/64"),
    "IPv6, by any address in it": ("2001:db8::7", "2001:db8::9"),
}


@pytest.mark.parametrize(("source", "named"), BANNED.values(), ids=BANNED.keys())
async def test_bans_are_listed_and_lifted_by_the_box_itself(box: Box, source: str, named: str) -> None:
    """As control's `/v1/bans` asks."""
    now = time.time()
    assert [box.gateway.guard.failed(source, now) for _ in range(20)][-1]

    listed = await ask(box, get("/bans") | HERE)
    lifted = await ask(box, scope(f"/bans/{named}", method="DELETE") | HERE)
    again = await ask(box, scope(f"/bans/{named}", method="DELETE") | HERE)
    nobody = await ask(box, get("/bans") | HERE)

    (ban,) = json.loads(listed.received)
    since_ms = int(now * 1000)
    assert Ban.model_validate(ban) == Ban(
        source=network_of(source), since_ms=since_ms, until_ms=since_ms + 900_000, failures=20
    )
    assert [answer.status for answer in (listed, lifted, again, nobody)] == [200, 200, 404, 200]
    assert json.loads(nobody.received) == []


def test_the_routes_are_these_and_no_others(short_folder: Path) -> None:
    box = Box(short_folder)
    app = public.build(box.gateway, 5)
    box.close()

    assert {route.path for route in app.routes} == {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/embeddings",
        "/v1/rerank",
        "/v1/score",
        "/tokenize",
        "/detokenize",
        "/v1/models",
        "/v1/models/{name:str}",
        "/bans",
        "/bans/{source:path}",
        "/healthz",
        "/readyz",
        "/metrics",
    }
    assert app.debug is False
    assert app.logging_config is None
