"""What an answer costs and how long it takes: USD per example, seconds per answer.

Cost is a mean like any other, over all that was billed for an example: every answer and try of it, failures too. Latency
is a percentile with the interval of its order statistics; its value is numpy's "inverted_cdf", here of weighted rows.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from evalft.metrics import measure
from evalft.metrics.measure import Bools, Floats, Ints, Measure
from evalft.records import Failure, Outcome, Prediction
from evalft.stats import order
from evalft.stats.interval import Interval


def measured(per_example: Sequence[Sequence[Outcome]]) -> dict[str, Measure]:
    """Cost of an example: all its answers and tries, failures too. Latency: of answers, and of timeouts as at least what
    was waited; other failures have none."""
    costs = np.zeros(len(per_example))
    seconds, rows, timed_out, batches = array("d"), array("Q"), array("B"), array("q")
    answers = unknown = never_given = worst_cases = 0
    worst_cases_usd, answered = 0.0, False
    for row, several in enumerate(per_example):
        for one in several:
            answers += 1
            unknown += one.cost_usd is None
            never_given += (
                one.cost_usd is None and isinstance(one, Failure) and one.failure == "empty" and one.usage is None
            )
            costs[row] += one.cost_usd or 0.0
            if one.usage and one.usage.estimated and one.cost_usd:
                worst_cases, worst_cases_usd = worst_cases + 1, worst_cases_usd + one.cost_usd
            is_answer = isinstance(one, Prediction)
            answered = answered or is_answer
            if one.latency_s is not None and (is_answer or getattr(one, "failure", "") == "timeout"):
                seconds.append(one.latency_s)
                rows.append(row)
                timed_out.append(not is_answer)
                batches.append(_batch(one))
    order = np.lexsort((timed_out, rows, seconds))
    times = _Times(
        seconds=np.array(seconds)[order],
        rows=np.array(rows, dtype=np.int64)[order],
        timed_out=np.array(timed_out, dtype=bool)[order],
        batches=np.array(batches, dtype=np.int64)[order],
        answered=answered,
    )
    if unknown:
        why = (
            f"{never_given:,} of {answers:,} answers are missing or blank, so what they cost is not known"
            if never_given == unknown
            else f"the cost of {unknown:,} of {answers:,} answers is not known (price, or a column cost_usd, gives it)"
        )
        cost = measure.not_measured(len(per_example), "mean", why)
    else:
        cost = measure.mean(costs, bounds=None, is_score=False)
    if worst_cases and not unknown:
        cost = cost.with_reason(
            f"{worst_cases} answers had tries without usage, charged their worst case: "
            f"up to {worst_cases_usd / costs.sum():.0%} of the cost is assumed, not billed"
        )
    return {
        "cost_per_query": cost,
        "latency_p50": times.measure(len(per_example), 0.50),
        "latency_p95": times.measure(len(per_example), 0.95),
    }


def _batch(one: Outcome) -> int:
    return -1 if isinstance(one, Failure) or one.batch is None else one.batch


@dataclass(frozen=True)
class _Times:
    """Seconds of each answer (m,) in order, the row it belongs to, and whether it never came: then what was waited."""

    seconds: Floats
    rows: Ints
    timed_out: Bools
    batches: Ints
    """(m,) the number of the batch that each was answered in, -1 where it names none."""
    answered: bool
    """Whether any answer came, timed or not."""

    def measure(self, n: int, q: float) -> Measure:
        return Measure(
            np.arange(n), lambda weights: self.value(weights, q), lambda _groups, _seed: self.interval(q), bounds=None
        )

    def value(self, weights: Floats, q: float) -> Floats:
        if not self.rows.size:
            return np.full(len(weights), np.nan)
        counted = np.cumsum(weights[:, self.rows], axis=1)
        reached = counted >= q * counted[:, -1:] - 1e-9
        return np.where(counted[:, -1] > 0, self.seconds[reached.argmax(axis=1)], np.nan)

    def _seconds_of_batches(self) -> Floats:
        """Of the answers, one per batch; a number stands for another batch where the time is another (a resumed run).
        Runs from before answers named their batch: mostly equal times are those of batches."""
        seconds, batches = self.seconds[~self.timed_out], self.batches[~self.timed_out]
        if (batches < 0).all():
            times = np.unique(seconds)
            return times if 2 * times.size < seconds.size else seconds
        alone = seconds[batches < 0]
        named = np.unique(np.stack([batches, seconds])[:, batches >= 0], axis=1)[1]
        return np.concatenate([alone, named])

    def interval(self, q: float) -> Interval:
        """Order statistics of the answers, or of the batches where the rows of a batch share its time. A timeout is
        longer than what was waited: it bounds a quantile from below and never from above."""
        if not self.rows.size:
            why = "no answer has a latency" if self.answered else "no answer succeeded"
            return Interval(None, 0, "order_statistic", reason=why)
        found = order.quantile(self.seconds, q)
        batches = self._seconds_of_batches()
        shared = batches.size < int((~self.timed_out).sum())
        ends = order.quantile(batches, q).ends if shared else found.ends
        waited_s = float(self.seconds[self.timed_out].min()) if self.timed_out.any() else np.inf

        def censored(alpha: float) -> tuple[float, float]:
            low, high = ends(alpha)
            return low, high if high < waited_s else np.inf

        reasons = []
        if shared:
            reasons.append(
                f"rows that were answered in one batch share its time: the ends rest on {batches.size} batches"
            )
        if self.timed_out.any():
            count = int(self.timed_out.sum())
            reasons.append(f"{count} timeouts count as longer than the {waited_s:g} s that were waited")
        return replace(found, ends=censored, reason="; ".join(reasons) or None)
