"""Was the change real? Paired differences of two candidates' row scores on the same rows, after minus before.

- right or wrong rows: the exact McNemar test (a binomial test of the rows fixed against the rows broken), and for the
  difference of the two shares Newcombe (1998), "Improved confidence intervals for the difference between binomial
  proportions based on paired data", Statistics in Medicine 17, method 10. The two are approximations of one another, so
  whether the interval holds 0 is left to the exact test: they never disagree.
- any other row score, and rows in groups: bootstrap of the mean difference. Fewer than 10 rows that differ are too few
  for a bootstrap; there the interval of the signs (rows better against rows worse) bounds it.
- a metric of all rows together (macro F1, AUC): bootstrap of its difference on the same resampled rows, widened to
  Student's t where few rows carry it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalft.stats.bootstrap import (
    FEW_ROWS,
    NORMAL_FROM,
    Floats,
    Statistic,
    jackknife_normal,
    mean,
    weighted,
    widened_to_t,
)
from evalft.stats.interval import Ends, Interval, unbounded

BLOCKS = 500
"""Blocks of rows left out in turn, where leaving out each row would cost more than the bootstrap itself."""
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
    found = mean(difference, groups=groups, student=groups is not None, seed=seed)
    if n == 0 or better + worse >= FEW_ROWS or found.ends is unbounded:
        return found
    scale = max(1.0, float(np.abs(difference).max()))
    return Interval(found.value, n, found.method, _widened(found.ends, _newcombe(0, better, worse, n), scale))


def paired_statistic(
    before: tuple[Statistic, ArrayLike],
    after: tuple[Statistic, ArrayLike],
    groups: ArrayLike | None = None,
    seed: int = 0,
    furthest: float = math.inf,
    without_each: tuple[Callable[[], Floats], Callable[[], Floats]] | None = None,
) -> Interval:
    """The difference of a metric of all rows together, after minus before, with its interval; `furthest` is the largest
    difference there can be.

    Each side is (statistic, cells): the metric of weights (R, K) over that candidate's cells, and the cell of each row
    (n,), as for `bootstrap.weighted`. A resample draws rows, each with both of its cells. Swapped sides give the
    negative: what is drawn depends on the order of the rows alone. without_each: each side's metric without each row
    (n,), where there is a closed form: of NORMAL_FROM ungrouped rows and more it gives the normal interval
    (docs/decisions/0031).
    """
    (old_statistic, old_cells), (new_statistic, new_cells) = before, after
    old_cells, new_cells = np.asarray(old_cells, dtype=np.int64), np.asarray(new_cells, dtype=np.int64)
    if old_cells.shape != new_cells.shape:
        raise ValueError(f"paired rows: {old_cells.size} before, {new_cells.size} after")
    n = old_cells.size
    if n == 0:
        return Interval(None, 0, "bca", reason="no rows")
    found = None
    if without_each is not None and groups is None and n >= NORMAL_FROM:
        old_without, new_without = (side() for side in without_each)
        left_out = new_without - old_without
        old_counts, new_counts = (np.bincount(side).astype(np.float64)[None, :] for side in (old_cells, new_cells))
        value = float((new_statistic(new_counts) - old_statistic(old_counts))[0])
        if not np.isnan(left_out).any() and not math.isnan(value):
            if left_out.any():
                normal = jackknife_normal(value, left_out, np.zeros(n), (-furthest, furthest))
                return widened_to_t(normal, left_out, np.ones(n))
            if value == 0:  # the same answers: thousands of resamples would each say so
                found = Interval(0.0, n, "bca", lambda _alpha: (0.0, 0.0))
    if found is None:
        found = _resampled(old_statistic, old_cells, new_statistic, new_cells, groups, furthest, seed)
    if found.value is None or found.ends(0.49) != (found.value, found.value):
        return found
    # Every resample gives the same: rows that would not have not been met, so their share bounds the ends.
    units = n if groups is None else np.unique(np.asarray(groups)).size
    signs = _newcombe(0, units if found.value > 0 else 0, units if found.value < 0 else 0, units)
    return replace(found, ends=_widened(found.ends, signs, abs(found.value) or 1.0))


def _resampled(
    old_statistic: Statistic,
    old_cells: NDArray[np.int_],
    new_statistic: Statistic,
    new_cells: NDArray[np.int_],
    groups: ArrayLike | None,
    furthest: float,
    seed: int,
) -> Interval:
    cells, first = _joint(old_cells, new_cells)
    old, new = _cells_of(old_cells, first), _cells_of(new_cells, first)

    def difference(weights: Floats) -> Floats:
        return new_statistic(weights @ new) - old_statistic(weights @ old)

    jackknife = _without_blocks(difference, cells, seed) if groups is None and first.size > 2 * BLOCKS else None
    return weighted(
        difference, cells, bounds=(-furthest, furthest), groups=groups, jackknife=jackknife, student=True, seed=seed
    )


def mcnemar_exact(fixed: int, broken: int) -> float:
    """The two-sided p-value of `fixed` against `broken` rows under equal chances (McNemar 1947, exact form)."""
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(fixed, broken), fixed + broken, 0.5))) if fixed + broken else 1.0


def _joint(old: NDArray[np.int_], new: NDArray[np.int_]) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """(n,) the number of each row's pair of cells, in order of appearance, and (J,) the row where each first stands."""
    pairs = old * (new.max() + 1) + new
    _, first, cells = np.unique(pairs, return_index=True, return_inverse=True)
    place = np.empty_like(first)
    place[np.argsort(first)] = np.arange(first.size)
    return place[cells.reshape(-1)], np.sort(first)


def _cells_of(side: NDArray[np.int_], first: NDArray[np.int_]) -> Any:
    """Which of its K cells one side has in each pair of cells: sparse (J, K)."""
    from scipy.sparse import csr_array

    ones = np.ones(first.size)
    return csr_array((ones, (np.arange(first.size), side[first])), shape=(first.size, int(side.max()) + 1))


def _without_blocks(statistic: Statistic, cells: NDArray[np.int_], seed: int) -> Floats:
    """The metric without each of BLOCKS random blocks of rows: skewness and spread as from leaving out single rows."""
    from scipy.sparse import csr_array

    block = np.random.default_rng(seed).permutation(cells.size) % BLOCKS
    rows = csr_array((np.ones(cells.size), (block, cells)), shape=(BLOCKS, int(cells.max()) + 1)).toarray()
    return statistic(rows.sum(axis=0) - rows)


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
