"""Metrics of probabilities: ROC-AUC, average precision (pr_auc), Brier score, calibration error.

A row without probabilities takes 1 for the labels it was given and 0 for the others (the method "hard"), and a
candidate's method is the weakest among its rows. A failure has no probability at all and is counted against the
candidate: in a ranking it stands worst for its target, in a loss it is wholly wrong.

An API lists the likeliest tokens only. What its list leaves out (`unseen`) may belong to any label, which bounds a
ranking from both sides; its interval covers both bounds with their own sampling error (docs/decisions/0026).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from evalft.metrics import measure
from evalft.metrics.labels import LabelArrays
from evalft.metrics.measure import Floats, Ints, Measure
from evalft.metrics.names import averaging
from evalft.records import ProbsMethod, TaskType
from evalft.stats import auc, ranking
from evalft.stats.interval import Interval

BEST_FIRST: tuple[ProbsMethod, ...] = (
    "softmax",
    "sigmoid",
    "log_likelihood",
    "p_yes",
    "top_logprobs",
    "vote",
    "stated",
    "hard",
)
NONE = -1
"""In place of a method: the row has no probabilities."""
BINS = 15
"""Equal-width bins of the calibration error: Guo et al. (2017), "On calibration of modern neural networks"."""
WORST, BEST = -1.0, 2.0
"""Scores below and above every probability."""


@dataclass(frozen=True)
class Forecast:
    """Probabilities of n rows for the M labels of their arrays."""

    probs: Floats
    """(n, M); 0 for a label that a row's probabilities leave out, and for every label of a failure."""
    method: ProbsMethod | None
    """The weakest among the rows; None where every row is a failure."""
    unseen: Floats
    """(n,) what any label may have beside: its true probability is from probs (1 - unseen) to that plus unseen."""
    without: int = 0
    """Answers without probabilities among others that have them."""


@dataclass(frozen=True)
class Given:
    """The probabilities that came with the answers of n rows, as they came."""

    table: Floats | None
    """(n, M); None where no row has any."""
    method: NDArray[np.int8]
    """(n,) the kind's place in BEST_FIRST; NONE for a row without."""
    unseen: Floats
    """(n,)"""

    def at(self, rows: Ints) -> Given:
        """Of these rows (m,), in their order."""
        return Given(None if self.table is None else self.table[rows], self.method[rows], self.unseen[rows])


