"""Numbers as text: scores, US dollars, seconds, percents, intervals. Pure functions; the tests are a table.

Two rules keep a shown number from contradicting a shown status:

- the ends of an interval are rounded outwards (low down, high up): an end is never shown nearer to passing than it is;
- a number that is held against a threshold gets as many more decimals as it takes to stand on its own side of it:
  0.8996 against ">= 0.9" is shown as 0.8996, never as 0.900.

Rounding is decimal, of the shortest text that stands for the float (`repr`), so 0.9 is 0.9 and nothing above it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal
from typing import Literal

from evalft.config import Threshold

Unit = Literal["score", "usd", "seconds"]
End = Literal["low", "high"]

NOT_MEASURED = "not measured"
NO_INTERVAL = "no interval"
_WIDE = Context(prec=700)
"""Room for any float at any number of decimals: quantize never overflows."""


def unit_of(metric: str) -> Unit:
    """What a threshold or metric name is measured in."""
    if metric == "cost_per_query":
        return "usd"
    return "seconds" if metric.startswith("latency_") else "score"


def number(value: float | None, unit: Unit, threshold: Threshold | None = None) -> str:
    """A value, rounded to nearest: "0.912", "$0.00042", "1.25 s"; a score below 1 is never shown as 1."""
    if value is None or not math.isfinite(value):
        return NOT_MEASURED
    exact = _exact(value)
    sides = [_meets(threshold)] if threshold else []
    if unit == "score":
        sides += [lambda x: x >= 1, lambda x: x > 0, lambda x: x < 0]
    return _with_unit(_rounded(exact, _decimals(value, unit), ROUND_HALF_EVEN, sides), unit)


def end(
    value: float | None, side: End, unit: Unit, *, beside: float | None = None, threshold: Threshold | None = None
) -> str:
    """One end of an interval, rounded outwards, with the decimals of the value it stands `beside`."""
    if value is None or not math.isfinite(value):
        return "not bounded"
    decimals = _decimals(value if beside is None else beside, unit)
    rounding = ROUND_FLOOR if side == "low" else ROUND_CEILING
    return _with_unit(
        _rounded(_exact(value), decimals, rounding, [_meets(threshold)] if threshold else []),
        unit,
    )


def interval(
    value: float | None, low: float | None, high: float | None, unit: Unit, threshold: Threshold | None = None
) -> str:
    """Both ends: "0.884 to 0.951"; one that the data does not bound is said: "at least 0.884"."""
    low, high = (x if x is not None and math.isfinite(x) else None for x in (low, high))
    if value is None or (low is None and high is None):
        return NO_INTERVAL
    beside = value or max(abs(low or 0.0), abs(high or 0.0))  # of a change of 0, the ends say how fine it is known
    if high is None:
        return f"at least {end(low, 'low', unit, beside=beside, threshold=threshold)}"
    if low is None:
        return f"at most {end(high, 'high', unit, beside=beside, threshold=threshold)}"
    return (
        f"{end(low, 'low', unit, beside=beside, threshold=threshold)} to "
        f"{end(high, 'high', unit, beside=beside, threshold=threshold)}"
    )


def at_confidence(share: float, ends: str) -> str:
    """ "95 % interval 0.884 to 0.951"; "no interval" as it is."""
    return ends if ends == NO_INTERVAL else f"{confidence(share)} interval {ends}"


def requirement(threshold: Threshold) -> str:
    """ "≥ 0.9", "≤ $0.0005", "≤ 2 s": the bound exactly as the user set it."""
    sign = "≥" if threshold.op == ">=" else "≤"
    return f"{sign} {_with_unit(_exact(threshold.bound).normalize(_WIDE), unit_of(threshold.metric))}"


def price(value: float) -> str:
    """A declared price, exactly as declared: "$0.25"."""
    return _with_unit(_exact(value).normalize(_WIDE), "usd")


def usd(value: float | None) -> str:
    return number(value, "usd")


def seconds(value: float | None) -> str:
    return number(value, "seconds")


def count(value: float) -> str:
    """1234567 -> "1,234,567"; a whole float too; others keep up to 4 significant digits."""
    return f"{int(value):,}" if float(value).is_integer() else f"{float(f'{value:.4g}'):,}"


def counted(how_many: int, what: str) -> str:
    """1 row, 1,234 rows."""
    return f"{how_many:,} {what}" + ("" if how_many == 1 else "s")


def percent(part: float, whole: float) -> str:
    """ "99.5 %" of a whole; "100 %" and "0 %" only where they are exact."""
    if not whole:
        return NOT_MEASURED
    if part in (0, whole):
        return "100 %" if part else "0 %"
    share = min(max(Decimal(100) * Decimal(str(part)) / Decimal(str(whole)), Decimal("0.1")), Decimal("99.9"))
    return f"{share.quantize(Decimal('0.1'), ROUND_HALF_EVEN)} %"


def probability(value: float | None) -> str:
    """A p-value or an error level: three significant digits, "< 0.0001" below that, "1" only when exact."""
    if value is None or not math.isfinite(value):
        return "–"
    if 0 <= value < 0.0001:
        return "< 0.0001"
    text = f"{value:.3g}"
    return text if float(text) < 1 or value >= 1 else "> 0.999"


def confidence(value: float) -> str:
    """0.95 -> "95 %"."""
    return f"{100 * value:.6g} %"


# ---------------------------------------------------------------- rounding


def _exact(value: float) -> Decimal:
    return Decimal(repr(float(value)))


def _meets(threshold: Threshold) -> Callable[[Decimal], bool]:
    bound = _exact(threshold.bound)
    return (lambda x: x >= bound) if threshold.op == ">=" else (lambda x: x <= bound)


def _rounded(exact: Decimal, decimals: int, rounding: str, sides: list[Callable[[Decimal], bool]]) -> Decimal:
    """`exact` with the fewest decimals (`decimals` or more) that leave it on its side of every line."""
    last = max(decimals, -int(exact.as_tuple().exponent))
    for places in range(decimals, last + 1):
        shown = exact.quantize(Decimal(1).scaleb(-places, _WIDE), rounding, _WIDE)
        if all(side(shown) == side(exact) for side in sides):
            return shown
    return exact


def _decimals(value: float, unit: Unit) -> int:
    """Scores: 3 (1 from 10 on, for those of a 0-100 scale); dollars and seconds: three significant digits."""
    if unit == "score":
        return 3 if abs(value) < 10 else 1
    least = 2 if unit == "usd" else 0
    return least if value == 0 else max(least, 2 - math.floor(math.log10(abs(value))))


def _with_unit(shown: Decimal, unit: Unit) -> str:
    if unit == "score":
        return f"{shown:,f}"
    digits = f"{abs(shown):,f}" if shown else "0"
    sign = "-" if shown < 0 else ""
    return f"{sign}${digits}" if unit == "usd" else f"{sign}{digits} s"
