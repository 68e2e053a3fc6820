"""Intervals for any metric that is a function of row weights: seeded BCa bootstrap, over rows or over groups of rows.

A metric is given as `statistic(W) -> (R,)`: W (R, K) holds R resamples as weights over K cells. A cell is a set of rows
that the metric cannot tell apart (the same target and prediction, the same row score), so that resampling n rows is a
multinomial draw over K counts and 10,000 rows cost no more than their cells. Where every row differs, K = n.

- rows: BCa, Efron (1987), "Better bootstrap confidence intervals", JASA 82, eq. 2.3, 6.6.
- groups: the same over whole groups from 30 groups on; under 30, the delete-one-group jackknife with t quantiles
  (Wolter 2007, "Introduction to Variance Estimation", ch. 4); under 8 there is no interval.
- where nearly all rows score the maximum (or the minimum) a bootstrap cannot see the rare rows that it has not met:
  there the exact interval of the share of such rows bounds the end (design: fewer than 10 rows). Means likewise where
  nearly all rows have the same score, whichever it is.
- a metric that is the same in every resample has no interval (`unless_constant`): that is no certainty.
- `student` (paired differences): where few rows carry the spread, ends are as far out as Student's t puts them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalft.stats.interval import Ends, Interval, unbounded
from evalft.stats.proportion import MIN_GROUPS, group_index, proportion, too_few_groups

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""Weights (R, K) over cells -> the metric (R,); nan where it is not defined for those weights."""

REPLICATES = 4_000
CHUNK = 4_000_000
"""Elements of one block of weights (32 MB)."""
ROWS_DRAWN = 50_000
"""Rows drawn at once: what fits a processor's cache."""
MIN_GROUPS_TO_RESAMPLE = 30
NORMAL_FROM = 20_000
"""From this many rows on, the mean of row scores takes the normal interval."""
FEW_ROWS = 10
ROUNDING = 1e-12
"""A standard error as small is none."""


def weighted(
    statistic: Statistic,
    cells: ArrayLike,
    *,
    row_scores: ArrayLike | None = None,
    bounds: tuple[float, float] | None = None,
    groups: ArrayLike | None = None,
    jackknife: ArrayLike | None = None,
    student: bool = False,
    seed: int = 0,
) -> Interval:
    """The interval of `statistic` over rows of which row i lies in cell `cells[i]` (n,); K = max(cells) + 1.

    bounds: smallest and largest possible value of the metric; ends stay inside.
    row_scores (n,): each row's own score on the scale of `bounds`; asks for the exact ends where few rows differ from
    the maximum or the minimum. jackknife (n,): the metric without row i, where there is a closed form (ungrouped rows);
    else it is evaluated once per cell. student: see `widened_to_t`.
    """
    cells = np.asarray(cells, dtype=np.int64)
    n = cells.size
    if n == 0:
        return Interval(None, 0, "bca", reason="no rows")
    counts = np.bincount(cells).astype(np.float64)
    value = float(statistic(counts[None, :])[0])
    if math.isnan(value):
        return Interval(None, n, "bca", reason="not defined for these rows")
    member = None if groups is None else group_index(np.asarray(groups))
    group_count = 0 if member is None else int(member.max()) + 1
    if member is not None and group_count < MIN_GROUPS:
        return Interval(value, n, "jackknife_t", reason=too_few_groups(group_count))
    if n == 1 and row_scores is None:
        return Interval(value, n, "bca", reason="one row shows no spread")

    if member is None:
        units: Any = None
        left_out, times = _leave_one_out(statistic, counts, jackknife)
    else:
        units = _cells_of_groups(member, cells, counts.size)
        left_out = _evaluate(statistic, (counts - block for block in _dense_blocks(units)))
        times = np.ones(group_count)

    if member is not None and group_count < MIN_GROUPS_TO_RESAMPLE:
        found = _jackknife_t(value, n, left_out, np.bincount(member))
    else:
        found = _bootstrap(value, n, _evaluate(statistic, _resamples(counts, n, units, seed)), left_out, times)
    if found.ends is unbounded:
        return found
    if student and found.method != "jackknife_t":
        found = widened_to_t(found, left_out, times)
        if found.ends is unbounded:
            return found
    ends = found.ends
    if row_scores is not None:
        if bounds is None:
            raise ValueError("row_scores without bounds: their maximum and minimum are not known")
        ends = _widen_where_few_differ(ends, np.asarray(row_scores, dtype=np.float64), bounds, groups)
    return replace(found, ends=_inside(ends, bounds))


