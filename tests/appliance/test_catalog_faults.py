from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from appliance.catalog_faults import FAULTS_SHOWN_MAX, as_list, explain


class Pot(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = ""
    colour: Literal["red", "blue"] = "red"


class Shelf(BaseModel):
    models: tuple[Pot, ...]


def faults_of(*pots: object) -> list[str]:
    data = {"models": list(pots)}
    with pytest.raises(ValidationError) as failure:
        Shelf.model_validate(data)
    return explain(failure.value, data, {"models": ["name", "colour"]}, {})


def test_a_fault_names_the_model_the_field_and_the_fix() -> None:
    assert faults_of({"name": "a", "colour": "green"}) == [
        "model a, field colour: the value is not known. Use 'red' or 'blue'."
    ]


def test_a_model_without_name_is_told_by_its_number() -> None:
    assert faults_of({}, {"colour": 1}) == [
        "model number 2, field colour: the value is not known. Use 'red' or 'blue'."
    ]


def test_a_near_miss_gets_a_suggestion() -> None:
    assert faults_of({"name": "a", "color": "red"}) == [
        "model a, field color: this key is not known. Did you mean colour?"
    ]


def test_a_strange_key_gets_the_list() -> None:
    assert faults_of({"name": "a", "zzz": 1}) == [
        "model a, field zzz: this key is not known. Remove it. The keys here are name, colour."
    ]


def test_what_would_steer_a_terminal_is_not_shown() -> None:
    [fault] = faults_of({"name": "\x1b[2J" + "n" * 999, "colour": "green"})

    assert fault.isprintable()
    assert len(fault) < 200


def test_a_long_list_is_cut_and_counted() -> None:
    shown = as_list(Path("m.yaml"), [f"fault {number}" for number in range(FAULTS_SHOWN_MAX + 5)])

    assert shown.startswith(f"m.yaml has {FAULTS_SHOWN_MAX + 5} faults:\n  - fault 0\n")
    assert shown.endswith(f"  - fault {FAULTS_SHOWN_MAX - 1}\n  - and 5 more.")


def test_one_fault_is_not_faults() -> None:
    assert as_list(Path("m.yaml"), ["it is empty."]) == "m.yaml has 1 fault:\n  - it is empty."
