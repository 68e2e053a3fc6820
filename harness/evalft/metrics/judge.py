"""`judge`: the mean of the scores that judges gave, each 0..1, with what no judge scored counted at its worst.

An answer that a judge could not score says nothing about the candidate, so the value leaves it out. The interval does
not: its lower end takes every missing score as 0 and its upper end as 1 (worst-case bounds, Manski 1989, "Anatomy of the
selection problem", Journal of Human Resources 24), so that what is missing can make a candidate neither pass nor fail.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evalft.metrics.measure import Floats, Ints, Measure, divide, not_measured
from evalft.stats import bootstrap
from evalft.stats.interval import Interval

Words = Sequence[float | None]
"""The scores (0..1) of one answer, one per judge; None where that judge gave none."""


def measured(rows: Sequence[Sequence[Words]]) -> Measure:
    """`rows` holds each row's answers (samples) with their scores. Row scores are nan where no judge gave one."""
    worst, value, best = (np.array([_row(row, missing) for row in rows]) for missing in (0.0, None, 1.0))
    if np.isnan(value).all() and value.size:
        return not_measured(len(rows), "bca", "no judge gave a score")
    missing = int(np.count_nonzero(worst != best))
    distinct, cells = np.unique(value, return_inverse=True)
    known = ~np.isnan(distinct)
    scores = np.where(known, distinct, 0.0)

    def statistic(weights: Floats) -> Floats:
        return divide(weights @ scores, weights @ known.astype(np.float64), otherwise=np.nan)

    def interval(groups: Ints | None, seed: int) -> Interval:
        lower = bootstrap.mean(worst, bounds=(0.0, 1.0), groups=groups, seed=seed)
        if not missing:
            return lower
        upper = bootstrap.mean(best, bounds=(0.0, 1.0), groups=groups, seed=seed)
        said = f"{missing:,} of {len(rows):,} rows lack a score: the lower end takes it as 0, the upper end as 1"
        return Interval(
            float(np.nanmean(value)),
            len(rows),
            lower.method,
            lambda alpha: (lower.ends(alpha)[0], upper.ends(alpha)[1]),
            reason="; ".join(filter(None, (said, lower.reason))),
        )

    return Measure(cells.reshape(-1), statistic, interval, row_scores=value)


def _row(answers: Sequence[Words], missing: float | None) -> float:
    """The mean over a row's answers of the mean over judges, a missing score being `missing` (None: left out)."""
    means = []
    for words in answers:
        scores = [missing if word is None else word for word in words]
        given = [score for score in scores if score is not None]
        if given:
            means.append(sum(given) / len(given))
    return sum(means) / len(means) if means else float("nan")
