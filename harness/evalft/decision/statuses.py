"""Interval ends against thresholds -> pass, fail or undecided, per threshold and per candidate.

A threshold's status is what its shown interval (at `confidence`) says. A candidate's status is corrected for looking
several times (Holm 1979), and by interval ends only, so that no separate test can disagree with what is shown:

- pass: every threshold's pessimistic end meets it at level alpha / m, m being the candidates not yet passed. Accept all
  that do, lower m, repeat until none does. (All thresholds must be met, so none of them needs a correction of its own.)
- fail: some threshold's optimistic end misses it at level alpha / t over the candidate's t thresholds.
- else undecided. What cannot be measured, is not bounded by the data or meets an obstacle is undecided with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evalft.config import Threshold
from evalft.decision.evidence import Evidence
from evalft.records import Status
from evalft.stats.interval import Interval
from evalft.stats.level import level_reached

EXACTLY = 1e-12
"""Relative difference below which an end equals its threshold: a mean of equal costs may be off in its last digits."""


@dataclass(frozen=True)
class ThresholdResult:
    """One threshold of one candidate. Ends that the data do not bound are None."""

    metric: str
    require: str
    status: Status
    """What the shown interval says."""
    pass_level: float
    """The one-sided error at which the candidate was last judged for passing."""
    pass_end: float | None
    """The pessimistic end at that level: passing takes that it meets the threshold."""
    fail_level: float
    fail_end: float | None
    """The optimistic end at fail_level: failing takes that it misses the threshold."""
    p_value: float | None
    """The smallest level at which the pessimistic end meets the threshold; None where it never does."""
    reason: str | None = None
    """Why it is undecided, where the ends do not say it themselves."""


@dataclass(frozen=True)
class CandidateStatus:
    name: str
    status: Status
    thresholds: Mapping[str, ThresholdResult]


def candidate_statuses(
    evidence: Sequence[Evidence], thresholds: Sequence[Threshold], confidence: float
) -> tuple[CandidateStatus, ...]:
    """The status of each candidate, in the order given; `thresholds` must not be empty."""
    alpha = (1 - confidence) / 2
    passed, pass_levels = passing(evidence, thresholds, alpha)
    statuses = []
    for one, pass_level in zip(evidence, pass_levels, strict=True):
        fails, fail_levels = _failing(one, thresholds, alpha)
        status: Status = "pass" if one.name in passed else "fail" if fails else "undecided"
        results = {
            threshold.metric: _result(one, threshold, alpha, pass_level, fail_level)
            for threshold, fail_level in zip(thresholds, fail_levels, strict=True)
        }
        statuses.append(CandidateStatus(one.name, status, results))
    return tuple(statuses)


def passing(
    evidence: Sequence[Evidence], thresholds: Sequence[Threshold], alpha: float
) -> tuple[frozenset[str], tuple[float, ...]]:
    """Names of the candidates that pass, and the level at which each candidate was accepted or last tried (Holm)."""
    levels = dict.fromkeys((one.name for one in evidence), alpha / max(1, len(evidence)))
    waiting = list(evidence)
    while waiting:
        level = alpha / len(waiting)
        levels.update((one.name, level) for one in waiting)
        rest = [one for one in waiting if not passes_at(one, thresholds, level)]
        if len(rest) == len(waiting):
            break
        waiting = rest
    held_back = {one.name for one in waiting}
    return frozenset(levels) - held_back, tuple(levels.values())


def passes_at(one: Evidence, thresholds: Sequence[Threshold], level: float) -> bool:
    return all(
        threshold.metric not in one.cannot_pass and meets(pessimistic(one, threshold, level), threshold)
        for threshold in thresholds
    )


def fails_at(one: Evidence, thresholds: Sequence[Threshold], alpha: float) -> bool:
    """The first step of Holm over the thresholds: one miss at alpha / t is enough for the candidate."""
    level = alpha / len(thresholds)
    return any(not meets(optimistic(one, threshold, level), threshold) for threshold in thresholds)


def cheapest_passing(evidence: Sequence[Evidence], thresholds: Sequence[Threshold], alpha: float) -> Evidence | None:
    """Rule 1: what is shipped, None where none passes. Equal costs go by name, an unknown cost comes last."""
    passed, _ = passing(evidence, thresholds, alpha)
    return min((one for one in evidence if one.name in passed), key=by_cost, default=None)


def by_cost(one: Evidence) -> tuple[float, str]:
    return (math.inf if one.cost_usd is None else one.cost_usd), one.name


def pessimistic(one: Evidence, threshold: Threshold, level: float) -> float:
    """The end of the interval that speaks against meeting the threshold; infinite where unmeasured or unbounded."""
    low, high = _ends(one, threshold.metric, level)
    return low if threshold.op == ">=" else high


def optimistic(one: Evidence, threshold: Threshold, level: float) -> float:
    low, high = _ends(one, threshold.metric, level)
    return high if threshold.op == ">=" else low


def meets(end: float, threshold: Threshold) -> bool:
    """Meeting it exactly is meeting it."""
    if math.isclose(end, threshold.bound, rel_tol=EXACTLY):
        return True
    return end >= threshold.bound if threshold.op == ">=" else end <= threshold.bound


def _failing(one: Evidence, thresholds: Sequence[Threshold], alpha: float) -> tuple[bool, tuple[float, ...]]:
    """Does any threshold miss (Holm), and the level at which each was rejected or last tried."""
    levels = dict.fromkeys((threshold.metric for threshold in thresholds), alpha / len(thresholds))
    waiting = list(thresholds)
    while waiting:
        level = alpha / len(waiting)
        levels.update((threshold.metric, level) for threshold in waiting)
        rest = [threshold for threshold in waiting if meets(optimistic(one, threshold, level), threshold)]
        if len(rest) == len(waiting):
            break
        waiting = rest
    return fails_at(one, thresholds, alpha), tuple(levels.values())


def _result(one: Evidence, threshold: Threshold, alpha: float, pass_level: float, fail_level: float) -> ThresholdResult:
    interval = one.intervals.get(threshold.metric)
    blocked = threshold.metric in one.cannot_pass or threshold.metric in one.obstacles
    status, reason = _shown_status(one, threshold, alpha)
    return ThresholdResult(
        metric=threshold.metric,
        require=threshold.require,
        status=status,
        pass_level=pass_level,
        pass_end=_finite(pessimistic(one, threshold, pass_level)),
        fail_level=fail_level,
        fail_end=_finite(optimistic(one, threshold, fail_level)),
        p_value=None if blocked else _p_value(interval, threshold),
        reason=reason,
    )


def _shown_status(one: Evidence, threshold: Threshold, alpha: float) -> tuple[Status, str | None]:
    interval, obstacle = one.intervals.get(threshold.metric), one.obstacles.get(threshold.metric)
    if obstacle:
        return "undecided", obstacle.why
    if interval is None:
        return "undecided", "not measured"
    if interval.value is None:
        return "undecided", interval.reason or "not measurable"
    if not meets(optimistic(one, threshold, alpha), threshold):
        return "fail", None
    blocked = one.cannot_pass.get(threshold.metric)
    if blocked:
        return "undecided", blocked
    end = pessimistic(one, threshold, alpha)
    if meets(end, threshold):
        return "pass", None
    return "undecided", (interval.reason or "not bounded by this many rows") if math.isinf(end) else None


def _p_value(interval: Interval | None, threshold: Threshold) -> float | None:
    if interval is None or interval.value is None:
        return None
    if threshold.op == ">=":
        level = level_reached(interval.ends, threshold.bound - EXACTLY * abs(threshold.bound), "low")
    else:
        level = level_reached(interval.ends, threshold.bound + EXACTLY * abs(threshold.bound), "high")
    return level if level < 0.5 else None


def _ends(one: Evidence, metric: str, level: float) -> tuple[float, float]:
    interval = one.intervals.get(metric)
    if interval is None or interval.value is None or metric in one.obstacles:
        return -math.inf, math.inf
    low, high = interval.ends(level)
    return (-math.inf if math.isnan(low) else low), (math.inf if math.isnan(high) else high)


def _finite(end: float) -> float | None:
    return end if math.isfinite(end) else None
