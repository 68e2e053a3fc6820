"""Numbers and thresholds as a manager reads them, never rounded to the other side of what they are compared with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

from evalft import numbers
from evalft.config import Threshold
from evalft.decision.evidence import COST, LATENCY_QUANTILES, Evidence
from evalft.decision.statuses import ThresholdResult, meets, pessimistic

DIGITS = 3
MOST_DIGITS = 15


def metric_name(metric: str) -> str:
    if metric == COST:
        return "cost per query"
    return f"latency {metric[8:]}" if metric in LATENCY_QUANTILES else metric


def quantity(metric: str, value: float, bound: float | None = None) -> str:
    """`0.861`, `$0.00041` or `1.25 s`, with as many digits as keep it on its side of `bound`."""
    return _with_unit(metric, number(value, bound))


def required(threshold: Threshold) -> str:
    """`>= 0.9`, `<= $0.0005`."""
    return f"{threshold.op} {_with_unit(threshold.metric, plain(threshold.bound))}"


def number(value: float, bound: float | None = None) -> str:
    """Rounded to the nearest with 3 significant digits, more where rounding would reach or cross `bound`."""
    if not math.isfinite(value):
        return "no bound"
    for digits in range(DIGITS, MOST_DIGITS + 1):
        text = plain(float(f"{value:.{digits}g}"))
        if bound is None or _side(float(text), bound) == _side(value, bound):
            return text
    return plain(value)


def plain(value: float) -> str:
    """Every digit, without an exponent: `0.00000041`, `1200000`."""
    return format(Decimal(f"{value:.{MOST_DIGITS}g}"), "f")


def rounded_down(value: float, digits: int = DIGITS) -> float:
    """The largest number of that many significant digits that is not above `value`."""
    return float(Context(prec=digits, rounding=ROUND_FLOOR).create_decimal(repr(float(value))))


def rounded_up(value: float, digits: int = DIGITS) -> float:
    return float(Context(prec=digits, rounding=ROUND_CEILING).create_decimal(repr(float(value))))


def next_above(value: float, digits: int = DIGITS) -> float:
    """The smallest number of that many significant digits that is above `value`."""
    return float(Context(prec=digits).next_plus(Decimal(repr(float(value)))))


def next_below(value: float, digits: int = DIGITS) -> float:
    return float(Context(prec=digits).next_minus(Decimal(repr(float(value)))))


def interval_text(one: Evidence, threshold: Threshold, confidence: float) -> str:
    """`accuracy 0.912 (95 % interval 0.880 to 0.938; required >= 0.9)`."""
    metric = threshold.metric
    interval = one.intervals.get(metric)
    if interval is None or interval.value is None:
        why = (interval.reason if interval is not None else None) or "not measured"
        return f"{metric_name(metric)} is not known ({why}; required {required(threshold)})"
    low, high = interval.ends((1 - confidence) / 2)
    unit = numbers.unit_of(metric)
    value = numbers.number(interval.value, unit, threshold)
    ends = numbers.interval(interval.value, low, high, unit, threshold)
    return f"{metric_name(metric)} {value} ({numbers.at_confidence(confidence, ends)}; required {required(threshold)})"


def undecided_text(one: Evidence, threshold: Threshold, result: ThresholdResult, confidence: float) -> str:
    """The same, with why it is undecided where the shown interval alone does not say it."""
    text = interval_text(one, threshold, confidence)
    end = pessimistic(one, threshold, result.pass_level)
    if result.status == "pass" and not meets(end, threshold):
        shown = end_text(one, threshold, end)
        return f"{text}, which does not hold at the level corrected for several candidates (end {shown})"
    if result.status == "fail":
        return f"{text}, missed by this interval but not at the level corrected for several thresholds"
    measured = one.intervals.get(threshold.metric)
    if result.reason and measured is not None and measured.value is not None:
        return f"{text}, undecided: {result.reason}"
    return text


def end_text(one: Evidence, threshold: Threshold, end: float) -> str:
    """A pessimistic end as tables show it: rounded outwards, on its own side of the threshold."""
    measured, unit = one.intervals[threshold.metric].value, numbers.unit_of(threshold.metric)
    return numbers.end(end, "low" if threshold.op == ">=" else "high", unit, beside=measured, threshold=threshold)


def percent(share: float) -> str:
    return f"{100 * share:.6g} %"


def duration(hours: float) -> str:
    """`under a second`, `41 s`, `12 minutes`, `3.5 hours`."""
    seconds = 3600 * hours
    if seconds < 1:
        return "under a second"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{hours:.3g} hours"


def listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _with_unit(metric: str, text: str) -> str:
    if metric == COST:
        return f"-${text[1:]}" if text.startswith("-") else f"${text}"
    return f"{text} s" if metric in LATENCY_QUANTILES else text


def _side(value: float, bound: float) -> int:
    return (value > bound) - (value < bound)
