"""One idea: a metric of one candidate as a function of weighted rows, with its interval.

Whatever a metric is (a share of right rows, a mean, an F1 of counts, an AUC), three things are asked of it: its interval,
its value on any choice of rows (the decision resamples rows thousands of times), and each row's own score where it has
one. A `Measure` holds the three; `cells` says which rows the metric cannot tell apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evalft.stats import bootstrap, proportion
from evalft.stats.interval import Interval

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int_]
Statistic = Callable[[Floats], Floats]
"""Weights (R, K) over K cells -> values (R,); nan where the metric is not defined for those weights."""


@dataclass(frozen=True)
class Measure:
    cells: Ints
    """(n,) which cell each row is in."""
    statistic: Statistic
    interval: Callable[[Ints | None, int], Interval]
    """(groups (n,) or None, seed) -> Interval."""
    row_scores: Floats | None = None
    """(n,) each row's own score, higher is better, nan for a row without; None where the metric has no row scores."""
    bounds: tuple[float, float] | None = (0.0, 1.0)
    """The least and largest possible value; None: an amount without a scale."""
    without_each: Callable[[], Floats] | None = None
    """(n,) the metric without each row, where there is a closed form."""

    def with_reason(self, reason: str) -> Measure:
        """The same, its interval carrying `reason` as a caveat."""

        def interval(groups: Ints | None, seed: int) -> Interval:
            found = self.interval(groups, seed)
            return replace(found, reason="; ".join(filter(None, (reason, found.reason))))

        return replace(self, interval=interval)


def share(right: Bools) -> Measure:
    """The share of rows that are right: (n,) bool."""
    return Measure(
        cells=right.astype(np.int64),
        statistic=_mean_of(np.array([0.0, 1.0])),
        interval=lambda groups, _seed: proportion.proportion(right, groups),
        row_scores=right.astype(np.float64),
    )


def mean(values: Floats, *, bounds: tuple[float, float] | None = (0.0, 1.0), is_score: bool = True) -> Measure:
    """The mean of row values (n,). bounds: the least and largest possible; is_score: higher is better."""
    distinct, cells = np.unique(values, return_inverse=True)
    return Measure(
        cells=cells.reshape(-1),
        statistic=_mean_of(distinct),
        interval=lambda groups, seed: bootstrap.mean(values, bounds=bounds, groups=groups, seed=seed),
        row_scores=values if is_score else None,
        bounds=bounds,
    )


def of_cells(
    statistic: Statistic, cells: Ints, *, at: Floats | None = None, bounds: tuple[float, float] = (0.0, 1.0)
) -> Measure:
    """A function of cell counts. at (n,): where on the scale of `bounds` each row lies, for the ends where few differ."""
    return Measure(
        cells=cells,
        statistic=statistic,
        interval=lambda groups, seed: bootstrap.unless_constant(
            bootstrap.weighted(statistic, cells, row_scores=at, bounds=bounds, groups=groups, seed=seed)
        ),
        bounds=bounds,
    )


def not_measured(n: int, method: str, reason: str) -> Measure:
    return Measure(
        cells=np.zeros(n, dtype=np.int64),
        statistic=lambda weights: np.full(len(weights), np.nan),
        interval=lambda _groups, _seed: Interval(None, n, method, reason=reason),
    )


def divide(above: Floats, below: Floats, *, otherwise: float) -> Floats:
    """above / below, of any one shape; `otherwise` where below is not above 0."""
    quotient: Floats = np.divide(above, below, out=np.full(np.shape(above), otherwise), where=below > 0)
    return quotient


def _mean_of(values: Floats) -> Statistic:
    def statistic(weights: Floats) -> Floats:
        return divide(weights @ values[: weights.shape[1]], weights.sum(axis=1), otherwise=np.nan)

    return statistic
