from __future__ import annotations

import secrets

from tests.appliance_under_test import Appliance


def cached_tokens(box: Appliance, key: str, prompt: str) -> float:
    """Prompt tokens that the engine found in its cache for this request."""
    before = box.engine_counts()["prefix_cache_hits"]
    with box.sdk(key) as client:
        client.completions.create(model=box.model, prompt=prompt, max_tokens=1)
    return box.engine_counts()["prefix_cache_hits"] - before


def test_the_prefix_cache_of_one_account_is_closed_to_another(box: Appliance) -> None:
    """Otherwise the time to the first token would tell one account what another has asked."""
    prompt = " ".join(secrets.token_hex(4) for _ in range(60))
    box.asked("accounts", "create", neighbour := f"neighbour-{secrets.token_hex(4)}")
    other = box.new_key(neighbour)["key"]

    first = cached_tokens(box, box.key, prompt)
    again = cached_tokens(box, box.key, prompt)
    by_other = cached_tokens(box, other, prompt)
    by_other_again = cached_tokens(box, other, prompt)

    assert (first, by_other) == (0, 0)
    assert again > 0
    assert by_other_again == again


def test_two_keys_of_one_account_share_its_cache(box: Appliance) -> None:
    prompt = " ".join(secrets.token_hex(4) for _ in range(60))
    second = box.new_key()["key"]

    assert cached_tokens(box, box.key, prompt) == 0
    assert cached_tokens(box, second, prompt) > 0
