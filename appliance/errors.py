"""Every failure the appliance can name: what happened, why, and what to do.

InferflyError
├── RequestError        an application's request is refused: HTTP status, OpenAI code and type
└── OperatorError       the box can't do what its operator asked: printed on stderr, exit code 1 to 78
"""

from __future__ import annotations

from typing import ClassVar


class InferflyError(Exception):
    """Base of every failure with a name. `str()` of one is a full sentence a person can act on."""

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        super().__init__(" ".join(part for part in (what, why, fix) if part))
        self.what = what
        self.why = why
        self.fix = fix


class RequestError(InferflyError):
    """A refused request. `message` is fixed text: it never quotes what the caller sent.

    `param` names a field of our own schema, never a name the caller invented.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    type: ClassVar[str] = "server_error"
    message: ClassVar[str] = (
        "The request failed inside the appliance. Try again; if it persists, tell the operator."
    )
    retry_after_seconds: int | None = None
    """When to come back; one refusal may know better than its class."""

    def __init__(
        self,
        message: str | None = None,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(message or self.message)
        self.param = param
        self.reason = code or self.code
        if retry_after_seconds is not None:
            self.retry_after_seconds = retry_after_seconds


class InvalidKey(RequestError):
    status = 401
    code = "invalid_api_key"
    type = "authentication_error"
    message = "The API key is missing, unknown, revoked or expired. Ask your administrator for a key."


class KeyRevoked(RequestError):
    status = 401
    code = "key_revoked"
    type = "authentication_error"
    message = "The API key was revoked while the request ran. Ask your administrator for a key."


class NotAllowed(RequestError):
    status = 403
    code = "permission_denied"
    type = "permission_error"
    message = "This API key may not be used for this. Ask your administrator to widen its scope."


class BadRequest(RequestError):
    status = 400
    code = "invalid_request"
    type = "invalid_request_error"
    message = "The request is not valid. docs/api.md says what each address takes."


class UnknownModel(RequestError):
    status = 404
    code = "model_not_found"
    type = "invalid_request_error"
    message = "The model does not exist on this appliance. GET /v1/models lists those that do."


class UnknownRoute(RequestError):
    status = 404
    code = "not_found"
    type = "invalid_request_error"
    message = "There is nothing at this address. The API starts at /v1."


class WrongMethod(RequestError):
    status = 405
    code = "method_not_allowed"
    type = "invalid_request_error"
    message = "This address does not take this HTTP method. The API's document lists the one that it does."


class ClientGone(RequestError):
    """The caller hung up before its request was whole. Nobody reads this answer."""

    status = 400
    code = "client_gone"
    type = "invalid_request_error"
    message = "The connection closed before the request was complete."


class BodyTooSlow(RequestError):
    status = 408
    code = "request_timeout"
    type = "invalid_request_error"
    message = "The request body did not arrive in time. Send it faster, or less of it."


class HeadTooSlow(RequestError):
    status = 408
    code = "head_timeout"
    type = "invalid_request_error"
    message = "The request's head did not arrive in time. Send it at once."


class HeadTooLarge(RequestError):
    status = 431
    code = "headers_too_large"
    type = "invalid_request_error"
    message = "The request has more headers, or longer ones, than this appliance accepts. Send fewer, and shorter ones."


class AddressTooLong(RequestError):
    status = 414
    code = "uri_too_long"
    type = "invalid_request_error"
    message = "The address is longer than this appliance accepts. Put fields into the JSON body."


class NotHttp(RequestError):
    status = 400
    code = "invalid_http"
    type = "invalid_request_error"
    message = "What came is not a request that this server can read safely. Send plain HTTP/1.1."


class TooManyConnections(RequestError):
    status = 429
    code = "too_many_connections"
    type = "rate_limit_error"
    message = "Too many connections are open from this address. Close some, or reuse them."
    retry_after_seconds = 1


class BodyTooLarge(RequestError):
    status = 413
    code = "request_too_large"
    type = "invalid_request_error"
    message = "The request body is larger than this appliance accepts. Send less at once."


class WrongMediaType(RequestError):
    status = 415
    code = "unsupported_media_type"
    type = "invalid_request_error"
    message = "The body is not plain JSON. Send it uncompressed, with content-type application/json."


class TooManyRequests(RequestError):
    status = 429
    code = "rate_limit_exceeded"
    type = "rate_limit_error"
    message = "This key has too many requests open at once. Wait for some to finish."
    retry_after_seconds = 1


class RateLimited(RequestError):
    """The limit of requests per minute; tokens have a subclass, because OpenAI's `type` names what ran out."""

    status = 429
    code = "rate_limit_exceeded"
    type = "requests"
    message = "Too many requests came within a minute. Try again in a moment."
    retry_after_seconds = 60


