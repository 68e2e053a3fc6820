"""What n test rows could ever show: thresholds that no answers, however good, would pass.

Usable before anything is measured (`evalft check`): it needs the counts only. The first candidate to pass must do so at
level alpha / m (Holm over m candidates), so:

- a metric of row scores in 0..1 with every row right has a lower end of level ** (1 / n) (Clopper-Pearson);
- a share of rows in G groups has no higher one than G rows would; of other metrics of groups nothing is said, since errors
  may tell more of their spread than no error does;
- a latency quantile q is bounded above by the largest of n answers only where q ** n <= level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evalft.config import Threshold
from evalft.decision.evidence import COST, LATENCY_QUANTILES, LOWER_IS_BETTER
from evalft.decision.wording import metric_name, required
from evalft.numbers import counted
from evalft.stats.order import rows_needed_to_bound
from evalft.stats.proportion import MIN_GROUPS, rows_needed_to_pass

ROW_SCORED = frozenset(
    "accuracy strict_accuracy hamming brier exact_match contains regex json_schema numeric graded token_f1 judge".split()
)
SHARES = frozenset("accuracy strict_accuracy exact_match contains regex json_schema numeric".split())
"""Shares of right rows."""
ROW_SCORED_FAMILIES = ("precision", "recall", "f1", "jaccard", "balanced_accuracy")
UNIT_INTERVAL = ("roc_auc", "pr_auc", "ece")
"""Also from 0 to 1, but what n rows can show of them depends on the class counts."""


@dataclass(frozen=True)
class OutOfReach:
    """A threshold that these rows cannot pass, and how many could; rows None: no number can."""

    metric: str
    require: str
    rows: int | None
    unit: str
    """`row` or `group`: what `rows` counts."""
    reason: str

    def sentence(self) -> str:
        needs = (
            f"at least {counted(self.rows, self.unit)} are needed"
            if self.rows is not None
            else "no number of rows could"
        )
        return (
            f"the threshold {metric_name(self.metric)} {self.require} cannot be shown to pass: {self.reason}; {needs}"
        )


def thresholds_in_doubt(thresholds: Sequence[Threshold]) -> tuple[list[str], list[str]]:
    """(faults, warnings): bounds outside a metric's scale, and sides that ask for worse rather than better."""
    faults, doubts = [], []
    for threshold in thresholds:
        name, bound = threshold.metric, threshold.bound
        if in_unit_interval(name) and not 0 <= bound <= 1:
            percent = f"; write {bound / 100:g} for {bound:g} %" if 1 < bound <= 100 else ""
            faults.append(f"thresholds: {name} {required(threshold)}: {name} runs from 0 to 1{percent}")
        elif (threshold.op == "<=") != (name in LOWER_IS_BETTER):
            better = "lower" if name in LOWER_IS_BETTER else "higher"
            doubts.append(f"thresholds: {name} {required(threshold)}: {better} is better; is the side right?")
    return faults, doubts


def out_of_reach(
    thresholds: Sequence[Threshold], *, n: int, candidates: int, confidence: float, groups: int | None = None
) -> tuple[OutOfReach, ...]:
    """The thresholds that `n` rows (in `groups` groups) could never pass, with the rows each needs."""
    level = (1 - confidence) / 2 / max(1, candidates)
    found = [_out_of_reach(threshold, n, groups, level) for threshold in thresholds]
    return tuple(one for one in found if one is not None)


def _out_of_reach(threshold: Threshold, n: int, groups: int | None, level: float) -> OutOfReach | None:
    def found(rows: int | None, unit: str, reason: str) -> OutOfReach:
        return OutOfReach(threshold.metric, required(threshold), rows, unit, reason)

    metric, bound = threshold.metric, threshold.bound
    quantile = LATENCY_QUANTILES.get(metric)
    if metric == COST or quantile is not None:
        if threshold.op == ">=":
            return None
        if bound < 0 or (bound == 0 and quantile is not None):
            return found(None, "row", "it is always above 0" if quantile is not None else "it is never below 0")
        if quantile is None:
            return None
        needed = rows_needed_to_bound(quantile, level)
        reason = f"{counted(n, 'row')} do not bound it above at level {level:.3g}"
        return found(needed, "row", reason) if n < needed else None
    if not in_unit_interval(metric):
        return None
    # the share of rows at the good end of the scale that must be shown
    share = bound if threshold.op == ">=" else 1 - bound
    if share <= 0:
        return None
    if share > 1:
        percent = f" (write {bound / 100:g} for {bound:g} %)" if 1 < bound <= 100 else ""
        return found(None, "row", f"it goes from 0 to 1{percent}")
    rows = rows_needed_to_pass(share, level)
    if rows is None:
        return found(None, "row", f"{'1' if threshold.op == '>=' else '0'} exactly is never shown by a sample")
    if not _row_scored(metric):
        return None
    if groups is None:
        needed, have, unit = rows, n, "row"
    else:
        needed, have, unit = max(rows if metric in SHARES else 0, MIN_GROUPS), groups, "group"
    reason = f"{counted(have, unit)} cannot show it at level {level:.3g} even with every answer right"
    return found(needed, unit, reason) if have < needed else None


def _row_scored(metric: str) -> bool:
    return metric in ROW_SCORED or metric.startswith(ROW_SCORED_FAMILIES)


def in_unit_interval(metric: str) -> bool:
    """Whether the metric's scale is 0 to 1."""
    return _row_scored(metric) or metric.startswith(UNIT_INTERVAL)
