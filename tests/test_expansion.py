"""New rows from train rows: recombined, reworded, asked for; and none that is unusable, known, or in test or dev."""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from evalft.config import TaskConfig
from evalft.expansion import (
    contamination,
    copied,
    data_card,
    drafts,
    paraphrase,
    recombine,
    self_instruct,
    validation,
    words,
)
from evalft.expansion.contamination import Contamination
from evalft.expansion.drafts import Draft, Removed, exact_form
from evalft.records import Example

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "english-to-latex"
CLINC = Path(__file__).parents[2] / "shared" / "data" / "clinc150" / "data_full.json"
OPTIONS = settings(max_examples=40, deadline=None)

GENERATION = TaskConfig(type="generation", input="input", target="target")
LABELS = TaskConfig(type="classification", input="input", target="target", labels=["a", "b"])

sentence = st.lists(
    st.sampled_from("the a red blue cat dog sees has no not . ? one two".split()), min_size=1, max_size=9
)
corpus = st.lists(sentence.map(" ".join), min_size=1, max_size=12, unique=True)


def examples(texts: Sequence[str], targets: Sequence[str | tuple[str, ...]] | None = None) -> list[Example]:
    said = targets or ["a"] * len(texts)
    return [
        Example(id=f"r{i}", input=text, target=target, row={"input": text, "target": target})
        for i, (text, target) in enumerate(zip(texts, said, strict=True))
    ]


def benchmark(role: str) -> list[Example]:
    rows = [json.loads(line) for line in (BENCHMARK / f"{role}.jsonl").read_text().splitlines()]
    return [Example(id=row["id"], input=row["input"], target=row["target"], row=row) for row in rows]


@pytest.fixture
def latex(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str | None]:
    """The benchmark's own translator: None for what is no phrase of its language."""
    monkeypatch.syspath_prepend(str(BENCHMARK))
    from translator import Untranslatable, translate

    def said(text: str) -> str | None:
        try:
            return str(translate(text.partition(":")[2]))
        except Untranslatable:
            return None

    yield said
    sys.modules.pop("translator")


# ---------------------------------------------------------------- drafts


def test_rows_of_chat_messages_cannot_be_expanded_and_it_is_said() -> None:
    chat = Example(id="c", input=({"role": "user", "content": "hi"},), target="x", row={})
    assert "chat messages" in str(drafts.can_expand([chat]))
    assert drafts.can_expand([]) is not None
    assert drafts.can_expand(examples(["hi"])) is None


def test_a_new_row_has_the_columns_and_the_group_of_its_parent() -> None:
    parent = Example(
        id="p", input="old", target="a", row={"input": "old", "target": "a", "hint": "h"}, group="g", slices={"s": "1"}
    )
    made = drafts.example_of(Draft("new", None, "recombine", ("p", "q")), "b", parent, LABELS, 7)
    assert (made.id, made.input, made.target, made.group) == ("x-000007", "new", "b", "g")
    assert made.row == {"input": "new", "target": "b", "hint": "h"}
    assert made.source == "expanded from p, q"
    assert parent.row["input"] == "old"


def test_a_new_alpaca_row_has_its_whole_input_in_the_instruction() -> None:
    task = TaskConfig(type="generation", input="alpaca", target="output")
    parent = Example(id="p", input="do\n\nit", target="x", row={"instruction": "do", "input": "it", "output": "x"})
    made = drafts.example_of(Draft("new", "y", "paraphrase", ("p",)), "y", parent, task, 1)
    assert made.row == {"instruction": "new", "input": "", "output": "y"}


# ---------------------------------------------------------------- words


@OPTIONS
@given(st.text(max_size=80))
def test_pieces_of_a_text_join_to_the_text_but_for_what_is_no_word_or_mark(text: str) -> None:
    assert words.join(words.pieces(text)) == "".join(words.pieces(text)).strip()
    assert re.sub(r"[\s_]", "", words.join(words.pieces(text))) == re.sub(r"[\s_]", "", "".join(text.split()))


@OPTIONS
@given(st.text(alphabet="ab .!?。\n", max_size=60))
def test_sentences_join_to_the_text(text: str) -> None:
    assert "".join(words.sentences(text)) == text


