"""The public Litestar application: its route table and its error shape."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Litestar, MediaType, Request, Response, asgi, get
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException

from appliance import metrics
from appliance.errors import BadRequest, ClientGone, RequestError, UnknownRoute, WrongMethod
from appliance.gateway import answers, auth
from appliance.gateway.asgi import Receive, Scope, Send
from appliance.gateway.inference import Endpoint, Gateway
from appliance.gateway.schema import chat, completions
from appliance.privacy.logs import log

INFERENCE = {
    "/v1/chat/completions": Endpoint(chat.parse, "/v1/chat/completions"),
    "/v1/completions": Endpoint(completions.parse, "/v1/completions"),
}


def build(gateway: Gateway) -> Litestar:
    """The whole surface of the box. Whatever isn't listed here answers 404."""
    return Litestar(
        route_handlers=[
            *(_inference(gateway, path, endpoint) for path, endpoint in INFERENCE.items()),
            _models(gateway),
            _health(),
            _ready(gateway),
            _metrics(gateway),
        ],
        exception_handlers={Exception: _refuse},
        openapi_config=None,
        logging_config=None,
        debug=False,
        pdb_on_exception=False,
    )


def _inference(gateway: Gateway, path: str, endpoint: Endpoint) -> Any:
    @asgi(path, copy_scope=False)
    async def handler(scope: Any, receive: Any, send: Any) -> None:
        await _serve(gateway, endpoint, scope, receive, send)

    return handler


async def _serve(gateway: Gateway, endpoint: Endpoint, scope: Scope, receive: Receive, send: Send) -> None:
    try:
        await gateway.serve(endpoint, scope, receive, send)
    except ClientGone:
        return
    except RequestError as error:
        gateway.metrics.refusals.labels(error.reason).inc()
        body = answers.error_body(error)
        headers = [*answers.error_headers(error, None), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": error.status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})


def _models(gateway: Gateway) -> Any:
    @get("/v1/models", sync_to_thread=False)
    def models(request: Request[Any, Any, Any]) -> Response[bytes]:
        auth.identify(request.scope["headers"], gateway.table.keys)
        listed = [
            {"id": model.name, "object": "model", "created": model.created_at_s, "owned_by": "inferfly"}
            | {"max_model_len": model.max_context}
            for model in gateway.table.models.values()
        ]
        return _json({"object": "list", "data": listed})

    return models


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
        """For the box itself, over the gateway's unix socket. Elsewhere there is no such address."""
        if request.scope["server"] is None or request.scope["server"][1] is not None:
            raise UnknownRoute
        gateway.metrics.open.set(gateway.admission.open)
        return Response(gateway.metrics.exposition(), media_type=metrics.CONTENT_TYPE)

    return exposition


def _json(data: dict[str, Any], status: int = 200) -> Response[bytes]:
    return _response(msgspec.json.encode(data), status, answers.JSON)


def _response(body: bytes, status: int, headers: list[answers.Header]) -> Response[bytes]:
    texts = {name.decode(): value.decode() for name, value in headers if name != b"content-type"}
    return Response(body, status_code=status, media_type=MediaType.JSON, headers=texts)


def _refuse(_request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
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
    return _response(answers.error_body(refusal), refusal.status, answers.error_headers(refusal, None))
