"""Two sets of scores -> what changed: matched by id, tested with the pairing."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import brier_score_loss, f1_score, roc_auc_score

from evalft import scoring
from evalft.comparison import Comparison, as_summary, compare, groups_of
from evalft.config import TaskConfig
from evalft.records import Example, Failure, Outcome, Prediction, Score
from evalft.reporting import view
from evalft.scoring import Scored


def scored(name: str, values: list[float], prefix: str = "row") -> list[Score]:
    return [Score(f"{prefix}-{i}", i, {name: value}) for i, value in enumerate(values)]


def test_each_example_is_fixed_broken_or_same() -> None:
    found = compare(scored("accuracy", [0, 1, 1, 0]), scored("accuracy", [1, 0, 1, 0]), primary="accuracy")
    assert [change.kind for change in found.changes] == ["fixed", "broken", "same", "same"]
    assert (found.count("fixed"), found.count("broken"), found.count("same")) == (1, 1, 2)


def test_examples_are_matched_by_id_and_the_rest_is_named() -> None:
    before = scored("accuracy", [0, 1, 1])
    after = [Score("new", 0, {"accuracy": 0}), before[2], Score("row-0", 2, {"accuracy": 1})]
    found = compare(before, after, primary="accuracy")
    assert [(change.id, change.before, change.after) for change in found.changes] == [("row-0", 0, 1), ("row-2", 1, 1)]
    assert found.only_before == ("row-1",)
    assert found.only_after == ("new",)
    assert found.metrics["accuracy"].n == 2


@pytest.mark.parametrize(("fixed", "broken"), [(6, 0), (20, 8), (8, 20), (3, 3), (0, 0)])
def test_right_or_wrong_rows_take_the_exact_test_and_the_interval_agrees(fixed: int, broken: int) -> None:
    before = [0.0] * fixed + [1.0] * broken + [1.0] * 40 + [0.0] * 10
    after = [1.0] * fixed + [0.0] * broken + [1.0] * 40 + [0.0] * 10
    found = compare(scored("accuracy", before), scored("accuracy", after), primary="accuracy").metrics["accuracy"]
    p_value = scipy.stats.binomtest(fixed, fixed + broken).pvalue if fixed + broken else 1.0
    assert found.test == "mcnemar_exact"
    assert found.delta == pytest.approx((fixed - broken) / len(before))
    assert found.p_value == pytest.approx(p_value, abs=1e-6)
    assert found.low is not None and found.high is not None
    assert (found.low <= 0 <= found.high) == (p_value > 0.05)


def test_other_scores_take_a_bootstrap_whose_p_value_agrees_with_the_interval() -> None:
    rng = np.random.default_rng(0)
    for shift in (0.0, 0.03, 0.06, 0.2):
        before = rng.random(80)
        after = before + shift + rng.normal(0, 0.2, 80)
        found = compare(scored("token_f1", list(before)), scored("token_f1", list(after)), primary="token_f1")
        change = found.metrics["token_f1"]
        assert change.test == "bca"
        assert change.delta == pytest.approx((after - before).mean())
        assert change.low is not None and change.high is not None and change.p_value is not None
        assert (change.low <= 0 <= change.high) == (change.p_value > 0.05)


def test_wide_confidence_is_wider() -> None:
    before, after = scored("accuracy", [0.0, 1.0] * 20), scored("accuracy", [1.0, 1.0] * 20)
    narrow = compare(before, after, primary="accuracy", confidence=0.8).metrics["accuracy"]
    wide = compare(before, after, primary="accuracy", confidence=0.99).metrics["accuracy"]
    assert narrow.low is not None and wide.low is not None and wide.low < narrow.low


def test_rows_of_one_group_count_together() -> None:
    before, after = scored("accuracy", [0.0] * 200), scored("accuracy", [1.0] * 20 + [0.0] * 180)
    one_by_one = compare(before, after, primary="accuracy").metrics["accuracy"]
    by_group = compare(
        before, after, primary="accuracy", groups={score.id: f"g{score.index // 20}" for score in before}
    ).metrics["accuracy"]
    assert one_by_one.low is not None and one_by_one.low > 0
    assert by_group.test == "jackknife_t"
    assert by_group.low is not None and by_group.low < 0


def test_few_groups_have_a_delta_and_nothing_else() -> None:
    before, after = scored("accuracy", [0.0] * 20), scored("accuracy", [1.0] * 20)
    groups = {score.id: f"g{score.index % 4}" for score in before}
    found = compare(before, after, primary="accuracy", groups=groups).metrics["accuracy"]
    assert (found.delta, found.low, found.high, found.p_value) == (1.0, None, None, None)
    assert found.reason is not None and "4 groups" in found.reason


def test_only_metrics_with_a_row_score_on_both_sides_are_compared() -> None:
    before = [Score(str(i), i, {"accuracy": 1.0, "jaccard": 0.5}) for i in range(12)]
    after = [Score(str(i), i, {"jaccard": 0.75, "accuracy": 1.0, "f1": 1.0}) for i in range(12)]
    assert list(compare(before, after, primary="jaccard").metrics) == ["accuracy", "jaccard"]


def test_nothing_in_common_is_no_comparison() -> None:
    found = compare(scored("accuracy", [1.0]), scored("accuracy", [1.0], "other"), primary="accuracy")
    assert found.changes == () and dict(found.metrics) == {}


# ---------------------------------------------------------------- metrics of all rows together

LABELS = ["routine", "urgent"]
TASK = {"type": "classification", "labels": LABELS, "positive": "urgent", "metrics": ["f1", "roc_auc", "brier"]}


def two_candidates(n: int = 160, grouped: bool = False, **task: object) -> tuple[list[Example], Scored, Scored]:
    """Examples, and two candidates with probabilities of their own, the second the better one; one answer failed."""
    rng = np.random.default_rng(1)
    examples = []
    for i in range(n):
        group = f"g{i % 20}" if grouped and i % 5 else None
        examples.append(Example(f"e{i}", f"row {i}", LABELS[int(rng.random() < 0.3)], {}, group=group))
    sides = []
    for noise in (1.5, 0.8):
        outcomes: list[Outcome] = []
        for i, example in enumerate(examples):
            urgent = 1 / (1 + np.exp(-(2 * (example.target == "urgent") - 1 + noise * rng.normal())))
            said = (LABELS[int(urgent > 0.5)],)
            probs = {"routine": 1 - urgent, "urgent": float(urgent)}
            outcomes.append(Prediction(example.id, i, 0, None, said, probs, "log_likelihood", cost_usd=0.1 * noise))
        outcomes[3] = Failure("e3", 3, 0, "refused", "")
        sides.append(scoring.score(examples, outcomes, TaskConfig.model_validate(TASK | task)))
    return examples, sides[0], sides[1]


def compared(examples: list[Example], before: Scored, after: Scored, **more: float) -> Comparison:
    return compare(
        before.scores,
        after.scores,
        primary=before.row_metric,
        groups=groups_of(examples),
        measures=(before.measures, after.measures),
        **more,
    )


def test_metrics_that_rows_have_no_score_of_are_compared_too() -> None:
    examples, before, after = two_candidates()
    found = compared(examples, before, after)
    assert list(found.metrics) == ["f1", "roc_auc", "brier", "accuracy", "strict_accuracy"]
    for name in ("f1", "roc_auc", "brier"):
        change, old, new = found.metrics[name], before.intervals[name].value, after.intervals[name].value
        assert old is not None and new is not None
        assert (change.before, change.after, change.delta) == pytest.approx((old, new, new - old))
        assert change.test == "bca" and change.n == len(examples)
        assert change.low is not None and change.high is not None and change.p_value is not None
        assert (change.low <= 0 <= change.high) == (change.p_value > 0.05)
    assert found.metrics["brier"].delta is not None and found.metrics["brier"].delta < 0  # as it is: lower is better
    assert found.metrics["accuracy"] == compare(before.scores, after.scores, primary="accuracy").metrics["accuracy"]
    assert found.row_metric == "accuracy"


def test_the_differences_are_scikit_learns() -> None:
    rng = np.random.default_rng(2)
    truth = [LABELS[i] for i in rng.integers(0, 2, 120)]
    examples = [Example(f"e{i}", f"row {i}", label, {}) for i, label in enumerate(truth)]
    probs = [np.clip(0.3 + 0.4 * (np.array(truth) == "urgent") + rng.normal(0, s, 120), 0, 1) for s in (0.4, 0.2)]
    scored = []
    for p in probs:
        outcomes = [
            Prediction(e.id, i, 0, None, (LABELS[int(x > 0.5)],), {"routine": 1 - x, "urgent": x}, "softmax")
            for i, (e, x) in enumerate(zip(examples, p.tolist(), strict=True))
        ]
        scored.append(scoring.score(examples, outcomes, TaskConfig.model_validate(TASK)))
    found = compared(examples, *scored).metrics
    urgent = np.array(truth) == "urgent"
    for name, metric in (
        ("f1", lambda p: f1_score(urgent, p > 0.5)),
        ("roc_auc", lambda p: roc_auc_score(urgent, p)),
        ("brier", lambda p: brier_score_loss(urgent, p)),
    ):
        assert found[name].delta == pytest.approx(metric(probs[1]) - metric(probs[0]))


def test_costs_and_latencies_are_not_compared() -> None:
    found = compared(*two_candidates())
    assert not {"cost_per_query", "latency_p50", "latency_p95"} & set(found.metrics)


def test_metrics_of_all_rows_are_judged_by_group_too() -> None:
    examples, before, after = two_candidates(grouped=True)
    groups = groups_of(examples)
    assert groups is not None and len(set(groups.values())) > 40  # rows without a group stand alone
    assert groups_of([Example("a", "a", "b", {})]) is None
    found = compared(examples, before, after)
    alone = compare(before.scores, after.scores, primary="accuracy", measures=(before.measures, after.measures))
    assert found.metrics["f1"].delta == alone.metrics["f1"].delta
    assert found.metrics["f1"].low != alone.metrics["f1"].low


def test_what_is_not_measured_keeps_the_measures_own_reason() -> None:
    rows = [Example(f"e{i}", f"row {i}", "routine", {}) for i in range(30)]
    outcomes = [Prediction(row.id, i, 0, None, ("routine",)) for i, row in enumerate(rows)]
    one = scoring.score(rows, outcomes, TaskConfig.model_validate(TASK))
    found = compared(rows, one, one).metrics["f1"]
    assert found.delta is None and found.p_value is None and found.reason == one.intervals["f1"].reason


def test_measures_of_other_rows_are_refused() -> None:
    examples, before, after = two_candidates()
    with pytest.raises(ValueError, match="160 rows, 150 are matched"):
        compare(before.scores[:150], after.scores[:150], primary="accuracy", measures=(before.measures, after.measures))


def test_the_summary_holds_numbers_only_and_says_what_was_not_measured() -> None:
    examples, before, after = two_candidates()
    written = as_summary(compared(examples, before, after), "base", "base-tuned", "f1")
    schema = json.loads((Path(view.__file__).parent / "summary.schema.json").read_text())
    jsonschema.validate(written, schema["$defs"]["diff"] | {"$defs": schema["$defs"]})
    json.dumps(written, allow_nan=False)
    assert list(written["metrics"])[0] == "f1" and written["primary"] == "f1" and written["unmeasured"] == {}
    assert (written["baseline"], written["tuned"], written["row_metric"]) == ("base", "base-tuned", "accuracy")
    right = [{s.id: s.values["accuracy"] for s in side.scores} for side in (before, after)]
    assert written["fixed_ids"] == [e.id for e in examples if right[1][e.id] > right[0][e.id]]
    assert written["broken_ids"] == [e.id for e in examples if right[1][e.id] < right[0][e.id]]
    assert (written["fixed"], written["broken"]) == (len(written["fixed_ids"]), len(written["broken_ids"]))
    assert written["fixed"] + written["broken"] + written["same"] == len(examples)


def test_a_metric_without_an_interval_is_named_with_its_reason_in_the_summary() -> None:
    before, after = scored("accuracy", [0.0] * 20), scored("accuracy", [1.0] * 20)
    groups = {score.id: f"g{score.index % 4}" for score in before}
    written = as_summary(compare(before, after, primary="accuracy", groups=groups), "a", "b", "accuracy")
    assert written["metrics"] == {} and "4 groups" in written["unmeasured"]["accuracy"]


def answers_of(said: list[str]) -> tuple[list[Example], Scored]:
    task = TaskConfig.model_validate(
        {"type": "classification", "test": "rows", "labels": ["a", "b"], "metrics": ["mcc", "accuracy"]}
    )
    examples = [Example(str(i), "x", "ab"[i % 2], {}) for i in range(len(said))]
    outcomes: list[Outcome] = [Prediction(str(i), i, 0, one, (one,)) for i, one in enumerate(said)]
    return examples, scoring.score(examples, outcomes, task)


@pytest.mark.parametrize("other", [["b"] * 60, ["a", "b"] * 30, ["a", "b", "b"] * 20])
def test_a_constant_answer_is_not_shown_to_correlate_less_or_alike(other: list[str]) -> None:
    examples, before = answers_of(["a"] * 60)
    _, after = answers_of(other)
    found = compared(examples, before, after).metrics["mcc"]
    assert found.delta == pytest.approx(after.intervals["mcc"].value)
    assert (found.low, found.high, found.p_value) == (None, None, None)
    assert found.reason is not None and "every resample" in found.reason


@pytest.mark.parametrize("right", range(1, 6))
def test_a_difference_of_correlations_lies_between_minus_2_and_2(right: int) -> None:
    """Where one answer is nearly constant its correlation hangs on a row or two, and Student's t reaches far out."""
    wrong = ["ba"[i % 2] for i in range(20)]
    examples, before = answers_of(["a"] * (20 - right) + wrong[20 - right :])
    _, after = answers_of(["ab"[i % 2] for i in range(20)])
    found = compared(examples, before, after).metrics["mcc"]
    if found.low is not None and found.high is not None:
        assert -2 <= found.low <= found.high <= 2
