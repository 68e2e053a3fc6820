"""A quantile with its exact, distribution-free interval between order statistics.

Hahn & Meeker (1991), "Statistical Intervals", section 5.2: the number of values below the q-quantile is binomial
(n, q), whatever their distribution. With few rows no order statistic bounds a high percentile from above: that end is
then infinite, not guessed.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from evalft.stats.interval import Interval


def quantile(values: ArrayLike, q: float) -> Interval:
    """The q-quantile (0 < q < 1) of `values` (n,): the order statistic of rank ceil(n q), numpy's "inverted_cdf"."""
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = ordered.size
    if n == 0:
        return Interval(None, 0, "order_statistic", reason="no rows")

    def ends(alpha: float) -> tuple[float, float]:
        low_rank, high_rank = _ranks(alpha, n, q)
        low = float(ordered[low_rank - 1]) if low_rank >= 1 else -math.inf
        high = float(ordered[high_rank - 1]) if high_rank <= n else math.inf
        return low, high

    return Interval(float(np.quantile(ordered, q, method="inverted_cdf")), n, "order_statistic", ends)


def _ranks(alpha: float, n: int, q: float) -> tuple[int, int]:
    """With B values below the quantile, B ~ binomial(n, q): the largest l with P(B < l) <= alpha and the smallest h with
    P(B >= h) <= alpha; 0 and n + 1 where there is none."""
    from scipy.special import bdtr, bdtrc, bdtrik  # scipy.stats would take a second to import

    low = max(0, math.ceil(bdtrik(alpha, n, q))) if bdtr(0, n, q) <= alpha else 0  # near it; the loops decide
    while low > 0 and bdtr(low - 1, n, q) > alpha:
        low -= 1
    while low < n and bdtr(low, n, q) <= alpha:
        low += 1
    high = min(n, math.ceil(bdtrik(1 - alpha, n, q))) if bdtr(0, n, q) <= 1 - alpha else 0
    while high <= n and bdtrc(high - 1, n, q) > alpha:
        high += 1
    while high > 1 and bdtrc(high - 2, n, q) <= alpha:
        high -= 1
    return low, high


def rows_needed_to_bound(q: float, alpha: float) -> int:
    """The fewest rows whose largest and smallest value bound the q-quantile on both sides, each at error alpha."""
    extreme = max(q, 1 - q)
    rows = max(1, math.floor(math.log(alpha) / math.log(extreme)))
    while not all(map(math.isfinite, quantile(np.zeros(rows), q).ends(alpha))):  # rounding decides as `quantile` would
        rows += 1
    return rows
