"""Two sets of scores of the same examples -> what changed per example, and a paired estimate per metric.

The test of a difference is the one that uses the pairing: exact McNemar for right or wrong rows, a bootstrap of the mean
difference for other row scores, a bootstrap of the metric itself on the same resampled rows where rows have no score of
it (macro F1, AUC). A p-value is the level at which the interval's end reaches 0, so the two never disagree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evalft.metrics.measure import Floats, Measure
from evalft.metrics.names import COSTS
from evalft.records import Example, Score
from evalft.stats.interval import Interval, unbounded
from evalft.stats.level import level_reached
from evalft.stats.paired import paired_difference, paired_statistic

ChangeKind = Literal["fixed", "broken", "same"]
Measures = Mapping[str, Measure]
"""Of one candidate, by metric: `scoring.Scored.measures`."""


class Change(NamedTuple):
    """One example's row score, before and after: fixed if it rose, broken if it fell."""

    id: str
    before: float
    after: float
    kind: ChangeKind


@dataclass(frozen=True, slots=True)
class PairedEstimate:
    """The change of one metric, after minus before, with its interval; None where it could not be measured."""

    delta: float | None
    low: float | None
    high: float | None
    p_value: float | None
    """Two-sided: how often rows that do not differ would show a difference this clear."""
    test: str
    """mcnemar_exact, or the method of the interval whose end reaches 0: bca, basic, jackknife_t, normal."""
    n: int
    reason: str | None = None
    """Why delta (or an end) is None, or a caveat."""
    before: float | None = None
    after: float | None = None
    """The metric on each side, over the compared examples."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that changed between two candidates (or two runs of one)."""

    changes: tuple[Change, ...]
    row_metric: str
    """The row score that `changes` are of."""
    metrics: Mapping[str, PairedEstimate]
    only_before: tuple[str, ...]
    """Ids scored before and not after: left out of every number."""
    only_after: tuple[str, ...]

    def count(self, kind: ChangeKind) -> int:
        return len(self.ids(kind))

    def ids(self, kind: ChangeKind) -> tuple[str, ...]:
        return tuple(change.id for change in self.changes if change.kind == kind)


def compare(
    before: Sequence[Score],
    after: Sequence[Score],
    *,
    primary: str,
    confidence: float = 0.95,
    groups: Mapping[str, str] | None = None,
    measures: tuple[Measures, Measures] | None = None,
    seed: int = 0,
) -> Comparison:
    """Compare scores by example id, in the order of `before`. groups: see `groups_of`.

    Metrics are those with a row score on every matched example on both sides; `primary` must be one of them. measures
    (before, after) add the others that both have (macro F1, AUC, Brier ...; costs and latencies depend on the machine
    of the day, which resampling rows does not show, and are left out). Their rows must be exactly the matched examples,
    in the order of `before`: ValueError where they are not as many.
    """
    after_by_id = {score.id: score for score in after}
    before_ids = {score.id for score in before}
    pairs = [(score, after_by_id[score.id]) for score in before if score.id in after_by_id]
    names = dict.fromkeys([*(pairs[0][0].values if pairs else ()), primary])
    found = compare_rows(
        [old.id for old, _ in pairs],
        {name: _column(name, [old for old, _ in pairs]) for name in names},
        {name: _column(name, [new for _, new in pairs]) for name in names},
        primary=primary,
        confidence=confidence,
        groups=_group_numbers([old.id for old, _ in pairs], groups),
        measures=measures,
        seed=seed,
    )
    return replace(
        found,
        only_before=tuple(score.id for score in before if score.id not in after_by_id),
        only_after=tuple(score.id for score in after if score.id not in before_ids),
    )


def compare_rows(
    ids: Sequence[str],
    before: Mapping[str, Floats],
    after: Mapping[str, Floats],
    *,
    primary: str,
    confidence: float = 0.95,
    groups: NDArray[np.int_] | None = None,
    measures: tuple[Measures, Measures] | None = None,
    seed: int = 0,
) -> Comparison:
    """The same of rows that are matched already: row scores (n,) by metric, nan for a row without; groups (n,)."""
    metrics = {}
    for name, old_scores in before.items():
        new_scores = after.get(name)
        if new_scores is not None and not (np.isnan(old_scores).any() or np.isnan(new_scores).any()) and len(ids):
            difference = paired_difference(old_scores, new_scores, groups, seed)
            metrics[name] = estimate(difference, confidence, float(old_scores.mean()), float(new_scores.mean()))
    if measures is not None:
        metrics |= _without_row_scores(*measures, len(ids), set(metrics), groups, confidence, seed)
        metrics = {name: metrics[name] for name in dict.fromkeys([*measures[0], *metrics]) if name in metrics}
    return Comparison(
        changes=_changes(ids, before[primary], after[primary]),
        row_metric=primary,
        metrics=metrics,
        only_before=(),
        only_after=(),
    )


def groups_of(examples: Sequence[Example]) -> dict[str, str] | None:
    """Example id -> group; a row without one is a group of its own. None where no row has a group."""
    if all(example.group is None for example in examples):
        return None
    return {one.id: f"row {one.id}" if one.group is None else f"group {one.group}" for one in examples}


