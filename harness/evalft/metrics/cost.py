"""What an answer costs and how long it takes: USD per example, seconds per answer that succeeded.

Cost is a mean like any other, over all that was billed for an example: every answer and try of it, failures too. Latency
is a percentile with the interval of its order statistics; its value is numpy's "inverted_cdf", here of weighted rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from evalft.metrics import measure
from evalft.metrics.measure import Floats, Ints, Measure
from evalft.records import Outcome, Prediction
from evalft.stats import order
from evalft.stats.interval import Interval


def measured(per_example: Sequence[Sequence[Outcome]]) -> dict[str, Measure]:
    """Cost of an example: all its answers and tries, failures too. Latency: of the answers that succeeded."""
    costs = np.array([sum(one.cost_usd for one in several) for several in per_example], dtype=np.float64)
    timed = [
        (one.latency_s, row)
        for row, several in enumerate(per_example)
        for one in several
        if isinstance(one, Prediction) and one.latency_s is not None
    ]
    latencies, rows = np.array([s for s, _ in timed], dtype=np.float64), np.array([i for _, i in timed], dtype=np.int64)
    return {
        "cost_per_query": measure.mean(costs, bounds=None, is_score=False),
        "latency_p50": _latency(latencies, rows, len(per_example), 0.50),
        "latency_p95": _latency(latencies, rows, len(per_example), 0.95),
    }


def _latency(seconds: Floats, rows: Ints, n: int, q: float) -> Measure:
    by_time = np.argsort(seconds, kind="stable")
    seconds, rows = seconds[by_time], rows[by_time]

    def statistic(weights: Floats) -> Floats:
        if not rows.size:
            return np.full(len(weights), np.nan)
        counted = np.cumsum(weights[:, rows], axis=1)
        reached = counted >= q * counted[:, -1:] - 1e-9
        return np.where(counted[:, -1] > 0, seconds[reached.argmax(axis=1)], np.nan)

    def interval(_groups: Ints | None, _seed: int) -> Interval:
        found = order.quantile(seconds, q)
        return found if rows.size else replace(found, reason="no answer succeeded")

    return Measure(np.arange(n), statistic, interval)