def mean(
    values: ArrayLike,
    *,
    bounds: tuple[float, float] | None = None,
    groups: ArrayLike | None = None,
    student: bool = False,
    seed: int = 0,
) -> Interval:
    """The mean of row scores (n,). bounds: of the score; None for an amount without a scale (cost): no exact ends. student:
    see `weighted`."""
    values = np.asarray(values, dtype=np.float64)
    n = values.size
    if n == 0:
        return Interval(None, 0, "bca", reason="no rows")
    if groups is None and n >= NORMAL_FROM:
        return _widen_about_the_usual(_normal_mean(values, bounds), values, bounds, groups)
    distinct, cells = np.unique(values, return_inverse=True)
    found = weighted(
        lambda weights: (weights @ distinct) / weights.sum(axis=1),
        cells.reshape(-1),
        row_scores=None if bounds is None else values,
        bounds=bounds,
        groups=groups,
        jackknife=(values.sum() - values) / (n - 1) if n > 1 else None,
        student=student,
        seed=seed,
    )
    return _widen_about_the_usual(found, values, bounds, groups)


def unless_constant(found: Interval) -> Interval:
    """`found`; without ends where no resample moves it (a constant prediction's correlation is 0 whatever the rows)."""
    if found.value is None or found.ends(0.49) != (found.value, found.value):
        return found
    return replace(
        found, ends=unbounded, reason="the same in every resample: these rows do not show how far it may be off"
    )


def _normal_mean(values: Floats, bounds: tuple[float, float] | None) -> Interval:
    center, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(values.size)
    return _normal(center, error, values, bounds)


def jackknife_normal(value: float, left_out: Floats, row_scores: Floats, bounds: tuple[float, float]) -> Interval:
    """Of many ungrouped rows: the normal interval with the jackknife's standard error (Efron and Stein 1981, "The jackknife
    estimate of variance"); left_out (n,): the metric without each row."""
    n = left_out.size
    error = math.sqrt((n - 1) * float(left_out.var()))
    return _normal(value, error if error > ROUNDING else 0.0, row_scores, bounds)


def _normal(center: float, error: float, row_scores: Floats, bounds: tuple[float, float] | None) -> Interval:
    def normal(alpha: float) -> tuple[float, float]:
        from scipy.special import ndtri

        half = -float(ndtri(alpha)) * error
        return center - half, center + half

    ends = normal if bounds is None else _widen_where_few_differ(normal, row_scores, bounds, None)
    return Interval(center, row_scores.size, "normal", _inside(ends, bounds))


# ---------------------------------------------------------------- resamples


def _evaluate(statistic: Statistic, blocks: Iterator[Floats]) -> Floats:
    return np.concatenate([np.asarray(statistic(block), dtype=np.float64) for block in blocks])


def _resamples(counts: Floats, n: int, units: Any, seed: int) -> Iterator[Floats]:
    """Blocks (R, K) of weights of REPLICATES resamples of rows, or of groups where `units` (G, K) is given."""
    rng = np.random.default_rng(seed)
    if units is None:
        for size in _block_sizes(REPLICATES, counts.size):
            yield _draw(rng, counts, n, size)
        return
    group_count = units.shape[0]
    for size in _block_sizes(REPLICATES, max(counts.size, group_count)):
        drawn = _draw(rng, np.ones(group_count), group_count, size)
        yield np.asarray((units.T @ drawn.T).T, dtype=np.float64)


def _draw(rng: np.random.Generator, counts: Floats, n: int, size: int) -> Floats:
    """`size` resamples of n rows as cell counts (size, K)."""
    if n > 10 * counts.size:
        return rng.multinomial(n, counts / n, size=size).astype(np.float64)
    # The same distribution row by row: much faster than a binomial draw per cell while cells are about as many as rows.
    cell_of_row = np.repeat(np.arange(counts.size), counts.astype(np.int64))
    drawn = np.empty((size, counts.size))
    start = 0
    for some in _block_sizes(size, n, ROWS_DRAWN):
        cells = cell_of_row[rng.integers(n, size=(some, n))] + np.arange(some)[:, None] * counts.size
        drawn[start : start + some] = np.bincount(cells.ravel(), minlength=some * counts.size).reshape(some, -1)
        start += some
    return drawn


