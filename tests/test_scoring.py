"""Outcomes -> Scored: failures as misses, votes of several answers, coverage, intervals, other rows, gold."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from evalft import metrics, scoring
from evalft.config import TaskConfig
from evalft.errors import UserError
from evalft.records import Example, Failure, Prediction, Usage

LABELS = ["ham", "spam", "other"]


def task_of(task_type="classification", **keys):
    return TaskConfig.model_validate(
        {"type": task_type, "labels": None if task_type == "generation" else LABELS} | keys
    )


def example(i, target, **keys):
    return Example(id=f"e{i}", input=f"row {i}", target=target, row={}, source=f"test.jsonl:{i + 1}", **keys)


def said(i, labels, repeat=0, **keys):
    labels = (labels,) if isinstance(labels, str) else labels
    return Prediction(id=f"e{i}", index=i, repeat=repeat, text=keys.pop("text", None), labels=labels, **keys)


def wrote(i, text, repeat=0, **keys):
    return Prediction(id=f"e{i}", index=i, repeat=repeat, text=text, labels=None, **keys)


def failed(i, kind="unparsable", repeat=0, **keys):
    return Failure(id=f"e{i}", index=i, repeat=repeat, failure=kind, message="", **keys)


def noisy_run(n=60, seed=0, failures=0.1):
    """A classification run of a candidate that is right about two times in three, some rows failed."""
    rng = np.random.default_rng(seed)
    examples = [example(i, LABELS[rng.integers(3)]) for i in range(n)]
    outcomes = []
    for i, one in enumerate(examples):
        probs = rng.dirichlet(np.where(np.array(LABELS) == one.target, 3, 1))
        if rng.random() < failures:
            outcomes.append(failed(i, cost_usd=0.25))
        else:
            outcomes.append(
                said(
                    i,
                    LABELS[probs.argmax()],
                    probs=dict(zip(LABELS, probs, strict=True)),
                    probs_method="log_likelihood",
                    cost_usd=0.5,
                    latency_s=float(rng.exponential()),
                )
            )
    return examples, outcomes


def test_every_headline_number_can_be_had_from_the_predictions_by_scikit_learn():
    examples, outcomes = noisy_run()
    found = scoring.score(examples, outcomes, task_of(metrics=["accuracy", "f1", "jaccard_micro", "mcc", "roc_auc"]))
    y_true = [one.target for one in examples]
    y_pred = [one.labels[0] if isinstance(one, Prediction) else "failure" for one in outcomes]
    value = {name: interval.value for name, interval in found.intervals.items()}
    assert value["accuracy"] == pytest.approx(sk.accuracy_score(y_true, y_pred), abs=1e-12)
    f1 = sk.f1_score(y_true, y_pred, labels=LABELS, average="macro", zero_division=0)
    assert value["f1"] == pytest.approx(f1, abs=1e-12)
    jaccard = sk.jaccard_score(y_true, y_pred, labels=LABELS, average="micro", zero_division=0)
    assert value["jaccard_micro"] == pytest.approx(jaccard, abs=1e-12)
    assert value["mcc"] == pytest.approx(sk.matthews_corrcoef(y_true, y_pred), abs=1e-12)
    onehot = np.array([[label == target for label in LABELS] for target in y_true])
    ranked = [
        [one.probs[label] for label in LABELS]
        if isinstance(one, Prediction)
        else [-1.0 if label == target else 1 / 2 for label in LABELS]
        for one, target in zip(outcomes, y_true, strict=True)
    ]
    assert value["roc_auc"] == pytest.approx(sk.roc_auc_score(onehot, ranked, average="macro"), abs=1e-12)
    assert found.intervals["roc_auc"].probs_method == found.probs_method == "log_likelihood"
    assert found.intervals["accuracy"].probs_method is None


def test_intervals_hold_their_value_and_name_the_method_of_the_design():
    examples, outcomes = noisy_run()
    found = scoring.score(examples, outcomes, task_of(), extra_metrics=["brier", "cost_per_query", "accuracy"])
    for name, interval in found.intervals.items():
        low, high = interval.ends(0.025)
        assert low <= interval.value <= high, name
        assert interval.n == (found.coverage.scored if name.startswith("latency") else len(examples))
    methods = {name: interval.method for name, interval in found.intervals.items()}
    assert methods["accuracy"] == methods["strict_accuracy"] == "clopper_pearson"
    assert methods["f1"] == methods["roc_auc"] == methods["brier"] == methods["cost_per_query"] == "bca"
    assert methods["latency_p50"] == methods["latency_p95"] == "order_statistic"


def test_two_classes_take_delongs_interval():
    examples, outcomes = noisy_run(80)
    pairs = [(e, o) for e, o in zip(examples, outcomes, strict=True) if e.target != "other"]
    found = scoring.score(*zip(*pairs, strict=True), task_of(labels=["ham", "spam"], metrics=["roc_auc"]))
    assert found.intervals["roc_auc"].method == "delong_newcombe"
    assert "roc_auc" not in found.cannot_pass


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 29), min_size=1, max_size=60), st.integers(0, 3))
def test_resampled_rows_score_as_those_rows_would_alone(index, seed):
    examples, outcomes = noisy_run(30, seed)
    names = ["accuracy", "f1", "f1_micro", "jaccard_weighted", "roc_auc_micro", "brier", "ece", "pr_auc"]
    task = task_of(metrics=names)
    again = scoring.score(examples, outcomes, task).resample(np.array(index))
    renamed = [
        (
            Example(id=str(k), input="", target=examples[i].target, row={}),
            type(outcomes[i])(**{f: getattr(outcomes[i], f) for f in outcomes[i].__slots__} | {"id": str(k)}),
        )
        for k, i in enumerate(index)
    ]
    alone = scoring.score(*zip(*renamed, strict=True), task)
    same = ["accuracy", "strict_accuracy", "brier", "ece", "cost_per_query", "latency_p50", "latency_p95"]
    if {examples[i].target for i in index} == set(LABELS):
        same = list(again)
    for name in same:
        value = alone.intervals[name].value
        assert again[name] == pytest.approx(np.nan if value is None else value, abs=1e-12, nan_ok=True), name


def test_resampling_all_rows_once_gives_the_values_themselves():
    examples, outcomes = noisy_run()
    found = scoring.score(examples, outcomes, task_of())
    again = found.resample(np.arange(len(examples)))
    assert again.keys() == found.intervals.keys()
    for name, value in again.items():
        assert value == pytest.approx(found.intervals[name].value, abs=1e-12)


def test_a_failure_stays_in_every_denominator_and_is_shown_by_kind():
    examples = [example(i, "ham") for i in range(4)]
    outcomes = [said(0, "ham"), failed(1, "refused"), failed(2, "timeout"), failed(3, "refused")]
    found = scoring.score(examples, outcomes, task_of(metrics=["accuracy", "brier"]))
    assert found.intervals["accuracy"].value == 1 / 4
    assert found.intervals["brier"].value == 3 / 4
    assert found.coverage == scoring.Coverage(total=4, scored=1, rescued=0, failures={"refused": 2, "timeout": 1})
    assert [score.failure for score in found.scores] == [None, "refused", "timeout", "refused"]
    assert found.row_scores.tolist() == [1, 0, 0, 0]


def test_where_every_row_failed_nothing_raises():
    examples = [example(i, LABELS[i % 3]) for i in range(6)]
    outcomes = [failed(i, "connection") for i in range(6)]
    for keys in ({}, {"metrics": ["roc_auc", "pr_auc_micro", "ece", "mcc", "f1_micro"]}):
        found = scoring.score(examples, outcomes, task_of(**keys))
        assert found.intervals["accuracy"].value == 0
        assert found.intervals["latency_p50"].value is None
        assert found.intervals["latency_p50"].reason == "no answer succeeded"
        assert found.probs_method is None


def test_rescued_answers_count_in_accuracy_and_not_in_strict_accuracy():
    examples = [example(i, "ham") for i in range(4)]
    outcomes = [said(0, "ham"), said(1, "ham", rescued=True), said(2, "spam", rescued=True), said(3, "spam")]
    found = scoring.score(examples, outcomes, task_of())
    assert found.intervals["accuracy"].value == 2 / 4
    assert found.intervals["strict_accuracy"].value == 1 / 4
    assert found.coverage.rescued == 2
    assert [score.rescued for score in found.scores] == [False, True, True, False]


def test_several_answers_vote_and_ties_go_to_the_first_label_of_the_task():
    examples = [example(i, target) for i, target in enumerate(["spam", "ham", "spam", "ham"])]
    votes = [["spam", "ham", "spam"], ["spam", "ham", None], [None, "spam", None], [None, None, None]]
    outcomes = [
        said(i, label, repeat) if label else failed(i, "empty", repeat)
        for i, labels in enumerate(votes)
        for repeat, label in enumerate(labels)
    ]
    found = scoring.score(examples, outcomes[::-1], task_of(metrics=["accuracy", "brier"]))
    assert [score.values["accuracy"] for score in found.scores] == [1, 1, 1, 0]
    assert found.probs_method == "vote"
    shares = [(1 / 3, 2 / 3), (1 / 2, 1 / 2), (0, 1)]
    wanted = [(0, 1), (1, 0), (0, 1)]
    losses = [sum((p - y) ** 2 for p, y in zip(*pair, strict=True)) / 2 for pair in zip(shares, wanted, strict=True)]
    assert found.intervals["brier"].value == pytest.approx((sum(losses) + 1) / 4)
    assert (found.coverage.total, found.coverage.scored) == (4, 3)


def test_several_multilabel_answers_keep_the_labels_of_more_than_half():
    examples = [example(0, ("ham", "spam")), example(1, ())]
    outcomes = [
        said(0, ("ham",)),
        said(0, ("ham", "spam"), 1),
        said(0, ("spam", "other"), 2),
        *(said(1, (), repeat) for repeat in range(3)),
    ]
    found = scoring.score(examples, outcomes, task_of("multilabel", metrics=["accuracy", "jaccard"]))
    assert found.intervals["accuracy"].value == 1


def test_several_texts_score_their_mean_and_are_no_proportion():
    examples = [example(0, "x"), example(1, "y")]
    outcomes = [wrote(0, "x"), wrote(0, "z", 1), wrote(1, " y\n"), failed(1, "truncated", 1)]
    found = scoring.score(examples, outcomes, task_of("generation", metrics=["exact_match"]))
    assert found.intervals["exact_match"].value == 0.5
    assert found.intervals["exact_match"].method != "clopper_pearson"
    assert [score.values["exact_match"] for score in found.scores] == [0.5, 0.5]
    once = scoring.score(examples, outcomes[::2], task_of("generation", metrics=["exact_match", "token_f1"]))
    assert once.intervals["exact_match"].method == "clopper_pearson"


def test_thinking_is_no_part_of_a_generated_answer():
    found = scoring.score([example(0, "x")], [wrote(0, "<think>y</think>\nx")], task_of("generation"))
    assert found.intervals["exact_match"].value == 1


def test_cost_is_of_all_answers_of_an_example_and_a_timeout_is_a_latency_of_at_least_what_was_waited():
    examples = [example(i, "ham") for i in range(2)]
    outcomes = [
        said(0, "ham", 0, cost_usd=1.0, latency_s=1.0),
        failed(0, "timeout", 1, cost_usd=2.0, latency_s=60.0),
        said(1, "ham", 0, cost_usd=4.0, latency_s=3.0),
        said(1, "ham", 1, cost_usd=1.0, latency_s=2.0),
    ]
    found = scoring.score(examples, outcomes, task_of())
    assert found.intervals["cost_per_query"].value == 4.0
    assert found.intervals["latency_p50"].value == 2.0
    assert found.intervals["latency_p95"].value == 60.0
    assert found.intervals["latency_p95"].ends(0.4)[1] == math.inf  # it may have taken any time
    assert "timeout" in str(found.intervals["latency_p50"].reason)


def test_rows_of_one_batch_are_one_measurement_of_time():
    examples = [example(i, "ham") for i in range(80)]
    outcomes = [said(i, "ham", latency_s=1.0 + i // 20) for i in range(80)]
    found = scoring.score(examples, outcomes, task_of()).intervals["latency_p95"]
    assert found.value == 4.0 and found.ends(0.025)[1] == math.inf and "4 batches" in str(found.reason)
    named = [replace(outcome, batch=20 * (i // 20)) for i, outcome in enumerate(outcomes)]
    again = scoring.score(examples, named, task_of()).intervals["latency_p95"]
    assert (again.ends(0.1), again.reason) == (found.ends(0.1), found.reason)
    alone = [replace(outcome, batch=i) for i, outcome in enumerate(outcomes)]
    apart = scoring.score(examples, alone, task_of()).intervals["latency_p95"]
    assert apart.reason is None and apart.ends(0.025)[1] < math.inf


def test_a_cost_that_is_partly_assumed_says_so():
    examples = [example(i, "ham") for i in range(2)]
    worst = Usage(10, 10, estimated=True)
    outcomes = [said(0, "ham", cost_usd=1.0), replace(failed(1, "timeout", cost_usd=3.0), usage=worst)]
    assert "75%" in str(scoring.score(examples, outcomes, task_of()).intervals["cost_per_query"].reason)


def test_rows_of_one_group_count_for_less():
    examples, outcomes = noisy_run(60)
    grouped = [example(i, one.target, group=f"g{i // 6}") for i, one in enumerate(examples)]
    found = scoring.score(grouped, outcomes, task_of())
    methods = {name: interval.method for name, interval in found.intervals.items()}
    assert methods["accuracy"] == "korn_graubard"
    assert methods["f1"] == methods["roc_auc"] == methods["cost_per_query"] == "jackknife_t"
    few = [example(i, one.target, group=f"g{i // 20}") for i, one in enumerate(examples)]
    assert "3 groups" in scoring.score(few, outcomes, task_of()).intervals["accuracy"].reason


def test_a_macro_metric_cannot_pass_while_a_class_has_under_ten_rows():
    examples = [example(i, "ham" if i < 10 else "spam") for i in range(19)]
    outcomes = [said(i, "ham") for i in range(19)]
    names = ["accuracy", "f1", "f1_micro", "balanced_accuracy", "roc_auc", "pr_auc_weighted", "mcc"]
    found = scoring.score(examples, outcomes, task_of(labels=["ham", "spam"], metrics=names))
    assert found.cannot_pass.keys() == {"f1", "balanced_accuracy"}
    assert "'spam' has 9 rows" in found.cannot_pass["f1"]
    assert found.smallest_class == 9
    enough = scoring.score(
        [*examples, example(19, "spam")], [*outcomes, said(19, "ham")], task_of(labels=["ham", "spam"])
    )
    assert enough.cannot_pass == {}


def test_labels_that_no_target_has_are_named_and_left_out_of_averages():
    examples, outcomes = noisy_run(40, failures=0)
    kept = [(e, o) for e, o in zip(examples, outcomes, strict=True) if e.target != "other"]
    found = scoring.score(*zip(*kept, strict=True), task_of())
    assert found.unsupported == ("other",)
    assert [row.label for row in found.per_label] == ["ham", "spam"]
    y_true, y_pred = [e.target for e, _ in kept], [o.labels[0] for _, o in kept]
    expected = sk.f1_score(y_true, y_pred, labels=["ham", "spam"], average="macro", zero_division=0)
    assert found.intervals["f1"].value == pytest.approx(expected, abs=1e-12)
    assert found.confusion.labels == tuple(LABELS)
    assert found.confusion.columns == (*LABELS, scoring.NO_LABEL)
    assert sum(map(sum, found.confusion.counts)) == len(kept)
    assert found.confusion.counts[0][2] == sum(t == "ham" and p == "other" for t, p in zip(y_true, y_pred, strict=True))


def test_the_row_metric_is_the_primarys_own_or_accuracy():
    examples, outcomes = noisy_run(20)
    assert scoring.score(examples, outcomes, task_of(metrics=["f1", "accuracy"])).row_metric == "accuracy"
    sets = [example(0, ("ham", "spam")), example(1, ("spam",))]
    found = scoring.score(sets, [said(0, ("ham",)), said(1, ("spam",))], task_of("multilabel"))
    assert (found.primary, found.row_metric, found.row_scores.tolist()) == ("jaccard", "jaccard", [0.5, 1])


def test_the_running_score_of_single_outcomes_adds_up_to_the_row_scores():
    examples, outcomes = noisy_run(20)
    task = task_of(metrics=["f1"])
    scorer = scoring.row_scorer(task)
    rows = scoring.score(examples, outcomes, task).row_scores
    assert [scorer(e, o) for e, o in zip(examples, outcomes, strict=True)] == rows.tolist()
    one = scoring.row_scorer(task_of("multilabel"))
    assert one(example(0, ("ham", "spam")), said(0, ("ham", "other"))) == 1 / 3
    assert one(example(0, ()), said(0, ())) == 1 and one(example(0, ()), failed(0)) == 0
    text = scoring.row_scorer(task_of("generation"))
    assert (text(example(0, "x"), wrote(0, "x ")), text(example(0, "x"), failed(0))) == (1, 0)


@pytest.mark.parametrize(
    "outcomes",
    [
        [said(0, "ham")],
        [said(0, "ham"), said(1, "ham"), said(2, "ham")],
        [said(0, "ham"), said(1, "ham"), said(1, "ham", 1)],
        [],
    ],
)
def test_outcomes_that_do_not_match_the_examples_are_refused(outcomes):
    with pytest.raises(ValueError, match="outcomes"):
        scoring.score([example(0, "ham"), example(1, "ham")], outcomes, task_of())


def test_metrics_are_written_out_and_every_fault_is_told_at_once():
    assert [spec.name for spec in scoring.with_metrics(task_of(), []).metrics] == [
        "accuracy",
        "f1",
        "jaccard",
        "roc_auc",
    ]
    assert scoring.primary(task_of("generation")) == "exact_match"
    with pytest.raises(UserError) as raised:
        scoring.with_metrics(task_of(metrics=["acuracy"], positive="egg"), ["f1_makro", "cost_per_query"])
    assert len(raised.value.faults) == 3


def test_gold_that_is_not_right_by_its_own_metric_is_named_by_its_line():
    regex = task_of("generation", metrics=["exact_match", {"regex": {"pattern": "^[0-9]+$"}}])
    (fault,) = scoring.check_gold([example(0, "12"), example(1, "twelve")], regex)
    assert fault.startswith("test.jsonl:2: ") and "regex" in fault
    emptied = task_of("generation", normalize=["punctuation", "strip"], metrics=["exact_match"])
    (fault,) = scoring.check_gold([example(0, "?!"), example(1, "yes")], emptied)
    assert fault.startswith("test.jsonl:1: ") and "leaves nothing" in fault
    numeric = task_of("generation", metrics=["numeric"])
    assert len(scoring.check_gold([example(0, "#### 1,234"), example(1, "none")], numeric)) == 1
    assert scoring.check_gold([example(0, "ham"), example(1, "spam")], task_of()) == []
    sets = [example(0, ("spam", "ham")), example(1, ()), example(2, ("other",))]
    assert scoring.check_gold(sets, task_of("multilabel")) == []
    assert len(scoring.check_gold([example(0, "egg")], task_of())) == 1


@pytest.mark.parametrize("task_type", ["classification", "multilabel", "generation"])
def test_nothing_answered_yet_is_no_number_and_no_error(task_type):
    names = list(metrics.available(task_type)) if task_type != "generation" else ["exact_match", "token_f1", "numeric"]
    found = scoring.score([], [], task_of(task_type, metrics=names))
    assert {interval.value for interval in found.intervals.values()} == {None}
    assert (tuple(found.scores), found.coverage.total, found.row_scores.size) == ((), 0, 0)


@pytest.mark.parametrize("task_type", ["classification", "multilabel"])
@pytest.mark.parametrize("n", [1, 2])
def test_every_metric_of_very_few_rows_is_a_number_or_a_reason(task_type, n):
    examples = [example(i, LABELS[i] if task_type == "classification" else (LABELS[i],)) for i in range(n)]
    task = task_of(task_type, metrics=list(metrics.available(task_type)))
    for outcomes in ([said(i, LABELS[0]) for i in range(n)], [failed(i) for i in range(n)]):
        for name, interval in scoring.score(examples, outcomes, task).intervals.items():
            assert interval.value is not None or interval.reason, name
