"""The bundled benchmark shortest-latex: its rows, the spellings it accepts, and a reader that checks them on its own."""

from __future__ import annotations

import importlib
import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalft import checking, config

ROOT = Path(__file__).resolve().parent.parent
BENCHMARK = ROOT / "benchmarks" / "shortest-latex"
OTHER = ROOT / "benchmarks" / "english-to-latex"
SPLITS = {"test": 400, "dev": 100, "train": 300}


def load_modules(*names: str) -> list[ModuleType]:
    """The benchmark's own modules; their plain names are taken back, for another benchmark may use the same."""
    before = set(sys.modules)
    sys.path[:0] = [str(OTHER), str(BENCHMARK)]
    try:
        return [importlib.import_module(name) for name in names]
    finally:
        del sys.path[:2]
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", None)).startswith((str(OTHER), str(BENCHMARK))):
                del sys.modules[name]


grammar, forms, reader = load_modules("grammar", "forms", "reader")


def rows(split: str, benchmark: Path = BENCHMARK) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (benchmark / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


EVERY_ROW = [row for split in SPLITS for row in rows(split)]


# --- rows ---


@pytest.mark.slow
def test_rows_are_what_make_rows_makes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, BENCHMARK / "make_rows.py", "--out", tmp_path], check=True)
    for split in SPLITS:
        assert (tmp_path / f"{split}.jsonl").read_bytes() == (BENCHMARK / f"{split}.jsonl").read_bytes()


def test_splits_have_their_sizes_and_share_no_phrase_with_each_other_or_with_english_to_latex() -> None:
    assert {split: len(rows(split)) for split in SPLITS} == SPLITS
    for column in ("id", "phrase"):
        assert len({row[column] for row in EVERY_ROW}) == sum(SPLITS.values())
    theirs = {row["input"].partition(": ")[2] for split in ("test", "dev", "train") for row in rows(split, OTHER)}
    assert not theirs & {row["phrase"] for row in EVERY_ROW}
    assert max(len(row["phrase"].split()) for row in EVERY_ROW) <= 15


@pytest.mark.parametrize("split", SPLITS)
def test_every_construct_has_about_as_many_rows(split: str) -> None:
    counts = Counter(row["construct"] for row in rows(split))
    assert set(counts) == set(grammar.CONSTRUCTS) - {"subscript"}
    assert max(counts.values()) - min(counts.values()) <= 1


def test_every_accepted_answer_of_a_row_means_its_phrase() -> None:
    for row in EVERY_ROW:
        for answer in row["answers"]:
            assert grammar.english(reader.read(answer["text"])) == row["phrase"]


def test_the_answers_of_a_row_are_all_that_the_rules_make_and_the_first_is_the_shortest() -> None:
    for row in EVERY_ROW:
        texts = [answer["text"] for answer in row["answers"]]
        lengths = [len(text.replace(" ", "")) for text in texts]
        node = reader.read(texts[0])
        assert texts == [writing.text for writing in forms.writings(node)]
        assert grammar.latex(node) in texts and grammar.depth_of(node) == 2
        assert len(set(texts)) == len(texts) >= 2
        assert lengths == sorted(lengths)
        for answer, length in zip(row["answers"], lengths, strict=True):
            assert answer["score"] == round(lengths[0] / length, 4)


def test_the_target_is_the_shortest_to_be_scored_and_somebodys_way_to_be_trained_on() -> None:
    for row in EVERY_ROW:
        texts = [answer["text"] for answer in row["answers"]]
        assert row["target"] in texts
        assert row["target"] == texts[0] or row["id"].startswith("train-")
    shortest = sum(row["target"] == row["answers"][0]["text"] for row in rows("train"))
    assert 0 < shortest < SPLITS["train"] / 2