@OPTIONS
@given(st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=6), max_size=12))
def test_the_frame_leaves_every_text_something_of_its_own(texts: list[list[str]]) -> None:
    head, tail = words.frame(texts)
    for text in map(tuple, texts):
        inside = words.inside(text, (head, tail))
        assert inside and (*head, *inside, *tail) == text


def test_a_text_without_the_frame_stays_as_it_is() -> None:
    assert words.inside(("x", "y"), (("a",), ())) == ("x", "y")
    assert words.inside(("a", "y"), (("a",), ())) == ("y",)


# ---------------------------------------------------------------- recombine


@settings(max_examples=15, deadline=None)
@given(corpus, st.integers(0, 3))
def test_recombined_inputs_are_new_once_each_from_known_rows_and_the_same_again(texts: list[str], seed: int) -> None:
    rows = examples(texts)
    made = list(islice(recombine.inputs(rows, seed=seed).drafts, 30))
    forms = [exact_form(draft.input) for draft in made]
    assert len(set(forms)) == len(forms)
    assert not set(forms) & {exact_form(text) for text in texts}
    assert {parent for draft in made for parent in draft.parents} <= {row.id for row in rows}
    assert all(draft.target is None and draft.input == draft.input.strip() for draft in made)
    assert made == list(islice(recombine.inputs(rows, seed=seed).drafts, 30))


def test_most_recombined_phrases_of_the_benchmark_are_phrases_of_its_language(
    latex: Callable[[str], str | None],
) -> None:
    train = benchmark("train")
    made = [draft.input for draft in islice(recombine.inputs(train, seed=0).drafts, 1000)]
    valid = [text for text in made if latex(text)]
    assert sum(latex(text) is not None for text in made[:500]) >= 300
    assert len({latex(text) for text in valid}) >= 400
    longest = max(len(str(row.input).split()) for row in train)
    assert all(text.startswith("Convert to LaTeX: ") and len(text.split()) <= longest for text in made)


def test_recombination_nests_phrases_in_ways_that_no_row_shows(latex: Callable[[str], str | None]) -> None:
    train = benchmark("train")
    form = re.compile(r"\b(?:[a-z]|zero|one|two|three|four|five|six|seven|eight|nine|ten|alpha|tau|pi|omega|phi|mu)\b")
    shown = {form.sub("@", str(row.input)) for row in train}
    made = islice(recombine.inputs(train, seed=1).drafts, 500)
    assert len({form.sub("@", draft.input) for draft in made if latex(draft.input)} - shown) >= 20


def test_words_that_come_in_pairs_are_exchanged_in_pairs_only() -> None:
    texts = [f"{open} {word} {open}" for open in ("<i>", "<b>", "<u>") for word in ("cat", "dog", "cow", "hen")]
    texts += [f"{open} {open} {word} {open} {open}" for open in ("<i>", "<b>", "<u>") for word in ("cat", "dog")]
    texts = [text.replace("<", "o").replace(">", "o") for text in texts]
    for draft in islice(recombine.inputs(examples(texts), seed=0).drafts, 100):
        assert all(draft.input.split().count(mark) % 2 == 0 for mark in ("oio", "obo", "ouo")), draft.input


def test_long_rows_exchange_whole_sentences_at_the_same_place() -> None:
    texts = [
        " ".join(f"{place} part of {i} " + f"word{i} " * 24 + f"ends{i}." for place in ("First", "Inner", "Last"))
        for i in range(8)
    ]
    made = list(islice(recombine.inputs(examples(texts), seed=0).drafts, 30))
    assert len(made) == 30
    for draft in made:
        assert [sentence.split()[0] for sentence in words.sentences(draft.input)[::2]] == ["First", "Inner", "Last"]
        assert len(set(re.findall(r"part of (\d)", draft.input))) == 2


@pytest.mark.parametrize(
    "texts",
    [
        [
            "我想查询我的银行卡余额",
            "我想激活我的新卡",
            "请问如何激活我的银行卡",
            "请问如何查询余额",
            "我想取消我的订单",
        ],
        [
            "내 카드 잔액을 알고 싶어요",
            "카드를 어떻게 활성화하나요",
            "잔액을 어떻게 확인하나요",
            "주문을 어떻게 취소하나요",
        ],
    ],
)
def test_text_in_other_scripts_is_recombined(texts: list[str]) -> None:
    made = list(islice(recombine.inputs(examples(texts), seed=0).drafts, 5))
    assert made and all(set(draft.input) <= set("".join(texts)) for draft in made)


