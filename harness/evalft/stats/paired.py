"""Was the change real? Paired differences of two candidates' row scores on the same rows, after minus before.

- right or wrong rows: the exact McNemar test (a binomial test of the rows fixed against the rows broken), and for the
  difference of the two shares Newcombe (1998), "Improved confidence intervals for the difference between binomial
  proportions based on paired data", Statistics in Medicine 17, method 10. The two are approximations of one another, so
  whether the interval holds 0 is left to the exact test: they never disagree.
- any other row score, and rows in groups: bootstrap of the mean difference. Fewer than 10 rows that differ are too few
  for a bootstrap; there the interval of the signs (rows better against rows worse) bounds it.
"""

from __future__ import annotations

import math
import sys

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalft.stats.bootstrap import FEW_ROWS, mean
from evalft.stats.interval import Ends, Interval, unbounded

JUST_OVER_0 = sys.float_info.min
"""Where the exact test shows a difference that method 10 does not: more than 0, by no stated amount."""


def paired_difference(before: ArrayLike, after: ArrayLike, groups: ArrayLike | None = None, seed: int = 0) -> Interval:
    """The mean of after - before (n,) with its interval; bool or 0/1 scores are taken as right and wrong."""
    before, after = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if before.shape != after.shape:
        raise ValueError(f"paired rows: {before.size} before, {after.size} after")
    difference = after - before
    better, worse = int(np.sum(difference > 0)), int(np.sum(difference < 0))
    n = difference.size
    if n and groups is None and _right_or_wrong(before) and _right_or_wrong(after):
        both = int(np.sum((before == 1) & (after == 1)))
        return Interval((better - worse) / n, n, "newcombe", _newcombe(both, better, worse, n))
    found = mean(difference, groups=groups, seed=seed)
    if n == 0 or better + worse >= FEW_ROWS or found.ends is unbounded:
        return found
    scale = max(1.0, float(np.abs(difference).max()))
    return Interval(found.value, n, found.method, _widened(found.ends, _newcombe(0, better, worse, n), scale))


def mcnemar_exact(fixed: int, broken: int) -> float:
    """The two-sided p-value of `fixed` against `broken` rows under equal chances (McNemar 1947, exact form)."""
    from scipy.stats import binomtest

    return float(binomtest(fixed, fixed + broken, 0.5).pvalue) if fixed + broken else 1.0


def _right_or_wrong(scores: NDArray[np.float64]) -> bool:
    return bool(np.all((scores == 0) | (scores == 1)))


def _newcombe(both: int, fixed: int, broken: int, n: int) -> Ends:
    """Method 10: Wilson intervals of the two shares, squared and added with the correlation of the rows taken off."""
    neither = n - both - fixed - broken
    share_after, share_before = (both + fixed) / n, (both + broken) / n
    margins = (both + fixed) * (broken + neither) * (both + broken) * (fixed + neither)
    lead = float(both * neither - fixed * broken)
    if lead > 0:
        lead = max(lead - n / 2, 0.0)  # continuity correction of the correlation, as in the paper
    correlation = lead / math.sqrt(margins) if margins else 0.0
    difference = (fixed - broken) / n
    p_value = mcnemar_exact(fixed, broken)

    def ends(alpha: float) -> tuple[float, float]:
        low_after, high_after = _wilson(share_after, n, alpha)
        low_before, high_before = _wilson(share_before, n, alpha)

        def half(a: float, b: float) -> float:
            return math.sqrt(max(0.0, a * a - 2 * correlation * a * b + b * b))

        low = difference - half(share_after - low_after, high_before - share_before)
        high = difference + half(high_after - share_after, share_before - low_before)
        return max(low, -1.0), min(high, 1.0)

    def agreeing(alpha: float) -> tuple[float, float]:
        low, high = ends(alpha)
        if p_value > 2 * alpha:
            return min(low, 0.0), max(high, 0.0)
        return (max(low, JUST_OVER_0), high) if fixed > broken else (low, min(high, -JUST_OVER_0))

    return agreeing


def _wilson(share: float, n: int, alpha: float) -> tuple[float, float]:
    """Wilson (1927) score ends."""
    from scipy.special import ndtri

    z = float(ndtri(alpha))
    center = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = abs(z) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return center - half, center + half


def _widened(ends: Ends, signs: Ends, scale: float) -> Ends:
    def widened(alpha: float) -> tuple[float, float]:
        (low, high), (low_sign, high_sign) = ends(alpha), signs(alpha)
        return min(low, scale * low_sign), max(high, scale * high_sign)

    return widened
