"""What is marked as different between two texts: words, and characters where words are not parted by spaces."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalft.reporting.word_diff import Pieces, differing

any_text = st.one_of(
    st.text(st.sampled_from("ab cd\n\\{}<漢字 \t."), max_size=40),
    st.text(max_size=20),
    st.none(),
)


@given(any_text, any_text)
def test_marked_pieces_are_the_text_and_unmarked_words_stand_in_both(one: str | None, other: str | None) -> None:
    ours, theirs = differing(one, other)
    for text, pieces in ((one, ours), (other, theirs)):
        assert "".join(words for words, _ in pieces) == (text or "")
    if one is None or other is None:
        assert not any(marked for _, marked in (*ours, *theirs))
        return
    same = [[re.sub(r"\s", "", words) for words, marked in pieces if not marked] for pieces in (ours, theirs)]
    assert "".join(same[0]) == "".join(same[1])
    if one.split() == other.split() and one.split() != [one] and other.split() != [other]:
        assert not any(marked and words.strip() for words, marked in (*ours, *theirs))


def test_only_the_words_that_differ_are_marked() -> None:
    before, after = differing(r"\frac{1}{2} + x", r"\frac{3}{2} + x")
    assert [words for words, marked in before if marked] == ["1"]
    assert [words for words, marked in after if marked] == ["3"]


def _marked(pieces: Pieces) -> list[str]:
    return [words.strip() for words, differs in pieces if differs]


@pytest.mark.parametrize(
    ("one", "other", "gone", "new"),
    [
        ("카드를 언제 받나요", "카드를 어디서 받나요", ["언제"], ["어디서"]),  # words, where there are spaces
        ("카드분실", "카드도난", ["분실"], ["도난"]),
        ("信用卡丢失 了", "信用卡被盗 了", ["丢失"], ["被盗"]),  # characters, spaces or not
        ("abc漢字def", "abc漢語def", ["字"], ["語"]),
        ("متى ستصل بطاقتي", "متى وصلت بطاقتي", ["ستصل"], ["وصلت"]),
        ("כרטיס", "כרטיסים", [], ["ים"]),
        ("สวัสดีครับ", "สวัสดีค่ะ", ["ครับ"], ["ค่ะ"]),
        ("refund_card", "refund", ["refund_card"], ["refund"]),  # a word of Latin letters is not taken apart
    ],
)
def test_words_or_characters_by_how_the_script_is_written(
    one: str, other: str, gone: list[str], new: list[str]
) -> None:
    before, after = differing(one, other)
    assert (_marked(before), _marked(after)) == (gone, new)


@given(st.text(st.sampled_from("สีดค่ éé́בְּاً ab"), max_size=30), st.text(st.sampled_from("สีดค่ éé́בְּاً ab"), max_size=30))
def test_a_mark_is_never_parted_from_its_letter(one: str, other: str) -> None:
    for pieces in differing(one, other):
        for (words, _), (following, _) in zip(pieces, pieces[1:], strict=False):
            assert words[-1:].isspace() or not unicodedata.category(following[0]).startswith("M")
