"""Control's one error shape: a code and a sentence of ours. Nothing of a request is ever quoted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from litestar import Request, Response
from litestar.exceptions import HTTPException

from appliance.admin.contract import ErrorBody, ErrorDetail
from appliance.errors import OperatorError, Refused
from appliance.privacy.logs import log

if TYPE_CHECKING:
    AnyRequest = Request[Any, Any, Any]

_HTTP: Final = {
    400: ("invalid_request", "The request is not valid. `--help` of each verb says what it takes."),
    404: ("not_found", "Control has nothing at this address."),
    405: ("method_not_allowed", "This address does not take this method."),
    413: ("request_too_large", "The request is larger than control accepts."),
    415: ("unsupported_media_type", "The body must be JSON."),
}


def _http(request: AnyRequest, error: HTTPException) -> Response[ErrorBody]:
    if error.status_code >= 500:
        return _fault(request, error)
    status = error.status_code if error.status_code in _HTTP else 400
    return _answer(status, *_HTTP[status])


def _no_text(_request: AnyRequest, _error: UnicodeDecodeError) -> Response[ErrorBody]:
    """A body that is not UTF-8: Litestar lets this one through as it is."""
    return _answer(400, *_HTTP[400])


def _refused(_request: AnyRequest, error: Refused) -> Response[ErrorBody]:
    return _answer(409, "refused", str(error))


def _operator(_request: AnyRequest, error: OperatorError) -> Response[ErrorBody]:
    log("request_failed", error=type(error).__name__.lower())
    return _answer(500, "broken", str(error))


def _fault(_request: AnyRequest, error: Exception) -> Response[ErrorBody]:
    log("request_failed", error=type(error).__name__.lower()[:64])
    return _answer(
        500, "internal_error", "Control failed at this. Try again; `inferfly status` shows how it is."
    )


def _answer(status: int, code: str, message: str) -> Response[ErrorBody]:
    return Response(ErrorBody(error=ErrorDetail(code=code, message=message)), status_code=status)


HANDLERS: Final[dict[int | type[Exception], Any]] = {
    HTTPException: _http,
    UnicodeDecodeError: _no_text,
    Refused: _refused,
    OperatorError: _operator,
    Exception: _fault,
}
