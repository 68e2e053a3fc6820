"""A share of right rows with its exact interval; rows that come in groups count for less.

Ungrouped rows: Clopper & Pearson (1934), each end at one-sided error alpha. Grouped rows (several from one document, user
or conversation): Korn & Graubard (1998), "Confidence intervals for proportions with small expected number of positive
counts estimated from survey data", Survey Methodology 24: the same exact ends, for an effective number of rows.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from evalft.stats.interval import Ends, Interval

MIN_GROUPS = 8
"""Under this many groups the spread between groups is too poorly known for any interval."""


def proportion(right: NDArray[np.bool_], groups: NDArray[np.int_] | None = None) -> Interval:
    """The share of True in `right` (n,), with `groups` (n,) naming each row's group where rows are not independent."""
    right = np.asarray(right, dtype=bool)
    n, k = right.size, int(right.sum())
    method = "clopper_pearson" if groups is None else "korn_graubard"
    if n == 0:
        return Interval(None, 0, method, reason="no rows")
    if groups is None:
        return Interval(k / n, n, method, lambda alpha: clopper_pearson(k, n, alpha))
    member = group_index(groups)
    if (count := int(member.max()) + 1) < MIN_GROUPS:
        return Interval(k / n, n, method, reason=too_few_groups(count))
    return Interval(k / n, n, method, _korn_graubard(right, member, count))


def clopper_pearson(k: float, n: float, alpha: float) -> tuple[float, float]:
    """Ends for k successes in n trials, at error alpha on each side. k and n need not be whole (Korn-Graubard)."""
    from scipy.special import betainccinv, betaincinv

    low = float(betaincinv(k, n - k + 1, alpha)) if k > 0 else 0.0
    high = float(betainccinv(k + 1, n - k, alpha)) if k < n else 1.0
    return low, high


def rows_needed_to_pass(bound: float, alpha: float) -> int | None:
    """The fewest rows (or groups) that, all of them right, have a lower end >= bound; None: no number has (bound >= 1).

    With k = n the Clopper-Pearson lower end is alpha ** (1 / n).
    """
    if bound >= 1:
        return None
    if bound <= 0:
        return 1
    rows = max(1, math.floor(math.log(alpha) / math.log(bound)))
    while clopper_pearson(rows, rows, alpha)[0] < bound:  # rounding decides as `proportion` itself would
        rows += 1
    return rows


def group_index(groups: NDArray[np.int_]) -> NDArray[np.int_]:
    """Any group ids (n,) as 0..G-1."""
    return np.unique(np.asarray(groups), return_inverse=True)[1].reshape(-1)


def too_few_groups(count: int) -> str:
    return f"{count} group{'s' if count != 1 else ''}: an interval needs at least {MIN_GROUPS}"


def _korn_graubard(right: NDArray[np.bool_], member: NDArray[np.int_], count: int) -> Ends:
    n, k = right.size, int(right.sum())
    p = k / n
    in_group = np.bincount(member, minlength=count)
    right_in_group = np.bincount(member, weights=right, minlength=count).astype(int)
    residual = right_in_group * n - k * in_group  # n times the sum of (row - p) per group: whole numbers, so 0 is exact
    if not residual.any():  # no spread between groups to measure (all right, say): a group counts as one row
        return lambda alpha: clopper_pearson(p * count, count, alpha)
    variance = count / (count - 1) * float(np.sum((residual / n**2) ** 2))
    effective = min(n, p * (1 - p) / variance)

    def ends(alpha: float) -> tuple[float, float]:
        from scipy.special import ndtri, stdtrit

        rows = effective * float(ndtri(alpha) / stdtrit(count - 1, alpha)) ** 2
        return clopper_pearson(p * rows, rows, alpha)

    return ends
