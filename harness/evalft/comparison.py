"""Two sets of scores of the same examples -> what changed per example, and a paired estimate per metric.

The test of a difference is the one that uses the pairing: exact McNemar for right or wrong rows, else a bootstrap of the
mean difference, whose p-value is the level at which its interval's end reaches 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evalft.records import Score
from evalft.stats.interval import Interval
from evalft.stats.level import level_reached
from evalft.stats.paired import paired_difference

ChangeKind = Literal["fixed", "broken", "same"]


@dataclass(frozen=True, slots=True)
class Change:
    """One example's score of the primary metric, before and after: fixed if it rose, broken if it fell."""

    id: str
    before: float
    after: float
    kind: ChangeKind


@dataclass(frozen=True, slots=True)
class PairedEstimate:
    """The mean change of one metric, after minus before, with its interval; None where it could not be measured."""

    delta: float | None
    low: float | None
    high: float | None
    p_value: float | None
    """Two-sided: how often rows that do not differ would show a difference this clear."""
    test: str
    """mcnemar_exact, or the method of the interval whose end reaches 0: bca, basic, jackknife_t, normal."""
    n: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that changed between two candidates (or two runs of one)."""

    changes: tuple[Change, ...]
    metrics: Mapping[str, PairedEstimate]
    only_before: tuple[str, ...]
    """Ids scored before and not after: left out of every number."""
    only_after: tuple[str, ...]

    def count(self, kind: ChangeKind) -> int:
        return sum(change.kind == kind for change in self.changes)


def compare(
    before: Sequence[Score],
    after: Sequence[Score],
    *,
    primary: str,
    confidence: float = 0.95,
    groups: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Comparison:
    """Compare scores by example id, in the order of `before`. groups: example id -> group, where rows have one.

    Metrics are those with a row score on every matched example on both sides; `primary` must be one of them.
    """
    after_by_id = {score.id: score for score in after}
    before_ids = {score.id for score in before}
    pairs = [(score, after_by_id[score.id]) for score in before if score.id in after_by_id]
    changes = tuple(_change(old.id, old.values[primary], new.values[primary]) for old, new in pairs)
    members = _group_numbers([old.id for old, _ in pairs], groups)
    metrics = {}
    for name in _common_metrics(pairs):
        old_scores = np.array([old.values[name] for old, _ in pairs])
        new_scores = np.array([new.values[name] for _, new in pairs])
        metrics[name] = estimate(paired_difference(old_scores, new_scores, members, seed), confidence)
    return Comparison(
        changes=changes,
        metrics=metrics,
        only_before=tuple(score.id for score in before if score.id not in after_by_id),
        only_after=tuple(score.id for score in after if score.id not in before_ids),
    )


def estimate(difference: Interval, confidence: float) -> PairedEstimate:
    """The record of a `paired_difference`; its p-value is the level at which an end reaches 0, both sides counted."""
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
    )


def _p_value(difference: Interval) -> float:
    above = level_reached(difference.ends, 0.0, "low", strict=True)
    below = level_reached(difference.ends, 0.0, "high", strict=True)
    return min(1.0, 2 * min(above, below))


def _change(example: str, before: float, after: float) -> Change:
    kind: ChangeKind = "fixed" if after > before else "broken" if after < before else "same"
    return Change(example, before, after, kind)


def _common_metrics(pairs: Sequence[tuple[Score, Score]]) -> list[str]:
    """In the order of the first pair."""
    if not pairs:
        return []
    return [name for name in pairs[0][0].values if all(name in old.values and name in new.values for old, new in pairs)]


def _group_numbers(ids: Sequence[str], groups: Mapping[str, str] | None) -> NDArray[np.int_] | None:
    if groups is None:
        return None
    return np.unique([groups[example] for example in ids], return_inverse=True)[1]
