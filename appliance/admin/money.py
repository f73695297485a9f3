"""Amounts of money: decimal text outside, millionths of the site's currency inside. Never a float."""

from __future__ import annotations

from typing import Final

MICROS: Final = 1_000_000


def to_micros(text: str) -> int:
    """Millionths of `text`, which has at most six decimals (`contract.Money`)."""
    whole, _, part = text.partition(".")
    return int(whole) * MICROS + int(part.ljust(6, "0"))


def to_text(micros: int) -> str:
    """With the decimals it has, at least two."""
    whole, part = divmod(micros, MICROS)
    decimals = f"{part:06d}".rstrip("0").ljust(2, "0")
    return f"{whole}.{decimals}"
