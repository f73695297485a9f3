from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.appliance.gateway.dialects.engine_chunks import Delta, call, events_of, first_call, stream, whole

CASES: dict[str, tuple[list[Delta], list[str]]] = {
    "nothing": (
        [],
        ["+message", "+output_text", "output_text.", "-output_text", "-message"],
    ),
    "reasoning, then text": (
        [{"reasoning": "hm"}, {"content": "a"}],
        [
            *["+reasoning", "+reasoning_text", "reasoning_text…", "reasoning_text."],
            *["-reasoning_text", "-reasoning"],
            *["+message", "+output_text", "output_text…", "output_text.", "-output_text", "-message"],
        ],
    ),
    "two calls": (
        [first_call(0), call(0, "{"), call(0, "}"), first_call(1, "{}")],
        [
            *["+function_call", "arguments…", "arguments…", "arguments.", "-function_call"],
            *["+function_call", "arguments…", "arguments.", "-function_call"],
        ],
    ),
    "two calls in one event": (
        [{"tool_calls": first_call(0, "{}")["tool_calls"] + first_call(1)["tool_calls"]}],
        [
            *["+function_call", "arguments…", "arguments.", "-function_call"],
            *["+function_call", "arguments.", "-function_call"],
        ],
    ),
    "text beside a call that goes on": (
        [first_call(0), {"content": "a"}, call(0, "{}")],
        [
            *["+function_call", "+message", "+output_text", "output_text…", "arguments…"],
            *["output_text.", "-output_text", "-message", "arguments.", "-function_call"],
        ],
    ),
}


def brief(event: dict[str, Any]) -> str:
    kind = event["type"].removeprefix("response.")
    sign = "+" if kind.endswith("added") else "-"
    if kind.startswith("output_item"):
        return sign + event["item"]["type"]
    if kind.startswith("content_part"):
        return sign + event["part"]["type"]
    return kind.removeprefix("function_call_").replace(".delta", "…").replace(".done", ".")


@pytest.mark.parametrize(("deltas", "told"), CASES.values(), ids=CASES.keys())
def test_items_open_and_close_in_order(deltas: list[Delta], told: list[str]) -> None:
    events = events_of(stream(*deltas))

    assert [brief(event) for event in events[2:-1]] == told


class Order:
    """The protocol's order of events, as a machine that refuses what does not follow."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended = False
        self.items: dict[int, str] = {}
        """Index -> where the item stands: bare, part, told, parted, done."""
        self.text: dict[int, str] = {}

    @classmethod
    def of(cls, events: list[dict[str, Any]]) -> Order:
        order = cls()
        for number, event in enumerate(events):
            assert event["sequence_number"] == number
            order.take(event)
        return order

    def take(self, event: dict[str, Any]) -> None:
        assert not self.ended
        kind = event["type"].removeprefix("response.")
        if self.begun < 2:
            assert kind == ("created", "in_progress")[self.begun]
            self.begun += 1
        elif kind in ("completed", "incomplete"):
            assert set(self.items.values()) <= {"done"}
            self.ended = True
        else:
            self._item(kind, event, event["output_index"])

    def _item(self, kind: str, event: dict[str, Any], index: int) -> None:
        if kind == "output_item.added":
            assert index == len(self.items)
            self.text[index] = ""
            self._move(index, None, "part" if event["item"]["type"] == "function_call" else "bare")
        elif kind == "content_part.added":
            self._move(index, "bare", "part")
        elif kind.endswith(".delta"):
            self._move(index, "part", "part")
            self.text[index] += event["delta"]
        elif kind == "function_call_arguments.done":
            self._move(index, "part", "parted")
            assert event["arguments"] == self.text[index]
        elif kind in ("output_text.done", "reasoning_text.done"):
            self._move(index, "part", "told")
            assert event["text"] == self.text[index]
        elif kind == "content_part.done":
            self._move(index, "told", "parted")
            assert event["part"]["text"] == self.text[index]
        else:
            assert kind == "output_item.done"
            self._move(index, "parted", "done")

    def _move(self, index: int, before: str | None, after: str) -> None:
        assert self.items.get(index) == before
        self.items[index] = after


def cut(text: str, places: list[int]) -> list[str]:
    edges = [0, *sorted({place % (len(text) + 1) for place in places}), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(edges)]


def told_call(index: int, pieces: list[str]) -> list[Delta]:
    return [first_call(index), *(call(index, piece) for piece in pieces)]


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
CUTS = st.lists(st.integers(0, 50), max_size=6)


@given(WORDS, WORDS, st.lists(WORDS, max_size=3), CUTS)
def test_any_split_of_an_answer_is_assembled_to_the_same(
    thought: str, words: str, calls: list[str], places: list[int]
) -> None:
    deltas: list[Delta] = [
        *({"reasoning": piece} for piece in cut(thought, places)),
        *({"content": piece} for piece in cut(words, places)),
        *(
            delta
            for index, arguments in enumerate(calls)
            for delta in told_call(index, cut(arguments, places))
        ),
    ]
    message = {
        "reasoning": thought,
        "content": words,
        "tool_calls": [
            {"id": f"call_{index}", "function": {"name": "f", "arguments": arguments}}
            for index, arguments in enumerate(calls)
        ],
    }

    events = events_of(stream(*deltas))

    assert Order.of(events).ended
    assert events[-1]["response"]["output"] == whole(message)["output"]


KINDS = st.lists(
    st.sampled_from([{"reasoning": "r"}, {"content": "c"}, {"content": ""}, {}, call(0, "x")]), max_size=10
)


@given(KINDS)
def test_any_order_of_deltas_gives_a_valid_order_of_events(deltas: list[Delta]) -> None:
    events = events_of(stream(first_call(0), *deltas, first_call(1)))

    assert Order.of(events).ended
    assert len([item for item in events[-1]["response"]["output"] if item["type"] == "function_call"]) == 2
