from __future__ import annotations

import json

import pytest

from appliance.gateway.schema.chat import ChatBody
from appliance.gateway.schema.completions import CompletionBody
from appliance.gateway.schema.fields import count_prompts, dropped_fields
from tests.bodies import CHAT_DROPPED, DROPPED, SALT


def test_what_is_dropped_is_known_by_its_type() -> None:
    assert set(dropped_fields(CompletionBody)) == set(DROPPED)
    assert set(dropped_fields(ChatBody)) == {*DROPPED, *CHAT_DROPPED}


def test_the_salt_is_the_last_field() -> None:
    written = CompletionBody(model="m", prompt="x").encode(SALT)

    assert json.loads(written) == {"model": "m", "prompt": "x", "cache_salt": SALT}


@pytest.mark.parametrize(
    ("prompt", "count"),
    [("", 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1], [2]], 2)],
    ids=["text", "texts", "ids", "lists of ids"],
)
def test_prompts_are_counted(prompt: str | list[str | int | list[int]], count: int) -> None:
    assert count_prompts(prompt, "prompt", 2) == count
