"""Types of request bodies -> the OpenAPI description of the public API."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
from msgspec import inspect

from appliance import __version__
from appliance.errors import ClientGone, InvalidKey, RequestError, UnknownRoute, WrongMethod
from appliance.gateway.addresses import Route, Schema
from appliance.gateway.allow_list import FieldWords, fields_of, is_refused, name_of, needs_tag, structs_of
from appliance.gateway.guide import HEADERS
from appliance.gateway.schema.words import CODES

_NO_WORD: Final = re.compile(r"\W+")
_ONLY: Final[dict[str, Schema]] = {"background": {"enum": [False, None]}}
"""What is taken of a field's values, where its type does not tell."""
_PARAMETER: Final = re.compile(r"\{([a-z_]+)\}")


def document(routes: Sequence[Route]) -> Schema:
    """OpenAPI 3.1."""
    bodies = [route.body for route in routes if route.body is not None]
    found = {struct.cls: struct for body in inspect.multi_type_info(bodies) for struct in structs_of(body)}
    schemas = {name_of(cls): _struct_schema(one) for cls, one in found.items() if not is_refused(one)}
    paths: dict[str, Schema] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Inferfly Appliance", "version": __version__},
        "servers": [{"url": "http://127.0.0.1:8080"}],
        "security": [{"key": []}, {"x-api-key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer"},
                "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
            "headers": {
                name: {"description": meaning, "schema": {"type": "string"}}
                for name, meaning in HEADERS.items()
            },
            "schemas": {"Error": _ERROR, "AnthropicError": _ANTHROPIC_ERROR, **schemas},
        },
    }


def refusals() -> list[type[RequestError]]:
    """Every refusal that a caller may see, by status."""
    return sorted(
        (kind for kind in _below(RequestError) if kind is not ClientGone),
        key=lambda kind: (kind.status, kind.code),
    )


def _below(kind: type[RequestError]) -> Iterator[type[RequestError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _below(each)


_ERROR: Final[Schema] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
            },
        }
    },
}
_ANTHROPIC_ERROR: Final[Schema] = {
    "type": "object",
    "required": ["type", "error"],
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
        },
        "request_id": {"type": ["string", "null"]},
    },
}


def _operation(route: Route) -> Schema:
    operation: Schema = {
        "summary": route.summary,
        "operationId": f"{route.method.lower()}{_NO_WORD.sub('_', route.path)}",
        "responses": {"200": _answer(route), **_refusals(route)},
    }
    if names := _PARAMETER.findall(route.path):
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
        ]
    if route.keyless:
        operation["security"] = []
    if route.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _reference(route.body)}},
        }
    return operation


def _answer(route: Route) -> Schema:
    content: Schema = {"application/json": {"schema": route.answer or {"type": "object"}}}
    if route.streams:
        content["text/event-stream"] = {}  # OpenAPI 3.1 has no words for events
    answer: Schema = {"description": "The answer.", "content": content}
    if route.body is not None:
        names = [name for name in HEADERS if route.anthropic or name != "request-id"]
        answer["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
    return answer


def _refusals(route: Route) -> Schema:
    """All of them for what a model answers; only a bad key and its own for what the gateway itself tells."""
    gate: set[type[RequestError]] = {*route.beside} if route.keyless else {InvalidKey, *route.beside}
    possible = gate if route.body is None else {*refusals()} - {UnknownRoute, WrongMethod}
    by_status: dict[int, list[str]] = {}
    for kind in refusals():
        if kind in possible:
            by_status.setdefault(kind.status, []).append(kind.code)
    for code, words in CODES.items():
        if route.body is not None:
            by_status[words.status].append(code)
    shape = "AnthropicError" if route.anthropic else "Error"
    return {
        str(status): {
            "description": ", ".join(sorted(set(codes))),
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{shape}"}}},
        }
        for status, codes in by_status.items()
    }


def _reference(cls: type) -> Schema:
    return {"$ref": f"#/components/schemas/{name_of(cls)}"}


def _struct_schema(kind: inspect.StructType) -> Schema:
    fields = fields_of(kind)
    properties = {
        field.name: _schema(field.type) | _ONLY.get(field.name, {}) | {"description": _described(field)}
        for field in fields
    }
    required = [field.name for field in fields if field.required]
    if kind.tag_field is not None:
        properties = {kind.tag_field: {"const": kind.tag}, **properties}
    if kind.tag_field is not None and needs_tag(kind):
        required = [kind.tag_field, *required]
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": not kind.forbid_unknown_fields,
    }


def _described(field: FieldWords) -> str:
    return field.meaning if field.support == "supported" else f"{field.meaning} ({field.support})"


def _schema(kind: inspect.Type) -> Schema:  # noqa: PLR0911  # one for each kind of type
    match kind:
        case inspect.StructType():
            return _reference(kind.cls)
        case inspect.UnionType():
            return {"anyOf": [_schema(each) for each in kind.types if not _is_never_taken(each)]}
        case inspect.ListType():
            items = {"type": "array", "items": _schema(kind.item_type)}
            return items | _limits(minItems=kind.min_length, maxItems=kind.max_length)
        case inspect.DictType():
            values = {"type": "object", "additionalProperties": _schema(kind.value_type)}
            return values | _limits(
                minProperties=kind.min_length,
                maxProperties=kind.max_length,
                propertyNames=_key(kind.key_type),
            )
        case inspect.StrType():
            pattern = kind.pattern and kind.pattern.replace(r"\Z", "$")
            return {"type": "string"} | _limits(
                minLength=kind.min_length, maxLength=kind.max_length, pattern=pattern
            )
        case inspect.IntType() | inspect.FloatType():
            number = {"type": "integer" if isinstance(kind, inspect.IntType) else "number"}
            return number | _limits(minimum=kind.ge, exclusiveMinimum=kind.gt, maximum=kind.le)
        case inspect.LiteralType():
            return {"enum": list(kind.values)}
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.NoneType():
            return {"type": "null"}
        case _:
            return {}


def _is_never_taken(kind: inspect.Type) -> bool:
    return isinstance(kind, inspect.StructType) and is_refused(kind)


def _key(kind: inspect.Type) -> Schema | None:
    """A number as a key is written as text."""
    if isinstance(kind, inspect.IntType):
        return {"pattern": "^(0|[1-9][0-9]{0,6})$"}
    limits = _schema(kind)
    return limits if len(limits) > 1 else None


def _limits(**limits: object) -> Schema:
    return {name: limit for name, limit in limits.items() if limit is not None}


def written(routes: Sequence[Route]) -> str:
    """The document as it stands in docs/openapi.json."""
    return msgspec.json.format(msgspec.json.encode(document(routes)), indent=1).decode() + "\n"
