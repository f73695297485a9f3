from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import openai
import pytest

from tests.appliance_under_test import Appliance

Ask = Callable[[Appliance, str, str], object]
"""On the box, with a key, a prompt."""


def completion(box: Appliance, key: str, prompt: str) -> object:
    with box.sdk(key) as client:
        return client.completions.create(model=box.model, prompt=prompt, max_tokens=1)


def chat(box: Appliance, key: str, prompt: str) -> object:
    with box.sdk(key) as client:
        return client.chat.completions.create(
            model=box.model, messages=[{"role": "user", "content": prompt}], max_tokens=1
        )


def response(box: Appliance, key: str, prompt: str) -> object:
    with box.sdk(key) as client:
        return client.responses.create(model=box.model, input=prompt, max_output_tokens=1)


def message(box: Appliance, key: str, prompt: str) -> object:
    with box.anthropic_sdk(key) as claude:
        return claude.messages.create(
            model=box.model, messages=[{"role": "user", "content": prompt}], max_tokens=1
        )


@pytest.fixture(scope="module")
def neighbour(box: Appliance) -> str:
    """A key of another account."""
    box.asked("accounts", "create", name := f"neighbour-{secrets.token_hex(4)}")
    return box.new_key(name)["key"]


def new_prompt() -> str:
    return " ".join(secrets.token_hex(4) for _ in range(60))


def cached_tokens(box: Appliance, ask: Ask, key: str, prompt: str) -> float:
    """Prompt tokens that the engine found in its cache for this request, by its own count."""
    before = box.engine_counts()["prefix_cache_hits"]
    ask(box, key, prompt)
    return box.engine_counts()["prefix_cache_hits"] - before


@pytest.mark.parametrize("ask", [completion, chat, response, message])
def test_the_prefix_cache_of_one_account_is_closed_to_another(
    box: Appliance, neighbour: str, ask: Ask
) -> None:
    """Otherwise the time to the first token would tell one account what another has asked."""
    prompt = new_prompt()

    first = cached_tokens(box, ask, box.key, prompt)
    again = cached_tokens(box, ask, box.key, prompt)
    by_other = cached_tokens(box, ask, neighbour, prompt)
    by_other_again = cached_tokens(box, ask, neighbour, prompt)

    # A chat's template begins every prompt of an account with the same words.
    assert first < again / 2
    assert by_other < again / 2
    assert by_other_again == again > 0


def test_two_keys_of_one_account_share_its_cache(box: Appliance) -> None:
    prompt = new_prompt()
    second = box.new_key()["key"]

    assert cached_tokens(box, completion, box.key, prompt) == 0
    assert cached_tokens(box, completion, second, prompt) > 0


SALTED: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "a"},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "a"}]},
    "/v1/responses": {"input": "a"},
    "/v1/messages": {"messages": [{"role": "user", "content": "a"}], "max_tokens": 1},
}


@pytest.mark.parametrize(("path", "body"), SALTED.items(), ids=SALTED)
def test_no_caller_chooses_the_salt(box: Appliance, path: str, body: dict[str, Any]) -> None:
    """With another account's salt it could look into that account's cache."""
    with box.http() as client:
        refused = client.post(path, json={"model": box.model, "cache_salt": "of-another", **body})

    assert refused.status_code == 400
    assert "of-another" not in refused.text


def test_no_caller_sees_what_the_cache_held(box: Appliance, client: openai.OpenAI) -> None:
    prompt = new_prompt()
    completion(box, box.key, prompt)

    answer = client.completions.create(model=box.model, prompt=prompt, max_tokens=1)

    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is None