def test_a_large_train_set_is_sampled_and_it_is_said() -> None:
    rng = random.Random(0)
    texts = [f"{i} " + " ".join(rng.choices("cat dog sees finds the a old".split(), k=199)) for i in range(400)]
    stream = recombine.inputs(examples(texts), seed=0)
    assert "of 400 train rows" in stream.said[0]
    assert recombine.inputs(examples(texts[:20]), seed=0).said == ()


def test_without_a_teacher_pieces_come_from_rows_of_the_same_label() -> None:
    things = {"a": ("card", "phone", "car"), "b": ("dog", "cat", "cow")}
    forms = ("i lost my {} today", "where is my {} now", "he took our {} away", "they want the {} too")
    said = [(form.format(thing), label) for label in things for thing in things[label] for form in forms]
    rows = examples([text for text, _ in said[::2] + said[1::6]], [label for _, label in said[::2] + said[1::6]])
    own = {label: {word for row in rows if row.target == label for word in str(row.input).split()} for label in "ab"}
    by_id = {row.id: row for row in rows}
    made = list(islice(recombine.rows(rows, LABELS, seed=0).drafts, 50))
    assert made
    for draft in made:
        assert {by_id[parent].target for parent in draft.parents} == {draft.target}
        assert set(draft.input.split()) <= own[str(draft.target)]


def test_without_a_teacher_what_a_row_copies_is_exchanged_in_input_and_target(
    latex: Callable[[str], str | None],
) -> None:
    made = list(islice(recombine.rows(benchmark("train"), GENERATION, seed=0).drafts, 200))
    assert len(made) == 200
    assert all(latex(draft.input) == draft.target for draft in made)


def test_without_a_teacher_nothing_is_made_where_rows_copy_nothing() -> None:
    rows = examples(["the red house", "a blue car"], ["das rote Haus", "ein blaues Auto"])
    assert list(recombine.rows(rows, GENERATION, seed=0).drafts) == []


@pytest.mark.parametrize(
    ("given", "target"),
    [
        ("Tom has 3 pens and buys 5", "3 + 5 = 8"),  # a number that is worked out
        ("costs $2.50 for 4", "2.50 * 4 = 10.00"),
        ("mail Alice at alice@site.org", "Alice: alice@site.org"),  # also inside another word
        ("is a dog", "a cat"),  # a word of one letter
        ("derivative of d by s", r"\frac{\mathrm{d}}{\mathrm{d} b} d"),  # a letter that the target has of its own too
        ("Please stop", "Please"),  # a capital only because the sentence begins
    ],
)
def test_what_only_looks_copied_is_left_alone(given: str, target: str) -> None:
    others = [("we met Bob", "Bob"), ("take 9 to 7", "9, 7"), ("let k be", "k"), ("use 6.25 now", "6.25")]
    rows = examples([given, *(text for text, _ in others)], [target, *(text for _, text in others)])
    for draft in islice(copied.tries(rows, 0), 50):
        assert draft.parents[0] != "r0"


def test_exchanged_numbers_keep_their_order_of_size() -> None:
    rows = examples(["the larger of 6 and 8", "the larger of 5 and 2", "the larger of 7 and 9"], ["8", "5", "9"])
    made = list(islice(recombine.rows(rows, GENERATION, seed=0).drafts, 5))
    assert made
    assert all(draft.target == str(max(map(int, re.findall(r"\d", draft.input)))) for draft in made)


# ---------------------------------------------------------------- paraphrase


@pytest.mark.parametrize(
    ("text", "reworded"),
    [
        ("I do not know where my card is.", "I don't know where my card is."),
        ("What's the time where you are?", "What's the time where you are"),
        ("I don't have it in my bag", "I do not have it in my bag"),
        ("tell me what is in my bag", "please tell me what is in my bag"),
        ("Show me the way to do it", "Please show me the way to do it"),
    ],
)
def test_rules_reword_english_and_keep_the_target(text: str, reworded: str) -> None:
    made = {draft.input: draft for draft in paraphrase.rows(examples([text]), LABELS, seed=0).drafts}
    assert made[reworded].target == "a" and made[reworded].parents == ("r0",)


