"""The allow-list as the reference tells it: the fields of every body, how each is supported, what it means."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta, inspect

from appliance.gateway.schema import response_input, responses
from appliance.gateway.schema.fields import Part, Text
from appliance.gateway.schema.words import FIELDS, NOT_HERE

CHECKED: Final = frozenset(
    {
        "background",
        "best_of",
        "include_obfuscation",
        "modalities",
        "truncation",
        "CountTokensBody.output_config",
        "CountTokensBody.thinking",
        "CountTokensBody.tool_choice",
        "FunctionCallOutputItem.name",
        "InputImage.detail",
        "ResponsesBody.stream_options",
    }
)
"""Fields whose values are looked at, and change nothing."""
CLAMPED: Final = frozenset({"max_tokens", "max_completion_tokens", "max_output_tokens"})
"""Fields that the engine lowers to what the context has room for, once it has read the prompt."""
UNTAGGED: Final = frozenset({response_input.MessageItem})
"""Parts that may leave out the field that tells them from others."""


class ReasoningItem(Part, tag="reasoning", tag_field="type", forbid_unknown_fields=False):
    """What `response_input` passes over, whatever is in it."""

    __module__ = response_input.__name__  # where the reference says that it is


_Items = Text | Annotated[list[response_input.Item | ReasoningItem], Meta(max_length=10_000)]
_READ_APART: Final[dict[tuple[type, str], inspect.Type]] = {
    (responses.ResponsesBody, "input"): inspect.type_info(_Items)
}
"""Fields that their bodies hold as raw JSON, to be read item by item."""


class FieldWords(NamedTuple):
    """One field, as the reference tells it."""

    name: str
    support: str
    """`supported`, `clamped`, `dropped` or `refused`."""
    type: inspect.Type
    required: bool
    meaning: str


def fields_of(kind: inspect.StructType) -> list[FieldWords]:
    """The fields of a body or of one of its parts. Raises KeyError for one without words."""
    return [
        FieldWords(
            field.encode_name, _support(kind, field), field.type, field.required, _meaning(kind, field)
        )
        for field in _fields(kind)
    ]


def structs_of(kind: inspect.Type) -> Iterator[inspect.StructType]:
    """It and everything inside it that has fields."""
    match kind:
        case inspect.StructType():
            yield kind
            for field in _fields(kind):
                yield from structs_of(field.type)
        case inspect.UnionType():
            for each in kind.types:
                yield from structs_of(each)
        case inspect.ListType():
            yield from structs_of(kind.item_type)
        case inspect.DictType():
            yield from structs_of(kind.value_type)
        case _:
            return


def name_of(cls: type) -> str:
    """With its module where the bare name could mean several types."""
    return f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}"


def is_refused(kind: inspect.StructType) -> bool:
    """Whether a part is known only so that it can be refused with a reason."""
    return kind.cls.__name__ in NOT_HERE


def needs_tag(kind: inspect.StructType) -> bool:
    """Whether the field that tells it from other parts has to be there."""
    return kind.cls not in UNTAGGED


def _fields(kind: inspect.StructType) -> list[inspect.Field]:
    """Its fields, those with the types of their items that are read apart."""
    return [
        msgspec.structs.replace(field, type=_READ_APART.get((kind.cls, field.name), field.type))
        for field in kind.fields
    ]


def _support(kind: inspect.StructType, field: inspect.Field) -> str:
    if isinstance(field.type, inspect.NoneType):
        return "refused"
    if isinstance(field.type, inspect.RawType) or not CHECKED.isdisjoint(_names(kind, field)):
        return "dropped"
    return "clamped" if field.name in CLAMPED else "supported"


def _meaning(kind: inspect.StructType, field: inspect.Field) -> str:
    words = NOT_HERE if _support(kind, field) == "refused" else FIELDS
    exact, bare = _names(kind, field)
    return words.get(exact) or words[bare]


def _names(kind: inspect.StructType, field: inspect.Field) -> tuple[str, str]:
    """With its type's name, and bare."""
    return f"{kind.cls.__name__}.{field.encode_name}", field.encode_name
