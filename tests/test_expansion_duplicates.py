"""Duplicates among new rows: exact, near and in meaning, by an encoder or by letters; and rows that only look alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny_models
from evalft.errors import CannotStart
from evalft.expansion import embedding
from evalft.expansion.deduplication import Deduplicator
from evalft.expansion.drafts import exact_form
from evalft.expansion.embedding import Embedder

POOL = {
    "t1": "how do i get a new card for my account when i am abroad and have lost mine",
    "t2": "where is the nearest cash machine",
}


def no_meaning(d: int = 4) -> Embedder:
    return Embedder("none", lambda texts: np.zeros((len(texts), d), np.float32), 0.9, ())


def by_hand(vectors: dict[str, list[float]]) -> Embedder:
    return Embedder("by hand", lambda texts: np.array([vectors[t] for t in texts], np.float32).reshape(-1, 2), 0.9, ())


def words_in_common(texts: Sequence[str]) -> embedding.Vectors:
    found = np.zeros((len(texts), 256), np.float32)
    for row, text in enumerate(texts):
        for word in text.lower().split():
            found[row, sum(word.encode()) % 256] = 1
    return found / np.sqrt(np.maximum(found.sum(axis=1, keepdims=True), 1))


def test_the_same_text_is_removed_whatever_its_case_and_spaces() -> None:
    removed = Deduplicator(POOL, embedder=no_meaning()).take("x", "Where is  the nearest CASH machine")
    assert removed is not None and (removed.why, removed.against) == ("exact", "t2")


def test_a_nearly_equal_text_is_removed_and_the_row_it_repeats_named() -> None:
    removed = Deduplicator(POOL, embedder=no_meaning()).take("x", POOL["t1"] + ", please")
    assert removed is not None and (removed.why, removed.against) == ("near", "t1")


def test_each_new_text_is_compared_with_those_taken_before_it() -> None:
    seen = Deduplicator({}, embedder=no_meaning())
    assert seen.take("x1", "an input of its own") is None
    removed = seen.take_batch(
        [("x2", "An input of its own"), ("x3", "quite another thing"), ("x4", "Quite another thing")]
    )
    assert [one and (one.why, one.against) for one in removed] == [("exact", "x1"), None, ("exact", "x3")]


def test_texts_that_say_the_same_are_removed_from_the_threshold_on() -> None:
    vectors = {
        "my card is lost": [1.0, 0.0],
        "i have lost the card i had": [0.95, 0.312],
        "far off it is": [0.5, 0.866],
    }
    first, close, far = vectors
    seen = Deduplicator({"t": first}, embedder=by_hand(vectors))
    removed = seen.take("x", close)
    assert removed is not None and (removed.why, removed.against, removed.detail) == ("semantic", "t", "cosine 0.950")
    assert seen.take("y", far) is None
    assert Deduplicator({"t": first}, embedder=by_hand(vectors), semantic=0.96).take("x", close) is None


def test_texts_that_differ_in_a_word_for_a_word_are_different_rows() -> None:
    pool = {
        f"t{i}": f"Convert to LaTeX: {text}"
        for i, text in enumerate(("k sub c", "m sub n", "p sub q", "x plus y", "a sub t"))
    }
    alike = Embedder("alike", lambda texts: np.ones((len(texts), 1), np.float32), 0.9, ())
    seen = Deduplicator(pool, embedder=alike)
    for text in ("k sub r", "x sub c", "c sub k"):
        assert seen.take(text, f"Convert to LaTeX: {text}") is None
    assert seen.take("y", "Convert to LaTeX: the letter k sub c") is not None
    few = Deduplicator({"t": "the international transportation administration representative a"}, embedder=no_meaning())
    assert few.take("x", "the international transportation administration representative b") is None


def test_what_the_whole_pool_shares_makes_nothing_similar() -> None:
    frame = "Read the message of the customer below and say what the customer wants from us. Message: {}"
    pool = {f"t{i}": frame.format(text) for i, text in enumerate(("lost card", "refund", "open it", "a loan", "fees"))}
    seen = Deduplicator(pool, embedder=Embedder("words", words_in_common, 0.8, ()))
    assert seen.take("x", frame.format("my phone number is new")) is None


def test_a_paraphrase_made_on_purpose_is_compared_exactly_only() -> None:
    seen = Deduplicator(POOL, embedder=no_meaning())
    assert seen.take("x", POOL["t1"] + ", please", reworded=True) is None
    assert seen.take("y", POOL["t1"] + ", Please", reworded=True) is not None


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(alphabet="abAB .", max_size=12), max_size=12))
def test_no_two_kept_texts_are_the_same(texts: list[str]) -> None:
    seen = Deduplicator({}, embedder=no_meaning())
    removed = seen.take_batch([(str(i), text) for i, text in enumerate(texts)])
    kept = [exact_form(text) for text, one in zip(texts, removed, strict=True) if one is None]
    assert len(set(kept)) == len(kept)
    assert set(kept) == {exact_form(text) for text in texts} or any(one and one.why == "near" for one in removed)


# ---------------------------------------------------------------- embedders


def test_without_an_encoder_letters_are_compared_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "PACKAGED", "no_such_package")
    found = embedding.embedder(None, list(POOL.values()))
    assert found.name == "lexical" and "no encoder is installed" in found.said[0]
    vectors = found.embed([*POOL.values(), POOL["t2"].upper(), "zzz"])
    assert vectors.dtype == np.float32 and np.allclose(np.linalg.norm(vectors[:3], axis=1), 1, atol=1e-5)
    assert vectors[1] @ vectors[2] == pytest.approx(1, abs=1e-5)
    assert not vectors[3].any()
    assert found.embed([]).shape == (0, vectors.shape[1])


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.classifier(tmp_path_factory.mktemp("encoder"), ["a", "b"])


def test_an_encoder_gives_unit_vectors_that_do_not_depend_on_the_batch(encoder: Path) -> None:
    found = embedding.embedder(f"hf:{encoder}", [])
    texts = ["card lost", "the quick brown fox jumps over the lazy dog", "refund", "word " * 400]
    together = found.embed(texts)
    assert together.dtype == np.float32 and np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    alone = np.concatenate([found.embed([text]) for text in texts])
    assert np.allclose(together, alone, atol=1e-4)
    assert found.embed([]).shape == (0, together.shape[1])
    assert str(encoder) in found.said[0]


def test_the_packaged_encoder_is_taken_where_it_is_installed(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "an_encoder_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "model").symlink_to(encoder)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(embedding, "PACKAGED", package.name)
    assert embedding.embedder(None, []).name == "all-MiniLM-L6-v2"


@pytest.mark.parametrize(
    ("spec", "says"), [("openai:m", "write hf:"), ("hf:", "write hf:"), ("hf:/no/folder", "no folder")]
)
def test_an_embedder_that_cannot_be_had_is_one_line_with_its_key(spec: str, says: str) -> None:
    with pytest.raises(CannotStart, match="expand.embedder") as error:
        embedding.embedder(spec, [])
    assert says in str(error.value) and len(error.value.faults) == 1
