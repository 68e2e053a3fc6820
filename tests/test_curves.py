"""The ROC curve and the calibration bins say what roc_auc and ece say of the same rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from evalft import scoring
from evalft.config import MetricSpec, TaskConfig
from evalft.metrics import curves
from evalft.records import Example, Failure, Outcome, Prediction, TaskType

LABELS = ("calm", "urgent", "other")


def _rows(n: int, labels: tuple[str, ...], seed: int, kind: TaskType, failures: int = 0) -> Any:
    draw = np.random.default_rng(seed)
    examples, outcomes = [], list[Outcome]()
    for i in range(n):
        target = int(draw.integers(len(labels)))
        weights = draw.random(len(labels)) + np.eye(len(labels))[target]
        probs = dict(zip(labels, (weights / weights.sum()).tolist(), strict=True))
        wanted: Any = labels[target]
        if kind == "multilabel":
            wanted, probs = tuple(label for label in labels if draw.random() < 0.4), {k: draw.random() for k in labels}
        examples.append(Example(id=str(i), input="", target=wanted, row={}))
        said = (max(probs, key=lambda label: probs[label]),)
        outcomes.append(
            Failure(str(i), i, 0, "refused", "")
            if i < failures
            else Prediction(str(i), i, 0, None, said, probs=probs, probs_method="softmax")
        )
    return examples, outcomes


def _scored(
    examples: Any, outcomes: Any, labels: tuple[str, ...], kind: TaskType, positive: str | None
) -> scoring.Scored:
    metrics = [MetricSpec(name=name) for name in ("roc_auc", "ece")]
    task = TaskConfig(test="x", type=kind, labels=list(labels), positive=positive, metrics=metrics)
    return scoring.score(examples, outcomes, task)


@pytest.mark.parametrize(
    ("labels", "kind", "positive"),
    [
        (LABELS[:2], "classification", None),
        (LABELS[:2], "classification", "calm"),
        (LABELS, "classification", None),
        (LABELS, "multilabel", None),
    ],
)
@pytest.mark.parametrize("failures", [0, 12])
def test_the_area_under_the_curve_is_the_auc_and_the_gaps_of_the_bins_are_the_calibration_error(
    labels: tuple[str, ...], kind: TaskType, positive: str | None, failures: int
) -> None:
    scored = _scored(*_rows(300, labels, 3, kind, failures), labels, kind, positive)
    assert scored.roc
    area = np.trapezoid(scored.roc.tpr, scored.roc.fpr)
    assert area == pytest.approx(scored.intervals["roc_auc"].value, abs=0.01)
    answers = sum(one.right.n for one in scored.calibration)
    gaps = sum(one.right.n * abs((one.right.value or 0.0) - one.stated) for one in scored.calibration)
    assert answers == 300 * (len(labels) if kind == "multilabel" else 1)
    assert gaps / answers == pytest.approx(scored.intervals["ece"].value)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=60))
def test_the_curve_is_scikit_learns_read_off_at_the_grid(rows: list[tuple[int, bool]]) -> None:
    scores, member = np.array([float(s) for s, _ in rows]), np.array([m for _, m in rows])
    found = curves._curve(scores, member)
    if member.all() or not member.any():
        assert found is None
        return
    fpr, tpr, _ = roc_curve(member, scores, drop_intermediate=False)
    assert found is not None
    for at, rate in zip(curves.GRID, found, strict=True):
        below = max(i for i, x in enumerate(fpr) if x <= at)
        wanted = tpr[below]
        if below + 1 < len(fpr):
            wanted += (tpr[below + 1] - tpr[below]) * (at - fpr[below]) / (fpr[below + 1] - fpr[below])
        assert rate == pytest.approx(wanted)
    assert np.all(np.diff(found) >= -1e-12)
    assert abs(np.trapezoid(found, curves.GRID) - roc_auc_score(member, scores)) < 0.1


def test_bare_answers_have_neither_curve_nor_bins() -> None:
    examples, outcomes = _rows(40, LABELS, 0, "classification")
    bare = [Prediction(one.id, one.index, 0, one.labels[0], one.labels) for one in outcomes]
    scored = _scored(examples, bare, LABELS, "classification", None)
    assert scored.roc is None and scored.calibration == () and scored.probs_method == "hard"


def test_the_labels_of_a_row_do_not_count_as_independent_answers() -> None:
    """Three labels a row, all alike: as many rows right, so the interval is that of rows and not of three times as many."""
    examples = [Example(id=str(i), input="", target=LABELS if i % 2 else (), row={}) for i in range(40)]
    probs = dict.fromkeys(LABELS, 0.5)
    outcomes = [Prediction(str(i), i, 0, None, (), probs=probs, probs_method="sigmoid") for i in range(40)]
    (only,) = _scored(examples, outcomes, LABELS, "multilabel", None).calibration
    low, high = only.right.ends(0.025)
    assert only.right.n == 120 and only.right.value == 0.5
    assert high - low > 0.25  # of 120 independent ones it were under 0.2
