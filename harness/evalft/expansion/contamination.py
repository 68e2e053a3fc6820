"""No test or dev row among rows to train on: not as it is, not changed a little, not inside a longer text.

A text repeats a held row when
- it has the same words in the same order, case and punctuation aside; or
- 8-grams that both have cover more than half of the words of the shorter one (8-gram overlap as in the decontamination of
  Tulu 3, Lambert et al. 2024, arXiv 2411.15124; of the shorter one here, since a test row inside a longer text leaks too),
  or more than four fifths where it has under 16 words, of which a single 8-gram, a shared phrase, would be over half; or
- the held row has under 8 words and is one whole sentence of the text, and a third of its words at least.
What all held inputs share at their ends ("Convert to LaTeX:") is no evidence and is left out of the second rule.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from evalft.expansion import words
from evalft.expansion.drafts import exact_form
from evalft.expansion.words import Words
from evalft.records import Example, Message

GRAM = 8


@dataclass(frozen=True, slots=True)
class Leak:
    role: str
    """"test" or "dev"."""
    id: str
    detail: str


class Contamination:
    """What `against` compares with: {"test": rows, "dev": rows}. Memory and time grow with their words."""

    def __init__(self, held: Mapping[str, Sequence[Example]]) -> None:
        self._rows = [(role, row.id) for role, rows in held.items() for row in rows]
        texts = [text_of(row.input) for rows in held.values() for row in rows]
        whole = [words.compared(text) for text in texts]
        self._frame = words.frame(whole)
        self._same_text: dict[int, int] = {}
        self._same_words: dict[Words, int] = {}
        self._lengths: list[int] = []
        self._grams: dict[int, int | list[int]] = {}
        for number, (text, of_row) in enumerate(zip(texts, whole, strict=True)):
            self._same_text.setdefault(exact_form(text), number)
            body = words.inside(of_row, self._frame)
            self._lengths.append(len(body))
            if body:
                self._same_words.setdefault(body, number)
            for gram in set(_grams(body)):
                self._index(gram, number)

    def against(self, text: str) -> Leak | None:
        """The held row that a text (an input) repeats; None where it repeats none."""
        number = self._same_text.get(exact_form(text))
        if number is not None:
            return self._leak(number, "the same text")
        body = words.inside(words.compared(text), self._frame)
        number = self._same_words.get(body)
        if number is not None:
            return self._leak(number, "the same words")
        return self._covered(body) or self._sentence(text, len(body))

    def _covered(self, body: Words) -> Leak | None:
        covered: dict[int, int] = {}
        end_of_cover: dict[int, int] = {}
        for start, gram in enumerate(_grams(body)):
            for number in self._rows_with(gram):
                new_from = max(start, end_of_cover.get(number, 0))
                covered[number] = covered.get(number, 0) + start + GRAM - new_from
                end_of_cover[number] = start + GRAM
        for number, count in covered.items():
            shorter = min(len(body), self._lengths[number])
            if 5 * count > 4 * shorter or (2 * count > shorter and shorter >= 2 * GRAM):
                return self._leak(number, f"shared {GRAM}-grams cover {count} words, of {shorter} in the shorter text")
        return None

    def _sentence(self, text: str, length: int) -> Leak | None:
        for sentence in words.sentences(text):
            said = words.inside(words.compared(sentence), self._frame)
            number = self._same_words.get(said)
            if number is not None and len(said) < GRAM and 3 * len(said) >= length:
                return self._leak(number, "one of its sentences is the whole row")
        return None

    def _index(self, gram: int, number: int) -> None:
        known = self._grams.setdefault(gram, number)  # most grams stand in one row: no list for them
        if isinstance(known, list):
            known.append(number)
        elif known != number:
            self._grams[gram] = [known, number]

    def _rows_with(self, gram: int) -> Sequence[int]:
        known = self._grams.get(gram, ())
        return (known,) if isinstance(known, int) else known

    def _leak(self, number: int, detail: str) -> Leak:
        role, name = self._rows[number]
        return Leak(role, name, detail)


def text_of(given: str | tuple[Message, ...]) -> str:
    """An input as one text: chat messages joined."""
    return given if isinstance(given, str) else "\n".join(turn["content"] for turn in given)


def _grams(body: Words) -> Iterator[int]:
    return (hash(body[start : start + GRAM]) for start in range(len(body) - GRAM + 1))
