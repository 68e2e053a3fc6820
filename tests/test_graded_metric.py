"""The metric graded: a row lists its accepted answers with their grades; what is listed badly is named before anything runs."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalft import config, metrics, pipeline, preparing, scoring, testset
from evalft.config import MetricSpec, TaskConfig
from evalft.errors import UserError
from evalft.metrics import text
from evalft.records import Example, Failure, Prediction

GRADED = MetricSpec(name="graded", options={"column": "answers"})
POWER = [{"text": "x^2", "score": 1}, {"text": "x^{2}", "score": 0.5}]
TEXTS = st.text("abc ^{}", min_size=1).filter(str.strip)


def example(answers, target="x^{2}", i=0):
    return Example(id=f"e{i}", input="x squared", target=target, row={"answers": answers}, source=f"test.jsonl:{i + 1}")


def task_of(**keys):
    return TaskConfig.model_validate({"type": "generation", "metrics": [{"graded": {"column": "answers"}}]} | keys)


def grade(answer, answers, normalizers=("strip", "collapse_spaces")):
    return text.row_scores(GRADED, [answer], [example(answers)], normalizers)[0]


def wrote(i, said, repeat=0):
    return Prediction(id=f"e{i}", index=i, repeat=repeat, text=said, labels=None)


# ---------------------------------------------------------------- scores


def test_an_answer_has_the_grade_of_the_accepted_answer_that_it_is():
    assert [grade(said, POWER) for said in ("x^2", "x^{2}", "x2", None)] == [1, 0.5, 0, 0]


def test_an_answer_is_compared_after_the_tasks_normalisation_only():
    assert grade(" x^2\n", POWER) == 1
    assert grade(" x^2\n", POWER, ()) == 0
    assert grade("X^2", POWER) == 0
    assert grade("X^2", POWER, ("lower",)) == 1


def test_an_answer_that_equals_several_accepted_ones_has_the_best_grade():
    twice = [{"text": "x y", "score": 0.25}, {"text": "x  y", "score": 0.75}, {"text": "x y ", "score": 0.5}]
    assert grade("x y", twice) == 0.75


def test_plain_texts_are_all_right_and_a_csv_cell_holds_the_same_list_as_json():
    assert grade("b", ["a", "b"]) == 1
    assert grade("12", [12]) == 1
    assert [grade(said, json.dumps(POWER)) for said in ("x^2", "x^{2}")] == [1, 0.5]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(TEXTS, st.floats(0, 1)), min_size=1), TEXTS, st.randoms())
def test_a_grade_is_the_best_of_the_equal_ones_in_whatever_order_and_form_they_are_listed(listed, other, rng):
    answers = [{"text": said, "score": score} for said, score in listed]
    shuffled = rng.sample(answers, len(answers))
    for said in [*(said for said, _ in listed), other]:
        same = [score for text_, score in listed if " ".join(text_.split()) == " ".join(said.split())]
        assert grade(said, answers) == max(same, default=0)
        assert grade(said, shuffled) == grade(said, json.dumps(answers)) == grade(said, answers)


def test_scoring_gives_the_mean_with_an_interval_and_failures_count_as_zero():
    examples = [example(POWER, i=i) for i in range(4)]
    outcomes = [wrote(0, "x^2"), wrote(1, "x^{2}"), wrote(2, "x"), Failure("e3", 3, 0, "empty", "")]
    found = scoring.score(examples, outcomes, task_of())
    interval = found.intervals["graded"].estimate(0.95)
    assert (interval.value, found.row_metric, found.row_scores.tolist()) == (0.375, "graded", [1, 0.5, 0, 0])
    assert 0 <= interval.low < 0.375 < interval.high <= 1
    scorer = scoring.row_scorer(task_of())
    assert [scorer(*pair) for pair in zip(examples, outcomes, strict=True)] == found.row_scores.tolist()


def test_several_answers_of_one_row_are_graded_each_by_that_row():
    examples = [example(POWER, i=0), example(["y"], target="y", i=1)]
    outcomes = [wrote(0, "x^2"), wrote(0, "y", 1), wrote(1, "y"), wrote(1, "y", 1)]
    assert scoring.score(examples, outcomes, task_of()).row_scores.tolist() == [0.5, 1]


# ---------------------------------------------------------------- faults


@pytest.mark.parametrize("options", [{}, {"column": None}, {"column": ["a"]}, {"columns": "answers"}])
def test_the_option_that_names_the_column_is_checked(options):
    (fault,) = metrics.check([MetricSpec(name="graded", options=options)], "generation", None, None)
    assert fault.startswith("task.metrics: graded: ") and "column" in fault


def test_a_threshold_on_graded_needs_it_among_the_metrics():
    (fault,) = metrics.check_thresholds(["graded"], [MetricSpec(name="exact_match")], "generation")
    assert fault.startswith("thresholds: graded: needs the column")
    assert metrics.check_thresholds(["graded"], [GRADED], "generation") == []


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        (None, "missing"),
        ([], "an empty list"),
        ("x^2", "text"),
        ("[" * 100_000, "text"),
        ({"text": "x", "score": 1}, "an object"),
        ([""], "answer 1 of 'answers' is empty"),
        (["a", None], "answer 2 of 'answers' is missing"),
        ([["a"]], "answer 1 of 'answers' is a list"),
        ([{"text": "a"}], "has no score"),
        ([{"score": 1}], "has no text"),
        ([{"text": "a", "score": 1.5}], "1.5"),
        ([{"text": "a", "score": -0.1}], "-0.1"),
        ([{"text": "a", "score": math.nan}], "nan"),
        ([{"text": "a", "score": True}], "True"),
        ([{"text": "a", "score": "1"}], "'1'"),
    ],
)
def test_a_row_whose_answers_cannot_be_read_is_named_with_its_place(answers, reason):
    with pytest.raises(UserError) as caught:
        scoring.check_columns([example(POWER), example(answers, i=1)], task_of())
    (fault,) = caught.value.faults
    assert fault.startswith("test.jsonl:2: ") and reason in fault
    with pytest.raises(UserError, match=r"test\.jsonl:2"):  # where nobody checked before
        text.row_scores(GRADED, ["x"], [example(answers, i=1)], ())


def test_every_bad_row_is_named_at_once_but_a_column_that_no_row_has_is_one_mistake():
    rows = [example(POWER), *(example("bad", i=i) for i in range(1, 101))]
    with pytest.raises(UserError) as caught:
        scoring.check_columns(rows, task_of())
    assert len(caught.value.faults) == 51 and caught.value.faults[-1] == "... and 50 more bad rows"
    with pytest.raises(UserError) as caught:
        scoring.check_columns(rows, task_of(metrics=[{"graded": {"column": "answer"}}]))
    (fault,) = caught.value.faults
    assert "no column 'answer'" in fault and "did you mean 'answers'?" in fault
    scoring.check_columns(rows, task_of(metrics=["exact_match"]))


def test_a_target_may_be_a_lesser_accepted_answer_but_must_be_one():
    rows = [example(POWER, target=target, i=i) for i, target in enumerate(["x^2", "x^{2}", "x"])]
    (fault,) = scoring.check_gold(rows, task_of())
    assert fault.startswith("test.jsonl:3: ") and "graded" in fault


def test_accepted_answers_come_through_every_kind_of_file(tmp_path):
    import pandas as pd

    rows = pd.DataFrame({"input": ["x squared", "y"], "target": ["x^{2}", "y"], "answers": [POWER, ["y"]]})
    rows.to_json(tmp_path / "rows.jsonl", orient="records", lines=True)
    rows.assign(answers=rows["answers"].map(json.dumps)).to_csv(tmp_path / "rows.csv", index=False)
    rows.assign(answers=[POWER, [{"text": "y", "score": 1}]]).to_parquet(tmp_path / "rows.parquet")
    for name in ("rows.jsonl", "rows.csv", "rows.parquet"):
        data = testset.load(task_of(test=str(tmp_path / name), input="input", target="target"))
        scoring.check_columns(data.test, task_of())
        assert text.row_scores(GRADED, ["x^{2}", "y"], data.test, ()).tolist() == [0.5, 1], name


ANIMALS = (
    "an otter,a heron,a badger,a lynx,a stoat,a swift,a newt,a vole,a raven,a hare,an adder,a bat,a beaver,a boar,a carp,"
    "a crane,a deer,a dove,an eel,an elk,a finch,a frog,a gull,a hawk,a jay,a kite,a lark,a mole,an owl,a perch"
).split(",")


TEMPLATES = ("I do not know what {} is called", "{} is not what we see here", "they cannot name {} at all")


def test_a_made_row_does_not_inherit_the_accepted_answers_of_its_parent(tmp_path: Path) -> None:
    """They are answers to another input: pairs ordered by them would teach the parent's answer for it."""
    rows = [
        {"id": f"r{i}", "input": TEMPLATES[i % 3].format(ANIMALS[i]), "target": f"T{i}", "forms": [f"T{i}"]}
        for i in range(30)
    ]
    task = {"type": "generation", "input": "input", "target": "target", "metrics": [{"graded": {"column": "forms"}}]}
    for name, some in (("test", rows[:5]), ("dev", rows[5:10]), ("train", rows[10:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
        task[name] = f"{name}.jsonl"
    made = config.build(
        {
            "task": task,
            "candidates": [{"model": "fake:echo"}],
            "expand": {"methods": ["paraphrase"], "target_rows": 25},
        },
        source="test",
        folder=tmp_path,
    )
    pipeline.expand(made, out=tmp_path / "run")
    expanded = [json.loads(line) for line in (tmp_path / "run" / "data" / "expanded.jsonl").read_text().splitlines()]
    assert expanded and all("forms" not in row["row"] for row in expanded)


def test_other_grades_are_another_run(tmp_path: Path) -> None:
    digests = set()
    for grade in (0.5, 0.6):
        row = {"input": "a", "target": "x", "forms": [{"text": "x", "score": 1}, {"text": "y", "score": grade}]}
        (tmp_path / "test.jsonl").write_text(json.dumps(row) + "\n")
        task = {"test": "test.jsonl", "type": "generation", "metrics": [{"graded": {"column": "forms"}}]}
        made = config.build(
            {"task": task | {"input": "input", "target": "target"}, "candidates": [{"model": "fake:echo"}]},
            source="test",
            folder=tmp_path,
        )
        digests.add(preparing.prepare(made).digest)
    assert len(digests) == 2
