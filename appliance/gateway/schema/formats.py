"""What an answer may be bound to: a JSON schema, a list of choices, a regular expression; each of bounded size."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from appliance.errors import BadRequest
from appliance.gateway.schema.fields import Name, Part, Text

SCHEMA_BYTES_MAX = 64 * 1024
REPEATS_MAX = 10_000
"""What all counts of a regular expression may multiply to: an engine unrolls them, for all callers to wait."""

Regex = Annotated[str, Meta(min_length=1, max_length=1024, pattern=r"^[^\x00]*\Z")]
Choice = Annotated[str, Meta(min_length=1, max_length=256)]
Schema = dict[str, Any]

_COUNTS = re.compile(r"\{(\d{1,9}),?(\d{0,9})\}")


class JsonSchema(Part):
    name: Name
    description: Text | None = None
    schema: Schema | None = None
    strict: bool | None = None


class TextFormat(Part, tag="text", tag_field="type"):
    pass


class JsonObjectFormat(Part, tag="json_object", tag_field="type"):
    pass


class JsonSchemaFormat(Part, tag="json_schema", tag_field="type"):
    json_schema: JsonSchema


ResponseFormat = TextFormat | JsonObjectFormat | JsonSchemaFormat


class StructuredOutputs(Part):
    """vLLM's own way to bind an answer. Exactly one of them."""

    json: Schema | None = None
    regex: Regex | None = None
    choice: Annotated[list[Choice], Meta(min_length=1, max_length=64)] | None = None


def check_format(response_format: ResponseFormat | None, outputs: StructuredOutputs | None) -> None:
    """Raise BadRequest where they contradict each other or would be too large for an engine to follow."""
    if isinstance(response_format, JsonSchemaFormat):
        check_schema(response_format.json_schema.schema, "response_format.json_schema.schema")
    if outputs is None:
        return
    bound = isinstance(response_format, JsonObjectFormat | JsonSchemaFormat)
    if bound + sum(way is not None for way in (outputs.json, outputs.regex, outputs.choice)) != 1:
        raise BadRequest(
            "Bind the answer in one way: `response_format`, or one of `json`, `regex` and `choice`.",
            param="structured_outputs",
            code="invalid_value",
        )
    check_schema(outputs.json, "structured_outputs.json")
    counts = [int(most or least) for least, most in _COUNTS.findall(outputs.regex or "")]
    if math.prod(count for count in counts if count) > REPEATS_MAX:
        raise BadRequest(
            f"The counts in `structured_outputs.regex` multiply to over {REPEATS_MAX}. Repeat less.",
            param="structured_outputs.regex",
            code="invalid_value",
        )


def check_schema(schema: Schema | None, param: str) -> None:
    """Raise BadRequest for a JSON schema that is too large to be turned into a grammar."""
    if schema and len(msgspec.json.encode(schema)) > SCHEMA_BYTES_MAX:
        raise BadRequest(
            f"`{param}` is larger than {SCHEMA_BYTES_MAX} bytes. Describe less.",
            param=param,
            code="invalid_value",
        )
