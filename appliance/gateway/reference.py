"""Writes the API reference from the allow-list itself: `python -m appliance.gateway.reference`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct, inspect

from appliance.errors import BadRequest, RequestError, UnknownModel
from appliance.gateway import guide, openapi, shape
from appliance.gateway.addresses import ROUTES, Route
from appliance.gateway.allow_list import fields_of, is_refused, name_of, needs_tag, structs_of
from appliance.gateway.dialects import messages
from appliance.gateway.schema import images
from appliance.gateway.schema.fields import Sampling
from appliance.gateway.schema.words import CODES, FIELDS, NOT_HERE, UNKNOWN
from appliance.settings import Settings

_LIMITS: Final = (
    (
        "Bytes of the whole body, unless the operator sets another limit",
        Settings.model_fields["body_bytes_max"].default,
    ),
    ("Levels of lists and objects", shape.DEPTH_MAX),
    ("Values and keys", shape.NODES_MAX),
    ("Lists and objects", shape.CONTAINERS_MAX),
    ("Strings", shape.STRINGS_MAX),
    ("Bytes of one string", shape.STRING_BYTES_MAX),
    (f"Bytes without strings of over {shape.KEY_BYTES_MAX} bytes", shape.READ_BYTES_MAX),
    ("Digits of a whole number", shape.INTEGER_DIGITS_MAX),
    ("Pictures", images.IMAGES_MAX),
    ("Bytes of one picture", images.IMAGE_BYTES_MAX),
    ("Pixels of one picture", images.PIXELS_MAX),
)
_PATTERNS: Final = {
    r"^[A-Za-z0-9_-]*\Z": "letters, digits, '_' and '-'",
    r"^[a-z_]*\Z": "lower case letters and '_'",
    r"^[A-Za-z0-9_.-]*\Z": "letters, digits, '_', '.' and '-'",
    r"^[^\x00]*\Z": "no NUL",
}
_KINDS: Final[Mapping[int, type[RequestError]]] = {kind.status: kind for kind in (BadRequest, UnknownModel)}
"""Whose statuses the codes of `words.py` have."""
_PLAIN: Final[dict[type[inspect.Type], str]] = {
    inspect.BoolType: "true or false",
    inspect.NoneType: "null",
    inspect.IntType: "integer",
    inspect.FloatType: "number",
}
_REQUIRED: Final = {"supported": "required", "clamped": "required, clamped"}
_INT64_MAX: Final = 2**63 - 1


def page(routes: Sequence[Route]) -> str:
    """The reference as it stands in docs/api.md."""
    lines = [guide.INTRODUCTION, guide.AUTHENTICATION, *_addresses(routes), *_headers(), *_errors()]
    lines += [guide.LIMITS, *_limits(), *_sampling()]
    for route in routes:
        if route.body is not None:
            lines += _section(route, _structs(route.body)[0])
    lines += ["\n## Fields of vLLM that are refused\n", *_table("Field", "Why")]
    lines += [f"| {names} | {why} |" for names, why in UNKNOWN.items()]
    return "\n".join(lines) + "\n"


def parts_page(routes: Sequence[Route]) -> str:
    """What bodies are made of, as it stands in docs/api-parts.md."""
    bodies = [route.body for route in routes if route.body is not None]
    parts = {part.cls: part for body in bodies for part in _structs(body)[1:]}
    lines = [guide.PARTS, *_table("Part", "Field", "Support", "Type", "Meaning")]
    for part in sorted(parts.values(), key=lambda part: name_of(part.cls)):
        lines += _rows(part, f"{name_of(part.cls)} | ")
    return "\n".join(lines) + "\n"


def _structs(body: type[Struct]) -> list[inspect.StructType]:
    """It, and then its parts."""
    return list(structs_of(inspect.type_info(body)))


def _addresses(routes: Sequence[Route]) -> Iterator[str]:
    yield "## Addresses\n"
    yield from _table("Address", "Answers", "Family")
    for route in routes:
        yield f"| {route.method} {route.path} | {route.summary} | {route.family or ''} |"


def _headers() -> Iterator[str]:
    yield "\n## Headers of answers\n"
    yield from _table("Header", "Meaning")
    for name, meaning in (guide.HEADERS | guide.HEADERS_OF_ALL).items():
        yield f"| `{name}` | {meaning} |"


def _errors() -> Iterator[str]:
    yield "\n## Errors\n"
    yield 'Every error is `{"error": {"message", "type", "param", "code"}}` and repeats nothing of the request.'
    yield "A stream that has begun ends with an event that holds the same"
    yield "(on `/v1/responses` a `response.failed` comes before it)."
    yield 'On `/v1/messages` it is Anthropic\'s `{"type": "error", "error": {"type", "message"}, "request_id"}`,'
    yield "with the type of the last column.\n"
    yield from _table("Status", "Code", "Type", "Meaning", "What to do", "Anthropic's type")
    yield from (f"| {' | '.join(row)} |" for row in sorted(_error_rows()))


def _error_rows() -> Iterator[tuple[str, ...]]:
    """From `errors.py` itself: what a refusal says in its first sentence, and what to do in the others."""
    for kind in openapi.refusals():
        happened, _, cure = kind.message.partition(". ")
        yield _error_row(kind, kind.code, f"{happened.removesuffix('.')}.", cure)
    for code, told in CODES.items():
        yield _error_row(_KINDS[told.status], code, told.meaning, told.cure)


def _error_row(kind: type[RequestError], code: str, meaning: str, cure: str) -> tuple[str, ...]:
    anthropic = msgspec.json.decode(messages.error_body(kind(), None))["error"]["type"]
    return str(kind.status), code, kind.type, meaning, cure, anthropic


def _limits() -> Iterator[str]:
    yield "\n## Limits of every body\n"
    yield from _table("Of", "At most")
    for name, limit in _LIMITS:
        yield f"| {name} | {limit:,} |"


def _section(route: Route, body: inspect.StructType) -> Iterator[str]:
    yield f"\n## {route.method} {route.path}\n"
    yield f"{route.summary}{'; as a stream, too' if route.streams else ''}."
    shared = frozenset(Sampling.__struct_fields__) if issubclass(body.cls, Sampling) else frozenset[str]()
    if shared:
        yield "It takes the [fields of writing](#fields-of-writing), and these:"
    yield ""
    yield from _table("Field", "Support", "Type", "Meaning")
    yield from _rows(body, "", shared)


def _sampling() -> Iterator[str]:
    kind = inspect.type_info(Sampling)
    yield "\n## Fields of writing\n"
    yield "Chat and completions share them."
    yield "Types with a full stop in their names are in [api-parts.md](api-parts.md).\n"
    yield from _table("Field", "Support", "Type", "Meaning")
    if isinstance(kind, inspect.StructType):
        yield from _rows(kind, "")


def _rows(kind: inspect.StructType, first: str, without: Collection[str] = ()) -> Iterator[str]:
    name = kind.cls.__name__
    if kind.tag_field is not None:
        support = "refused" if is_refused(kind) else "required" if needs_tag(kind) else "supported"
        meaning = (NOT_HERE if is_refused(kind) else FIELDS).get(name, "")
        yield f"| {first}`{kind.tag_field}` | {support} | `{kind.tag}` | {meaning} |"
    for field in fields_of(kind):
        if field.name not in without:
            support = _REQUIRED[field.support] if field.required else field.support
            yield f"| {first}`{field.name}` | {support} | {_type(field.type)} | {field.meaning} |"


def _table(*columns: str) -> list[str]:
    return [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]


def _type(kind: inspect.Type) -> str:  # noqa: PLR0911  # one for each kind of type
    match kind:
        case inspect.StructType():
            return name_of(kind.cls)
        case inspect.UnionType():
            return " or ".join(_type(each) for each in kind.types if not isinstance(each, inspect.NoneType))
        case inspect.ListType():
            inner = _type(kind.item_type)
            return f"list{_most(kind.max_length)} of {f'({inner})' if ' or ' in inner else inner}"
        case inspect.DictType():
            return f"object{_most(kind.max_length)} of ({_type(kind.key_type)}) to ({_type(kind.value_type)})"
        case inspect.StrType():
            return f"text{_most(kind.max_length)}{f' of {_PATTERNS[kind.pattern]}' if kind.pattern else ''}"
        case inspect.IntType() | inspect.FloatType():
            return _number(kind)
        case inspect.LiteralType():
            return " or ".join(f"`{value}`" for value in kind.values)
        case _:
            return _PLAIN.get(type(kind), "any JSON")


def _number(kind: inspect.IntType | inspect.FloatType) -> str:
    least = f"over {kind.gt}" if kind.ge is None else f"{kind.ge:,}"
    return f"{_PLAIN[type(kind)]} {least} to {kind.le:,}" if kind.le != _INT64_MAX else "integer of 64 bits"


def _most(limit: int | None) -> str:
    return f" (up to {limit:,})" if limit is not None else ""


def write(folder: Path) -> None:
    (folder / "api.md").write_text(page(ROUTES))
    (folder / "api-parts.md").write_text(parts_page(ROUTES))
    (folder / "openapi.json").write_text(openapi.written(ROUTES))


if __name__ == "__main__":
    write(Path("docs"))
