"""One chart: a picture for the page, its figures as a table for those who cannot use one, and as a CSV.

Here is what charts share: their columns, how each candidate looks, axes, and the lines of thresholds.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from evalft import numbers
from evalft.config import Threshold
from evalft.reporting import text
from evalft.reporting.candidates import base_name, tags
from evalft.reporting.drawing import ACCENT, DASHES, SERIES, SHAPES
from evalft.store import slug

if TYPE_CHECKING:
    import altair as alt

LOG_FROM = 20
"""Amounts that differ more than so many times stand on a logarithmic axis."""
TINY = 1e-12
"""Amounts below it are as good as none, and none has no place on a logarithmic axis."""
WIDTH = 680
STEP = 46
"""Height of one candidate where each has a line of its own, in px."""
NAME = 40
"""Characters of a name that a picture shows; the table holds all of it."""
TWO_LINES = "split(datum.label, '\\n')"
"""Vega draws a label that is a list as lines."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """What a chart's rows hold under this name, and how it is shown."""

    name: str
    unit: Literal["text", "count", "score", "usd", "seconds"] = "text"
    end: numbers.End | None = None
    """Where it is the end of an interval: rounded outwards, with the decimals of the column `beside`."""
    beside: str = ""
    threshold: Threshold | None = None

    @property
    def title(self) -> str:
        return self.name.removesuffix("_usd").removesuffix("_s").replace("_", " ")

    def shown(self, row: Row) -> str:
        value = row[self.name]
        if self.unit == "text":
            return str(value)
        if self.unit == "count" or (self.end and row[self.beside] is None):
            return "–" if value is None else numbers.count(value)
        if self.end:
            return numbers.end(value, self.end, self.unit, beside=row[self.beside], threshold=self.threshold)
        return numbers.number(value, self.unit, self.threshold)


