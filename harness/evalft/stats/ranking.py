"""ROC-AUC and average precision of many weighted resamples at once, for one column of scores or averaged over labels.

`scores` (n, L) holds each row's score for each label and `member` (n, L) whether the row has it (one label of a row for
classification, any number for multi-label; binary is one column). Every column is sorted once; a resample is then a
matter of cumulated weights. Values equal scikit-learn's roc_auc_score and average_precision_score with sample_weight.

A column is defined where it has rows with the label and rows without it. macro and weighted average over the defined
columns (weighted: by rows with the label, as scikit-learn), micro pools all (row, label) pairs into one column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalft.stats.bootstrap import NORMAL_FROM, Floats, jackknife_normal, unless_constant, weighted
from evalft.stats.interval import Interval

BLOCK = 200_000
"""Weights of a column worked on at once: what fits a processor's cache."""
Places = NDArray[np.int32]
Metric = Literal["roc_auc", "average_precision"]
Average = Literal["macro", "weighted", "micro"]


def averaged(
    scores: ArrayLike,
    member: ArrayLike,
    metric: Metric,
    average: Average,
    *,
    groups: ArrayLike | None = None,
    seed: int = 0,
) -> Interval:
    """The interval of `metric` averaged over the columns of `scores` (n, L), bootstrapped over rows or groups; of
    NORMAL_FROM rows and more, each a cell of its own, the normal one (docs/decisions/0031)."""
    columns = Columns(scores, member, metric, average)
    left_out = columns.leave_one_out() if groups is None and columns.n else None
    if left_out is not None and columns.n >= NORMAL_FROM and not np.isnan(left_out).any():
        value = float(columns.value(np.ones((1, columns.n)))[0])
        return unless_constant(jackknife_normal(value, left_out, columns.placement(), (0.0, 1.0)))
    found = weighted(
        columns.value,
        np.arange(columns.n),
        row_scores=columns.placement(),
        bounds=(0.0, 1.0),
        groups=groups,
        jackknife=left_out,
        seed=seed,
    )
    return unless_constant(found)


