from __future__ import annotations

import re
from pathlib import Path

import pytest

from appliance.gateway import guide
from appliance.settings import Settings
from tests.tidy.tree import ROOT

TEXTS = [guide.INTRODUCTION, guide.AUTHENTICATION, guide.LIMITS, guide.PARTS]


@pytest.mark.parametrize("name", guide.HEADERS)
def test_every_header_that_is_told_is_written_by_the_gateway(name: str) -> None:
    """What is limited, the last word of `x-ratelimit-...`, is put in by the code."""
    stem = re.sub(r"^(x-ratelimit-\w+-)\w+$", r"\1", name)
    sources = Path(ROOT, "appliance", "gateway").rglob("*.py")

    assert [path.name for path in sources if path.name != "guide.py" and stem in path.read_text()] != []


@pytest.mark.parametrize(
    "phrase",
    [
        "After 20 of them within a minute",
        "for 15 minutes",
        "the 59 before it",
        "Asia/Kolkata if it isn't set",
        "and 256 for the template",
        "at most 60 seconds unless",
    ],
)
def test_numbers_are_the_gateways_own(phrase: str) -> None:
    assert sum(phrase in text for text in TEXTS) == 1


def test_settings_that_are_named_exist() -> None:
    named = {name.lower() for text in TEXTS for name in re.findall(r"INFERFLY_([A-Z_]+)", text)}

    assert named == {"timezone"}
    assert named <= set(Settings.model_fields)