@pytest.mark.parametrize("text", ["yes it is", "why don't you have it", "isn't the card in my bag"])
def test_words_are_not_contracted_or_expanded_where_that_is_no_english(text: str) -> None:
    assert list(paraphrase.rows(examples([text]), LABELS, seed=0).drafts) == []


def test_other_languages_lose_their_end_mark_only_and_it_is_said() -> None:
    stream = paraphrase.rows(examples(["Wo ist meine Karte?", "カードはどこですか？"]), LABELS, seed=0)
    assert {draft.input for draft in stream.drafts} == {"Wo ist meine Karte", "カードはどこですか"}
    assert "do not look English" in stream.said[0]


def test_a_rewording_that_touches_what_the_target_holds_is_left_out() -> None:
    rows = examples(["I do not know what it is."], ["i do not know what it is."])
    assert list(paraphrase.rows(rows, GENERATION, seed=0).drafts) == []


def test_the_frame_of_all_inputs_is_not_reworded() -> None:
    asked = ["show me what is in the bag", "where is it", "i lost my card", "tell me why", "is this the one i have"]
    texts = [f"Classify this: {text}." for text in asked]
    made = [draft.input for draft in paraphrase.rows(examples(texts), LABELS, seed=0).drafts]
    assert "Classify this: please show me what is in the bag." in made
    assert all(text.startswith("Classify this: ") and text.endswith(".") for text in made)


@OPTIONS
@given(corpus)
def test_rewordings_are_new_and_once_each(texts: list[str]) -> None:
    made = list(paraphrase.rows(examples(texts), LABELS, seed=0).drafts)
    forms = [exact_form(draft.input) for draft in made]
    assert len(set(forms)) == len(forms) and not set(forms) & {exact_form(text) for text in texts}


# ---------------------------------------------------------------- self-instruct


def test_a_plan_asks_for_the_count_and_shows_inputs_but_no_targets() -> None:
    rows = examples([f"input number {i}" for i in range(20)], [f"secret {i}" for i in range(20)])
    requests = self_instruct.plan(rows, GENERATION, count=25, per_request=10, seed=0)
    asked = [int(re.findall(r"Write (\d+) new", messages[0]["content"])[0]) for messages, _ in requests]
    assert asked == [10, 10, 5]
    for messages, parents in requests:
        assert len(parents) == self_instruct.SHOWN
        assert all(str(rows[int(parent[1:])].input) in messages[0]["content"] for parent in parents)
        assert "secret" not in messages[0]["content"]
    assert requests == self_instruct.plan(rows, GENERATION, count=25, per_request=10, seed=0)


@pytest.mark.parametrize(
    "answer",
    [
        '["one two", "three"]',
        'Sure:\n```json\n["one two",\n "three"]\n```',
        '[{"input": "one two"}, {"text": "three"}]',
        '["one two", "three", "cut o',
        "1. one two\n2) three\n",
        '- "one two"\n* three',
        '<think>["no"]</think>["one two", "three", "one two"]',
    ],
)
def test_the_inputs_in_a_teachers_answer_are_read(answer: str) -> None:
    assert self_instruct.read(answer) == ["one two", "three"]


@pytest.mark.parametrize(
    "answer", [None, "", "I cannot help.", "[" * 100_000, '["\\ud800", "\\u001b[31mred", ""]', "[1, null]"]
)
def test_nothing_is_read_from_a_hostile_or_empty_answer(answer: str | None) -> None:
    assert self_instruct.read(answer) == []


@OPTIONS
@given(st.text(alphabet='[]{}",:\\ab1.-\n ', max_size=200))
def test_any_answer_can_be_read(answer: str) -> None:
    assert all(item == item.strip() and item for item in self_instruct.read(answer))


@OPTIONS
@given(
    st.lists(
        st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).map(str.strip).filter(bool),
        max_size=9,
    )
)
def test_a_json_list_is_read_as_it_was_written(items: list[str]) -> None:
    assume(all(item.count('"') != 2 for item in items))
    assert self_instruct.read(json.dumps(items)) == list(dict.fromkeys(items))