class Columns:
    """The sorted columns of one metric. `value(W)` is the statistic for `bootstrap.weighted` with one cell per row."""

    def __init__(self, scores: ArrayLike, member: ArrayLike, metric: Metric, average: Average) -> None:
        scores = np.asarray(scores, dtype=np.float64)
        member = np.asarray(member, dtype=bool)
        self.n, self.labels = scores.shape
        self.metric, self.average = metric, average
        self._scores, self._member = scores, member
        rows = np.arange(self.n)
        if average == "micro":
            pooled = _sort(scores.reshape(-1), member.reshape(-1), np.repeat(rows, self.labels))
            self._columns = [pooled] if pooled is not None else []
        else:
            sorted_columns = (_sort(scores[:, c], member[:, c], rows) for c in range(self.labels))
            self._columns = [column for column in sorted_columns if column is not None]

    def value(self, weights: Floats) -> Floats:
        """The metric (R,) for row weights (R, n); nan where no column is defined."""
        width = max((column.rows.size for column in self._columns), default=1)
        step = max(1, BLOCK // width)
        return np.concatenate([self._value(weights[i : i + step].T.copy()) for i in range(0, len(weights), step)])

    def _value(self, weights: Floats) -> Floats:
        """As `value`, of weights (n, R): rows first, so that cumulating over rows adds whole lines of memory."""
        total, count = np.zeros(weights.shape[1]), np.zeros(weights.shape[1])
        for column in self._columns:
            values, with_label = column.values(weights, self.metric)
            share = with_label if self.average == "weighted" else 1.0
            defined = ~np.isnan(values)
            total += np.where(defined, values * share, 0.0)
            count += np.where(defined, share, 0.0)
        return _ratio(total, count, np.nan)

    def leave_one_out(self) -> Floats:
        """The metric (n,) without each row, in closed form from placements.

        For micro, which loses all of a row's pairs at once, the sum of their single effects: exact to first order, which
        is all that the acceleration of BCa uses.
        """
        total, count = np.zeros(self.n), np.zeros(self.n)
        for column in self._columns:
            values, with_label = column.without_each(self.metric)
            if self.average == "micro":
                whole = float(column.values(np.ones((self.n, 1)), self.metric)[0][0])
                effect = np.bincount(column.rows, weights=np.nan_to_num(values - whole), minlength=self.n)
                return np.asarray(whole + effect, dtype=np.float64)
            by_row, labelled = np.empty(self.n), np.empty(self.n)
            by_row[column.rows], labelled[column.rows] = values, with_label
            share = labelled if self.average == "weighted" else np.ones(self.n)
            defined = ~np.isnan(by_row)
            total[defined] += by_row[defined] * share[defined]
            count[defined] += share[defined]
        return _ratio(total, count, np.nan)

    def placement(self) -> Floats:
        """How well each row is placed (n,), 1 being perfectly.

        The mean, over the row's labels, of the share of rows without the label that it ranks above; for a row that has
        no label, the mean share of rows with a label that rank above it.
        """
        rows = np.arange(self.n)
        sums = {True: np.zeros(self.n), False: np.zeros(self.n)}
        counts = {True: np.zeros(self.n), False: np.zeros(self.n)}
        for c in range(self.labels):
            column = _sort(self._scores[:, c], self._member[:, c], rows)
            if column is None:
                continue
            above, below = column.placements()
            for has_label, members, placed in ((True, column.pos, above), (False, column.neg, below)):
                sums[has_label][members] += placed
                counts[has_label][members] += 1
        own, other = (_ratio(sums[has_label], counts[has_label], 1.0) for has_label in (True, False))
        return np.where(counts[True] > 0, own, other)


@dataclass(frozen=True)
class _Column:
    """One column, best score first. Positions count from the best; a tie group shares its counts."""

    pos: Places
    """(P,) rows with the label."""
    neg: Places
    """(N,) rows without it."""
    neg_above: Places
    """(P,) rows without the label that score higher than this row."""
    neg_from: Places
    """(P,) ... that score as high or higher."""
    pos_from: Places
    """(P,) rows with the label that score as high or higher."""
    pos_above_neg: Places
    """(N,) rows with the label that score higher than this row without it."""
    pos_from_neg: Places
    """(N,) ... that score as high or higher."""

    @property
    def rows(self) -> Places:
        return np.concatenate([self.pos, self.neg])

    def values(self, weights: Floats, metric: Metric) -> tuple[Floats, Floats]:
        """The metric (R,) for weights (n, R), nan where it is not defined, and the weight of rows with the label (R,)."""
        weight = weights[self.pos]
        without = _cumulated(weights[self.neg])
        total, total_without = weight.sum(axis=0), without[-1]
        if metric == "roc_auc":
            ranked_higher = (without[self.neg_above] + without[self.neg_from]) / 2
            above = total * total_without - np.einsum("pr,pr->r", weight, ranked_higher)
        else:
            hits = _cumulated(weight)[self.pos_from]
            retrieved = hits + without[self.neg_from]
            precision = _ratio(hits, retrieved, 0.0)
            above = np.einsum("pr,pr->r", weight, precision) * total_without
        return _ratio(above, total * total_without, np.nan), total

    def placements(self) -> tuple[Floats, Floats]:
        """For rows with the label the share of rows without it below (P,), and the other way round (N,); ties half."""
        above = 1 - (self.neg_above + self.neg_from) / (2 * self.neg.size)
        below = (self.pos_above_neg + self.pos_from_neg) / (2 * self.pos.size)
        return above, below

    def without_each(self, metric: Metric) -> tuple[Floats, Floats]:
        """The metric, and the number of rows with the label, without each row in the order of `rows`; nan: undefined."""
        p, n = self.pos.size, self.neg.size
        left = np.concatenate([np.full(p, p - 1.0), np.full(n, float(p))])
        gone = np.concatenate([np.full(p, p == 1), np.full(n, n == 1)])
        if metric == "roc_auc":
            above, below = self.placements()
            wins = above.sum() * n
            others = np.concatenate([np.full(p, max(p - 1, 1) * n), np.full(n, p * max(n - 1, 1))])
            values = (wins - np.concatenate([above * n, below * p])) / others
        else:
            values = self._average_precision_without_each()
        return np.where(gone, np.nan, values), left

    def _average_precision_without_each(self) -> Floats:
        """Thresholds above a row keep their precision; those from its own tie group on lose one hit, or one miss."""
        p = self.pos.size
        hits, misses = self.pos_from.astype(float), self.neg_from.astype(float)
        kept = np.concatenate([[0.0], np.cumsum(hits / (hits + misses))])
        rest = np.maximum(hits - 1 + misses, 1)  # 1: hits is 1 and misses 0, where the precision left is 0 / 1
        less_hit = np.concatenate([[0.0], np.cumsum((hits - 1) / rest)])
        less_miss = np.concatenate([[0.0], np.cumsum(np.where(misses > 0, hits / rest, 0.0))])
        first = np.searchsorted(self.pos_from, self.pos_from, side="left")  # where the row's tie group begins
        without_pos = kept[first] + less_hit[p] - less_hit[first] - (hits - 1) / rest
        without_neg = kept[self.pos_above_neg] + less_miss[p] - less_miss[self.pos_above_neg]
        return np.concatenate([without_pos / max(p - 1, 1), without_neg / p])


def _sort(scores: Floats, member: NDArray[np.bool_], rows: NDArray[np.int_]) -> _Column | None:
    if member.all() or not member.any():
        return None
    pos, neg = np.flatnonzero(member), np.flatnonzero(~member)
    pos, neg = pos[np.argsort(-scores[pos], kind="stable")], neg[np.argsort(-scores[neg], kind="stable")]
    high_pos, high_neg = -scores[pos], -scores[neg]
    return _Column(
        pos=_small(rows[pos]),
        neg=_small(rows[neg]),
        neg_above=_small(np.searchsorted(high_neg, high_pos, side="left")),
        neg_from=_small(np.searchsorted(high_neg, high_pos, side="right")),
        pos_from=_small(np.searchsorted(high_pos, high_pos, side="right")),
        pos_above_neg=_small(np.searchsorted(high_pos, high_neg, side="left")),
        pos_from_neg=_small(np.searchsorted(high_pos, high_neg, side="right")),
    )


def _small(places: NDArray[np.int_]) -> Places:
    """Half the memory: a column of a million rows holds seven of them."""
    return places.astype(np.int32)


def _cumulated(weights: Floats) -> Floats:
    """Sums of the first 0, 1, ... m rows of (m, R): (m + 1, R)."""
    sums = np.zeros((weights.shape[0] + 1, weights.shape[1]))
    np.cumsum(weights, axis=0, out=sums[1:])
    return sums


def _ratio(part: Floats, whole: Floats, undefined: float) -> Floats:
    out = np.full(part.shape, undefined)
    np.divide(part, whole, out=out, where=whole > 0)
    return out
