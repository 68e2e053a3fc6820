"""Two texts -> their pieces, those marked that the other text does not have: word by word (difflib, Python's own).

A word is what stands between spaces, without the signs around it; of scripts that write without spaces it is a character,
with the marks on it. Where neither text has a space, Korean, Arabic and other such letters are compared one by one too:
there a word would be the whole text.
"""

from __future__ import annotations

import re
from difflib import SequenceMatcher

Pieces = tuple[tuple[str, bool], ...]
"""A text in pieces, each with whether it is marked as different."""

_MARKS = (
    "\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u05bf-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed"  # accents, points
    "\u0900-\u0903\u093a-\u094f\u0981-\u0983\u09bc-\u09cd\u0a01-\u0a03\u0a3c-\u0a4d\u0b82\u0bbe-\u0bcd\u0c00-\u0c04\u0c3e-\u0c4d"
    "\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ece\u102b-\u103e\u17b4-\u17d3"  # vowels of Thai, Lao ...
    "\u200c\u200d\u20d0-\u20ff\u3099\u309a\ufe00-\ufe0f"  # joiners, enclosures, voiced kana, variants
)
_UNSPACED = (
    "\u0e01-\u0e30\u0e32\u0e33\u0e40-\u0e46\u0e81-\u0eb0\u0eb2\u0eb3\u0ec0-\u0ec6\u1000-\u102a\u1780-\u17b3"
    "\u3040-\u3098\u309b-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
)
"""Thai, Lao, Burmese, Khmer, kana, Han."""


def _tokens(letters: str) -> re.Pattern[str]:
    """Each token with the spaces before it; `letters` are words by themselves."""
    return re.compile(
        rf"\s*(?:[{letters}][{_MARKS}]*"
        rf"|\\?(?:[^\W{letters}]|[{_MARKS}])+"  # a word (a LaTeX command too)
        r"|[^\w\s])"  # any other sign
        r"|\s+"
    )


_WORDS = _tokens(_UNSPACED)
_LETTERS = _tokens("\u0530-\u1fff\u2c00-\ud7ff\uf900-\ufdff\ufe70-\ufeff\U00010000-\U0003134f")
"""All but Latin, Greek and Cyrillic."""


def differing(one: str | None, other: str | None) -> tuple[Pieces, Pieces]:
    """Both texts in pieces of whole words, those marked that the other text does not have in that order.

    Joined, the pieces of a text are that text. Nothing is marked where one of the texts is missing.
    """
    if one is None or other is None or one == other:
        return (((one, False),) if one else ()), (((other, False),) if other else ())
    tokens = _WORDS if any(map(str.isspace, one + other)) else _LETTERS
    ours, theirs = tokens.findall(one), tokens.findall(other)
    matcher = SequenceMatcher(None, [token.strip() for token in ours], [token.strip() for token in theirs])
    codes = matcher.get_opcodes()
    return (
        tuple(("".join(ours[i:j]), change != "equal") for change, i, j, _, _ in codes if i < j),
        tuple(("".join(theirs[i:j]), change != "equal") for change, _, _, i, j in codes if i < j),
    )
