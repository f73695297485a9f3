from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import RequestError
from appliance.gateway import openapi, public, reference
from appliance.gateway.addresses import ROUTES
from tests.tidy.tree import ROOT


@pytest.mark.parametrize("name", ["api.md", "api-parts.md", "openapi.json"])
def test_the_committed_reference_is_what_the_types_say(name: str, tmp_path: Path) -> None:
    """Made by: make docs."""
    reference.write(tmp_path)

    assert (ROOT / "docs" / name).read_text() == (tmp_path / name).read_text()


def test_every_inference_address_is_in_the_reference() -> None:
    assert set(public.INFERENCE) <= {route.path for route in ROUTES}


@pytest.mark.parametrize(
    "row",
    [
        "| `temperature` | supported | number 0 to 2 | How freely tokens are chosen; 0: always the likeliest. |",
        "| `store` | dropped | any JSON | Nothing is kept of a request. |",
        "| `functions` | refused | null | Use `tools`. |",
        "| `stop` | supported | text (up to 64) or list (up to 4) of text (up to 64) | Texts that end the answer. |",
        "| `max_tokens` | required, clamped | integer 1 to 10,000,000 | Most tokens of one answer. |",
        "| `background` | dropped | true or false | Only false: answers are not stored. |",
    ],
)
def test_the_page_says(row: str) -> None:
    assert row in reference.page(ROUTES).splitlines()


@pytest.mark.parametrize(
    "row",
    [
        "| chat.User | `role` | required | `user` |  |",
        "| response_input.MessageItem | `type` | supported | `message` |  |",
        "| response_input.ReasoningItem | `type` | required | `reasoning` | Templates take no earlier thoughts. |",
        "| response_input.FunctionCallItem | `async` | dropped | any JSON | OpenAI's SDK adds it to answers. |",
        "| turns.DocumentBlock | `type` | refused | `document` | Send its text. |",
    ],
)
def test_the_page_of_parts_says(row: str) -> None:
    assert row in reference.parts_page(ROUTES).splitlines()


@pytest.mark.parametrize("refusal", openapi.refusals(), ids=lambda kind: kind.__name__)
def test_an_error_is_told_in_its_own_words(refusal: type[RequestError]) -> None:
    """Status, code, what happened and what to do: as `errors.py` says it."""
    happened, _, cure = refusal.message.partition(". ")
    [row] = [
        row
        for row in reference.page(ROUTES).splitlines()
        if row.startswith(f"| {refusal.status} | {refusal.code} | {refusal.type} | {happened.rstrip('.')}. |")
    ]

    assert cure in row


def test_a_code_is_told_with_its_cure() -> None:
    rows = [row for row in reference.page(ROUTES).splitlines() if row.startswith("| 400 | unknown_field |")]

    assert rows == [
        "| 400 | unknown_field | invalid_request_error "
        "| A field is not in this reference. Its name is not repeated. "
        "| Remove what is not listed for the address. | invalid_request_error |"
    ]
