"""The binary ROC-AUC: the chance that a row with the label scores above a row without it, ties counting half.

- DeLong, DeLong & Clarke-Pearson (1988), Biometrics 44, by the midrank algorithm of Sun & Xu (2014), IEEE SPL 21.
- DeLong's interval is symmetric, and its lower end too high near 1: simulated at 20 positive and 200 negative rows and an
  AUC of 0.92 it lay above the truth in 14 % of samples instead of 2.5 %. Each end is therefore the further out of DeLong's
  and Newcombe's (`delong_newcombe`), which kept both sides under 2.5 % in that simulation (docs/decisions/0009).
- Newcombe (2006), "Confidence intervals for an effect size measure based on the Mann-Whitney statistic. Part 2",
  Statistics in Medicine 25, method 5: where DeLong's variance is 0 (a perfect ranking) or a class has few rows.
- Rows in groups: jackknife or bootstrap over groups, as every other metric (`ranking`, `bootstrap`).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from evalft.stats.interval import Ends, Interval
from evalft.stats.ranking import averaged

MIN_ROWS = 2
"""Under this many rows of a class there is no AUC worth the name."""
MIN_ROWS_DELONG = 10


def auc(scores: ArrayLike, positive: ArrayLike, groups: ArrayLike | None = None, seed: int = 0) -> Interval:
    """The AUC of `scores` (n,) for `positive` (n,) bool; None where a class has under two rows."""
    from scipy.stats import rankdata

    scores, positive = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    pos, neg = scores[positive], scores[~positive]
    p, n = pos.size, neg.size
    if min(p, n) < MIN_ROWS:
        reason = f"{p} positive and {n} negative rows: an AUC needs at least {MIN_ROWS} of each"
        return Interval(None, scores.size, "delong_newcombe", reason=reason)
    if groups is not None:
        return averaged(scores[:, None], positive[:, None], "roc_auc", "macro", groups=groups, seed=seed)

    ranks = rankdata(scores)
    above = (ranks[positive] - rankdata(pos)) / n  # per positive row, the share of negative rows below it
    below = 1 - (ranks[~positive] - rankdata(neg)) / p
    value = float(above.mean())
    variance = float(above.var(ddof=1) / p + below.var(ddof=1) / n)
    if min(p, n) < MIN_ROWS_DELONG or variance < 1e-20:
        return Interval(value, scores.size, "newcombe", newcombe(value, p, n))
    ends = _further_out(_normal(value, math.sqrt(variance)), newcombe(value, p, n))
    return Interval(value, scores.size, "delong_newcombe", ends)


def newcombe(value: float, p: int, n: int) -> Ends:
    """Method 5: the ends are the AUCs whose own Hanley-McNeil variance puts `value` z standard errors away."""
    mean_rows = (p + n) / 2 - 1

    def error(theta: float) -> float:
        spread = 1 + mean_rows * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return math.sqrt(theta * (1 - theta) * spread / (p * n))

    def low(center: float, z: float) -> float:
        from scipy.optimize import brentq

        if center <= 0:
            return 0.0

        def beyond(theta: float) -> float:
            return center - theta - z * error(theta)

        nearest = center * (1 - 1e-12)
        if beyond(nearest) >= 0:  # at levels near 1/2 the end is the value itself, to rounding
            return nearest
        return float(brentq(beyond, 0.0, nearest))

    def ends(alpha: float) -> tuple[float, float]:
        from scipy.special import ndtri

        z = -float(ndtri(alpha))
        return low(value, z), 1 - low(1 - value, z)  # the variance is symmetric about 1/2

    return ends


def _further_out(one: Ends, other: Ends) -> Ends:
    def ends(alpha: float) -> tuple[float, float]:
        (low, high), (other_low, other_high) = one(alpha), other(alpha)
        return min(low, other_low), max(high, other_high)

    return ends


def _normal(value: float, error: float) -> Ends:
    def ends(alpha: float) -> tuple[float, float]:
        from scipy.special import ndtri

        half = -float(ndtri(alpha)) * error
        return max(0.0, value - half), min(1.0, value + half)

    return ends
