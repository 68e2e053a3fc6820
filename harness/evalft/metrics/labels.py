"""Metrics of labels: the arrays that scikit-learn's functions would be called with, and their values from counts.

One form serves classification and multi-label: for each row the set of its labels and the set predicted, as indicators
(n, M) over the task's M labels. A failure, or a label that the task does not have, is the empty set: a miss for its
target and positive for no label, which is what a sentinel outside `labels` is to scikit-learn.

Averages run over the labels with support in the test targets (`labels=` of scikit-learn) with zero_division=0. Values
come from counts (true positives, predicted, support) weighted by how often each distinct row is drawn, so that thousands
of resamples cost one matrix product; they equal scikit-learn's to rounding.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalft.metrics import measure
from evalft.metrics.measure import Bools, Floats, Ints, Measure, Statistic, divide
from evalft.metrics.names import averaging
from evalft.records import TaskType
from evalft.stats import proportion
from evalft.stats.interval import Interval, unbounded


@dataclass(frozen=True)
class LabelArrays:
    """What n rows should be and what they were said to be, over M labels in the task's order."""

    labels: tuple[str, ...]
    target: Bools
    """(n, M)"""
    predicted: Bools
    """(n, M); no label for a failure."""
    failed: Bools
    """(n,) the candidate gave no usable answer."""
    unknown: Bools
    """(n,) the answer holds a label that the task does not have."""

    @property
    def supported(self) -> Ints:
        """Places of the labels that at least one target has."""
        return np.flatnonzero(self.target.any(axis=0))

    @property
    def right(self) -> Bools:
        """(n,) the whole set is right; a failure never is."""
        return np.asarray((self.target == self.predicted).all(axis=1) & ~self.failed & ~self.unknown)

    def at(self, rows: Ints) -> LabelArrays:
        """Of these rows (m,), in their order."""
        return LabelArrays(self.labels, self.target[rows], self.predicted[rows], self.failed[rows], self.unknown[rows])

    @cached_property
    def cells(self) -> tuple[Ints, Ints]:
        """(n,) which distinct row each row equals, and (K,) where each distinct row first stands."""
        marks = (self.target, self.predicted, self.failed[:, None], self.unknown[:, None])
        packed = np.packbits(np.hstack(marks), axis=1)
        distinct: NDArray[Any]
        if packed.shape[1] <= 8:  # as numbers of the same order, which sort many times faster
            wide = np.zeros((len(packed), 8), dtype=np.uint8)
            wide[:, : packed.shape[1]] = packed
            distinct = wide.view(">u8").reshape(-1).astype(np.uint64)
        else:
            distinct = np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1]))).reshape(-1)
        _, first, cells = np.unique(distinct, return_index=True, return_inverse=True)
        return cells.reshape(-1), first


