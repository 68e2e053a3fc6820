"""A drawing of one threshold: a dot and whiskers per candidate, and the line that they have to reach.

Geometry only, in units of an SVG viewBox; the template makes the SVG. Costs and latencies that differ more than
20-fold are drawn on a logarithmic axis, said on it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from evalft import numbers
from evalft.config import Threshold

WIDTH = 720
LEFT, RIGHT = 230, 700
"""The axis runs between these x; the names stand left of it."""
TOP, ROW = 34, 32
NAME = 26
"""Characters of a name that fit left of the axis."""
TINY = 1e-12
"""Differences below this are drawn as none."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One candidate: x of its value and of the ends of its interval (None: not bounded by the data)."""

    label: str
    """The name, cut to the space there is."""
    stand_in: bool
    y: int
    value: float
    low: float
    high: float
    status: str
    tooltip: str


@dataclass(frozen=True, slots=True)
class Drawing:
    title: str
    height: int
    bound: float
    bound_text: str
    marks: tuple[Mark, ...]
    ticks: tuple[tuple[float, str], ...]
    logarithmic: bool
    description: str
    """All of it in words, for those who do not see it."""


@dataclass(frozen=True, slots=True)
class Row:
    """What is drawn of one candidate."""

    name: str
    value: float
    low: float | None
    high: float | None
    status: str
    stand_in: bool = False


def draw(threshold: Threshold, title: str, rows: Sequence[Row]) -> Drawing | None:
    """None where nothing was measured."""
    if not rows:
        return None
    unit = numbers.unit_of(threshold.metric)
    seen = [x for row in rows for x in (row.value, row.low, row.high) if x is not None] + [threshold.bound]
    logarithmic = unit != "score" and min(seen) > TINY and max(seen) / min(seen) > 20
    ticks = _log_ticks(min(seen), max(seen)) if logarithmic else _ticks(min(seen), max(seen), score=unit == "score")
    first, last = (math.log10(t) if logarithmic else t for t in (ticks[0], ticks[-1]))

    def x(value: float) -> float:
        place = (math.log10(value) if logarithmic else value) - first
        return round(LEFT + (RIGHT - LEFT) * min(max(place / (last - first), 0.0), 1.0), 1)

    marks = []
    for i, row in enumerate(rows):
        ends = numbers.interval(row.value, row.low, row.high, unit, threshold)
        marks.append(
            Mark(
                label=row.name if len(row.name) <= NAME else f"{row.name[: NAME - 1]}…",
                stand_in=row.stand_in,
                y=TOP + i * ROW + ROW // 2,
                value=x(row.value),
                low=LEFT if row.low is None else x(row.low),
                high=RIGHT if row.high is None else x(row.high),
                status=row.status,
                tooltip=f"{row.name}: {numbers.number(row.value, unit, threshold)} ({ends}), {row.status}",
            )
        )
    require = numbers.requirement(threshold)
    return Drawing(
        title=title,
        height=TOP + len(rows) * ROW + 30,
        bound=x(threshold.bound),
        bound_text=require,
        marks=tuple(marks),
        ticks=tuple((x(t), _tick_text(t, unit)) for t in ticks),
        logarithmic=logarithmic,
        description=f"{title}, required {require}. " + ". ".join(mark.tooltip for mark in marks) + ".",
    )


def _ticks(low: float, high: float, *, score: bool) -> list[float]:
    """4 to 8 round numbers that hold low..high; scores of a 0-1 scale stay on it."""
    span = high - low
    if span < TINY:
        span = abs(high) if abs(high) > TINY else 1.0
    step = 10 ** math.floor(math.log10(span / 4))
    step *= next(m for m in (1, 2, 5, 10) if span / (step * m) <= 6)
    first, last = math.floor(low / step - 0.2), math.ceil(high / step + 0.2)
    if score and low >= 0:
        first = max(first, 0)
        last = min(last, round(1 / step)) if high <= 1 else last
    elif low >= 0:
        first = max(first, 0)
    return [i * step for i in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten that hold low..high, at most 7."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    step = math.ceil((last - first) / 6)
    return [10.0**i for i in range(first, last + step, step)]


def _tick_text(value: float, unit: numbers.Unit) -> str:
    text = f"{value:.12f}".rstrip("0").rstrip(".") if 1e-9 < abs(value) < 1e15 else f"{value:.3g}"
    return {"score": text, "usd": f"${text}", "seconds": f"{text} s"}[unit]
