"""Would more test rows settle the verdict, and how many? Rule 2.

`rows_to_settle` simulates, for all candidates together: draw a bootstrap world of the n rows (the truth is not known),
draw x new rows from it, append them to the n real ones, and apply the rules of statuses.py. The verdict is settled
where some candidate passes or none is undecided. Ends of the enlarged set:

- exact proportions: Clopper-Pearson again;
- everything else: the observed half-widths of each level, scaled by sqrt(n / (n + x)), about the new value. This is an
  approximation: half-widths are taken to be those of the observed mix of rows.
- an upper end of a latency that n rows do not bound: from the number of rows on that bounds it, the widest end that the
  n rows do bound, carried over by normal quantiles.

The result is an estimate, not a promise: what the rows at hand do not show, the simulation does not know either.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evalft.config import Threshold
from evalft.decision.evidence import LATENCY_QUANTILES, Evidence, Setting
from evalft.decision.statuses import EXACTLY
from evalft.stats.interval import Interval
from evalft.stats.proportion import clopper_pearson

CHANCE = 0.8
SIMULATIONS = 200
DEFAULT_NEW_ROWS = 5
"""`max_new_rows`, where the user gives none, in multiples of the test set."""
ROWS_PER_CLASS = 10
"""A macro metric cannot pass while a class has fewer."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MoreData:
    """`rows` new rows settle the verdict with `chance`; rows None: not even `most` do, whose chance it then is."""

    rows: int | None
    chance: float
    most: int

    @property
    def chance_text(self) -> str:
        """In whole percent, rounded down: what misses 80 % is not shown as 80 %."""
        return f"{math.floor(100 * self.chance + 1e-9)} %"


