"""Only new texts stay: not the same as one before, nor nearly, nor in meaning.

Exact: the same but for case, spaces and Unicode form. Near: Jaccard similarity of word 3-grams (character 5-grams for texts of
few words), candidates found by MinHash (Broder 1997, through datasketch) and then compared in truth. Semantic: cosine of
embeddings. But texts of as many words that differ word for word in some places ("the root of x", "the root of y") are
different rows, however close their vectors or (few words) characters are: the words exchanged are what such rows are
about. What all texts of the pool share at their ends ("Convert to LaTeX:") makes nothing similar and is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from evalft.expansion import words
from evalft.expansion.drafts import Removed, exact_form
from evalft.expansion.embedding import Embedder, Vectors

NEAR = 0.9
"""The similarity from which texts are near-duplicates, where the config does not say (`expand.near_duplicate`)."""
FEW_WORDS = 8
PERMUTATIONS = 128
SLACK = 0.1
"""MinHash estimates: candidates are taken from this much below, so that no true one is missed."""


class Deduplicator:
    """Takes texts one after another; each is compared with those before it. `pool` (id -> text) is there from the start."""

    def __init__(
        self, pool: Mapping[str, str], *, embedder: Embedder, near: float = NEAR, semantic: float | None = None
    ) -> None:
        from datasketch import MinHashLSH

        self._near = near
        self._semantic = embedder.similarity if semantic is None else semantic
        self._embed = embedder.embed
        self._exact: dict[int, str] = {}
        self._shingles: list[frozenset[str]] = []
        self._lsh = MinHashLSH(threshold=max(near - SLACK, 0.1), num_perm=PERMUTATIONS)
        self._ids: list[str] = []
        self._words: list[tuple[str, ...]] = []
        self._vectors: Vectors = embedder.embed([])
        self._frame = words.frame([words.pieces(text) for text in pool.values()])
        vectors = self._embed([self._body(text) for text in pool.values()])
        for (name, text), vector in zip(pool.items(), vectors, strict=True):
            self._add(name, text, vector)

    def take(self, name: str, text: str, *, reworded: bool = False) -> Removed | None:
        """None where the text is new, and from then on known by its name (an id).

        `reworded`: it says what another row says on purpose (a paraphrase), and so is compared exactly only."""
        return self.take_batch([(name, text)], reworded=reworded)[0]

    def take_batch(self, texts: Sequence[tuple[str, str]], *, reworded: bool = False) -> list[Removed | None]:
        """`take` for each (name, text) in turn; their embeddings are made together, which is faster."""
        vectors = self._embed([self._body(text) for _, text in texts])
        return [self._take(name, text, vector, reworded) for (name, text), vector in zip(texts, vectors, strict=True)]

    def _take(self, name: str, text: str, vector: Vectors, reworded: bool) -> Removed | None:
        twin = self._exact.get(exact_form(text))
        if twin is not None:
            return Removed(text, "exact", twin)
        removed = None if reworded else self._near_twin(text) or self._semantic_twin(text, vector)
        if removed is None:
            self._add(name, text, vector)
        return removed

    def _body(self, text: str) -> str:
        return words.join(words.inside(words.pieces(text), self._frame))

    def _near_twin(self, text: str) -> Removed | None:
        body = self._body(text)
        own, own_words = _shingles(body), words.compared(body)
        found = [
            (_jaccard(own, self._shingles[i]), i)
            for i in sorted(self._lsh.query(_minhash(own)))
            if len(own_words) >= FEW_WORDS or not _is_substitution(own_words, self._words[i])
        ]
        similarity, twin = max(found, default=(0.0, 0), key=lambda one: one[0])
        if similarity < self._near:
            return None
        return Removed(text, "near", self._ids[twin], f"Jaccard {similarity:.2f}")

    def _semantic_twin(self, text: str, vector: Vectors) -> Removed | None:
        count = len(self._ids)
        similarities = self._vectors[:count] @ vector
        own = words.compared(self._body(text))
        close = np.flatnonzero(similarities >= self._semantic)
        for twin in sorted(close, key=lambda index: -similarities[index]):
            if not _is_substitution(own, self._words[twin]):
                return Removed(text, "semantic", self._ids[twin], f"cosine {similarities[twin]:.3f}")
        return None

    def _add(self, name: str, text: str, vector: Vectors) -> None:
        number = len(self._ids)
        self._exact.setdefault(exact_form(text), name)
        body = self._body(text)
        shingles = _shingles(body)
        self._shingles.append(shingles)
        self._lsh.insert(number, _minhash(shingles))
        self._words.append(words.compared(body))
        if number == len(self._vectors):  # doubled when full, so that adding one by one stays linear
            more = np.zeros((max(number, 64), self._vectors.shape[1]), np.float32)
            self._vectors = np.concatenate([self._vectors, more])
        self._vectors[number] = vector
        self._ids.append(name)


def _shingles(text: str) -> frozenset[str]:
    found = words.compared(text)
    if len(found) >= FEW_WORDS:
        return frozenset(" ".join(found[i : i + 3]) for i in range(len(found) - 2))
    line = " ".join(text.casefold().split())
    return frozenset(line[i : i + 5] for i in range(max(len(line) - 4, 1)))


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other)


def _minhash(shingles: Iterable[str]) -> object:
    from datasketch import MinHash

    made = MinHash(num_perm=PERMUTATIONS, seed=1)
    made.update_batch([shingle.encode() for shingle in sorted(shingles)])
    return made


def _is_substitution(one: Sequence[str], other: Sequence[str]) -> bool:
    return len(one) == len(other) and one != other
