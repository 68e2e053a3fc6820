"""The rows of a chart -> its picture, as SVG. Alone in knowing altair, which takes half a second to import.

A function takes rows as they are drawn (`who` and `label` are names that may be shown), their axes and thresholds. Its
first argument is what those hear who do not see the picture.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Concatenate, Literal, ParamSpec

import altair as alt
from altair.utils.schemapi import debug_mode

from evalft import numbers
from evalft.config import Threshold
from evalft.metrics.names import lower_is_better
from evalft.reporting.candidates import FAILURES
from evalft.reporting.chart import STEP, WIDTH, Axis, Row, Who
from evalft.reporting.drawing import ACCENT, DASHES, LINE, SERIES, SHAPES, SOFT, STATUS, svg

TWO_LINES = "split(datum.label, '\\n')"
"""Vega draws a label that is a list as lines."""
FORMATS = {"score": "~g", "usd": "$,.12~g", "seconds": "~g", "count": ",.12~g"}

_Given = ParamSpec("_Given")


def _picture(make: Callable[_Given, alt.TopLevelMixin]) -> Callable[Concatenate[str, _Given], str]:
    @functools.wraps(make)
    def drawn(description: str, /, *args: _Given.args, **kwargs: _Given.kwargs) -> str:
        with debug_mode(False):  # a test holds every chart against Vega-Lite's schema: half a second of each report
            return svg(make(*args, **kwargs), description)

    return drawn


@_picture
def quality_and_cost(
    rows: Sequence[Row],
    front: Sequence[Row],
    metric: str,
    thresholds: Mapping[str, Threshold],
    x: Axis,
    y: Axis,
    who: Who,
) -> alt.TopLevelMixin:
    better = "lower" if lower_is_better(metric) else "higher"
    horizontal = alt.X("cost_usd:Q", scale=_scale(x), axis=_axis(x, f"cost per query{x.said}"))
    vertical = alt.Y("value:Q", scale=_scale(y), axis=_axis(y, f"{metric} ({better} is better)"))
    whisker = alt.Chart().mark_rule(strokeWidth=1.5).encode(color=_colour(who, rows))
    return alt.layer(
        *_line_at(thresholds.get("cost_per_query"), x, "x"),
        *_line_at(thresholds.get(metric), y, "y"),
        alt.Chart(alt.InlineData(values=front))
        .mark_line(interpolate="step-after", color=SOFT, strokeDash=[2, 3])
        .encode(x=horizontal, y=vertical, order="cost_usd:Q"),
        whisker.encode(x=horizontal, y=alt.Y("bottom:Q", scale=_scale(y)), y2="top:Q"),
        whisker.encode(x=alt.X("left:Q", scale=_scale(x)), x2="right:Q", y=vertical),
        alt.Chart()
        .mark_point(filled=True, size=130, opacity=1)
        .encode(x=horizontal, y=vertical, color=_colour(who, rows), shape=_shape(who, rows)),
        data=alt.InlineData(values=rows),
    ).properties(width=WIDTH, height=280)


@_picture
def by_candidate(rows: Sequence[Row], name: str, threshold: Threshold | None, x: Axis) -> alt.TopLevelMixin:
    colour = alt.Color(
        "status:N", scale=alt.Scale(domain=[*STATUS, "none"], range=[*STATUS.values(), SERIES[0]]), legend=None
    )
    up = _names("label:N")
    horizontal = alt.X("value:Q", scale=_scale(x), axis=_axis(x, f"{name}{x.said}"))
    ends = alt.X("left:Q", scale=_scale(x))
    return alt.layer(
        *_line_at(threshold, x, "x"),
        alt.Chart().mark_rule(strokeWidth=2).encode(y=up, x=ends, x2="right:Q", color=colour),
        alt.Chart().mark_point(filled=True, size=100, opacity=1).encode(y=up, x=horizontal, color=colour),
        alt.Chart().mark_text(align="left", lineBreak="\n").encode(y=up, x=alt.value(WIDTH - 158), text="said:N"),
        data=alt.InlineData(values=rows),
    ).properties(width=WIDTH - 170, height=alt.Step(STEP))


@_picture
def slices(
    rows: Sequence[Row], metric: str, threshold: Threshold | None, x: Axis, who: Who, candidates: int
) -> alt.TopLevelMixin:
    up = _names("label:N")
    offset = alt.YOffset("who:N", sort=None, scale=alt.Scale(paddingOuter=0.6))
    ends = alt.X("left:Q", scale=_scale(x))
    horizontal = alt.X("value:Q", scale=_scale(x), axis=_axis(x, metric))
    return alt.layer(
        *_line_at(threshold, x, "x"),
        alt.Chart()
        .mark_rule(strokeWidth=2)
        .encode(y=up, yOffset=offset, x=ends, x2="right:Q", color=_colour(who, rows)),
        alt.Chart()
        .mark_point(filled=True, size=80, opacity=1)
        .encode(y=up, yOffset=offset, x=horizontal, color=_colour(who, rows), shape=_shape(who, rows)),
        data=alt.InlineData(values=rows),
    ).properties(width=WIDTH - 100, height=alt.Step(max(14, STEP // (candidates + 1)), **{"for": "offset"}))


@_picture
def roc(rows: Sequence[Row], who: Who) -> alt.TopLevelMixin:
    across = alt.X("false_positive_rate:Q", axis=alt.Axis(title="share of the others let through", tickCount=5))
    up = alt.Y("true_positive_rate:Q", axis=alt.Axis(title="share of the label's rows found", tickCount=5))
    return alt.layer(
        _diagonal(),
        alt.Chart()
        .mark_line(strokeWidth=2)
        .encode(x=across, y=up, order="false_positive_rate:Q", color=_colour(who, rows), strokeDash=_dash(who, rows)),
        data=alt.InlineData(values=rows),
    ).properties(width=340, height=340)


@_picture
def calibration(rows: Sequence[Row], x: Axis, who: Who) -> alt.TopLevelMixin:
    title = "share that is right"
    across = alt.X("stated:Q", scale=_scale(x), axis=alt.Axis(title="probability stated", tickCount=5))
    bottom = alt.Y("bottom:Q", scale=_scale(x), title=title)
    up = alt.Y("right:Q", scale=_scale(x), axis=alt.Axis(title=title, tickCount=5))
    size = alt.Size("answers:Q", scale=alt.Scale(range=[20, 200]), legend=None)
    one = alt.layer(
        _diagonal(),
        alt.Chart().mark_rule(strokeWidth=2).encode(x=across, y=bottom, y2="top:Q", color=_colour(who, rows)),
        alt.Chart()
        .mark_point(filled=True, opacity=1)
        .encode(x=across, y=up, color=_colour(who, rows), shape=_shape(who, rows), size=size),
    ).properties(width=230, height=230)
    return one.facet(
        facet=alt.Facet("who:N", sort=_names_of(who, rows), header=alt.Header(labels=False)),
        columns=2,
        data=alt.InlineData(values=rows),
    )


@_picture
def confusion(cells: Sequence[Row], labels: Sequence[str]) -> alt.TopLevelMixin:
    base = alt.Chart(alt.InlineData(values=cells)).encode(
        x=alt.X("answered:N", sort=labels, axis=alt.Axis(labelAngle=-35, labelLimit=150, title="answered")),
        y=alt.Y("expected:N", sort=labels, axis=alt.Axis(labelLimit=200, title="expected")),
    )
    shade = alt.FillOpacity("share:Q", scale=alt.Scale(domain=[0, 1], range=[0, 0.45]), legend=None)
    return alt.layer(
        base.mark_rect(fill=ACCENT, stroke=LINE).encode(fillOpacity=shade), base.mark_text().encode(text="rows:N")
    ).properties(width=alt.Step(46), height=alt.Step(26))


@_picture
def latency(rows: Sequence[Row], thresholds: Sequence[Threshold], x: Axis) -> alt.TopLevelMixin:
    up, both = _names("label:N"), ["p50", "p95"]
    offset = alt.YOffset("percentile:N", scale=alt.Scale(paddingOuter=0.4))
    legend = alt.Legend(title=None, orient="bottom")
    colour = alt.Color("percentile:N", scale=alt.Scale(domain=both, range=list(SERIES[:2])), legend=legend)
    shape = alt.Shape("percentile:N", scale=alt.Scale(domain=both, range=list(SHAPES[:2])), legend=legend)
    ends = alt.X("left:Q", scale=_scale(x))
    horizontal = alt.X("value_s:Q", scale=_scale(x), axis=_axis(x, f"seconds until the answer was there{x.said}"))
    return alt.layer(
        *(part for threshold in thresholds for part in _line_at(threshold, x, "x", f"{threshold.metric[8:]} ")),
        alt.Chart().mark_rule(strokeWidth=2).encode(y=up, yOffset=offset, x=ends, x2="right:Q", color=colour),
        alt.Chart()
        .mark_point(filled=True, size=90, opacity=1)
        .encode(y=up, yOffset=offset, x=horizontal, color=colour, shape=shape),
        data=alt.InlineData(values=rows),
    ).properties(width=WIDTH, height=alt.Step(STEP / 2, **{"for": "offset"}))


@_picture
def failures(rows: Sequence[Row], who: Who) -> alt.TopLevelMixin:
    kind = alt.Y("kind:N", sort=list(FAILURES), title=None)
    axis = alt.Axis(tickMinStep=1, format=",d", title="rows, each a miss in every quality metric")
    one = alt.layer(
        alt.Chart().mark_bar(color=SERIES[0]).encode(y=kind, x=alt.X("rows:Q", axis=axis)),
        alt.Chart().mark_text(align="left", dx=5).encode(y=kind, x="rows:Q", text="share:N"),
    ).properties(width=WIDTH - 60, height=alt.Step(22))
    header = alt.Header(labelAngle=0, labelOrient="top", labelAnchor="start", title=None)
    each = alt.Row("who:N", sort=_names_of(who, rows), header=header)
    drawn: alt.FacetChart = one.facet(row=each, data=alt.InlineData(values=rows)).resolve_scale(y="independent")
    return drawn


@_picture
def cost_per_month(
    rows: Sequence[Row], looks: Mapping[str, int], marks: Sequence[tuple[float, str]], x: Axis, y: Axis
) -> alt.TopLevelMixin:
    """looks: which colour and dashes each line has, by its name; marks: (queries a month, what is there)."""
    names = list(looks)
    colours = [SERIES[i % len(SERIES)] for i in looks.values()]
    dashes = [DASHES[i % len(DASHES)] for i in looks.values()]
    return alt.layer(
        *(part for i, (queries, said) in enumerate(marks) for part in _mark(queries, said, x, 8 + 16 * i)),
        alt.Chart(alt.InlineData(values=rows))
        .mark_line(strokeWidth=2)
        .encode(
            x=alt.X("queries_per_month:Q", scale=_scale(x), axis=_axis(x, f"queries a month{x.said}")),
            y=alt.Y("cost_usd:Q", scale=_scale(y), axis=_axis(y, f"USD a month{y.said}")),
            color=alt.Color("who:N", scale=alt.Scale(domain=names, range=colours), legend=_legend()),
            strokeDash=alt.StrokeDash("who:N", scale=alt.Scale(domain=names, range=dashes), legend=_legend()),
        ),
    ).properties(width=WIDTH, height=240)


@_picture
def loss(rows: Sequence[Row]) -> alt.TopLevelMixin:
    drawn: alt.Chart = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_line(color=ACCENT, strokeWidth=2)
        .encode(
            x=alt.X("step:Q", axis=alt.Axis(title="step", format=",d", tickMinStep=1)),
            y=alt.Y("loss:Q", scale=alt.Scale(zero=False), axis=alt.Axis(title="training loss")),
        )
        .properties(width=300, height=140)
    )
    return drawn


# ---------------------------------------------------------------- who is who


def _colour(who: Who, rows: Sequence[Row]) -> alt.Color:
    return alt.Color("who:N", scale=_one_each(who, SERIES, rows), legend=_legend())


def _shape(who: Who, rows: Sequence[Row]) -> alt.Shape:
    return alt.Shape("who:N", scale=_one_each(who, SHAPES, rows), legend=_legend())


def _dash(who: Who, rows: Sequence[Row]) -> alt.StrokeDash:
    return alt.StrokeDash("who:N", scale=_one_each(who, DASHES, rows), legend=_legend())


def _one_each(who: Who, values: Sequence[Any], rows: Sequence[Row]) -> alt.Scale:
    """Of those that have a row, which the legend lists; the same for a candidate in every picture."""
    looks = {who.in_a_line(name): values[i % len(values)] for i, name in enumerate(who.labels)}
    names = _names_of(who, rows)
    return alt.Scale(domain=names, range=[looks[name] for name in names])


def _names_of(who: Who, rows: Sequence[Row]) -> list[str]:
    """Those that have a row, in the order of the run."""
    drawn = {row["who"] for row in rows}
    return [name for name in map(who.in_a_line, who.labels) if name in drawn]


def _legend() -> alt.Legend:
    return alt.Legend(title=None, orient="bottom", direction="vertical", columns=1)


# ---------------------------------------------------------------- axes and lines


def _scale(axis: Axis) -> alt.Scale:
    domain = [axis.first, axis.last]
    if axis.logarithmic:
        return alt.Scale(type="log", domain=domain, nice=False)
    return alt.Scale(domain=domain, nice=False)


def _axis(axis: Axis, title: str) -> alt.Axis:
    ticks = {"values": axis.log_ticks} if axis.logarithmic else {"tickCount": 6}
    return alt.Axis(title=title, format=FORMATS[axis.unit], **ticks)


def _names(field: str) -> alt.Y:
    """Names in lines of two, in the order of the rows."""
    axis = alt.Axis(title=None, labelExpr=TWO_LINES, ticks=False, domain=False, labelPadding=8)
    return alt.Y(field, sort=None, axis=axis, title=None)


def _line_at(threshold: Threshold | None, axis: Axis, side: Literal["x", "y"], before: str = "") -> list[alt.Chart]:
    """The line of a threshold, and what it asks for."""
    if threshold is None:
        return []
    base = alt.Chart(
        alt.InlineData(values=[{"bound": threshold.bound, "said": f"{before}{numbers.requirement(threshold)}"}])
    )
    rule = base.mark_rule(color=ACCENT, strokeWidth=1.5, strokeDash=[5, 3])
    if side == "x":
        at_x = alt.X("bound:Q", scale=_scale(axis))
        said = base.mark_text(dy=-8, color=ACCENT, fontWeight="bold")
        return [rule.encode(x=at_x), said.encode(x=at_x, y=alt.value(0), text="said:N")]
    at_y = alt.Y("bound:Q", scale=_scale(axis))
    said = base.mark_text(align="left", dx=6, color=ACCENT, fontWeight="bold")
    return [rule.encode(y=at_y), said.encode(y=at_y, x=alt.value(WIDTH), text="said:N")]


def _mark(queries: float, said: str, x: Axis, height: int) -> list[alt.Chart]:
    """A line at a volume, and what it is; `height`: of the words, in px from the top."""
    base = alt.Chart(alt.InlineData(values=[{"queries": queries, "said": said}]))
    at = alt.X("queries:Q", scale=_scale(x))
    words = base.mark_text(align="left", dx=5, color=ACCENT).encode(x=at, y=alt.value(height), text="said:N")
    return [base.mark_rule(color=ACCENT, strokeDash=[5, 3]).encode(x=at), words]


def _diagonal() -> alt.Chart:
    ends = alt.InlineData(values=[{"x": 0, "y": 0}, {"x": 1, "y": 1}])
    drawn: alt.Chart = alt.Chart(ends).mark_line(color=SOFT, strokeDash=[2, 3], strokeWidth=1).encode(x="x:Q", y="y:Q")
    return drawn
