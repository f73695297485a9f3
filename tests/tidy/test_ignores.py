"""Every exception from a check carries its code and its reason."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator

import pytest

from tests.tidy.tree import Tree

MARKER = re.compile(r"(noqa|type:\s*ignore|pyright:|pragma:|fmt:|ruff:|nosec|codespell:)")
CODED = re.compile(
    r"noqa: [A-Z]+\d+(, [A-Z]+\d+)*|(type|pyright): ignore\[[\w\-, ]+\]|pragma: no (cover|branch)"
)
REASON = re.compile(r"\S+ \S.*")
"""Two words or more."""


def comments(text: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def without_reason(tree: Tree) -> list[str]:
    return [
        f"{path}:{line}: {comment}"
        for path, text in tree.matching("*.py")
        for line, comment in comments(text)
        if not is_explained(comment)
    ]


def is_explained(comment: str) -> bool:
    """`# marker[code]  # reason`, or several markers and then the reason; or a comment without marker."""
    *markers, reason = re.split(r"\s*#\s*", comment.lstrip("# "))
    if not any(MARKER.match(part) for part in (*markers, reason)):
        return True
    coded = [CODED.fullmatch(marker) for marker in markers]
    return bool(coded) and all(coded) and not MARKER.match(reason) and REASON.fullmatch(reason) is not None


def bare_settings(tree: Tree) -> list[str]:
    """Codes of ruff's ignore lists in pyproject.toml without a reason on their line."""
    entry = re.compile(r'^\s+"[A-Z]+[0-9]+",\s*$', re.MULTILINE)
    return [line.strip() for line in entry.findall(tree.texts.get("pyproject.toml", ""))]


def test_every_ignore_has_its_code_and_reason(tree: Tree) -> None:
    assert without_reason(tree) == []


def test_every_rule_left_out_has_its_reason(tree: Tree) -> None:
    assert bare_settings(tree) == []


@pytest.mark.parametrize(
    "comment",
    [
        "# noqa",
        "# noqa: E501",
        "# noqa: E501  # long",
        "# noqa: E501  # pyright: ignore  # no public name",
        "# noqa: E501  # pyright: ignore[reportAny]",
        "# type: ignore",
        "# type: ignore[arg-type]",
        "# pyright: ignore",
        "# pyright: ignore[reportAny]",
        "# pyright: basic",
        "# pragma: no cover",
        "# fmt: off",
        "# ruff: noqa: E501",
    ],
)
def test_an_ignore_without_reason_is_caught(comment: str) -> None:
    assert without_reason(Tree({"a.py": f"x = 1  {comment}\n"})) == [f"a.py:1: {comment}"]


@pytest.mark.parametrize(
    "comment",
    [
        "# noqa: E501  # a table reads best",
        "# noqa: FBT001, FBT002  # PyYAML's signature",
        "# type: ignore[arg-type]  # sqlite-utils: bare Sequence",
        "# pyright: ignore[reportPrivateUsage]  # no public name",
        "# pragma: no cover  # another process runs it",
        "# noqa: PLC2701  # pyright: ignore[reportPrivateUsage]  # no public name",
        "# an ordinary comment",
        "# a comment that talks of noqa",
    ],
)
def test_an_ignore_with_reason_is_fine(comment: str) -> None:
    assert without_reason(Tree({"a.py": f"x = 1  {comment}\n"})) == []


def test_a_text_about_ignores_is_not_an_ignore() -> None:
    assert without_reason(Tree({"a.py": "x = '# noqa'\n"})) == []


def test_a_rule_left_out_without_reason_is_caught() -> None:
    settings = 'ignore = [\n  "D203", # the opposite of D211\n  "E501",\n]\n'

    assert bare_settings(Tree({"pyproject.toml": settings})) == ['"E501",']