def rows_to_settle(
    evidence: Sequence[Evidence], setting: Setting, *, simulations: int = SIMULATIONS, seed: int | None = None
) -> MoreData:
    """The smallest x <= max_new_rows whose chance of settling is at least 0.8: a geometric grid, then bisection."""
    n = evidence[0].n
    asked = setting.decide.max_new_rows
    most = DEFAULT_NEW_ROWS * n if asked is None else asked
    if n == 0 or most == 0:
        return MoreData(None, 0.0, most)
    too_few, chance, enough = 0, 0.0, max(1, n // 20)
    while True:
        enough = min(enough, most)
        chance = chance_of_settling(evidence, setting, enough, simulations=simulations, seed=seed)
        if chance >= CHANCE:
            break
        if enough == most:
            return MoreData(None, chance, most)
        too_few, enough = enough, 2 * enough
    while enough - too_few > max(1, enough // 20):
        middle = (too_few + enough) // 2
        at_middle = chance_of_settling(evidence, setting, middle, simulations=simulations, seed=seed)
        if at_middle >= CHANCE:
            enough, chance = middle, at_middle
        else:
            too_few = middle
    return MoreData(enough, chance, most)


def chance_of_settling(
    evidence: Sequence[Evidence],
    setting: Setting,
    new_rows: int,
    *,
    simulations: int = SIMULATIONS,
    seed: int | None = None,
) -> float:
    """The share of simulations in which the verdict is settled after `new_rows` more rows."""
    seed = setting.seed if seed is None else seed
    rows = [
        _enlarged(evidence[0].n, setting.groups, new_rows, np.random.default_rng([seed, simulation]))
        for simulation in range(simulations)
    ]
    totals = np.array([len(one) for one in rows])
    some_pass = np.zeros(simulations, dtype=bool)
    all_fail = np.ones(simulations, dtype=bool)
    # Someone passes in the end exactly where someone passes in Holm's first step, at alpha / m; likewise for failing.
    pass_level = setting.alpha / len(evidence)
    fail_level = setting.alpha / len(setting.thresholds)
    for one in evidence:
        values = _values(one, setting.thresholds, rows)
        passes, fails = np.ones(simulations, dtype=bool), np.zeros(simulations, dtype=bool)
        for threshold in setting.thresholds:
            value = values[threshold.metric]
            passes &= _meets(_ends(one, threshold, value, totals, pass_level, against=True), threshold)
            passes &= _may_pass(one, threshold, totals)
            fails |= ~_meets(_ends(one, threshold, value, totals, fail_level, against=False), threshold)
        some_pass |= passes
        all_fail &= fails
    return float(np.mean(some_pass | all_fail))


def _enlarged(n: int, groups: NDArray[np.intp] | None, new_rows: int, random: np.random.Generator) -> NDArray[np.intp]:
    """The n real rows and new ones from a bootstrap world of them; with groups, whole groups until there are enough."""
    real = np.arange(n)
    if groups is None:
        world = random.integers(n, size=n)
        return np.concatenate([real, world[random.integers(n, size=new_rows)]])
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    world = random.integers(len(members), size=len(members))
    drawn, parts = 0, [real]
    while drawn < new_rows:
        parts.append(members[world[random.integers(len(members))]])
        drawn += len(parts[-1])
    return np.concatenate(parts)


def _values(one: Evidence, thresholds: Sequence[Threshold], rows: Sequence[NDArray[np.intp]]) -> Mapping[str, Floats]:
    """Each threshold's metric in each simulation; nan where it has no value."""
    again = [one.resample(chosen) for chosen in rows]

    def value(metric: str, values: Mapping[str, float]) -> float:
        interval = one.intervals.get(metric)
        if interval is None or interval.value is None:
            return math.nan
        return values.get(metric, interval.value)

    return {
        threshold.metric: np.array([value(threshold.metric, values) for values in again], dtype=np.float64)
        for threshold in thresholds
    }


def _ends(
    one: Evidence, threshold: Threshold, value: Floats, totals: NDArray[np.intp], level: float, *, against: bool
) -> Floats:
    """The end that speaks `against` meeting the threshold (else: for it), per simulation; infinite where unknown."""
    interval = one.intervals.get(threshold.metric)
    lower = (threshold.op == ">=") == against
    unknown = -math.inf if lower else math.inf
    if interval is None or interval.value is None or threshold.metric in one.obstacles:
        return np.full(len(value), unknown)
    shrink = np.sqrt(one.n / totals)
    end = interval.ends(level)[0 if lower else 1]
    quantile = LATENCY_QUANTILES.get(threshold.metric)
    if interval.method == "clopper_pearson":
        right = np.rint(np.nan_to_num(value) * totals)
        pairs = [clopper_pearson(k, total, level) for k, total in zip(right, totals, strict=True)]
        ends = np.where(np.isnan(value), np.nan, np.array(pairs)[:, 0 if lower else 1])
    elif math.isinf(end) and not lower and quantile is not None:
        ends = value + shrink * _latency_half_width(interval, quantile, totals * interval.n / one.n, level)
    else:
        ends = value + (end - interval.value) * shrink
    return np.where(np.isnan(ends), unknown, ends)


def _latency_half_width(interval: Interval, quantile: float, answers: Floats, level: float) -> Floats:
    """Above the value, at the observed n: inf until there are enough answers that one of them bounds the quantile."""
    from scipy.stats import norm

    bounded_level = quantile**interval.n * (1 + 1e-9)  # here the largest of the n answers is the upper end
    if interval.value is None or bounded_level >= 0.5:
        return np.full(len(answers), np.inf)
    widest = interval.ends(bounded_level)[1] - interval.value
    width = widest * float(norm.isf(level) / norm.isf(bounded_level))
    return np.where(quantile**answers <= level, width, np.inf)


def _may_pass(one: Evidence, threshold: Threshold, totals: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Whether the rarest class is large enough by then, growing as the test set does."""
    if threshold.metric not in one.cannot_pass:
        return np.ones(len(totals), dtype=bool)
    return (one.smallest_class or 0) * totals / max(1, one.n) >= ROWS_PER_CLASS


def _meets(ends: Floats, threshold: Threshold) -> NDArray[np.bool_]:
    """As statuses.meets, for many ends."""
    same = np.isclose(ends, threshold.bound, rtol=EXACTLY, atol=0)
    return same | (ends >= threshold.bound if threshold.op == ">=" else ends <= threshold.bound)
