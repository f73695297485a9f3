from __future__ import annotations

import copy
import json
import logging
import pickle
from collections.abc import Callable

import pytest

from appliance.privacy.content import Content

CANARY = "CANARY5d1f"


class Words:
    def encode(self, cache_salt: str) -> bytes:
        return f"{CANARY} {cache_salt}".encode()

    def translator(self, request_id: str) -> None:  # noqa: ARG002  # as Encodable has it
        return None

    def __repr__(self) -> str:
        return CANARY


@pytest.fixture
def content() -> Content:
    return Content(Words())


def test_an_engine_gets_the_words(content: Content) -> None:
    assert content.for_engine("salt") == f"{CANARY} salt".encode()


SHOWN: dict[str, Callable[[Content], str]] = {
    "str": str,
    "repr": repr,
    "f-string": lambda content: f"{content}",
    "f-string with !r": lambda content: f"{content!r}",
    "format": lambda content: format(content, ">20"),
    "%s": lambda content: "%s" % content,  # noqa: UP031  # one of the ways
    "in a list": lambda content: str([content]),
    "in an exception": lambda content: repr(ValueError(content)),
    "in a log record": lambda content: logging.makeLogRecord({"msg": "%s", "args": (content,)}).getMessage(),
    "its attributes": lambda content: repr(
        [getattr(content, name, None) for name in dir(Content) if "__" not in name]
    ),
}


@pytest.mark.parametrize("show", SHOWN.values(), ids=SHOWN.keys())
def test_showing_it_shows_nothing_of_the_words(content: Content, show: Callable[[Content], str]) -> None:
    assert CANARY not in show(content)


CARRIED: dict[str, Callable[[Content], object]] = {
    "pickle": pickle.dumps,
    "an old pickle": lambda content: pickle.dumps(content, protocol=0),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "its state": lambda content: content.__getstate__(),
    "json": json.dumps,
    "vars": vars,
}


@pytest.mark.parametrize("carry", CARRIED.values(), ids=CARRIED.keys())
def test_there_is_no_other_way_out(content: Content, carry: Callable[[Content], object]) -> None:
    with pytest.raises(TypeError) as caught:
        carry(content)

    assert CANARY not in str(caught.value)