# ---------------------------------------------------------------- contamination

held_rows = st.lists(
    st.lists(st.sampled_from([f"w{i}" for i in range(200)]), min_size=20, max_size=30, unique=True).map(" ".join),
    min_size=1,
    max_size=8,
    unique=True,
)


@OPTIONS
@given(corpus, st.data())
def test_a_held_row_is_always_found_whatever_its_case_spaces_and_marks(texts: list[str], data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(texts))
    check = Contamination({"test": examples(texts)})
    assert check.against(f"  {text.upper()}".replace(" ", "  ")) is not None
    if words.compared(text):
        assert check.against(text.replace(".", "").replace("?", "") + " !") is not None


@OPTIONS
@given(held_rows, st.data())
def test_a_copy_with_one_word_changed_or_a_sentence_added_is_found(texts: list[str], data: st.DataObject) -> None:
    rows = examples(texts)
    row = data.draw(st.sampled_from(rows))
    parts = str(row.input).split()
    place = data.draw(st.integers(0, len(parts) - 1))
    changed = " ".join([*parts[:place], "other", *parts[place + 1 :]])
    added = f"{row.input}. And this was added by somebody who wanted to hide where the row came from, it seems. "
    added += "Then another sentence was put behind it, which is about as long, so that little of the whole is the row."
    check = Contamination({"dev": rows})
    for text in (changed, added, f"Hello there! {row.input}"):
        leak = check.against(text)
        assert leak is not None and leak.role == "dev"


def test_a_short_held_row_is_found_as_a_sentence_of_a_text() -> None:
    check = Contamination({"test": examples(["where is my card?", "thanks", "y minus x"])})
    assert check.against("Where is my card? Tell me soon.") == contamination.Leak(
        "test", "r0", "one of its sentences is the whole row"
    )
    assert check.against("Thanks. I would like to know where my other card has gone.") is None
    assert check.against("x minus y") is None
    assert Contamination({"test": examples(["3 + 4 = ?"])}).against("3 - 4 = ?") is None
    assert check.against("where is my other card?") is None


def test_rows_that_share_templates_and_a_frame_only_are_no_leak() -> None:
    check = Contamination({"test": benchmark("test"), "dev": benchmark("dev")})
    assert [row.id for row in benchmark("train") if check.against(str(row.input))] == []


def test_a_long_frame_is_no_evidence() -> None:
    frame = "You are a helpful assistant who reads the message of a customer and says what it is about. Message: {}"
    texts = [frame.format(text) for text in ("i lost a card", "where is it", "refund me", "open it", "who are you")]
    check = Contamination({"test": examples(texts)})
    assert check.against(frame.format("close my account")) is None
    assert check.against(frame.format("refund me!")) is not None
    assert check.against("Refund me") is not None


# ---------------------------------------------------------------- validation


def test_every_excuse_of_the_benchmarks_endpoint_is_caught_and_no_latex_is(
    latex: Callable[[str], str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    why_invalid = validation.checker(GENERATION, benchmark("train"), lambda target: True)
    rows = benchmark("test") + benchmark("dev")
    assert [row.id for row in rows if why_invalid(str(row.input), row.target)] == []
    excuses = 0
    for draft in islice(recombine.inputs(benchmark("train"), seed=0).drafts, 300):
        answer = latex(draft.input)
        if answer is None:
            excuses += 1
            said = "I cannot translate this text to LaTeX: 'end' was not expected."
            assert why_invalid(draft.input, said)
            assert "prose" in str(why_invalid(draft.input, said.replace("I cannot", "Nobody could")))
        else:
            assert why_invalid(draft.input, answer) is None
    assert excuses


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("I'm sorry, but I can't help with that.", "refusal"),
        ("I am unable to assist you.", "refusal"),
        ("As an AI language model, I have no view.", "refusal"),
        ("Unfortunately, I cannot say.", "refusal"),
        ("x" * 500, "characters"),
        ("red\x1b[31m", "control"),
        ("half \ud800", "control"),
        ("the question", "repeats"),
        ("wrong", "metric"),
    ],
)
def test_an_answer_that_cannot_be_used_says_why(answer: str, why: str) -> None:
    train = examples(["one", "two"], ["I am so sorry for that! Here is a list of things.", "an answer of some length"])
    why_invalid = validation.checker(GENERATION, train, lambda target: target != "wrong")
    assert why in str(why_invalid("The question", answer))
    assert why_invalid("The question", "Sorry about the delay, here is the list.") is None


