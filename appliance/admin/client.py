"""A client of control's socket: one method for each thing control does.

On the standard library's HTTP client, because every verb of the command line waits for its imports.
"""

from __future__ import annotations

import http.client
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlencode

from pydantic import BaseModel, TypeAdapter, ValidationError

from appliance.admin.contract import (
    EXPIRES_DAYS_DEFAULT,
    EXPIRES_DAYS_MAX,
    Account,
    CreatedKey,
    ErrorBody,
    Key,
    NewAccount,
    NewKey,
    Status,
    UsageGroup,
    UsageReport,
    UsageRow,
)
from appliance.errors import ControlUnreachable, Refused

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

ANSWER_SECONDS_MAX: Final = 30.0
ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024

_Answer = TypeVar("_Answer")

_RULES: Final = {
    "account": "an account's name has 1 to 40 lower case letters, digits, `.`, `_` or `-`",
    "name": "a name has 1 to 40 lower case letters, digits, `.`, `_` or `-`, and a letter or digit at both ends",
    "expires_days": f"a key lives 1 to {EXPIRES_DAYS_MAX} days",
}


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connected.settimeout(self.timeout)
            connected.connect(str(self._path))
        except OSError:
            connected.close()
            raise
        self.sock = connected


class Client:
    """Raises ControlUnreachable where control does not answer, and Refused where it will not do what was asked."""

    def __init__(self, socket_path: Path, *, seconds: float = ANSWER_SECONDS_MAX) -> None:
        self._socket_path = socket_path
        self._seconds = seconds

    def status(self) -> Status:
        return self._ask("GET", "/v1/status", TypeAdapter(Status))

    def accounts(self) -> list[Account]:
        return self._ask("GET", "/v1/accounts", TypeAdapter(list[Account]))

    def create_account(self, name: str) -> Account:
        with _explained():
            new = NewAccount(name=name)
        return self._ask("POST", "/v1/accounts", TypeAdapter(Account), body=new)

    def list_keys(self, account: str | None = None) -> list[Key]:
        """Every key, or those of one account; oldest first."""
        keys = self._ask("GET", "/v1/keys", TypeAdapter(list[Key]))
        return [key for key in keys if account in (None, key.account)]

    def create_key(self, *, account: str, name: str, expires_days: int = EXPIRES_DAYS_DEFAULT) -> CreatedKey:
        """A new key. Its plaintext is in this answer and nowhere else."""
        with _explained():
            new = NewKey(account=account, name=name, expires_days=expires_days)
        return self._ask("POST", "/v1/keys", TypeAdapter(CreatedKey), body=new)

    def revoke_key(self, key_id: str) -> Key:
        if not (key_id.isascii() and key_id.isalnum()):
            raise Refused("That is not a key's id.", fix="`inferfly keys list` shows the ids.")
        return self._ask("DELETE", f"/v1/keys/{key_id}", TypeAdapter(Key))

    def usage(self, *, by: UsageGroup, days: int) -> UsageReport:
        """Totals of the last `days` days, today (UTC) included."""
        return self._ask("GET", "/v1/usage?" + urlencode({"by": by, "days": days}), TypeAdapter(UsageReport))

    def newest_requests(self, limit: int) -> list[UsageRow]:
        """The newest ledger rows, newest first."""
        return self._ask("GET", "/v1/requests?" + urlencode({"limit": limit}), TypeAdapter(list[UsageRow]))

    def _ask(
        self, method: str, path: str, answer: TypeAdapter[_Answer], *, body: BaseModel | None = None
    ) -> _Answer:
        payload = None if body is None else body.model_dump_json().encode()
        status, raw = self._exchange(method, path, payload)
        try:
            if status < http.HTTPStatus.BAD_REQUEST:
                return answer.validate_json(raw)
            raise Refused(ErrorBody.model_validate_json(raw).error.message)
        except ValidationError:
            raise ControlUnreachable(
                "Control answered something this release does not understand.",
                why="The command line and the running control are of different releases, or something else listens.",
                fix="Stop the appliance and start it again with `inferfly up`.",
            ) from None

    def _exchange(self, method: str, path: str, payload: bytes | None) -> tuple[int, bytes]:
        connection = UnixConnection(self._socket_path, self._seconds)
        try:
            connection.request(method, path, payload, {"content-type": "application/json"} if payload else {})
            response = connection.getresponse()
            return response.status, response.read(ANSWER_BYTES_MAX)
        except (OSError, http.client.HTTPException) as error:
            raise _unreachable(self._socket_path, error) from None
        finally:
            connection.close()


@contextmanager
def _explained() -> Generator[None]:
    """Validate here what control would refuse, so that the answer can name the field."""
    try:
        yield
    except ValidationError as error:
        wrong = dict.fromkeys(str(fault["loc"][0]) for fault in error.errors(include_input=False))
        why = "; ".join(_RULES[name] for name in wrong)
        raise Refused(
            "That was not sent.", why=f"{why[0].upper()}{why[1:]}.", fix="Correct it and try again."
        ) from None


def _unreachable(path: Path, error: Exception) -> ControlUnreachable:
    if isinstance(error, PermissionError):
        return ControlUnreachable(
            "Control does not let you in.",
            why=f"Only the user that runs the appliance may use {path}.",
            fix="Run this as that user, or as root.",
        )
    if isinstance(error, TimeoutError):
        return ControlUnreachable(
            "Control did not answer in time.",
            why="The machine may be overloaded.",
            fix="Try again in a moment.",
        )
    return ControlUnreachable(
        "Control is not running.",
        why=f"Nothing answers at {path}.",
        fix="Start the appliance with `inferfly up`, or give its state folder with --home.",
    )
