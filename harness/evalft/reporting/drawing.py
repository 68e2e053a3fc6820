"""Two drawings: one threshold (a dot and whiskers per candidate, and the line that they have to reach), and one loss curve.

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
NAME, NOTE = 26, 30
"""Characters of a name and of the note below it that fit left of the axis."""
CURVE_WIDTH, CURVE_HEIGHT = 360, 190
CURVE_LEFT, CURVE_RIGHT, CURVE_TOP, CURVE_BOTTOM = 48, 346, 12, 152
"""The axes of a loss curve."""
MAX_POINTS = 300
"""Of one curve; beyond, every second, third ... of the logged steps is drawn, said."""
TINY = 1e-12
"""Differences below this are drawn as none."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One candidate: x of its value and of the ends of its interval (None: not bounded by the data)."""

    label: str
    """The name, cut to the space there is."""
    note: str
    """A second line below it, cut likewise; empty where there is none."""
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
    note: str = ""


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
                label=_cut(row.name, NAME),
                note=_cut(row.note, NOTE),
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


@dataclass(frozen=True, slots=True)
class Curve:
    """The training loss of one stage over its steps."""

    title: str
    description: str
    """All of it in words, for those who do not see it."""
    points: str
    """Of an SVG polyline."""
    steps: tuple[tuple[float, str], ...]
    losses: tuple[tuple[float, str], ...]
    """Ticks: x of a step, y of a loss, and its text."""


def draw_loss(stage: str, logged: Sequence[Sequence[float | None]]) -> Curve | None:
    """logged: (step, loss) in the order of training. None where fewer than two steps have a finite loss."""
    found = [(step, loss) for step, loss in logged if step is not None and loss is not None and math.isfinite(loss)]
    if len(found) < 2:
        return None
    every = math.ceil(len(found) / MAX_POINTS)
    drawn = found[:-1:every] + found[-1:]
    losses = [loss for _, loss in found]
    first_step, last_step = found[0][0], found[-1][0]
    ticks = _ticks(min(losses), max(losses), score=False)

    def x(step: float) -> float:
        share = (step - first_step) / max(last_step - first_step, TINY)
        return round(CURVE_LEFT + (CURVE_RIGHT - CURVE_LEFT) * min(max(share, 0.0), 1.0), 1)

    def y(loss: float) -> float:
        return round(CURVE_BOTTOM - (CURVE_BOTTOM - CURVE_TOP) * (loss - ticks[0]) / (ticks[-1] - ticks[0]), 1)

    lowest_step, lowest = min(found, key=lambda point: point[1])
    thinned = f" Drawn: {len(drawn):,} of the {len(found):,} logged steps." if every > 1 else ""
    return Curve(
        title=f"Training loss of {stage}",
        description=(
            f"{numbers.number(losses[0], 'score')} at step {numbers.count(first_step)}, "
            f"{numbers.number(losses[-1], 'score')} at step {numbers.count(last_step)}; "
            f"lowest {numbers.number(lowest, 'score')} at step {numbers.count(lowest_step)}.{thinned}"
        ),
        points=" ".join(f"{x(step)},{y(loss)}" for step, loss in drawn),
        steps=tuple((x(step), numbers.count(step)) for step in _whole_ticks(first_step, last_step)),
        losses=tuple((y(tick), _tick_text(tick, "score")) for tick in ticks),
    )


def _whole_ticks(first: float, last: float) -> list[float]:
    """The round whole numbers within first..last, at most 7."""
    ticks = [tick for tick in _ticks(first, last, score=False) if float(tick).is_integer() and first <= tick <= last]
    return ticks or [first, last]


def _cut(words: str, most: int) -> str:
    return words if len(words) <= most else f"{words[: most - 1]}…"


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
