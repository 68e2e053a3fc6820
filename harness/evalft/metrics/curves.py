"""What a chart of probabilities needs: the ROC curve, and how often answers of a stated probability are right.

Both rest on the arrays that roc_auc and ece are computed from, failures included: the area under the curve is roc_auc,
and the gaps of the bins, weighted by their answers, sum to ece.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evalft.metrics.labels import LabelArrays
from evalft.metrics.measure import Bools, Floats, Ints
from evalft.metrics.names import averaging
from evalft.metrics.probability import BINS, Forecast, ranking_scores, stated
from evalft.records import TaskType
from evalft.stats.interval import Interval
from evalft.stats.proportion import proportion

GRID = np.linspace(0, 1, 41) ** 2
"""Where the curve is read off: closer together where few false positives are let through."""
DIGITS = 4


@dataclass(frozen=True)
class Roc:
    """tpr[i] of the rows with the label rank above a cut-off that lets fpr[i] of the others through."""

    of: str
    fpr: tuple[float, ...]
    tpr: tuple[float, ...]


@dataclass(frozen=True)
class Bin:
    """The answers whose stated probability is in (above, up_to]."""

    above: float
    up_to: float
    stated: float
    """Their mean probability."""
    right: Interval
    """The share of them that is right."""


def roc(rows: LabelArrays, said: Forecast, task_type: TaskType, positive: str | None) -> Roc | None:
    """Of the label that counts, or the mean over labels, each against the rest, where roc_auc is such a mean. None
    without probabilities: a bare answer has one point and no curve."""
    if said.method in (None, "hard"):
        return None
    scores = ranking_scores(rows, said, task_type)
    if averaging("roc_auc", task_type, rows.labels, positive)[1] in ("positive", "binary"):
        columns = [rows.labels.index(positive) if positive is not None else 1]
        of = f"{rows.labels[columns[0]]} against the rest"
    else:
        columns = [int(i) for i in rows.supported]
        of = f"mean over {len(columns)} labels, each against the rest"
    curves = [curve for i in columns if (curve := _curve(scores[:, i], rows.target[:, i])) is not None]
    if not curves:
        return None
    tpr = np.mean(curves, axis=0).round(DIGITS)
    return Roc(of, (0.0, *GRID.round(DIGITS).tolist()), (0.0, *tpr.tolist()))


def _curve(scores: Floats, member: Bools) -> Floats | None:
    """The true positive rate at each point of GRID; rows of equal score are let through together."""
    order = np.argsort(-scores)
    last_of_equals = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = np.cumsum(member[order])[last_of_equals]
    others = last_of_equals + 1 - hits
    if not hits[-1] or not others[-1]:
        return None
    rates: Floats = np.interp(GRID, np.append(0, others / others[-1]), np.append(0, hits / hits[-1]))
    return rates


def calibration(rows: LabelArrays, said: Forecast, task_type: TaskType, groups: Ints | None) -> tuple[Bin, ...]:
    """The bins of ece that hold an answer. groups: (n,) of rows that are not independent; the labels of a multi-label row
    never are."""
    if said.method in (None, "hard"):
        return ()
    confidence, right, bins = stated(rows, said, task_type)
    member = np.broadcast_to(np.arange(len(bins))[:, None] if groups is None else groups[:, None], bins.shape)
    independent = groups is None and bins.shape[1] == 1
    found = []
    for i in np.unique(bins):
        inside = bins == i
        share = proportion(right[inside], None if independent else member[inside])
        found.append(Bin(i / BINS, (i + 1) / BINS, float(confidence[inside].mean()), share))
    return tuple(found)