@dataclass(frozen=True, slots=True)
class Chart:
    name: str
    title: str
    description: str
    """What it shows, in words."""
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    svg: str
    note: str = ""
    """What is not drawn, and why."""

    @property
    def file(self) -> str:
        return f"{slug(self.name)}.csv"

    @property
    def table(self) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(column.shown(row) for column in self.columns) for row in self.rows)

    @property
    def csv(self) -> str:
        """Numbers with all their digits; texts that no spreadsheet computes."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([column.name for column in self.columns])
        for row in self.rows:
            values = (row[column.name] for column in self.columns)
            writer.writerow([text.cell(value) if isinstance(value, str) else value for value in values])
        return file.getvalue()


# ---------------------------------------------------------------- who is who


@dataclass(frozen=True)
class Who:
    """How each candidate looks, the same in every chart: a name, a colour, and a shape or dashes besides."""

    labels: Mapping[str, str]
    """By candidate: its name on one line, cut, and on a second what has to be known of it. All distinct."""
    drawn: frozenset[str] | None = None
    """The candidates that a chart draws, and its legend lists; None: all."""

    @classmethod
    def of(cls, summary: Row) -> Who:
        base = base_name(summary)
        labels = {}
        for entry in summary["candidates"]:
            name = text.cut_in_the_middle(line(entry["name"]), NAME)
            labels[entry["name"]] = "\n".join(filter(None, (name, cut(line(", ".join(tags(entry, base)))))))
        return cls(distinct(labels))

    def only(self, names: Iterable[str]) -> Who:
        return replace(self, drawn=frozenset(names))

    def in_a_line(self, name: str) -> str:
        return self.labels[name].replace("\n", ", ")

    def colour(self) -> alt.Color:
        import altair as alt

        return alt.Color("who:N", scale=self._scale(SERIES), legend=legend())

    def shape(self) -> alt.Shape:
        import altair as alt

        return alt.Shape("who:N", scale=self._scale(SHAPES), legend=legend())

    def dash(self) -> alt.StrokeDash:
        import altair as alt

        return alt.StrokeDash("who:N", scale=self._scale(DASHES), legend=legend())

    def _scale(self, values: Sequence[Any]) -> alt.Scale:
        import altair as alt

        looks = {
            self.in_a_line(name): values[i % len(values)]
            for i, name in enumerate(self.labels)
            if self.drawn is None or name in self.drawn
        }
        return alt.Scale(domain=list(looks), range=list(looks.values()))


def legend() -> alt.Legend:
    import altair as alt

    return alt.Legend(title=None, orient="bottom", direction="vertical", columns=1)


def distinct(labels: Mapping[str, str]) -> dict[str, str]:
    """The same, with a number before those that would look like another."""
    found = dict[str, str]()
    for number, (name, label) in enumerate(labels.items(), 1):
        found[name] = label if label not in found.values() else f"{number}: {label}"
    return found


def line(words: str) -> str:
    return text.one_line(text.visible(words))


def cut(words: str) -> str:
    return words if len(words) <= NAME else f"{words[: NAME - 1]}…"


# ---------------------------------------------------------------- axes and columns

LOG_SAID = " (logarithmic)"
FORMATS = {"score": "~g", "usd": "$,.12~g", "seconds": "~g", "count": ",.12~g"}


@dataclass(frozen=True)
class Axis:
    """What an axis spans: all the numbers that stand on it, and a little more."""

    first: float
    last: float
    logarithmic: bool
    unit: Literal["score", "usd", "seconds", "count"]

    @classmethod
    def of(cls, values: Sequence[float], unit: numbers.Unit) -> Axis:
        low, high = min(values), max(values)
        if unit != "score" and low > TINY and high / low > LOG_FROM:
            room = (high / low) ** 0.04
            return cls(low / room, high * room, True, unit)
        room = 0.06 * (high - low) or 0.06 * abs(high) or 0.5
        first, last = low - room, high + room
        if low >= 0:
            first = max(first, 0.0)
        if unit == "score" and high <= 1:
            last = min(last, 1.0)
        return cls(first, last, False, unit)

    @property
    def scale(self) -> alt.Scale:
        import altair as alt

        domain = [self.first, self.last]
        return (
            alt.Scale(type="log", domain=domain, nice=False)
            if self.logarithmic
            else alt.Scale(domain=domain, nice=False)
        )

    @property
    def said(self) -> str:
        return LOG_SAID if self.logarithmic else ""

    def axis(self, title: str) -> alt.Axis:
        import altair as alt

        ticks = {"values": _log_ticks(self.first, self.last)} if self.logarithmic else {"tickCount": 6}
        return alt.Axis(title=title, format=FORMATS[self.unit], **ticks)

    def inside(self, end: float | None, edge: Literal[0, 1]) -> float:
        """Where an end of an interval is drawn: one that the data do not bound, at the edge."""
        return (self.first, self.last)[edge] if end is None else min(max(end, self.first), self.last)


def _log_ticks(first: float, last: float) -> list[float]:
    """Powers of ten within, at most 8; where that is under three, twice and five times them too."""
    powers = range(math.floor(math.log10(first)), math.ceil(math.log10(last)) + 1)
    tens = [tick for power in powers if first <= (tick := float(f"1e{power}")) <= last]
    if len(tens) > 2:
        return tens[:: math.ceil(len(tens) / 8)]
    return [tick for power in powers for digit in (1, 2, 5) if first <= (tick := float(f"{digit}e{power}")) <= last]


def names_axis() -> alt.Axis:
    import altair as alt

    return alt.Axis(title=None, labelExpr=TWO_LINES, ticks=False, domain=False, labelPadding=8)


def line_at(threshold: Threshold | None, axis: Axis, side: Literal["x", "y"], before: str = "") -> list[alt.Chart]:
    """The line of a threshold, and what it asks for."""
    import altair as alt

    if threshold is None:
        return []
    base = alt.Chart(
        alt.InlineData(values=[{"bound": threshold.bound, "said": f"{before}{numbers.requirement(threshold)}"}])
    )
    rule = base.mark_rule(color=ACCENT, strokeWidth=1.5, strokeDash=[5, 3])
    if side == "x":
        at_x = alt.X("bound:Q", scale=axis.scale)
        said = base.mark_text(dy=-8, color=ACCENT, fontWeight="bold")
        return [rule.encode(x=at_x), said.encode(x=at_x, y=alt.value(0), text="said:N")]
    at_y = alt.Y("bound:Q", scale=axis.scale)
    said = base.mark_text(align="left", dx=6, color=ACCENT, fontWeight="bold")
    return [rule.encode(y=at_y), said.encode(y=at_y, x=alt.value(WIDTH), text="said:N")]


def drawable(row: Row) -> dict[str, Any]:
    """Without the name as others wrote it: what is drawn is a label of it."""
    return {key: value for key, value in row.items() if key != "candidate"}


def all_of(rows: Sequence[Row], *columns: str) -> list[float]:
    return [row[column] for row in rows for column in columns if row[column] is not None]


def bounds_of(*thresholds: Threshold | None) -> list[float]:
    return [threshold.bound for threshold in thresholds if threshold]


def interval_columns(
    value: str, low: str, high: str, unit: numbers.Unit, threshold: Threshold | None
) -> tuple[Column, ...]:
    return (
        Column(value, unit, threshold=threshold),
        Column(low, unit, "low", value, threshold),
        Column(high, unit, "high", value, threshold),
    )


def name_of(metric: str) -> str:
    return metric if numbers.unit_of(metric) == "score" else metric.replace("_", " ")
