from __future__ import annotations

import pytest
from msgspec import Struct, inspect

from appliance.gateway import allow_list
from appliance.gateway.addresses import ROUTES
from appliance.gateway.schema import chat, completions, messages, responses

BODIES = [route.body for route in ROUTES if route.body is not None]


def support(body: type[Struct], name: str) -> str:
    body_type = next(allow_list.structs_of(inspect.type_info(body)))
    return next(field.support for field in allow_list.fields_of(body_type) if field.name == name)


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
def test_every_field_has_its_words(body: type[Struct]) -> None:
    structs = list(allow_list.structs_of(inspect.type_info(body)))

    assert [field for one in structs for field in allow_list.fields_of(one) if not field.meaning] == []


def test_a_field_without_words_is_noticed() -> None:
    class Wordless(Struct):
        nobody_knows: int

    [kind] = allow_list.structs_of(inspect.type_info(Wordless))

    with pytest.raises(KeyError, match="nobody_knows"):
        allow_list.fields_of(kind)


@pytest.mark.parametrize(
    ("body", "name", "expected"),
    [
        (chat.ChatBody, "temperature", "supported"),
        (chat.ChatBody, "max_completion_tokens", "clamped"),
        (chat.ChatBody, "store", "dropped"),
        (chat.ChatBody, "functions", "refused"),
        (completions.CompletionBody, "best_of", "dropped"),
        (messages.MessagesBody, "thinking", "supported"),
        (messages.CountTokensBody, "thinking", "dropped"),
        (responses.ResponsesBody, "metadata", "supported"),
        (responses.ResponsesBody, "conversation", "refused"),
    ],
)
def test_how_a_field_is_supported(body: type[Struct], name: str, expected: str) -> None:
    assert support(body, name) == expected


def test_items_that_are_read_apart_are_parts_too() -> None:
    parts = {
        allow_list.name_of(one.cls)
        for one in allow_list.structs_of(inspect.type_info(responses.ResponsesBody))
    }

    assert {
        "response_input.MessageItem",
        "response_input.ReasoningItem",
        "response_input.InputImage",
    } <= parts
