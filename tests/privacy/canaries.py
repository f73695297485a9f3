"""Random words to hide in every place of a request where a caller's words may stand."""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass, field

LENGTH = 32
ANSWER_CHARACTERS_MIN = 24
"""A shorter piece of an answer may be a phrase that stands in some file anyway."""

_BASE62 = string.digits + string.ascii_letters


@dataclass
class Canaries:
    """The words of one run, by where they were put. Each word is drawn when it is first asked for."""

    words: dict[str, str] = field(default_factory=dict[str, str], repr=False)

    def at(self, place: str) -> str:
        """The word for `place`: 32 base62 characters that nobody has ever written before."""
        if place not in self.words:
            self.words[place] = "".join(secrets.choice(_BASE62) for _ in range(LENGTH))
        return self.words[place]

    def answered(self, text: str) -> None:
        """An answer is content, too: keep what is long enough of it and came out whole."""
        for piece in text.replace("�", "\n").splitlines():
            if len(piece) >= ANSWER_CHARACTERS_MIN and len(set(piece)) >= ANSWER_CHARACTERS_MIN // 2:
                self.words[f"answer {len(self.words)}"] = piece
