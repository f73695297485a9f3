"""A body that does not fit its type, in words of ours: type names, limits and field names, and nothing of the body."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

import msgspec

from appliance.errors import BadRequest
from appliance.gateway.schema.words import NOT_HERE

_Body = TypeVar("_Body")


def decoder(kind: type[_Body]) -> Callable[[bytes], _Body]:
    """A function that reads JSON of this type. It raises BadRequest that quotes nothing of what it read."""
    decode = msgspec.json.Decoder(kind).decode

    def read(body: bytes) -> _Body:
        try:
            return decode(body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise _refusal(error) from None

    return read


_PATH = re.compile(r" - at (?:`key` in )?`\$((?:\.[a-z_]+|\[(?:\.\.\.|\d{1,9})\])*)`$")
_TYPES = re.compile(r"^Expected `[a-z| ]+`(?:, got `[a-z]+`| (?:of length )?[<>]=? [0-9.e+-]+)?(?= - at |$)")
_MISSING = re.compile(r"^Object missing required field `[a-z_]+`(?= - at |$)")


def _refusal(error: Exception) -> BadRequest:
    """msgspec's complaint in words that hold type names, limits and field names of ours, and nothing of the body."""
    text = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return BadRequest("The body is not valid JSON.", code="invalid_json")
    found = _PATH.search(text)
    param = found[1].removeprefix(".").replace("[...]", "[]") if found else None
    where = f"`{param}`" if param else "The body"
    if text.startswith("Object contains unknown field"):
        return BadRequest(
            f"{where} has a field that this API does not have. Remove it.", param=param, code="unknown_field"
        )
    if param and (why := NOT_HERE.get(param.rpartition(".")[2])):
        return BadRequest(f"{where} is not supported here. {why}", param=param, code="unsupported_field")
    for shape in (_TYPES, _MISSING):
        if kept := shape.match(text):
            return BadRequest(
                f"{where}: {kept[0][0].lower()}{kept[0][1:]}.", param=param, code="invalid_value"
            )
    return BadRequest(f"{where} has a value that is not allowed.", param=param, code="invalid_value")
