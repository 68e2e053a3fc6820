"""What n rows can be expected to show, before anything is measured."""

from __future__ import annotations

import math

import numpy as np

from evalft.stats.proportion import clopper_pearson

CHANCE = 0.8
"""Of showing what is true: the usual power of a study (Cohen 1988)."""


def half_width(share: float, n: int, level: float) -> float:
    """Half the width of the exact interval (Clopper-Pearson; `level` is the error of each side) of a share of n rows."""
    low, high = clopper_pearson(round(share * n), n, level)
    return (high - low) / 2


def detectable_difference(n: int, differ: float, level: float, chance: float = CHANCE) -> float | None:
    """The smallest true difference of two candidates' shares of right rows that n paired rows show with `chance`, where
    they differ (one right, one wrong) on the share `differ` of rows. None: not even one as large as that.

    Connor 1987, "Sample size for testing differences in proportions for the paired-sample design", solved for the
    difference."""
    from scipy.special import ndtri  # here: scipy.stats would take seconds to import

    z = -float(ndtri(level)), float(ndtri(chance))

    def rows(difference: float) -> float:
        spread = z[0] * math.sqrt(differ) + z[1] * math.sqrt(max(0.0, differ - difference**2))
        return (spread / difference) ** 2

    if rows(differ) > n:
        return None
    low, high = 0.0, differ
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if rows(middle) <= n else (middle, high)
    return high


def rows_to_show(bound: float, true: float, level: float, chance: float = CHANCE, most: int = 100_000) -> int | None:
    """About how many rows it takes until a share that is truly `true` is shown to be at least `bound` with `chance`: the
    first of a grid of n in steps of 3 % at which the exact lower end does so. None: more than `most`."""
    from scipy.special import bdtrc, betaincinv

    n = 10.0
    while n <= most:
        rows = int(n)
        right = np.arange(1, rows + 1)
        enough = right[betaincinv(right, rows - right + 1, level) >= bound]
        if enough.size and bdtrc(enough[0] - 1, rows, true) >= chance:
            return rows
        n *= 1.03
    return None
