"""The level at which an interval's end reaches a bound: the p-value that cannot disagree with the interval."""

from __future__ import annotations

import math
from typing import Literal

from evalft.stats.interval import Ends

SMALLEST = 1e-12
HALF = 0.5 - 1e-9


def level_reached(ends: Ends, bound: float, side: Literal["low", "high"], *, strict: bool = False) -> float:
    """The smallest one-sided error alpha at which the end of `side` reaches `bound`; 1.0 where none under 0.5 does.

    side "low": low(alpha) >= bound (a ">=" threshold is passed; strict: > bound, a "<=" threshold is failed); side
    "high": high(alpha) <= bound (strict: < bound). Ends move inwards as alpha grows, so bisection finds it; at the
    returned level the end does reach the bound.
    """

    def reached(alpha: float) -> bool:
        low, high = ends(alpha)
        inside = low - bound if side == "low" else bound - high
        return inside > 0 if strict else inside >= 0

    if reached(SMALLEST):
        return SMALLEST
    if not reached(HALF):
        return 1.0
    outside, level = math.log(SMALLEST), math.log(HALF)
    while level - outside > 1e-9:
        middle = (outside + level) / 2
        outside, level = (outside, middle) if reached(math.exp(middle)) else (middle, level)
    return math.exp(level)
