from __future__ import annotations

from msgspec import inspect

from appliance.gateway import allow_list, openapi
from appliance.gateway.addresses import ROUTES
from appliance.gateway.schema import words

STRUCTS = [
    struct
    for route in ROUTES
    if route.body is not None
    for struct in allow_list.structs_of(inspect.type_info(route.body))
]
NAMES = {
    name
    for struct in STRUCTS
    for field in struct.fields
    for name in (field.encode_name, f"{struct.cls.__name__}.{field.encode_name}")
} | {struct.cls.__name__ for struct in STRUCTS}


def test_no_words_are_left_over() -> None:
    tags = {struct.tag_field for struct in STRUCTS}

    assert {*words.FIELDS, *words.NOT_HERE} - NAMES - tags == set()


def test_words_are_one_line_that_a_table_can_hold() -> None:
    told = [*words.FIELDS.values(), *words.NOT_HERE.values(), *words.UNKNOWN.values()]
    told += [text for code in words.CODES.values() for text in (code.meaning, code.cure)]

    assert [line for line in told if "|" in line or "\n" in line or not line.endswith(".")] == []


def test_every_refusal_says_what_happened_and_then_what_to_do() -> None:
    assert [kind.code for kind in openapi.refusals() if ". " not in kind.message] == []
