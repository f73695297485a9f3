"""How long an answer may be where nothing, too much or just enough is asked for."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.journeys.conftest import SITE_CONTEXT

TWIN = "twin"
LONG_PROMPT = "x" * (SITE_CONTEXT - 60)
LONG: list[Any] = [{"role": "user", "content": LONG_PROMPT}]
ON: dict[str, Any] = {"ignore_eos": True}


@pytest.mark.parametrize("asked", [None, SITE_CONTEXT], ids=["left out", "the whole context"])
def test_a_chat_ends_with_the_context(site_client: openai.OpenAI, asked: int | None) -> None:
    """OpenAI's SDK leaves it out unless told; applications ask for more than there is room for."""
    answer = site_client.chat.completions.create(
        model=TWIN, messages=LONG, max_completion_tokens=asked, extra_body=ON
    )

    assert answer.usage is not None
    assert answer.usage.total_tokens == SITE_CONTEXT
    assert answer.choices[0].finish_reason == "length"


def test_a_completion_ends_with_the_context(site_client: openai.OpenAI) -> None:
    answer = site_client.completions.create(
        model=TWIN, prompt=LONG_PROMPT, max_tokens=SITE_CONTEXT, extra_body=ON
    )

    assert answer.usage is not None
    assert answer.usage.total_tokens == SITE_CONTEXT


def test_a_completion_has_sixteen_tokens_by_default(site_client: openai.OpenAI) -> None:
    answer = site_client.completions.create(model=TWIN, prompt="one", extra_body=ON)

    assert answer.usage is not None
    assert answer.usage.completion_tokens == 16


def test_an_answer_longer_than_any_context_is_refused(site_client: openai.OpenAI) -> None:
    """As OpenAI does; vLLM lets pass whatever the context could hold without a prompt."""
    with pytest.raises(openai.BadRequestError) as refused:
        site_client.chat.completions.create(
            model=TWIN,
            messages=[{"role": "user", "content": "one"}],
            max_completion_tokens=SITE_CONTEXT + 1,
        )

    assert refused.value.code == "context_length_exceeded"