def test_a_task_whose_targets_refuse_may_refuse() -> None:
    train = examples(["one", "two"], ["I cannot help with that, it is not allowed.", "Here you are."])
    assert validation.checker(GENERATION, train, lambda _: True)("q", "I cannot help with that.") is None


def test_labels_outside_the_task_are_invalid() -> None:
    multilabel = LABELS.model_copy(update={"type": "multilabel"})
    assert validation.checker(LABELS, [], lambda _: True)("q", "c") == "'c' is no label of the task"
    assert validation.checker(LABELS, [], lambda _: True)("q", "a") is None
    assert validation.checker(multilabel, [], lambda _: True)("q", ("a", "z")) == "'z' is no label of the task"
    assert validation.checker(multilabel, [], lambda _: True)("q", ()) is None


# ---------------------------------------------------------------- data card


def facts(texts: Sequence[str], **changed: Any) -> data_card.Facts:
    rows = examples(texts)
    kept = [(row, Draft(str(row.input), None, "recombine", ("t1",))) for row in rows]
    removed = [Removed("x", "near", "r0"), Removed("y", "contaminated", "test-1"), Removed("z", "near", "r1")]
    given: dict[str, Any] = {
        "task": "t",
        "train_rows": 5,
        "kept": kept,
        "removed": removed,
        "teacher": "openai:m",
        "cost_usd": 0.5,
        "embedder": "lexical",
        "seed": 3,
    }
    return data_card.Facts(**given | changed)


def test_the_card_says_what_was_made_removed_and_by_whom() -> None:
    text = data_card.card(facts([f"input {i}" for i in range(9)], said=("a choice was made",)))
    assert "9 new rows, made from 5 given train rows" in text
    assert "| nearly repeats one | 2 |" in text and "| repeats a test or dev row | 1 |" in text
    assert "openai:m" in text and "$0.5000" in text and "lexical" in text and "a choice was made" in text
    assert "terms of its provider" in text
    assert text.count("target: ") == data_card.SAMPLES
    assert "terms of its provider" not in data_card.card(facts(["x"], teacher=None))


def test_no_text_of_a_row_gets_out_of_its_code_block() -> None:
    text = data_card.card(facts(["a\n```\n<script>alert(1)</script>\n````\x1b[31m\u202e"]))
    inside = re.findall(r"^(`{3,})text\n(.*?)\n\1$", text, re.DOTALL | re.MULTILINE)
    assert len(inside) == 1 and "<script>" in inside[0][1]
    assert "<script>" not in text.replace(inside[0][1], "")
    assert "\x1b" not in text and "\u202e" not in text


def test_provenance_names_parents_teacher_and_the_digest_of_the_input() -> None:
    (row,) = examples(["input"])
    line = data_card.provenance(row, Draft("input", None, "generate", ("t1", "t2")), teacher="openai:m", cost_usd=0.1)
    assert line["parents"] == ["t1", "t2"] and line["teacher"] == "openai:m" and line["method"] == "generate"
    assert len(str(line["input_sha256"])) == 64 and json.dumps(line)


# ---------------------------------------------------------------- real data


@pytest.mark.skipif(not CLINC.exists(), reason="needs ../shared/data")
def test_real_intents_give_new_inputs_and_rows() -> None:
    drawn = random.Random(0).sample(json.loads(CLINC.read_text())["train"], 400)
    rows = examples([text for text, _ in drawn], [label for _, label in drawn])
    assert len(list(islice(recombine.inputs(rows, seed=0).drafts, 200))) == 200
    labels = {row.id: row.target for row in rows}
    made = list(islice(recombine.rows(rows, LABELS, seed=0).drafts, 30))
    assert made and all({labels[parent] for parent in draft.parents} == {draft.target} for draft in made)
