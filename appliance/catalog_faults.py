"""Says what is wrong with models.yaml: by model, field and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

from pydantic import ValidationError

FAULTS_SHOWN_MAX = 20
TEXT_SHOWN_CHARS_MAX = 60

_Fault: TypeAlias = Mapping[str, Any]

_PHRASES: Final[dict[str, Callable[[Mapping[str, Any]], str]]] = {
    "missing": lambda _: "it is required. Add it.",
    "int_type": lambda _: "it has to be a whole number, without quotes.",
    "float_type": lambda _: "it has to be a number, without quotes.",
    "bool_type": lambda _: "it has to be true or false, without quotes.",
    "string_type": lambda _: "it has to be text. Write it in quotes.",
    "tuple_type": lambda _: "it has to be a list. Start each item on its own line with '- '.",
    "model_type": lambda _: "it has to be keys with values. Write one `key: value` a line, indented alike.",
    "too_short": lambda _: "the list is empty. Add at least one item.",
    "too_long": lambda context: f"the list is too long. List {context['max_length']} at most.",
    "invalid_key": lambda _: "a key has to be text. Write it in quotes, or remove it.",
    "literal_error": lambda context: f"the value is not known. Use {context['expected']}.",
    "greater_than": lambda context: f"it is too small. Use more than {context['gt']:.15g}.",
    "greater_than_equal": lambda context: f"it is too small. Use {context['ge']} or more.",
    "less_than_equal": lambda context: f"it is too large. Use {context['le']:.15g} or less.",
}
"""What pydantic calls a fault -> what it means here, and the fix."""


def explain(
    error: ValidationError,
    data: object,
    known_keys: Mapping[str, Collection[str]],
    pattern_words: Mapping[str, str],
) -> list[str]:
    """One line per fault: its model, its field, what is wrong and what to do.

    `known_keys` has the keys of each mapping by the last word of its place; `pattern_words` each pattern in words.
    """
    faults = _without_echoes(error.errors(include_url=False, include_input=False))
    return [f"{_where(data, fault)}: {_what(fault, known_keys, pattern_words)}" for fault in faults]


def as_list(path: Path, lines: Sequence[str]) -> str:
    """Their number and the first of them, for a terminal."""
    count = "1 fault" if len(lines) == 1 else f"{len(lines)} faults"
    rest = len(lines) - FAULTS_SHOWN_MAX
    shown = lines if rest <= 0 else [*lines[:FAULTS_SHOWN_MAX], f"and {rest} more."]
    return f"{path} has {count}:" + "".join(f"\n  - {line}" for line in shown)


def _without_echoes(faults: Sequence[_Fault]) -> list[_Fault]:
    """Leave out 'the list is empty' where it is so only because its items have faults of their own."""
    places = [fault["loc"] for fault in faults]
    return [
        fault
        for fault in faults
        if fault["type"] != "too_short"
        or not any(
            len(place) > len(fault["loc"]) and place[: len(fault["loc"])] == fault["loc"] for place in places
        )
    ]


def _where(data: Any, fault: _Fault) -> str:
    place = list(fault["loc"])
    where = "the file"
    if len(place) > 1 and place[0] == "models":
        entry = data["models"][place[1]]
        name = cast("dict[str, object]", entry).get("name") if isinstance(entry, dict) else None
        where = f"model {_shown(name)}" if isinstance(name, str) and name else f"model number {place[1] + 1}"
        place = place[2:]
    if place[:1] == ["source"]:
        del place[1:2]  # the kind of source, which is not in the file
    field = ".".join(_shown(str(part)) if isinstance(part, str) else str(part + 1) for part in place)
    return f"{where}, field {field}" if field else where


def _what(fault: _Fault, known_keys: Mapping[str, Collection[str]], pattern_words: Mapping[str, str]) -> str:
    kind, context = fault["type"], fault.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(fault["loc"], known_keys)
    if kind == "string_pattern_mismatch":
        return f"the value is not valid. {pattern_words[context['pattern']]}"
    if kind in _PHRASES:
        return _PHRASES[kind](context)
    return fault["msg"].removeprefix("Value error, ") + "."


def _unknown_key(loc: tuple[str | int, ...], known_keys: Mapping[str, Collection[str]]) -> str:
    parent = next((part for part in reversed(loc[:-1]) if isinstance(part, str)), "")
    keys = known_keys[parent]
    close = difflib.get_close_matches(str(loc[-1]), keys, n=1)
    fix = f"Did you mean {close[0]}?" if close else f"Remove it. The keys here are {', '.join(keys)}."
    return f"this key is not known. {fix}"


def _shown(text: str) -> str:
    """A text of the file, fit for a terminal: short, and without what would steer it."""
    plain = "".join(char if char.isprintable() else "?" for char in text)
    return plain if len(plain) <= TEXT_SHOWN_CHARS_MAX else plain[:TEXT_SHOWN_CHARS_MAX] + "..."
