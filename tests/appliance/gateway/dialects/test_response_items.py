from __future__ import annotations

from typing import Any

import pytest

from tests.appliance.gateway.dialects.engine_chunks import (
    REQUEST_ID,
    TOOL,
    USAGE,
    chunk,
    final,
    sse,
    stream,
    text_part,
    translator,
    whole,
)

FIELDS: dict[str, Any] = {
    "id": f"resp_{REQUEST_ID}",
    "object": "response",
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "usage": {
        "input_tokens": 7,
        "output_tokens": 3,
        "total_tokens": 10,
        "output_tokens_details": {"reasoning_tokens": 0},
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    },
    "model": "m",
    "instructions": "Be brief.",
    "max_output_tokens": 50,
    "metadata": {"team": "a"},
    "parallel_tool_calls": True,
    "reasoning": {"effort": "low", "summary": None},
    "temperature": 0.5,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [TOOL],
    "top_logprobs": 0,
    "top_p": None,
    "background": False,
    "max_tool_calls": None,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "safety_identifier": None,
    "service_tier": "default",
    "store": False,
    "truncation": "disabled",
    "user": None,
}


@pytest.mark.parametrize(
    "response",
    [whole({"content": "Hello"}), final(stream({"content": "Hello"}))],
    ids=["whole", "streamed"],
)
def test_a_response_repeats_its_request_and_says_that_it_is_not_stored(response: dict[str, Any]) -> None:
    created_at, completed_at = response.pop("created_at"), response.pop("completed_at")

    assert response.pop("output")[0]["content"] == [text_part("Hello")]
    assert response == FIELDS
    assert created_at <= completed_at


def test_what_the_cache_held_is_hidden_and_reasoning_tokens_are_shown() -> None:
    usage = USAGE | {
        "prompt_tokens_details": {"cached_tokens": 5},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    told = translator()
    told.event(chunk({"content": "a"}, "stop"))
    told.event(sse({"choices": [], "usage": usage}))

    shown = final(told.end())["usage"]

    assert shown["input_tokens_details"] == {"cached_tokens": 0, "cache_write_tokens": 0}
    assert shown["output_tokens_details"] == {"reasoning_tokens": 2}
