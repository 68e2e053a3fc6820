"""Probabilities of labels from an API's top_logprobs."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalft.candidates.top_logprobs import label_probabilities


def step(*tokens: tuple[str, float]) -> dict[str, object]:
    tops = [{"token": token, "logprob": math.log(p)} for token, p in tokens]
    return tops[0] | {"top_logprobs": tops}


def test_one_token_labels_take_the_mass_of_their_tokens() -> None:
    probs, unseen = label_probabilities([step(("spam", 0.6), ("ham", 0.3))], ["ham", "spam"])
    assert probs == pytest.approx({"ham": 1 / 3, "spam": 2 / 3})
    assert unseen == pytest.approx(0.1)


def test_labels_that_begin_alike_are_told_apart_where_they_differ() -> None:
    content = [step(("card", 0.9), ("cash", 0.1)), step(("_lost", 0.8), ("_stolen", 0.2))]
    probs, _ = label_probabilities(content, ["card_lost", "card_stolen", "cash"])
    assert probs == pytest.approx({"card_lost": 0.72, "card_stolen": 0.18, "cash": 0.1})


def test_a_label_that_is_the_beginning_of_another_ends_with_the_answer() -> None:
    probs, _ = label_probabilities([step(("card", 0.7), ("cash", 0.3))], ["card", "card arrival", "cash"])
    assert probs is not None and probs["card"] == pytest.approx(0.7)


def test_case_quotes_and_leading_space_do_not_matter() -> None:
    probs, _ = label_probabilities([step((' "', 1.0)), step(("Spam", 0.9), ("HAM", 0.1))], ["ham", "spam"])
    assert probs == pytest.approx({"spam": 0.9, "ham": 0.1})


@pytest.mark.parametrize("head", [['{"', "label", '":"'], ['{"label": "'], ["{", ' "label"', ":", ' "']])
def test_the_label_of_a_structured_answer_stands_behind_its_head(head: list[str]) -> None:
    """Also where the server gives the tokens of the form the little probability they would have had without it."""
    form = [step((token, 0.01), ("spam", 0.9)) for token in head]
    probs, unseen = label_probabilities([*form, step(("spam", 0.6), ("ham", 0.3)), step(('"}', 1.0))], ["ham", "spam"])
    assert probs == pytest.approx({"ham": 1 / 3, "spam": 2 / 3})
    assert unseen == pytest.approx(0.1)


def test_a_label_that_is_the_beginning_of_another_ends_with_its_quote() -> None:
    content = [step(('{"label":"', 1.0)), step(("card", 0.8), ("cash", 0.2)), step(('"}', 0.9), (" arrival", 0.1))]
    probs, _ = label_probabilities(content, ["card", "card arrival", "cash"])
    assert probs == pytest.approx({"card": 0.72, "card arrival": 0.08, "cash": 0.2})


def test_an_answer_about_something_else_has_no_probabilities() -> None:
    assert label_probabilities([step(("Sorry", 1.0))], ["ham", "spam"]) == (None, None)


anything = st.none() | st.booleans() | st.text(max_size=5) | st.floats() | st.integers() | st.just(-(10**400))
entry = st.fixed_dictionaries(
    {}, optional={"token": st.sampled_from(["spam", "ham", "s", '{"label":"']) | anything, "logprob": anything}
)
tokens = st.lists(
    st.tuples(entry, st.none() | st.lists(entry | anything, max_size=4)).map(
        lambda pair: pair[0] | {"top_logprobs": pair[1]}
    ),
    max_size=5,
)


@settings(deadline=None)
@given(tokens)
def test_odd_bodies_never_raise_and_probabilities_sum_to_one(content: list[dict[str, object]]) -> None:
    probs, unseen = label_probabilities(content, ["ham", "spam"])
    if probs is not None:
        assert sum(probs.values()) == pytest.approx(1) and unseen is not None and 0 <= unseen <= 1
