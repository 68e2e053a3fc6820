"""Cost and latency at the gate: no scores of rows, and judged only where something is required of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from evalft.baselines import Baseline, Row, Said
from evalft.config import Threshold
from evalft.decision.statuses import meets
from evalft.gate_judgement import Judged, Judgement
from evalft.metrics.measure import Floats, Ints
from evalft.scored_run import Side
from evalft.stats.interval import Interval
from evalft.stats.paired import paired_difference

COST = "cost_per_query"


@dataclass(frozen=True, slots=True)
class CostCompared:
    before: float | None
    after: float | None
    difference: Interval | None
    """USD that a row costs more than before; None where rows have no costs to pair."""
    held: Interval | None
    """USD that a row costs less than the baseline's and the margin; None where there is no margin or no pair."""


def costs_of(
    side: Side, known: Baseline, rows: Sequence[Row], own: Ints, said: Said, margin: float | None
) -> CostCompared:
    """rows: of the baseline (m); own: the places of their twins in the run (m,)."""
    ours = [said.rows[place].cost_usd for place in own.tolist()]
    theirs = [row.cost_usd for row in rows]
    if None in ours or None in theirs:
        return CostCompared(known.head.get("cost_per_query_usd"), side.entry["cost_per_query_usd"]["value"], None, None)
    before, after = np.array(theirs, dtype=np.float64), np.array(ours, dtype=np.float64)
    groups = side.rows.group_numbers(own)
    held = None if margin is None else _paired(after, (1 + margin) * before, groups)
    return CostCompared(float(before.mean()), float(after.mean()), _paired(before, after, groups), held)


def _paired(before: Floats, after: Floats, groups: Ints | None) -> Interval:
    """What a row costs more than before. In units of the largest cost: the bounds of few rows are of a scale of 1."""
    unit = float(max(before.max(), after.max())) or 1.0
    found = paired_difference(before / unit, after / unit, groups)
    ends = found.ends

    def in_usd(alpha: float) -> tuple[float, float]:
        low, high = ends(alpha)
        return unit * low, unit * high

    return replace(found, value=None if found.value is None else unit * found.value, ends=in_usd)


def judged_cost(
    side: Side,
    one: CostCompared,
    p_regression: float | None,
    confidence: float,
    margin: float | None,
    threshold: Threshold | None,
) -> Judgement:
    verdict, reasons = _by_threshold(side.entry["cost_per_query_usd"], threshold, one.before)
    if margin is not None:
        reasons.append(f"held against {1 + margin:g} times the baseline's cost (gate.cost_margin)")
        by_margin: Judged = "undecided"
        if one.held is None or p_regression is None:
            reasons.append("not every matched row has a cost on both sides, so the margin decides nothing")
        elif p_regression <= (1 - confidence) / 2:
            by_margin = "regression"
        elif one.held.ends((1 - confidence) / 2)[0] >= 0 or one.before == one.after:
            by_margin = "pass"
        verdict = _worse(verdict, by_margin)
    shown = one.difference.estimate(confidence) if one.difference else None
    return Judgement(
        COST, one.before, one.after,
        *((None, None, None) if shown is None else (shown.value, shown.low, shown.high)),
        1.0 if p_regression is None else p_regression, None, verdict, "; ".join(reasons) or None,
    )  # fmt: skip


def judged_latency(
    side: Side, known: Baseline, name: str, margin: float | None, threshold: Threshold | None
) -> Judgement:
    """A percentile has no part in a row, and seconds are the machine's of the day: the two intervals are compared, and
    differ where they do not overlap, which errs less often than the run's confidence says."""
    before, after = (
        (found or {}).get(name.removeprefix("latency_")) or {"value": None, "low": None, "high": None}
        for found in (known.head.get("latency_s"), side.entry["latency_s"])
    )
    verdict, reasons = _by_threshold(after, threshold, before["value"])
    if margin is not None:
        reasons.append(f"its interval is held against {1 + margin:g} times the baseline's (gate.latency_margin)")
        by_margin: Judged = "undecided"
        if None in (before["low"], before["high"], after["low"], after["high"]):
            reasons.append("it is not measured on both sides, so the margin decides nothing")
        elif after["low"] > (1 + margin) * before["high"]:
            by_margin = "regression"
        elif after["high"] <= (1 + margin) * before["low"] or before == after:
            by_margin = "pass"
        verdict = _worse(verdict, by_margin)
    reason = "; ".join(reasons) or None
    return Judgement(name, before["value"], after["value"], None, None, None, 1.0, None, verdict, reason)


def _by_threshold(
    measured: Mapping[str, Any], threshold: Threshold | None, before: float | None
) -> tuple[Judged | None, list[str]]:
    """What the run's interval says of the present threshold, whatever the run was last decided under."""
    if threshold is None:
        return None, []
    unbounded = measured.get("unbounded") or ()
    low, high = (None if side in unbounded else measured[side] for side in ("low", "high"))
    ends = {">=": (low, high), "<=": (high, low)}
    against, in_favour = ends[threshold.op]
    verdict: Judged = "undecided"
    if against is not None and meets(against, threshold):
        verdict = "pass"
    elif in_favour is not None and not meets(in_favour, threshold):
        verdict = "regression"
    as_before = verdict != "pass" and before is not None and not meets(before, threshold)
    already = ", which the baseline does not meet either" if as_before else ""
    return verdict, [f"held against its threshold ({threshold.require}){already}"]


def _worse(one: Judged | None, other: Judged) -> Judged:
    order: tuple[Judged, ...] = ("regression", "undecided", "pass")
    return other if one is None else min(one, other, key=order.index)