class Gathering:
    """LabelArrays in the making: ten bytes a row and eight a label, wherever rows are read from."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = tuple(labels)
        self._place = {label: i for i, label in enumerate(labels)}
        self._target, self._said = (array("I"), array("I")), (array("I"), array("I"))
        self._failed, self._unknown = bytearray(), bytearray()

    def append(self, wanted: Iterable[str], said: Sequence[str] | None) -> None:
        """wanted: the labels of the next row; said: those read from its answer, None for a failure. Raises KeyError where
        the task does not have a wanted label."""
        row = len(self._failed)
        for label in wanted:
            self._target[0].append(row)
            self._target[1].append(self._place[label])
        known = [self._place[label] for label in said or () if label in self._place]
        for place in known:
            self._said[0].append(row)
            self._said[1].append(place)
        self._failed.append(said is None)
        self._unknown.append(len(known) < len(said or ()))

    def arrays(self) -> LabelArrays:
        shape = len(self._failed), len(self._labels)
        target, predicted = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
        for table, (rows, places) in ((target, self._target), (predicted, self._said)):
            table[np.asarray(rows), np.asarray(places)] = True
        failed, unknown = (np.array(marks, dtype=bool) for marks in (self._failed, self._unknown))
        return LabelArrays(self._labels, target, predicted, failed, unknown)


def arrays(
    targets: Iterable[Iterable[str]], predictions: Iterable[Sequence[str] | None], labels: Sequence[str]
) -> LabelArrays:
    """targets: the labels of each row; predictions: those read from its answer, None for a failure."""
    gathering = Gathering(labels)
    for wanted, said in zip(targets, predictions, strict=True):
        gathering.append(wanted, said)
    return gathering.arrays()


def measured(name: str, rows: LabelArrays, task_type: TaskType, positive: str | None) -> Measure:
    """The metric `name` (any of labels, see `names`) of these rows."""
    if name == "accuracy":
        return measure.share(rows.right)
    if name == "mcc":
        return measure.of_cells(_mcc(rows), rows.cells[0], at=np.where(rows.right, 1.0, -1.0), bounds=(-1.0, 1.0))
    if name == "hamming":
        loss = np.where(rows.right, 0.0, 1.0) if task_type == "classification" else _hamming_loss(rows)
        return measure.mean(loss, is_score=False)
    base, average = averaging(name, task_type, rows.labels, positive)
    if average == "samples":
        return measure.mean(row_scores(base, rows))
    if average == "positive":
        columns = np.array([rows.labels.index(positive or "")])
        if not rows.target[:, columns].any():
            return measure.not_measured(len(rows.target), "bca", f"no row has the label {positive!r}")
        return _of_one_label(base, rows, columns)
    columns = rows.supported
    if not columns.size:
        return measure.not_measured(len(rows.target), "bca", "no row has any label")
    at = rows.right.astype(np.float64) if task_type == "classification" else row_scores(base, rows)
    return measure.of_cells(_averaged(base, average or "macro", rows, columns), rows.cells[0], at=at)


def row_scores(base: str, rows: LabelArrays) -> Floats:
    """precision, recall, f1 or jaccard of each row's own sets (n,), as scikit-learn's average="samples".

    A real empty answer on an empty target is right (1); a failure there is not (0).
    """
    target, predicted = rows.target[:, rows.supported], rows.predicted[:, rows.supported]
    hits = (target & predicted).sum(axis=1).astype(np.float64)
    scores = _ratio(base, hits, predicted.sum(axis=1).astype(np.float64), target.sum(axis=1).astype(np.float64))
    scores[rows.right & ~rows.target.any(axis=1)] = 1.0
    return scores


def set_score(base: str, target: Collection[str], said: Collection[str] | None) -> float:
    """The same of a single row, before it is known which labels have support: every label counts."""
    if said is None:
        return 0.0
    if not target and not said:
        return 1.0
    hits = len(set(target) & set(said))
    return float(_ratio(base, *np.array([[hits], [len(set(said))], [len(set(target))]], dtype=np.float64))[0])


def per_label(rows: LabelArrays) -> dict[str, Floats]:
    """support, precision, recall and f1 of each of the M labels (M,), all rows counted once."""
    hits = (rows.target & rows.predicted).sum(axis=0).astype(np.float64)
    said, support = rows.predicted.sum(axis=0).astype(np.float64), rows.target.sum(axis=0).astype(np.float64)
    return {"support": support} | {base: _ratio(base, hits, said, support) for base in ("precision", "recall", "f1")}


def confusion(rows: LabelArrays) -> Ints:
    """Classification: (M, M + 1) rows of each target (down) by label predicted (across), the last column for no label."""
    said = np.where(rows.predicted.any(axis=1), rows.predicted.argmax(axis=1), len(rows.labels))
    counts = np.zeros((len(rows.labels), len(rows.labels) + 1), dtype=np.int64)
    np.add.at(counts, (rows.target.argmax(axis=1), said), 1)
    return counts


# ---------------------------------------------------------------- one label


def _of_one_label(base: str, rows: LabelArrays, column: Ints) -> Measure:
    """Only the rows that have the label, or were said to, tell anything of it. Recall, precision and Jaccard are the
    share of hits in some of those, with the exact interval of a proportion; F1 is 2 J / (1 + J) of Jaccard J."""
    target, predicted = rows.target[:, column[0]], rows.predicted[:, column[0]]
    counted = {"recall": target, "precision": predicted}.get(base, target | predicted)

    def interval(groups: Ints | None, _seed: int) -> Interval:
        if not counted.any():  # precision: 0 / 0 is 0, and nothing is known of it
            return Interval(0.0, 0, "clopper_pearson", lambda _: (0.0, 1.0), reason="no answer says the label")
        share = proportion.proportion((target & predicted)[counted], None if groups is None else groups[counted])
        if base != "f1" or share.value is None:
            return share
        ends = share.ends

        def ends_of_f1(alpha: float) -> tuple[float, float]:
            low, high = ends(alpha)
            return _f1_of_jaccard(low), _f1_of_jaccard(high)

        bounded = share.ends is not unbounded
        return replace(share, value=_f1_of_jaccard(share.value), ends=ends_of_f1 if bounded else unbounded)

    return Measure(cells=rows.cells[0], statistic=_averaged(base, "macro", rows, column), interval=interval)


def _f1_of_jaccard(jaccard: float) -> float:
    return 2 * jaccard / (1 + jaccard)


# ---------------------------------------------------------------- statistics of weighted rows


def _averaged(base: str, average: str, rows: LabelArrays, columns: Ints) -> Statistic:
    """precision, recall, f1 or jaccard over `columns`; a label that a resample does not hold is left out of its macro."""
    _, first = rows.cells
    target = rows.target[np.ix_(first, columns)].astype(np.float64)
    predicted = rows.predicted[np.ix_(first, columns)].astype(np.float64)

    def statistic(weights: Floats) -> Floats:
        hits, said, support = weights @ (target * predicted), weights @ predicted, weights @ target
        if average == "micro":
            return _ratio(base, hits.sum(axis=1), said.sum(axis=1), support.sum(axis=1))
        scores = _ratio(base, hits, said, support)
        share = support if average == "weighted" else (support > 0).astype(np.float64)
        total = share.sum(axis=1)
        return divide((scores * share).sum(axis=1), total, otherwise=np.nan)

    return statistic


def _ratio(base: str, hits: Floats, said: Floats, support: Floats) -> Floats:
    """Of true positives, predicted and actual positives, any shape; 0 where it would be 0 / 0 (zero_division=0)."""
    above, below = {
        "precision": (hits, said),
        "recall": (hits, support),
        "f1": (2 * hits, said + support),
        "jaccard": (hits, said + support - hits),
    }[base]
    return divide(above, below, otherwise=0.0)


def _mcc(rows: LabelArrays) -> Statistic:
    """Gorodkin (2004), the multi-class correlation; failures and unknown labels are one more predicted class."""
    _, first = rows.cells
    target = rows.target[first].astype(np.float64)
    predicted = rows.predicted[first]
    predicted = np.hstack([predicted, ~predicted.any(axis=1, keepdims=True)]).astype(np.float64)
    right = rows.right[first].astype(np.float64)

    def statistic(weights: Floats) -> Floats:
        n, actual, said = weights.sum(axis=1), weights @ target, weights @ predicted
        together = (weights @ right) * n - (actual * said[:, :-1]).sum(axis=1)
        spread = (n**2 - (said**2).sum(axis=1)) * (n**2 - (actual**2).sum(axis=1))
        return divide(together, np.sqrt(np.maximum(spread, 0.0)), otherwise=0.0)

    return statistic


def _hamming_loss(rows: LabelArrays) -> Floats:
    """The share of labels that are wrong in each row (n,).

    A failure on an empty target would be right by its empty set: it counts as wholly wrong.
    """
    loss = (rows.target != rows.predicted).mean(axis=1)
    loss[rows.failed & ~rows.target.any(axis=1)] = 1.0
    return np.asarray(loss)
