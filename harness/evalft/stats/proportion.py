"""A share of right rows with its exact interval; rows that come in groups count for less.

Ungrouped rows: Clopper & Pearson (1934), each end at one-sided error alpha. Grouped rows (several from one document, user
or conversation): Korn & Graubard (1998), "Confidence intervals for proportions with small expected number of positive
counts estimated from survey data", Survey Methodology 24: the same exact ends, for an effective number of rows; made
monotone, so that a better result never has a lower end (`_grouped_low`, docs/decisions/0028).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from evalft.stats.interval import Ends, Interval

Floats = NDArray[np.float64]

MIN_GROUPS = 8
"""Under this many groups the spread between groups is too poorly known for any interval."""
MENDED = 1000
"""Results with fewer errors that are looked at, evenly spaced where there are more."""


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
    sizes = np.bincount(member, minlength=count).astype(np.float64)
    right_in_group: Floats = np.bincount(member, weights=right, minlength=count).astype(np.float64)
    low = _grouped_low(sizes - right_in_group, sizes, monotone=True)
    low_of_wrong = _grouped_low(right_in_group, sizes, monotone=False)
    return lambda alpha: (low(alpha), 1 - low_of_wrong(alpha))


def _grouped_low(wrong: Floats, sizes: Floats, *, monotone: bool) -> Callable[[float], float]:
    """The lower end of the share of right rows, of which each group (G,) of `sizes` has `wrong` ones.

    Korn and Graubard's end is not monotone: a few errors in as many groups say that rows of a group are nearly
    independent, while no error at all says nothing of that, so that all right must count as G rows. No end is therefore
    above that of all right. With `monotone` none is above that of any result with some of its errors mended: of those
    with j errors left it takes a bound on the variance, by leaving the errors in as few groups as can be. The bound is
    the variance itself where nothing is mended, and it grows with `wrong`, which makes the end monotone.
    """
    n, count = float(sizes.sum()), sizes.size
    errors = wrong.sum()
    if errors == n:
        return lambda _alpha: 0.0
    left = np.unique(np.linspace(1, errors, int(min(errors, MENDED))).round()) if monotone else np.array([errors])
    left = left[left > 0]
    share = left / n
    most, smallest = np.argsort(-wrong), np.argsort(sizes)
    squares = _of_first(left, wrong[most], wrong[most]) - 2 * share * _of_first(left, wrong[smallest], sizes[smallest])
    variance = count / (count - 1) / n**2 * (squares + share**2 * float(np.sum(sizes**2)))
    with np.errstate(divide="ignore"):
        rows = np.minimum(n, share * (1 - share) / np.maximum(variance, 0.0))
    # A result with fewer errors and no fewer rows never ends lower: it need not be looked at.
    kept = rows < np.append(np.minimum.accumulate(rows[::-1])[::-1][1:], math.inf)
    share, rows = share[kept], rows[kept]

    def low(alpha: float) -> float:
        from scipy.special import betaincinv, ndtri, stdtrit

        effective = rows * float(ndtri(alpha) / stdtrit(count - 1, alpha)) ** 2
        right = (1 - share) * effective
        all_right = clopper_pearson(count, count, alpha)[0]  # no spread to measure: a group counts as one row
        return float(np.min(betaincinv(right, effective - right + 1, alpha), initial=all_right))

    return low


def _of_first(left: Floats, wrong: Floats, each: Floats) -> Floats:
    """The sum of `each` over the first `left` errors, taken group after group: group g has wrong[g] of them."""
    return np.asarray(np.interp(left, np.append(0.0, np.cumsum(wrong)), np.append(0.0, np.cumsum(wrong * each))))