def _block_sizes(total: int, width: int, elements: int = CHUNK) -> Iterator[int]:
    step = max(1, elements // width)
    for start in range(0, total, step):
        yield min(step, total - start)


def _leave_one_out(statistic: Statistic, counts: Floats, jackknife: ArrayLike | None) -> tuple[Floats, Floats]:
    """The metric without one row, and how many rows each value stands for."""
    if counts.sum() < 2:
        return np.empty(0), np.empty(0)
    if jackknife is not None:
        values = np.asarray(jackknife, dtype=np.float64)
        return values, np.ones(values.size)
    occupied = np.flatnonzero(counts)

    def blocks() -> Iterator[Floats]:
        start = 0
        for size in _block_sizes(occupied.size, counts.size):
            block = np.tile(counts, (size, 1))
            block[np.arange(size), occupied[start : start + size]] -= 1
            start += size
            yield block

    return _evaluate(statistic, blocks()), counts[occupied]


def _cells_of_groups(member: NDArray[np.int_], cells: NDArray[np.int_], width: int) -> Any:
    """How many rows of each cell each group holds: sparse (G, K)."""
    from scipy.sparse import csr_array

    ones = np.ones(cells.size)
    return csr_array((ones, (member, cells)), shape=(int(member.max()) + 1, width))


def _dense_blocks(units: Any) -> Iterator[Floats]:
    start = 0
    for size in _block_sizes(units.shape[0], units.shape[1]):
        yield units[start : start + size].toarray()
        start += size


# ---------------------------------------------------------------- ends


def _bootstrap(value: float, n: int, replicates: Floats, left_out: Floats, times: Floats) -> Interval:
    defined = np.sort(replicates[~np.isnan(replicates)])
    lost = 1 - defined.size / replicates.size
    if lost > 0.5:
        return Interval(value, n, "bca", reason=f"not defined in {lost:.0%} of resamples")
    reason = f"not defined in {lost:.1%} of resamples, which are left out" if lost > 0.001 else None
    tolerance = 1e-12 * max(1.0, abs(value))  # sums in another order differ in the last digits: those are ties
    tied = float(np.mean(np.abs(defined - value) <= tolerance))
    share_below = float(np.mean(defined < value - tolerance)) + tied / 2
    if tied == 1:
        return Interval(value, n, "bca", lambda _alpha: (value, value), reason=reason)
    if share_below in (0, 1):  # no replicate reaches the value: the bias that BCa corrects for is not defined
        return Interval(value, n, "basic", _basic(value, defined), reason=reason)
    ends = _bca(value, defined, share_below, _acceleration(left_out, times))
    return Interval(value, n, "bca", ends, reason=reason)


def _bca(value: float, replicates: Floats, share_below: float, acceleration: float) -> Ends:
    """Efron (1987) eq. 2.3: percentiles of the sorted replicates, moved for bias (z0) and skewness (acceleration)."""
    from scipy.special import ndtr, ndtri

    bias = float(ndtri(share_below))

    def level(z: float) -> float:
        shifted = bias + z
        room = 1 - acceleration * shifted
        return float(ndtr(bias + shifted / room)) if room > 0 else float(shifted > 0)

    def ends(alpha: float) -> tuple[float, float]:
        if alpha * (replicates.size + 1) < 1:  # rarer than any replicate
            return -math.inf, math.inf
        z = float(ndtri(alpha))
        return min(value, _percentile(replicates, level(z))), max(value, _percentile(replicates, level(-z)))

    return ends


def _basic(value: float, replicates: Floats) -> Ends:
    """Davison & Hinkley (1997) eq. 5.6: replicates mirrored at the value, which takes their bias off."""

    def ends(alpha: float) -> tuple[float, float]:
        if alpha * (replicates.size + 1) < 1:
            return -math.inf, math.inf
        low = 2 * value - _percentile(replicates, 1 - alpha)
        high = 2 * value - _percentile(replicates, alpha)
        return min(value, low), max(value, high)

    return ends


def _percentile(ordered: Floats, level: float) -> float:
    return float(np.interp(level * (ordered.size - 1), np.arange(ordered.size), ordered))


def _acceleration(left_out: Floats, times: Floats) -> float:
    """Efron (1987) eq. 6.6 with the jackknife in place of the influence function; 0 where it shows no spread."""
    defined = ~np.isnan(left_out)
    left_out, times = left_out[defined], times[defined]
    if not times.size:
        return 0.0
    distance = np.average(left_out, weights=times) - left_out
    squares = float(np.sum(times * distance**2))
    if squares <= 1e-24:
        return 0.0
    return float(np.sum(times * distance**3)) / (6 * math.sqrt(squares) ** 3)


def _jackknife_t(value: float, n: int, left_out: Floats, sizes: NDArray[np.int_]) -> Interval:
    """sizes (G,): rows of each group. Groups of unlike size count as fewer: Kish (1965), "Survey Sampling", n^2 / sum of m^2."""
    groups = left_out.size
    degrees = max(1.0, n**2 / float(np.sum(sizes.astype(np.float64) ** 2)) - 1)
    if np.isnan(left_out).any():
        reason = "not defined without one of its groups: the spread between groups is not known"
        return Interval(value, n, "jackknife_t", reason=reason)
    error = math.sqrt((groups - 1) / groups * float(np.sum((left_out - value) ** 2)))

    def ends(alpha: float) -> tuple[float, float]:
        from scipy.special import stdtrit

        half = -float(stdtrit(degrees, alpha)) * error
        return value - half, value + half

    return Interval(value, n, "jackknife_t", ends)


def widened_to_t(found: Interval, left_out: Floats, times: Floats) -> Interval:
    """`found` with its ends further from the value, by Student's t over the normal quantile.

    Where few rows (or groups) carry the spread of a metric, its standard error is no better known than from so few. They
    count as in Satterthwaite (1946), "An approximate distribution of estimates of variance components", Biometrics
    Bulletin 2: (sum of d^2)^2 / (sum of d^4) of what leaving each row out changes; m rows of equal weight among rows
    without any count as m.
    """
    if np.isnan(left_out).any():
        return replace(found, ends=unbounded, reason="hangs on one row: not defined without it")
    distance = np.average(left_out, weights=times) - left_out
    fourth = float(np.sum(times * distance**4))
    degrees = max(1.0, float(np.sum(times * distance**2)) ** 2 / fourth - 1) if fourth > 0 else math.inf
    value, normal_ends = found.value or 0.0, found.ends

    def ends(alpha: float) -> tuple[float, float]:
        from scipy.special import ndtri, stdtrit

        factor = max(1.0, float(stdtrit(degrees, alpha) / ndtri(alpha)))
        low, high = normal_ends(alpha)
        return value - factor * (value - low), value + factor * (high - value)

    return replace(found, ends=ends)


def _widen_where_few_differ(
    ends: Ends, row_scores: Floats, bounds: tuple[float, float], groups: ArrayLike | None
) -> Ends:
    minimum, maximum = bounds
    tolerance = 1e-12 * max(1.0, maximum - minimum)
    at_maximum = row_scores >= maximum - tolerance
    above_minimum = row_scores > minimum + tolerance
    members = None if groups is None else np.asarray(groups)
    few_below = np.count_nonzero(~at_maximum) < FEW_ROWS
    few_above = np.count_nonzero(above_minimum) < FEW_ROWS
    share_at_maximum = proportion(at_maximum, members).ends
    share_above_minimum = proportion(above_minimum, members).ends

    def widened(alpha: float) -> tuple[float, float]:
        low, high = ends(alpha)
        if few_below:
            low = min(low, minimum + share_at_maximum(alpha)[0] * (maximum - minimum))
        if few_above:
            high = max(high, minimum + share_above_minimum(alpha)[1] * (maximum - minimum))
        return low, high

    return widened


def _widen_about_the_usual(
    found: Interval, values: Floats, bounds: tuple[float, float] | None, groups: ArrayLike | None
) -> Interval:
    """Where fewer than 10 rows have another score than the usual one, a mean may be as far off as the exact upper end of
    their share allows, if all of them scored the minimum (or the maximum)."""
    if bounds is None or found.ends is unbounded:
        return found
    distinct, counts = np.unique(values, return_counts=True)
    usual = float(distinct[counts.argmax()])
    others = values != usual
    if np.count_nonzero(others) >= FEW_ROWS:
        return found
    ends, share_of_others = found.ends, proportion(others, None if groups is None else np.asarray(groups)).ends
    minimum, maximum = bounds

    def widened(alpha: float) -> tuple[float, float]:
        (low, high), most = ends(alpha), share_of_others(alpha)[1]
        return min(low, usual - (usual - minimum) * most), max(high, usual + (maximum - usual) * most)

    return replace(found, ends=widened)


def _inside(ends: Ends, bounds: tuple[float, float] | None) -> Ends:
    if bounds is None:
        return ends
    minimum, maximum = bounds

    def clipped(alpha: float) -> tuple[float, float]:
        low, high = ends(alpha)
        return (low if low > minimum else minimum), (high if high < maximum else maximum)

    return clipped
