"""One idea: a measured value together with the ends of its interval at any level.

The decision looks at several candidates and thresholds, so it needs ends at levels that depend on how many there are
(Holm). Keeping the ends as a function of the one-sided error alpha means that what is shown, what is tested and any
p-value (the level at which an end reaches the threshold) come from one source and cannot disagree.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from evalft.records import Estimate

Ends = Callable[[float], tuple[float, float]]
"""One-sided error alpha, 0 < alpha < 0.5 -> (low, high); -inf or +inf where that side is not bounded by the data."""


def unbounded(_alpha: float) -> tuple[float, float]:
    return -math.inf, math.inf


@dataclass(frozen=True)
class Interval:
    """A value (None: not measurable, `reason` says why), how many rows it rests on, and its ends."""

    value: float | None
    n: int
    method: str
    ends: Ends = unbounded
    probs_method: str | None = None
    reason: str | None = None

    def estimate(self, confidence: float) -> Estimate:
        """The two-sided interval at `confidence` as a record; an unbounded end is None."""
        low, high = self.ends((1 - confidence) / 2) if self.value is not None else (-math.inf, math.inf)
        return Estimate(
            value=self.value,
            low=low if math.isfinite(low) else None,
            high=high if math.isfinite(high) else None,
            confidence=confidence,
            method=self.method,
            n=self.n,
            probs_method=self.probs_method,
            reason=self.reason,
        )
