"""A client of control's socket: one method for each thing control does.

On the standard library's HTTP client, because every verb of the command line waits for its imports.
"""

from __future__ import annotations

import http.client
import re
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlencode

from pydantic import BaseModel, TypeAdapter, ValidationError

from appliance.admin.contract import (
    COUNT_MAX,
    EXPIRES_DAYS_DEFAULT,
    EXPIRES_DAYS_MAX,
    GRACE_HOURS_DEFAULT,
    GRACE_HOURS_MAX,
    KEY_ID_PATTERN,
    NAME_PATTERN,
    SOURCE_PATTERN,
    SUBJECT_PATTERN,
    Account,
    Ban,
    CreatedKey,
    ErrorBody,
    Key,
    Lifted,
    LimitChanges,
    NewAccount,
    NewKey,
    NewPrice,
    Price,
    Rotation,
    Status,
    SubjectKind,
    SubjectLimits,
    UsageGroup,
    UsageReport,
    UsageRow,
)
from appliance.errors import ControlUnreachable, Refused

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from pathlib import Path

ANSWER_SECONDS_MAX: Final = 30.0
ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024

_Answer = TypeVar("_Answer")

_COUNT: Final = f"a limit is a whole number from 1 to {COUNT_MAX}"
_MONEY: Final = (
    "an amount of money is written like 12.50: at most nine digits, and six decimals after a point"
)
_RULES: Final = {
    "account": "an account's name has 1 to 40 lower case letters, digits, `.`, `_` or `-`",
    "name": "a name has 1 to 40 lower case letters, digits, `.`, `_` or `-`, and a letter or digit at both ends",
    "expires_days": f"a key lives 1 to {EXPIRES_DAYS_MAX} days",
    "grace_hours": f"a rotated key lives on for 0 to {GRACE_HOURS_MAX} hours",
    "models": "a model's name has 1 to 40 lower case letters, digits, `.`, `_` or `-`",
    "endpoints": "an endpoint is one of those that `inferfly keys create --help` lists",
    "networks": "a network is written like 10.1.0.0/16 with no bits beyond its mask, or is one address",
    "input_per_million": _MONEY,
    "output_per_million": _MONEY,
    "cost_per_day": f"{_MONEY}, and a limit is more than nothing",
    "cost_per_month": f"{_MONEY}, and a limit is more than nothing",
}
"""What a field takes. Those that are not here are counts of limits."""


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

    def create_key(
        self,
        *,
        account: str,
        name: str,
        expires_days: int = EXPIRES_DAYS_DEFAULT,
        models: Sequence[str] = (),
        endpoints: Sequence[str] = (),
        networks: Sequence[str] = (),
    ) -> CreatedKey:
        """A new key, and what it may be used for. Its plaintext is in this answer and nowhere else."""
        scopes = {"models": tuple(models), "endpoints": tuple(endpoints), "networks": tuple(networks)}
        with _explained():
            new = NewKey.model_validate(
                {"account": account, "name": name, "expires_days": expires_days, **scopes}
            )
        return self._ask("POST", "/v1/keys", TypeAdapter(CreatedKey), body=new)

    def rotate_key(
        self,
        key_id: str,
        *,
        grace_hours: int = GRACE_HOURS_DEFAULT,
        expires_days: int = EXPIRES_DAYS_DEFAULT,
    ) -> CreatedKey:
        """A key's successor. Its plaintext is in this answer and nowhere else."""
        with _explained():
            how = Rotation(grace_hours=grace_hours, expires_days=expires_days)
        return self._ask("POST", f"/v1/keys/{_key_id(key_id)}/rotate", TypeAdapter(CreatedKey), body=how)

    def revoke_key(self, key_id: str) -> Key:
        return self._ask("DELETE", f"/v1/keys/{_key_id(key_id)}", TypeAdapter(Key))

    def revoke_line(self, key_id: str) -> list[Key]:
        """Revoke the key and all that it was rotated from and into."""
        return self._ask("DELETE", f"/v1/keys/{_key_id(key_id)}/line", TypeAdapter(list[Key]))

    def limits(self) -> list[SubjectLimits]:
        return self._ask("GET", "/v1/limits", TypeAdapter(list[SubjectLimits]))

    def change_limits(
        self, kind: SubjectKind, name: str, changes: Mapping[str, int | str | None]
    ) -> SubjectLimits:
        """Set the named limits; None lifts one, and those that are not named stay."""
        with _explained():
            body = LimitChanges.model_validate(changes)
        return self._ask("PATCH", _limits(kind, name), TypeAdapter(SubjectLimits), body=body)

    def clear_limits(self, kind: SubjectKind, name: str) -> SubjectLimits:
        return self._ask("DELETE", _limits(kind, name), TypeAdapter(SubjectLimits))

    def prices(self) -> list[Price]:
        return self._ask("GET", "/v1/prices", TypeAdapter(list[Price]))

    def set_price(self, model: str, *, input_per_million: str, output_per_million: str) -> Price:
        """What a million tokens of a model cost, as decimal text of the site's currency."""
        with _explained():
            body = NewPrice(input_per_million=input_per_million, output_per_million=output_per_million)
        return self._ask("PUT", _price(model), TypeAdapter(Price), body=body)

    def clear_price(self, model: str) -> Price:
        return self._ask("DELETE", _price(model), TypeAdapter(Price))

    def bans(self) -> list[Ban]:
        """Addresses that the gateway refuses for wrong keys."""
        return self._ask("GET", "/v1/bans", TypeAdapter(list[Ban]))

    def lift_ban(self, source: str) -> Lifted:
        if not re.fullmatch(SOURCE_PATTERN, source):
            raise Refused("That is not an address.", fix="`inferfly bans list` shows those that are banned.")
        return self._ask("DELETE", "/v1/bans?" + urlencode({"source": source}), TypeAdapter(Lifted))

    def usage(self, *, by: UsageGroup, days: int) -> UsageReport:
        """Totals of the last `days` days of the site's time zone, today included."""
        return self._ask("GET", "/v1/usage?" + urlencode({"by": by, "days": days}), TypeAdapter(UsageReport))

    def newest_requests(self, limit: int) -> list[UsageRow]:
        """The newest ledger rows, newest first."""
        return self._ask("GET", "/v1/requests?" + urlencode({"limit": limit}), TypeAdapter(list[UsageRow]))

    def _ask(
        self, method: str, path: str, answer: TypeAdapter[_Answer], *, body: BaseModel | None = None
    ) -> _Answer:
        payload = None if body is None else body.model_dump_json(exclude_unset=True).encode()
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


def _key_id(text: str) -> str:
    """It becomes part of an address. Raises Refused."""
    if not re.fullmatch(KEY_ID_PATTERN, text):
        raise Refused("That is not a key's id.", fix="`inferfly keys list` shows the ids.")
    return text


def _limits(kind: SubjectKind, name: str) -> str:
    if not re.fullmatch(SUBJECT_PATTERN, name):
        raise Refused(
            "That is neither a key's id nor a name.",
            fix="`inferfly keys list`, `inferfly accounts list` and `inferfly models` show what there is.",
        )
    return f"/v1/limits/{kind}/{name}"


def _price(model: str) -> str:
    if not re.fullmatch(NAME_PATTERN, model):
        raise Refused("That is not a model's name.", fix="`inferfly models` shows them.")
    return f"/v1/prices/{model}"


@contextmanager
def _explained() -> Generator[None]:
    """Validate here what control would refuse, so that the answer can name the field."""
    try:
        yield
    except ValidationError as error:
        wrong = dict.fromkeys(str(fault["loc"][0]) for fault in error.errors(include_input=False))
        why = "; ".join(dict.fromkeys(_RULES.get(name, _COUNT) for name in wrong))
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
