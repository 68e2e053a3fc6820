"""Which train rows a candidate is shown as examples: `shots: 4` or `shots: {count: 4, pick: random | first | nearest}`.

- random: the same rows for every question, drawn by a hash of seed and id, so that adding train rows changes few
- first: the first of the train rows, the same for every question
- nearest: for each question the train rows most like it by the cosine of TF-IDF-weighted character n-grams, the most
  alike last, next to the question (Liu et al. 2022, "What makes good in-context examples for GPT-3?", with n-grams in
  place of embeddings)

A train row with the very input that is asked is never a shot: it would hand over the answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from evalft.config import ShotsConfig
from evalft.records import Example

NGRAMS = (2, 4)
"""Characters per n-gram, within words: works for any script, and for typing errors."""

Pick = Callable[[Example], list[Example]]


def picker(shots: ShotsConfig, train: Sequence[Example], *, seed: int = 0) -> Pick:
    """A function from an example to its shots, `shots.count` of them (fewer only where train has no other inputs).
    Deterministic: the same rows give the same shots, whatever the order in which examples are asked."""
    if not shots.count:
        return lambda example: []
    if shots.pick == "nearest":
        return _nearest(shots.count, train)
    ordered = list(train)
    if shots.pick == "random":
        ordered.sort(key=lambda row: hashlib.sha256(f"{seed}:{row.id}".encode()).digest())
    return lambda example: _others(ordered, example, shots.count)


def said(shots: ShotsConfig, *, seed: int = 0) -> str:
    """The choice in words."""
    how = {
        "random": f"drawn by a hash (seed {seed}), the same for every question",
        "first": "the first ones, the same for every question",
        "nearest": "for each question those most like it (character n-grams, TF-IDF, cosine), the most alike last",
    }[shots.pick]
    return f"shots: {shots.count} train rows, {how}"


def _nearest(count: int, train: Sequence[Example]) -> Pick:
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=NGRAMS, sublinear_tf=True, dtype=np.float64)
    by_row = vectorizer.fit_transform([_text(row) for row in train])
    by_ngram = by_row.T.tocsr()

    def pick(example: Example) -> list[Example]:
        # row by row: a product of several rows at once may round otherwise, and shots must not depend on company
        alike = (vectorizer.transform([_text(example)]) @ by_ngram).toarray()[0]
        nearest = np.argsort(-alike, kind="stable")
        return _others((train[place] for place in nearest), example, count)[::-1]

    return pick


def _others(rows: Sequence[Example] | Iterator[Example], example: Example, count: int) -> list[Example]:
    asked = _text(example)
    return list(islice((row for row in rows if _text(row) != asked), count))


def _text(example: Example) -> str:
    given = example.input
    return given if isinstance(given, str) else "\n".join(turn["content"] for turn in given)
