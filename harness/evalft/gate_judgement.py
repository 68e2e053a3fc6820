"""What a gate says of one metric, slice, cost or latency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Judged = Literal["pass", "regression", "undecided"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """One metric, or one slice; its difference is turned so that more is better. Of cost it is what it costs more."""

    name: str
    before: float | None
    after: float | None
    change: float | None
    low: float | None
    high: float | None
    p_regression: float
    """How often rows that are not worse than by the margin would look as bad, corrected for all that is judged."""
    tolerance: float | None
    """None: not held against one (slices, cost and latency)."""
    verdict: Judged | None
    """None: nothing is required of it (cost and latency), so it is shown and not judged."""
    reason: str | None = None