class Gathering:
    """Given in the making: nine bytes a row and, from the first probability on, eight a label."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = tuple(labels)
        self._table, self._method, self._unseen = array("d"), array("b"), array("d")

    def append(self, given: Mapping[str, float] | None, method: ProbsMethod | None, unseen: float | None) -> None:
        """Of the next row: its probabilities by label, their kind, and what is unseen; None where it has none."""
        if given is not None:
            lacking = len(self._labels) * len(self._method) - len(self._table)
            self._table.frombytes(bytes(8 * lacking))
            self._table.extend(given.get(label, 0.0) for label in self._labels)
        self._method.append(NONE if given is None else BEST_FIRST.index(method or "stated"))
        self._unseen.append(unseen or 0.0)

    def given(self) -> Given:
        n, labels = len(self._method), len(self._labels)
        table = None
        if self._table:
            self._table.frombytes(bytes(8 * (n * labels - len(self._table))))
            table = np.asarray(self._table).reshape(n, labels)
        return Given(table, np.asarray(self._method, dtype=np.int8), np.asarray(self._unseen))


def given(
    said: Iterable[tuple[Mapping[str, float] | None, ProbsMethod | None, float | None]], labels: Sequence[str]
) -> Given:
    """said: of each row (n) its probabilities, their method and what is unseen, None where it has none."""
    gathering = Gathering(labels)
    for one in said:
        gathering.append(*one)
    return gathering.given()


def forecast(rows: LabelArrays, said: Given) -> Forecast:
    table = np.where(rows.failed[:, None], 0.0, rows.predicted.astype(np.float64))
    has = ~rows.failed & (said.method != NONE)
    lacking = ~rows.failed & ~has
    if said.table is not None:
        table[has] = said.table[has]
    used: set[ProbsMethod] = {BEST_FIRST[place] for place in np.unique(said.method[has])}
    if lacking.any():
        used.add("hard")
    weakest = max(used, key=BEST_FIRST.index) if used else None
    without = int(lacking.sum()) if used - {"hard"} else 0
    hidden = np.where(rows.failed, 0.0, said.unseen)
    if without:
        hidden[lacking] = 1.0
    return Forecast(np.clip(np.nan_to_num(table), 0.0, 1.0), weakest, np.clip(hidden, 0.0, 1.0), without)


def measured(name: str, rows: LabelArrays, said: Forecast, task_type: TaskType, positive: str | None) -> Measure:
    """The metric `name` (roc_auc, pr_auc with their averages, brier, ece) of these rows."""
    if name == "brier":
        return measure.mean(_squared_error(rows, said, task_type), is_score=False)
    if name == "ece":
        return _calibration_error(rows, said, task_type)
    found = _ranked(name, rows, ranking_scores(rows, said, task_type), task_type, positive)
    if said.unseen.any():
        against, for_it = (
            _ranked(name, rows, ranking_scores(rows, one, task_type), task_type, positive)
            for one in _bounds(said, rows)
        )
        found = _bounded(found, against, for_it)
    if said.without:
        found = found.with_reason(f"{said.without} answers came without probabilities, and could stand anywhere")
    return found


def _bounds(said: Forecast, rows: LabelArrays) -> tuple[Forecast, Forecast]:
    """All that is unseen against the candidate, and for it."""
    low = said.probs * (1 - said.unseen[:, None])
    high = low + said.unseen[:, None]
    against, for_it = np.where(rows.target, low, high), np.where(rows.target, high, low)
    return replace(said, probs=against), replace(said, probs=for_it)


def _bounded(found: Measure, against: Measure, for_it: Measure) -> Measure:
    """`found` with an interval from the low end of one bound to the high end of the other."""
    once = np.ones((1, int(found.cells.max(initial=-1)) + 1))
    least, most = float(against.statistic(once)[0]), float(for_it.statistic(once)[0])
    if not least < most:  # nothing that is unseen changes the order; or there is no value at all
        return found

    def interval(groups: Ints | None, seed: int) -> Interval:
        best, low, high = (one.interval(groups, seed) for one in (found, against, for_it))
        if best.value is None:
            return best

        def ends(alpha: float) -> tuple[float, float]:
            (own_low, own_high), lowest, highest = best.ends(alpha), low.ends(alpha)[0], high.ends(alpha)[1]
            return min(own_low, lowest), max(own_high, highest)

        reason = f"unseen probabilities bound it to {least:.3f} to {most:.3f}, which the interval takes in"
        shown = reason if most - least >= 0.0005 else None
        return replace(best, ends=ends, reason="; ".join(filter(None, (shown, best.reason))) or None)

    return replace(found, interval=interval)


def _ranked(name: str, rows: LabelArrays, scores: Floats, task_type: TaskType, positive: str | None) -> Measure:
    """roc_auc or pr_auc of `scores` (n, M), which rows are ranked by for each label."""
    base, average = averaging(name, task_type, rows.labels, positive)
    metric: ranking.Metric = "roc_auc" if base == "roc_auc" else "average_precision"
    if average in ("positive", "binary"):
        column = rows.labels.index(positive) if positive is not None else 1
        return _one_label(metric, scores[:, column], rows.target[:, column])
    supported = rows.supported
    if average == "micro":
        return _over_labels(metric, "micro", scores[:, supported], rows.target[:, supported])
    kept = supported[~rows.target[:, supported].all(axis=0)]
    found = _over_labels(
        metric, "weighted" if average == "weighted" else "macro", scores[:, kept], rows.target[:, kept]
    )
    left_out = [
        f"{label!r} ({'every row has it' if rows.target[:, i].any() else 'no row has it'})"
        for i, label in enumerate(rows.labels)
        if i not in kept
    ]
    return found.with_reason(f"without {_some(left_out)}") if left_out else found


def label_auc(rows: LabelArrays, said: Forecast, task_type: TaskType) -> list[float | None]:
    """The ROC-AUC of each of the M labels against the rest; None where there are no rows of one side."""
    scores = ranking_scores(rows, said, task_type)
    once = np.ones((1, len(scores)))
    values = [
        float(ranking.Columns(scores[:, [i]], rows.target[:, [i]], "roc_auc", "macro").value(once)[0])
        for i in range(len(rows.labels))
    ]
    return [None if np.isnan(value) else value for value in values]


def ranking_scores(rows: LabelArrays, said: Forecast, task_type: TaskType) -> Floats:
    """What rows are ranked by for each label (n, M): their probabilities, a failure being worst for its target.

    In its target's column a failure stands below every row. In the other columns: for two classes above every row (the
    complement), for more as a guess among the others would, 1 / (L - 1); multi-label: above every row.
    """
    scores = said.probs.copy()
    classes = len(rows.supported)
    others = 1 / (classes - 1) if task_type == "classification" and classes > 2 else BEST
    scores[rows.failed] = np.where(rows.target[rows.failed], WORST, others)
    return scores


def _one_label(metric: ranking.Metric, scores: Floats, member: measure.Bools) -> Measure:
    one, is_one = scores[:, None], member[:, None]
    found = _over_labels(metric, "macro", one, is_one)
    if metric != "roc_auc":
        return found
    return replace(found, interval=lambda groups, seed: auc.auc(scores, member, groups, seed))


def _over_labels(metric: ranking.Metric, average: ranking.Average, scores: Floats, member: measure.Bools) -> Measure:
    if not scores.shape[1]:
        return measure.not_measured(len(scores), "bca", "no label has both rows with it and rows without it")
    columns = cache(lambda: ranking.Columns(scores, member, metric, average))  # large, and often not asked for
    return Measure(
        np.arange(len(scores)),
        lambda weights: columns().value(weights),
        lambda groups, seed: ranking.averaged(scores, member, metric, average, groups=groups, seed=seed),
        without_each=lambda: columns().leave_one_out(),
    )


def _squared_error(rows: LabelArrays, said: Forecast, task_type: TaskType) -> Floats:
    """Brier (1950) per row (n,), 0..1: classification half the sum over labels, multi-label their mean."""
    squares = (said.probs - rows.target) ** 2
    loss = squares.sum(axis=1) / 2 if task_type == "classification" else squares.mean(axis=1)
    return np.where(rows.failed, 1.0, np.minimum(loss, 1.0))


def _calibration_error(rows: LabelArrays, said: Forecast, task_type: TaskType) -> Measure:
    """The sum over bins of the gap between right and confident, as a share of rows."""
    gaps, cells = np.unique(_calibration_gaps(rows, said, task_type), axis=0, return_inverse=True)
    return measure.of_cells(
        lambda weights: measure.divide(np.abs(weights @ gaps).sum(axis=1), weights.sum(axis=1), otherwise=np.nan),
        cells.reshape(-1),
    )


def stated(rows: LabelArrays, said: Forecast, task_type: TaskType) -> tuple[Floats, measure.Bools, Ints]:
    """What was said with which probability, whether it was right, and in which of the BINS that is; each (n, K).

    Classification (K = 1): the probability of the likeliest label, and whether it is the target. Multi-label (K = M): the
    probability of every label, and whether the row has it. A failure is wholly confident and wrong.
    """
    if task_type == "classification":
        top = said.probs.argmax(axis=1)[:, None]
        confidence = np.take_along_axis(said.probs, top, axis=1)
        right = np.take_along_axis(rows.target, top, axis=1) & ~rows.failed[:, None]
        confidence = np.where(rows.failed[:, None], 1.0, confidence)
    else:
        confidence = np.where(rows.failed[:, None], ~rows.target, said.probs)
        right = rows.target
    bins = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:], confidence)  # (0, 1/15], (1/15, 2/15], ...
    return confidence, right, bins


def _calibration_gaps(rows: LabelArrays, said: Forecast, task_type: TaskType) -> Floats:
    """Each row's part of the gap between right and confident in each bin (n, BINS); of K things said each is worth 1/K."""
    confidence, right, bins = stated(rows, said, task_type)
    gaps = np.zeros((len(confidence), BINS))
    np.add.at(gaps, (np.arange(len(confidence))[:, None], bins), (right - confidence) / confidence.shape[1])
    return gaps


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