def test_the_card_says_what_the_rows_are() -> None:
    card = " ".join((BENCHMARK / "README.md").read_text(encoding="utf-8").split())
    train = rows("train")
    grades = [next(a["score"] for a in row["answers"] if a["text"] == row["target"]) for row in train]
    per_construct = Counter(row["construct"] for row in rows("test")).values()
    for said in (
        f"{SPLITS['test']}, {SPLITS['dev']} and {SPLITS['train']} rows",
        f"{min(per_construct)} or {max(per_construct)} rows",
        f"{forms.LONG_SHARE:.0%}".replace("%", " times in 100"),
        f"{grades.count(1)} of the {len(train)} are the shortest, and their mean grade is {sum(grades) / len(train):.2f}",
        f"at most {max(len(row['answers']) for row in EVERY_ROW)}",
        f"at most {max(len(row['phrase'].split()) for row in EVERY_ROW)} words",
    ):
        assert said in card, said
    assert all([answer["score"] for answer in row["answers"]].count(1) == 1 for row in EVERY_ROW)


def test_the_config_is_complete_and_warns_of_nothing(tmp_path: Path) -> None:
    found = checking.check(config.load(BENCHMARK / "evalft.yaml"), out=tmp_path / "run")
    assert found.warnings == ()
    data = found.prepared.data
    assert {split: len(getattr(data, split)) for split in SPLITS} == SPLITS


# --- forms and reader ---


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(min_value=0), depth=st.integers(0, 3))
def test_a_reader_that_knows_nothing_of_the_shapes_reads_every_spelling_as_what_was_written(
    seed: int, depth: int
) -> None:
    node = grammar.sample(random.Random(seed), depth)
    for writing in forms.writings(node)[:200]:
        assert grammar.english(reader.read(writing.text)) == grammar.english(node)


def test_no_spelling_means_two_phrases() -> None:
    rng = random.Random(1)
    phrase_of: dict[str, str] = {}
    for _ in range(3_000):
        node = grammar.sample(rng, rng.choice((1, 1, 2, 2)))
        for writing in forms.writings(node):
            assert phrase_of.setdefault(writing.text, grammar.english(node)) == grammar.english(node)


@pytest.mark.parametrize(
    ("node", "spellings"),
    [
        (("squared", "x"), ["x^2", "x^{2}"]),
        (("power", "x", "ten"), ["x^{10}"]),
        (("fraction", "x", "two"), ["x/2", "\\frac{x}{2}"]),
        (("fraction", "x", "ten"), ["\\frac{x}{10}"]),
        (("square_root", "x"), ["\\sqrt{x}", "\\sqrt[2]{x}"]),
        (("cosine", "x"), ["\\cos(x)", "\\cos\\left( x \\right)"]),
        (("times", "two", "x"), ["2 x", "2 \\cdot x"]),
        (("times", "x", "two"), ["x \\cdot 2"]),
        (("times", "x", ("absolute", "y")), ["x \\cdot |y|", "x \\cdot \\left| y \\right|"]),
        (("absolute", ("absolute", "x")), ["\\left| |x| \\right|", "\\left| \\left| x \\right| \\right|"]),
    ],
)
def test_a_shorter_spelling_is_accepted_only_where_it_stays_unambiguous(node: Any, spellings: list[str]) -> None:
    assert [writing.text for writing in forms.writings(node)] == spellings


def test_a_fraction_of_two_tokens_is_bracketed_where_it_is_a_factor() -> None:
    texts = {writing.text for writing in forms.writings(("times", "two", ("fraction", "x", "y")))}
    assert {"2 (x/y)", "2 \\frac{x}{y}"} <= texts and not {"2 x/y", "2 (\\frac{x}{y})"} & texts


@pytest.mark.parametrize(
    "latex",
    [
        "",
        "x +",
        "x^10",
        "\\sqrt 10",
        "x = y = z",
        "x/y/z",
        "x^2^3",
        "\\sin x",
        "\\left( x )",
        "\\sqrt[3][2]{x}",
        "\\frac{x}",
        "d",
        "11",
        "(" * 5000,
    ],
)
def test_what_is_no_latex_of_the_benchmark_is_refused_not_guessed(latex: str) -> None:
    with pytest.raises(reader.Unreadable):
        reader.read(latex)
