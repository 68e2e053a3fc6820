"""What a text answer says: strict and lenient reading, and hostile text."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalft.answers import Reading, read, without_thinking

QUICK = settings(max_examples=60, deadline=None)
INTENTS = ("card arrival", "card", "arrival", "spam", "not spam", "C++", "C", "1", "10")
EMOTIONS = ("joy", "anger", "Food", "Food, drinks", "love story")
LABEL = (
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
    .map(str.strip)
    .filter(bool)
)


def one(text, labels=INTENTS, finish_reason="stop"):
    return read(text, finish_reason, "classification", labels)


def several(text, labels=EMOTIONS, finish_reason="stop"):
    return read(text, finish_reason, "multilabel", labels)


@pytest.mark.parametrize("label", INTENTS)
def test_a_label_alone_is_read_strictly(label):
    assert one(f" {label}\n") == Reading((label,))


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("**Card Arrival**.", "card arrival"),
        ("card_arrival", "card arrival"),
        ("`Card-Arrival`", "card arrival"),
        ("Label: spam", "spam"),
        ("Answer: **10**", "10"),
        ("The label is: not spam.", "not spam"),
        ('{"label": "SPAM"}', "spam"),
        ('Sure!\n```json\n{"answer": "card", "why": "no arrival is named"}\n```', "card"),
        ('{"intent_of_row": "arrival"}', "arrival"),
        ("card\n\nThe arrival is not asked about.", "card"),
        ("1. card", "card"),
        ("Is the card lost or spam? Answer: card. It was not an arrival", "card"),
        ("I would call this one an arrival, I think", "arrival"),
        ("This is not a card, it is an arrival", "arrival"),
        ("It is in C++", "C++"),
        ("“spam”", "spam"),
    ],
)
def test_an_answer_that_a_person_reads_without_doubt_is_rescued(text, label):
    assert one(text) == Reading((label,), rescued=True)


@pytest.mark.parametrize(
    "text",
    [
        "card or arrival",
        "cardigan",
        "discard",
        "10.5",
        "-1",
        "banana",
        "It isn't an arrival",
        "card: 0.8, arrival: 0.2",
        "I choose C or so",
        "12",
        '{"label": "card", "label": "spam"}',
    ],
)
def test_an_answer_with_two_labels_none_or_a_denied_one_is_unparsable(text):
    reading = one(text)
    assert (reading.labels, reading.failure) == (None, "unparsable") and reading.message


@pytest.mark.parametrize(
    ("text", "kind", "labels"),
    [
        ('{"label": "card"}', "classification", ("card",)),
        ('\n{ "label" :"C++" }', "classification", ("C++",)),
        ('<think>{"label": "spam"}</think>{"label": "card"}', "classification", ("card",)),
        ('{"labels": ["spam", "card", "card"]}', "multilabel", ("card", "spam")),
        ('{"labels": []}', "multilabel", ()),
    ],
)
@pytest.mark.parametrize("finish_reason", ["stop", "length"])
def test_an_answer_of_the_schema_is_read_strictly_and_is_whole_wherever_it_was_cut(text, kind, labels, finish_reason):
    assert read(text, finish_reason, kind, INTENTS) == Reading(labels)


@pytest.mark.parametrize("kind", ["classification", "multilabel"])
@pytest.mark.parametrize(
    "text",
    ['{"label": "banana"}', '{"labels": ["banana"]}', '{"label": null}', '{"a": {}}', '{"card": 0.9, "spam": 0.1}'],
)
def test_json_from_which_no_label_can_be_read_is_of_the_wrong_schema(text, kind):
    assert read(text, "stop", kind, INTENTS).failure == "wrong_schema"


def test_the_longest_label_at_a_place_is_the_one_that_is_named():
    assert one("I think it is a card arrival!").labels == ("card arrival",)


def test_a_korean_label_carries_particles_but_is_not_found_inside_a_longer_label():
    labels = ("긍정", "부정", "매우 긍정")
    assert one("이 문장은 긍정입니다.", labels) == Reading(("긍정",), rescued=True)
    assert one("매우 긍정입니다", labels).labels == ("매우 긍정",)
    assert one("긍정도 부정도 아닙니다", labels).failure == "unparsable"


def test_labels_that_differ_only_by_case_are_kept_apart():
    assert one("US", ("us", "US")) == Reading(("US",))
    assert one("It is US!", ("us", "US")).labels == ("US",)
    assert one("It is Us", ("us", "US")).failure == "unparsable"


@pytest.mark.parametrize(
    ("text", "failure"), [(None, "empty"), ("", "empty"), (" \n", "empty"), ("<think>spam", "empty")]
)
@pytest.mark.parametrize("task_type", ["classification", "multilabel", "generation"])
def test_no_answer_is_the_failure_empty(text, failure, task_type):
    assert read(text, "stop", task_type, INTENTS).failure == failure


def test_thinking_is_not_part_of_the_answer():
    assert one("<think>spam or card?</think>\n\ncard") == Reading(("card",))
    assert without_thinking("<think>a</think>\nb") == "b"
    assert without_thinking("a <think>b</think>") == "a <think>b</think>"


@pytest.mark.parametrize(
    ("text", "labels"), [("card arrival", ("card arrival",)), ("spam", ("spam",)), ("card\nBecau", ("card",))]
)
def test_an_answer_cut_off_after_a_whole_label_is_read(text, labels):
    assert one(text, finish_reason="length").labels == labels


@pytest.mark.parametrize("text", ["card", "car", "The answer is", "1", ""])
def test_an_answer_cut_off_before_its_label_is_whole_is_truncated(text):
    assert one(text, finish_reason="length").failure == "truncated"


@pytest.mark.parametrize("task_type", ["multilabel", "generation"])
def test_a_list_or_a_text_that_was_cut_off_is_truncated(task_type):
    assert read("joy, anger", "length", task_type, EMOTIONS).failure == "truncated"
    assert read("joy, anger", "stop", task_type, EMOTIONS).failure is None


def test_generation_says_nothing_but_that_there_is_text():
    assert read("x^{2}", "stop", "generation") == Reading()


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("anger, joy", ("joy", "anger")),
        ("joy;anger | love story", ("joy", "anger", "love story")),
        ("joy\n\nanger\n", ("joy", "anger")),
        ("joy, joy", ("joy",)),
        ("Food, drinks, joy", ("joy", "Food, drinks")),
        ('["joy", "Food, drinks"]', ("joy", "Food, drinks")),
        ("none", ()),
        ("[]", ()),
    ],
)
def test_a_list_of_exact_labels_is_read_strictly(text, labels):
    assert several(text) == Reading(labels)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("Joy, Anger", ("joy", "anger")),
        ("- joy\n- anger", ("joy", "anger")),
        ("1. joy\n2) anger", ("joy", "anger")),
        ('{"labels": ["JOY", "anger"]}', ("joy", "anger")),
        ('{"tags": []}', ()),
        ('{"joy": true, "anger": false}', ("joy",)),
        ('{"joy": false, "anger": false}', ()),
        ("joy: yes\nanger: no", ("joy",)),
        ("There is joy in it, but no anger", ("joy",)),
        ("Considered: joy, Food. Answer: anger", ("anger",)),
        ("Labels: none", ()),
        ("None.", ()),
        ("None of the labels apply.", ()),
        ("joy, banana", ("joy",)),
        ('["joy", "war joy"]', ("joy",)),
    ],
)
def test_a_list_that_a_person_reads_without_doubt_is_rescued(text, labels):
    assert several(text) == Reading(labels, rescued=True)


@pytest.mark.parametrize("text", ["banana", '["banana"]', "I cannot answer that", "enjoyment", "joyful", "*_*"])
def test_a_list_without_any_known_label_is_unparsable(text):
    assert several(text).failure == "unparsable"


def test_none_is_a_label_where_the_task_says_so():
    assert several("none", ("none", "joy")) == Reading(("none",))
    assert several("[]", ("none", "joy")) == Reading(())
    assert several("NONE.", ("none", "joy")) == Reading(("none",), rescued=True)


@QUICK
@given(st.lists(LABEL, min_size=1, max_size=6, unique=True), st.data())
def test_every_label_is_read_back_from_itself(labels, data):
    label = data.draw(st.sampled_from(labels))
    assert one(label, tuple(labels)) == Reading((label,))


@QUICK
@given(
    st.lists(st.from_regex(r"[a-z]{2,8}( [a-z]{2,8})?", fullmatch=True), min_size=1, max_size=6, unique=True), st.data()
)
def test_every_list_is_read_back_from_its_labels(labels, data):
    chosen = data.draw(st.lists(st.sampled_from(labels), min_size=1, unique=True))
    separator = data.draw(st.sampled_from([", ", ",", "; ", "|", "\n"]))
    expected = tuple(label for label in labels if label in chosen)
    assert several(separator.join(chosen), tuple(labels)) == Reading(expected)


@QUICK
@given(st.lists(LABEL, max_size=5, unique=True), st.text(max_size=300), st.sampled_from(["stop", "length", None]))
def test_no_text_makes_the_reader_raise_and_what_it_reads_is_a_label(labels, text, finish_reason):
    for task_type in ("classification", "multilabel", "generation"):
        reading = read(text, finish_reason, task_type, labels)
        assert set(reading.labels or ()) <= set(labels)
        assert reading.failure is None or (reading.labels is None and not reading.rescued)
        if task_type == "classification" and reading.failure is None:
            assert len(reading.labels) == 1


HOSTILE = [
    "[",
    '{"a":',
    "\0",
    "a",
    "- ",
    "*_",
    " ",
    "\n",
    " \n",
    "not ",
    "answer is ",
    "answer",
    "```",
    "```a",
    "> ",
    '"',
    "1",
    "card ",
    "card,",
]


@settings(deadline=None, max_examples=15)
@given(
    st.lists(st.sampled_from([*HOSTILE, "card", "x", "answer: card", "label"]), min_size=1, max_size=3),
    st.sampled_from(["stop", "length"]),
)
def test_a_hundred_kilobytes_of_anything_are_read_in_linear_time(pieces, finish_reason):
    text = "".join(piece * (100_000 // len(piece) // len(pieces)) for piece in pieces)
    for surrounded in (text, f"card{text}x card"):
        started = time.process_time()
        one(surrounded, finish_reason=finish_reason)
        several(surrounded, INTENTS, finish_reason=finish_reason)
        assert time.process_time() - started < 3