def estimate(
    difference: Interval, confidence: float, before: float | None = None, after: float | None = None
) -> PairedEstimate:
    """The record of a paired difference; its p-value is the level at which an end reaches 0, both sides counted."""
    shown = difference.estimate(confidence)
    measured = shown.low is not None or shown.high is not None
    return PairedEstimate(
        delta=shown.value,
        low=shown.low,
        high=shown.high,
        p_value=_p_value(difference) if measured else None,
        test="mcnemar_exact" if difference.method == "newcombe" else difference.method,
        n=difference.n,
        reason=difference.reason,
        before=before,
        after=after,
    )


def as_summary(comparison: Comparison, baseline: str, tuned: str, primary: str) -> dict[str, Any]:
    """`diff` of summary.json. A metric without a delta and two ends is in `unmeasured`, with the reason."""
    measured, unmeasured = {}, {}
    for name, found in comparison.metrics.items():
        if found.delta is None or found.low is None or found.high is None:
            unmeasured[name] = found.reason or "its interval is not bounded by these rows"
        else:
            measured[name] = {
                "delta": found.delta,
                "low": found.low,
                "high": found.high,
                "p_value": found.p_value,
                "test": found.test,
            }
    return {
        "baseline": baseline,
        "tuned": tuned,
        "primary": primary,
        "metrics": measured,
        "unmeasured": unmeasured,
        "row_metric": comparison.row_metric,
        **{kind: comparison.count(kind) for kind in ("fixed", "broken", "same")},
        "fixed_ids": list(comparison.ids("fixed")),
        "broken_ids": list(comparison.ids("broken")),
    }


# ---------------------------------------------------------------- steps of compare


def _without_row_scores(
    before: Measures,
    after: Measures,
    n: int,
    known: set[str],
    groups: NDArray[np.int_] | None,
    confidence: float,
    seed: int,
) -> dict[str, PairedEstimate]:
    found = {}
    for name, old in before.items():
        if name in after and name not in known and name not in COSTS:
            new = after[name]
            if not old.cells.size == new.cells.size == n:
                raise ValueError(f"{name}: measured on {old.cells.size} and {new.cells.size} rows, {n} are matched")
            found[name] = estimate(difference_of(old, new, groups, seed), confidence, value_of(old), value_of(new))
    return found


def difference_of(old: Measure, new: Measure, groups: NDArray[np.int_] | None = None, seed: int = 0) -> Interval:
    """The paired difference, new minus old, of a metric that rows have no score of; groups (n,) of the rows."""
    difference = paired_statistic(
        (old.statistic, old.cells),
        (new.statistic, new.cells),
        groups=groups,
        seed=seed,
        without_each=(old.without_each, new.without_each) if old.without_each and new.without_each else None,
        furthest=math.inf if new.bounds is None else new.bounds[1] - new.bounds[0],
    )
    why_not = next(filter(None, (_no_interval(side, groups, seed) for side in (old, new))), None)
    if difference.value is not None and why_not is not None:
        difference = replace(difference, ends=unbounded, reason=why_not)
    if difference.value is None:  # the measure knows why
        reasons = (side.interval(groups, seed).reason for side in (old, new) if value_of(side) is None)
        difference = replace(difference, reason=next(filter(None, reasons), difference.reason))
    return difference


def _no_interval(side: Measure, groups: NDArray[np.int_] | None, seed: int) -> str | None:
    """Why one side has no interval, where a few resamples do not move it (an interval costs thousands: not asked else)."""
    n, rng, values = side.cells.size, np.random.default_rng(seed), set[float]()
    for _ in range(10 if n else 0):
        weights = np.bincount(side.cells[rng.integers(n, size=n)], minlength=int(side.cells.max()) + 1)
        values.add(float(side.statistic(weights.astype(np.float64)[None, :])[0]))
        if len(values) > 1:
            return None
    found = side.interval(groups, seed)
    return found.reason if found.ends is unbounded else None


def value_of(measure: Measure) -> float | None:
    """The metric of all rows; None where it is not defined for them."""
    if not measure.cells.size:
        return None
    value = float(measure.statistic(np.bincount(measure.cells).astype(np.float64)[None, :])[0])
    return None if np.isnan(value) else value


def _p_value(difference: Interval) -> float:
    above = level_reached(difference.ends, 0.0, "low", strict=True)
    below = level_reached(difference.ends, 0.0, "high", strict=True)
    return min(1.0, 2 * min(above, below))


def _changes(ids: Sequence[str], before: Floats, after: Floats) -> tuple[Change, ...]:
    kinds: Sequence[ChangeKind] = ("broken", "same", "fixed")
    kind = map(kinds.__getitem__, (np.sign(after - before).astype(np.int64) + 1).tolist())
    return tuple(map(Change._make, zip(ids, before.tolist(), after.tolist(), kind, strict=True)))


def _column(name: str, scores: Sequence[Score]) -> Floats:
    """The row scores (n,) of a metric; nan for a row without."""
    return np.array([score.values.get(name, np.nan) for score in scores], dtype=np.float64)


def _group_numbers(ids: Sequence[str], groups: Mapping[str, str] | None) -> NDArray[np.int_] | None:
    if groups is None:
        return None
    return np.unique([groups[example] for example in ids], return_inverse=True)[1]
