"""The public Litestar application: its route table and its error shape."""

from __future__ import annotations

import time
from pathlib import PurePath
from typing import Any

import msgspec
from litestar import Litestar, MediaType, Request, Response, asgi, delete, get
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.params import FromPath

from appliance import metrics
from appliance.errors import BadRequest, RequestError, UnknownModel, UnknownRoute, WrongMethod
from appliance.gateway import answers
from appliance.gateway.asgi import AsgiExchange
from appliance.gateway.dialects.messages import ERRORS
from appliance.gateway.exchange import by_name
from appliance.gateway.inference import Endpoint, Gateway
from appliance.gateway.schema import (
    chat,
    completions,
    embeddings,
    messages,
    rerank,
    responses,
    score,
    tokenize,
)
from appliance.privacy.logs import log
from appliance.store.registry import ModelRecord

_CHAT = "/v1/chat/completions"
_BETA = (b"", b"beta=true")
"""What Anthropic's SDKs may add to an address."""
INFERENCE = {
    _CHAT: Endpoint(chat.parse, _CHAT),
    "/v1/completions": Endpoint(completions.parse, "/v1/completions"),
    "/v1/responses": Endpoint(responses.parse, _CHAT),
    "/v1/messages": Endpoint(messages.parse, _CHAT, ERRORS, _BETA),
    "/v1/embeddings": Endpoint(embeddings.parse, "/v1/embeddings"),
    "/v1/rerank": Endpoint(rerank.parse, "/rerank"),
    "/v1/score": Endpoint(score.parse, "/score"),
    "/tokenize": Endpoint(tokenize.parse_tokenize, "/tokenize"),
    "/detokenize": Endpoint(tokenize.parse_detokenize, "/detokenize"),
    "/v1/messages/count_tokens": Endpoint(messages.parse_count_tokens, "/tokenize", ERRORS, _BETA),
}
"""The inference APIs, by address: those in other protocols than vLLM's chat are translated to it."""


def build(gateway: Gateway, body_seconds_max: float) -> Litestar:
    """The whole surface of the box. Whatever isn't listed here answers 404."""
    return Litestar(
        route_handlers=[
            *(_inference(gateway, path, endpoint, body_seconds_max) for path, endpoint in INFERENCE.items()),
            _models(gateway),
            _model(gateway),
            _health(),
            _ready(gateway),
            _metrics(gateway),
            _bans(gateway),
            _lift(gateway),
        ],
        exception_handlers={Exception: _refuse},
        openapi_config=None,
        logging_config=None,
        debug=False,
        pdb_on_exception=False,
    )


def _inference(gateway: Gateway, path: str, endpoint: Endpoint, body_seconds_max: float) -> Any:
    @asgi(path, copy_scope=False)
    async def handler(scope: Any, receive: Any, send: Any) -> None:
        exchange = AsgiExchange(scope, receive, send, gateway.body_bytes_max, body_seconds_max)
        await gateway.serve(endpoint, exchange)

    return handler


def _models(gateway: Gateway) -> Any:
    @get("/v1/models")
    async def models(request: Request[Any, Any, Any]) -> Response[bytes]:
        usable = await _usable(gateway, request)
        return _json({"object": "list", "data": [_described(model) for model in usable.values()]})

    return models


def _model(gateway: Gateway) -> Any:
    @get("/v1/models/{name:str}")
    async def model(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
        found = (await _usable(gateway, request)).get(name)
        if found is None:
            raise UnknownModel
        return _json(_described(found))

    return model


async def _usable(gateway: Gateway, request: Request[Any, Any, Any]) -> dict[str, ModelRecord]:
    """The models that the caller's key may use."""
    client = request.scope["client"]
    headers = by_name(request.scope["headers"])
    caller = await gateway.identify(headers, client[0] if client else None)
    table = gateway.table
    allowed = table.keys[caller.key_id].models
    return {name: one for name, one in table.models.items() if allowed is None or name in allowed}


def _described(model: ModelRecord) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": model.created_at_s,
        "owned_by": "inferfly",
        "max_model_len": model.max_context,
        "endpoints": sorted(model.endpoints),
    }


def _health() -> Any:
    @get("/healthz", sync_to_thread=False)
    def healthz() -> Response[bytes]:
        return _json({"status": "ok"})

    return healthz


def _ready(gateway: Gateway) -> Any:
    @get("/readyz", sync_to_thread=False)
    def readyz() -> Response[bytes]:
        table = gateway.table
        waiting = [name for name in table.models if not table.engines.get(name)]
        ready = bool(table.models) and not waiting and not gateway.admission.draining
        return _json({"ready": ready}, 200 if ready else 503)

    return readyz


def _metrics(gateway: Gateway) -> Any:
    @get("/metrics", sync_to_thread=False)
    def exposition(request: Request[Any, Any, Any]) -> Response[bytes]:
        _only_for_the_box(request)
        gateway.publish()
        return Response(gateway.metrics.exposition(), media_type=metrics.CONTENT_TYPE)

    return exposition


def _bans(gateway: Gateway) -> Any:
    @get("/bans", sync_to_thread=False)
    def bans(request: Request[Any, Any, Any]) -> Response[bytes]:
        _only_for_the_box(request)
        return _json([ban._asdict() for ban in gateway.guard.banned(time.time())])

    return bans


def _lift(gateway: Gateway) -> Any:
    @delete("/bans/{source:path}", status_code=200, sync_to_thread=False)
    def lift(request: Request[Any, Any, Any], source: FromPath[PurePath]) -> Response[bytes]:
        _only_for_the_box(request)
        if not gateway.guard.lift(str(source).removeprefix("/")):
            raise UnknownRoute
        return _json({})

    return lift


def _only_for_the_box(request: Request[Any, Any, Any]) -> None:
    """Some addresses are there over the gateway's unix socket only."""
    if request.scope["server"] is None or request.scope["server"][1] is not None:
        raise UnknownRoute


def _json(data: object, status: int = 200) -> Response[bytes]:
    return _response(msgspec.json.encode(data), status, answers.JSON)


def _response(body: bytes, status: int, head: bytes) -> Response[bytes]:
    texts = {name.decode(): value.decode() for name, value in answers.pairs(head) if name != b"content-type"}
    return Response(body, status_code=status, media_type=MediaType.JSON, headers=texts)


def _refuse(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The one place where a failure becomes HTTP outside of inference. Nothing of the request is in it."""
    match error:
        case RequestError():
            refusal = error
        case MethodNotAllowedException():
            refusal = WrongMethod()
        case NotFoundException():
            refusal = UnknownRoute()
        case HTTPException() if error.status_code < 500:
            refusal = BadRequest()
        case _:
            log("request_failed", error=type(error).__name__.lower()[:64])
            refusal = RequestError()
    endpoint = INFERENCE.get(request.scope["path"])
    shape = endpoint.errors if endpoint else answers.OPENAI
    return _response(shape.body(refusal, None), refusal.status, answers.error_head(refusal, None))