class TokenRateLimited(RateLimited):
    type = "tokens"
    message = "Too many tokens were asked for within a minute. Try again in a moment."


class BudgetSpent(RequestError):
    status = 429
    code = "insufficient_quota"
    type = "insufficient_quota"
    message = "A budget does not cover this request. Ask your administrator for more."
    retry_after_seconds = 3600


class Banned(RequestError):
    status = 429
    code = "too_many_wrong_keys"
    type = "rate_limit_error"
    message = "Too many wrong API keys came from this address. Wait, or ask the operator to lift the ban."
    retry_after_seconds = 900


class EngineLost(RequestError):
    status = 502
    code = "engine_lost"
    type = "server_error"
    message = "The model stopped while it was answering. Try again in a moment."


class EngineFault(RequestError):
    status = 502
    code = "engine_error"
    type = "server_error"
    message = "The model could not answer this request. Try again; if it persists, tell the operator."


class Overloaded(RequestError):
    status = 503
    code = "overloaded"
    type = "server_error"
    message = "The appliance is at its limit. Try again in a moment."
    retry_after_seconds = 1


class QueueFull(Overloaded):
    code = "queue_full"
    message = "Too many requests wait for this model. Try again in a moment."


class QueueLate(Overloaded):
    code = "queue_timeout"
    message = "The model stayed busy for longer than a request may wait. Try again later."


class LedgerBehind(RequestError):
    status = 503
    code = "metering_unavailable"
    type = "server_error"
    message = "The appliance can't record usage right now, so it takes no new requests. Tell the operator."
    retry_after_seconds = 5


class NotReady(RequestError):
    status = 503
    code = "model_not_ready"
    type = "server_error"
    message = "The model is not running right now. Try again in a moment."
    retry_after_seconds = 5


class ShuttingDown(RequestError):
    status = 503
    code = "shutting_down"
    type = "server_error"
    message = "The appliance is shutting down. Try again in a moment."
    retry_after_seconds = 10


class OperatorError(InferflyError):
    """Something the operator has to mend. Printed as one message; never a traceback."""

    exit_code: ClassVar[int] = 1


class CatalogError(OperatorError):
    """models.yaml is missing, unreadable or not valid."""

    exit_code = 78


class SettingsError(OperatorError):
    """A machine setting is not valid."""

    exit_code = 78


class StoreError(OperatorError):
    """A database is damaged, newer than this release, or of another shape."""

    exit_code = 74


class WeightsError(OperatorError):
    """A model's files are missing, damaged or can't be had."""

    exit_code = 66


class EnvironmentBroken(OperatorError):
    """The machine or the engine's environment lacks what is needed."""

    exit_code = 69


class EngineFailed(OperatorError):
    """vLLM did not start, died or hung; another try may go better."""

    exit_code = 70


class EngineUnusable(EngineFailed):
    """vLLM refuses these weights or options, and always will."""

    exit_code = 78


class AlreadyRunning(OperatorError):
    """Another appliance runs on this state folder, or its port is taken."""

    exit_code = 75


class ControlUnreachable(OperatorError):
    """The control plane does not answer on its socket."""

    exit_code = 69


class Refused(OperatorError):
    """Control understood the act and refused it."""

    exit_code = 1
