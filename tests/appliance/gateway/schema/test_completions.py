from __future__ import annotations

from typing import Any

import pytest

from appliance.gateway.schema.completions import parse
from tests.bodies import CANARY, COMPLETION, DANGEROUS, DROPPED, SALT, SAMPLING, body, refusal, sent_on

COMPLETION_ONLY: dict[str, Any] = {"max_tokens": 5, "echo": True, "logprobs": 5}
PROMPTS: dict[str, tuple[Any, int]] = {
    "a text": ("x", 1),
    "texts": (["x", "", "z"], 3),
    "token ids": ([1, 2, 3], 1),
    "lists of token ids": ([[1], [2, 3]], 2),
}


@pytest.mark.parametrize("name", [*SAMPLING, *COMPLETION_ONLY])
def test_an_allowed_field_is_sent_on_as_it_came(name: str) -> None:
    fields = COMPLETION | {name: (SAMPLING | COMPLETION_ONLY)[name]}

    assert sent_on(parse(body(fields))) == fields | {"cache_salt": SALT}


@pytest.mark.parametrize("name", [*DROPPED, "best_of"])
def test_a_dropped_field_is_taken_and_not_sent_on(name: str) -> None:
    value = (DROPPED | {"best_of": 1})[name]

    assert sent_on(parse(body(COMPLETION, **{name: value}))) == COMPLETION | {"cache_salt": SALT}


@pytest.mark.parametrize("name", [*DANGEROUS, "messages", "tools", "suffix", "max_completion_tokens"])
def test_any_other_field_is_refused(name: str) -> None:
    error = refusal(body(COMPLETION, **{name: DANGEROUS.get(name, CANARY)}), parse)

    assert error.reason in ("unknown_field", "unsupported_field")


@pytest.mark.parametrize(("prompt", "choices"), PROMPTS.values(), ids=PROMPTS.keys())
def test_prompts_are_sent_on_and_counted(prompt: object, choices: int) -> None:
    call, content = parse(body(COMPLETION, prompt=prompt, n=2))

    assert (call.endpoint, call.choices) == ("completions", choices * 2)
    assert sent_on((call, content))["prompt"] == prompt


@pytest.mark.parametrize(
    "prompt",
    [[], [[]], ["x", 1], ["x", [1]], [1, [2]], [[1], []], [1.5], ["x"] * 5, [[1]] * 5, {"text": "x"}, [-1]],
    ids=str,
)
def test_what_is_no_prompt_is_refused(prompt: object) -> None:
    assert refusal(body(COMPLETION, prompt=prompt), parse).reason == "invalid_value"


@pytest.mark.parametrize(("asked", "most"), [({}, 16), ({"max_tokens": None}, 16), ({"max_tokens": 5}, 5)])
def test_the_most_tokens_are_known_even_where_they_are_left_out(asked: dict[str, Any], most: int) -> None:
    assert parse(body(COMPLETION, **asked))[0].output_tokens_max == most


def test_an_answer_bound_in_two_ways_is_refused() -> None:
    error = refusal(body(COMPLETION, structured_outputs={"regex": "a", "choice": ["b"]}), parse)

    assert error.param == "structured_outputs"
