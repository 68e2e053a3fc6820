"""Texts as words: pieces that can be put together again, words to compare, and what all inputs of a task share."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import takewhile

# Written without spaces between words (Thai, Lao, Khmer, Myanmar, kana, Han): every character is a piece of its own.
_UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
# \w lacks the vowel signs and accents that follow a letter as characters of their own.
_SIGNS = r"\u0300-\u036f\u0591-\u05bd\u0610-\u061a\u064b-\u065f\u0670\u0900-\u0963\u0966-\u0dff"
_LETTER = rf"(?:(?![{_UNSPACED}])[\w{_SIGNS}])"
_PIECE = re.compile(rf"\s*(?:[{_UNSPACED}]|{_LETTER}+(?:[-'’.,]{_LETTER}+)*|[^\w\s])")
# "x - y" is not "x + y", so operators count; hyphens, commas and quotation marks do not.
_COMPARED = re.compile(rf"[{_UNSPACED}]|(?:(?!_){_LETTER})+|[+*/=<>|^~$€£%&@#\\]|(?<!\S)-|(?<=\d)-(?=\d)")
_SENTENCE_END = re.compile(r"((?<=[.!?])\s+|(?<=[。！？])|\s*\n\s*)")

MIN_INPUTS_OF_A_FRAME = 5

Words = tuple[str, ...]


def pieces(text: str) -> Words:
    """Words and punctuation marks, each with the space before it (the first with one too): see `join`."""
    return tuple(_PIECE.findall(" " + text.strip()))


def join(parts: Sequence[str]) -> str:
    return "".join(parts).strip()


def compared(text: str) -> Words:
    """The words, without case, and the operators; no punctuation."""
    return tuple(_COMPARED.findall(unicodedata.normalize("NFKC", text).casefold()))


def sentences(text: str) -> list[str]:
    """Sentences and what stands between them, in turn, sentences first: `"".join` gives the text again.

    A rule of thumb: cut behind . ! ? before a space, behind their full-width forms, and at line ends."""
    return _SENTENCE_END.split(text)


def frame(texts: Sequence[Sequence[str]]) -> tuple[Words, Words]:
    """What all texts begin and end with, such as "Convert to LaTeX:"; every text keeps an item between.

    Nothing under 5 distinct texts, of which nothing can be said."""
    distinct = sorted(set(map(tuple, texts)))
    if len(distinct) < MIN_INPUTS_OF_A_FRAME:
        return (), ()
    shortest = min(map(len, distinct))
    head = min(_shared(distinct, range(shortest)), max(shortest - 1, 0))
    tail = min(_shared(distinct, range(-1, -shortest - 1, -1)), max(shortest - 1 - head, 0))
    one = distinct[0]
    return one[:head], one[len(one) - tail :]


def inside(text: Words, frame: tuple[Words, Words]) -> Words:
    """The text without the frame, where it has that and more."""
    head, tail = frame
    end = len(text) - len(tail)
    if end > len(head) and text[: len(head)] == head and text[end:] == tail:
        return text[len(head) : end]
    return text


def _shared(texts: Sequence[Sequence[str]], places: range) -> int:
    return sum(1 for _ in takewhile(lambda place: len({text[place] for text in texts}) == 1, places))
