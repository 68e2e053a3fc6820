"""summary.json -> charts.

A function takes what summary.json holds and gives a Chart, or None where the run does not have what it would show: no
empty box. The rows of a chart are its figures; the picture is drawn from those very rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from evalft import numbers
from evalft.config import Threshold
from evalft.metrics.names import lower_is_better
from evalft.reporting import view
from evalft.reporting.candidates import FAILURES, MAX_CONFUSION, ends_of, estimate_of
from evalft.reporting.chart import (
    LOG_FROM,
    STEP,
    WIDTH,
    Axis,
    Chart,
    Column,
    Row,
    Who,
    all_of,
    bounds_of,
    cut,
    distinct,
    drawable,
    interval_columns,
    legend,
    line,
    line_at,
    name_of,
    names_axis,
)
from evalft.reporting.drawing import ACCENT, DASHES, LINE, SERIES, SHAPES, SOFT, STATUS, svg
from evalft.reporting.slices import Sliced, by_slice
from evalft.store import RunFolder

if TYPE_CHECKING:
    import altair as alt

MAX_POINTS = 300
"""Of one loss curve; beyond, every second, third ... of the logged steps is drawn, said."""


@dataclass(frozen=True, slots=True)
class Charts:
    """All charts of a run by where they stand; what the run does not have is not there."""

    quality_and_cost: tuple[Chart, ...] = ()
    metrics: tuple[Chart, ...] = ()
    slices: tuple[Chart, ...] = ()
    probabilities: tuple[Chart, ...] = ()
    confusion: Mapping[str, Chart] = field(default_factory=dict)
    """By candidate."""
    latency: tuple[Chart, ...] = ()
    failures: tuple[Chart, ...] = ()
    money: tuple[Chart, ...] = ()
    training: tuple[Chart, ...] = ()

    @property
    def all(self) -> tuple[Chart, ...]:
        return (
            *self.quality_and_cost,
            *self.metrics,
            *self.slices,
            *self.probabilities,
            *self.confusion.values(),
            *self.latency,
            *self.failures,
            *self.money,
            *self.training,
        )


def read(run: Path) -> Charts:
    """Raises UserError where the folder has no readable summary."""
    return of(RunFolder(run).read_summary())


def of(summary: Row) -> Charts:
    from altair.utils.schemapi import debug_mode

    with debug_mode(
        False
    ):  # a test holds every chart against Vega-Lite's schema: half a second for each report otherwise
        return _of(summary)


def _of(summary: Row) -> Charts:
    entries: list[Row] = summary["candidates"]
    thresholds = view.thresholds_of(summary)
    who = Who.of(summary)
    overview = [*view.columns_of(summary, thresholds), *(["cost_per_query"] if "cost_per_query" in thresholds else [])]
    primary = next(iter(summary["task"]["metrics"]), "")
    return Charts(
        quality_and_cost=_drawn(quality_and_cost(entries, primary, thresholds, who)),
        metrics=_drawn(*(by_candidate(entries, metric, thresholds.get(metric), who) for metric in overview)),
        slices=_drawn(slices(by_slice(summary), thresholds, who)),
        probabilities=_drawn(roc(entries, who), calibration(entries, who)),
        confusion={entry["name"]: chart for entry in entries if (chart := confusion(entry, who))},
        latency=_drawn(latency(entries, thresholds, who)),
        failures=_drawn(failures(entries, who)),
        money=_drawn(cost_per_month(entries, summary.get("queries_per_month"), summary.get("break_even"), who)),
        training=_drawn(*(loss(str(stage["name"]), stage.get("loss") or ()) for stage in summary.get("stages") or ())),
    )


def _drawn(*charts: Chart | None) -> tuple[Chart, ...]:
    return tuple(chart for chart in charts if chart)


# ---------------------------------------------------------------- quality and cost


def quality_and_cost(
    entries: Sequence[Row], metric: str, thresholds: Mapping[str, Threshold], who: Who
) -> Chart | None:
    """The primary metric against the cost per query; None unless some candidate has both."""
    import altair as alt

    quality_bound, cost_bound = thresholds.get(metric), thresholds.get("cost_per_query")
    rows = []
    for entry in entries:
        value, low, high = ends_of(estimate_of(entry, metric))
        cost, least, most = ends_of(estimate_of(entry, "cost_per_query"))
        rows.append(
            {"candidate": entry["name"], "value": value, "low": low, "high": high}
            | {"cost_usd": cost, "cost_low_usd": least, "cost_high_usd": most}
        )
    known = [row for row in rows if row["value"] is not None and row["cost_usd"] is not None]
    if not known:
        return None
    sign = -1.0 if lower_is_better(metric) else 1.0
    front = [row for row in known if not any(_dominates(other, row, sign) for other in known)]
    x = Axis.of([*all_of(known, "cost_usd", "cost_low_usd", "cost_high_usd"), *bounds_of(cost_bound)], "usd")
    y = Axis.of([*all_of(known, "value", "low", "high"), *bounds_of(quality_bound)], "score")
    data = [
        drawable(row)
        | {"who": who.in_a_line(row["candidate"])}
        | {"left": x.inside(row["cost_low_usd"], 0), "right": x.inside(row["cost_high_usd"], 1)}
        | {"bottom": y.inside(row["low"], 0), "top": y.inside(row["high"], 1)}
        for row in known
    ]
    across, up = f"cost per query{x.said}", f"{metric} ({'lower' if sign < 0 else 'higher'} is better)"
    horizontal = alt.X("cost_usd:Q", scale=x.scale, axis=x.axis(across))
    vertical = alt.Y("value:Q", scale=y.scale, axis=y.axis(up))
    among = who.only(row["candidate"] for row in known)
    whisker = alt.Chart().mark_rule(strokeWidth=1.5).encode(color=among.colour())
    drawn = alt.layer(
        *line_at(cost_bound, x, "x"),
        *line_at(quality_bound, y, "y"),
        alt.Chart(
            alt.InlineData(values=sorted(map(drawable, front), key=lambda row: (row["cost_usd"], sign * row["value"])))
        )
        .mark_line(interpolate="step-after", color=SOFT, strokeDash=[2, 3])
        .encode(x=horizontal, y=vertical, order="cost_usd:Q"),
        whisker.encode(x=horizontal, y=alt.Y("bottom:Q", scale=y.scale), y2="top:Q"),
        whisker.encode(x=alt.X("left:Q", scale=x.scale), x2="right:Q", y=vertical),
        alt.Chart()
        .mark_point(filled=True, size=130, opacity=1)
        .encode(x=horizontal, y=vertical, color=among.colour(), shape=among.shape()),
        data=alt.InlineData(values=data),
    ).properties(width=WIDTH, height=280)
    names = {row["candidate"] for row in front}
    description = (
        f"The {metric} of each candidate against what it costs per query. No other candidate is at once better and "
        f"cheaper than: {'; '.join(who.in_a_line(name) for name in who.labels if name in names)} (dotted line)."
    )
    unknown = [
        f"{who.in_a_line(row['candidate'])} (its {metric if row['value'] is None else 'cost'} is not known)"
        for row in rows
        if row not in known
    ]
    return Chart(
        name="quality_and_cost",
        title=f"{metric} against cost per query",
        description=description,
        columns=(
            Column("candidate"),
            *interval_columns("value", "low", "high", "score", quality_bound),
            *interval_columns("cost_usd", "cost_low_usd", "cost_high_usd", "usd", cost_bound),
            Column("frontier"),
        ),
        rows=tuple(row | {"frontier": "yes" if row["candidate"] in names else "no"} for row in rows),
        svg=svg(drawn, description),
        note=f"Not drawn: {'; '.join(unknown)}." if unknown else "",
    )


def _dominates(one: Row, other: Row, sign: float) -> bool:
    """Whether `one` is as good and as cheap, and better in one of both."""
    quality, cost = sign * (one["value"] - other["value"]), other["cost_usd"] - one["cost_usd"]
    return bool(quality >= 0 and cost >= 0 and (quality > 0 or cost > 0))


def by_candidate(entries: Sequence[Row], metric: str, threshold: Threshold | None, who: Who) -> Chart | None:
    """One metric: a line for each candidate with its value, its interval, and where it has to be."""
    import altair as alt

    unit, name = numbers.unit_of(metric), name_of(metric)
    rows = []
    for entry in entries:
        value, low, high = ends_of(estimate_of(entry, metric))
        status = ((entry["thresholds"] or {}).get(metric) or {}).get("status") or ""
        rows.append({"candidate": entry["name"], "value": value, "low": low, "high": high, "status": status})
    known = [row for row in rows if row["value"] is not None]
    if not known:
        return None
    x = Axis.of([*all_of(known, "value", "low", "high"), *bounds_of(threshold)], unit)
    data = [
        drawable(row)
        | {"label": who.labels[row["candidate"]]}
        | {"left": x.inside(row["low"], 0), "right": x.inside(row["high"], 1)}
        | {"said": _said(row, unit, threshold), "status": row["status"] or "none"}
        for row in known
    ]
    colour = alt.Color(
        "status:N", scale=alt.Scale(domain=[*STATUS, "none"], range=[*STATUS.values(), SERIES[0]]), legend=None
    )
    up = alt.Y("label:N", sort=None, axis=names_axis(), title=None)
    horizontal = alt.X("value:Q", scale=x.scale, axis=x.axis(f"{name}{x.said}"))
    drawn = alt.layer(
        *line_at(threshold, x, "x"),
        alt.Chart().mark_rule(strokeWidth=2).encode(y=up, x=alt.X("left:Q", scale=x.scale), x2="right:Q", color=colour),
        alt.Chart().mark_point(filled=True, size=100, opacity=1).encode(y=up, x=horizontal, color=colour),
        alt.Chart().mark_text(align="left", lineBreak="\n").encode(y=up, x=alt.value(WIDTH - 158), text="said:N"),
        data=alt.InlineData(values=data),
    ).properties(width=WIDTH - 170, height=alt.Step(STEP))
    require = f", required {numbers.requirement(threshold)}" if threshold else ""
    description = f"Value and interval of each candidate{'; dashed: what is required' if threshold else ''}."
    values = "; ".join(f"{who.in_a_line(row['candidate'])} {_said(row, unit, threshold)}" for row in known)
    missing = [who.in_a_line(row["candidate"]) for row in rows if row not in known]
    return Chart(
        name=metric,
        title=f"{name}{require}",
        description=description,
        columns=(
            Column("candidate"),
            *interval_columns("value", "low", "high", unit, threshold),
            *((Column("status"),) if threshold else ()),
        ),
        rows=tuple(rows),
        svg=svg(drawn, f"{name}{require}: {values}".replace("\n", ", ")),
        note=f"Not measured, and not drawn: {'; '.join(missing)}." if missing else "",
    )


def _said(row: Row, unit: numbers.Unit, threshold: Threshold | None) -> str:
    value = numbers.number(row["value"], unit, threshold)
    ends = numbers.interval(row["value"], row["low"], row["high"], unit, threshold)
    status = f"{view.SYMBOLS[row['status']]} {row['status']} " if row.get("status") else ""
    return f"{status}{value}\n{ends}"


# ---------------------------------------------------------------- slices


def slices(found: Sliced | None, thresholds: Mapping[str, Threshold], who: Who) -> Chart | None:
    import altair as alt

    if found is None:
        return None
    metric, rows = found.metric, found.rows
    names = {row["candidate"] for row in rows}
    among = who.only(names)
    labels = distinct({row["slice"]: f"{cut(line(row['slice']))}\n{row['rows']:,} rows" for row in rows})
    threshold = thresholds.get(metric)
    x = Axis.of([*all_of(rows, "value", "low", "high"), *bounds_of(threshold)], "score")
    data = [
        {key: row[key] for key in ("value", "low", "high")}
        | {"label": labels[row["slice"]], "who": who.in_a_line(row["candidate"])}
        | {"left": x.inside(row["low"], 0), "right": x.inside(row["high"], 1)}
        for row in rows
    ]
    up = alt.Y("label:N", sort=None, axis=names_axis(), title=None)
    offset = alt.YOffset("who:N", sort=None, scale=alt.Scale(paddingOuter=0.6))
    drawn = alt.layer(
        *line_at(threshold, x, "x"),
        alt.Chart()
        .mark_rule(strokeWidth=2)
        .encode(y=up, yOffset=offset, x=alt.X("left:Q", scale=x.scale), x2="right:Q", color=among.colour()),
        alt.Chart()
        .mark_point(filled=True, size=80, opacity=1)
        .encode(
            y=up,
            yOffset=offset,
            x=alt.X("value:Q", scale=x.scale, axis=x.axis(metric)),
            color=among.colour(),
            shape=among.shape(),
        ),
        data=alt.InlineData(values=data),
    ).properties(width=WIDTH - 100, height=alt.Step(max(14, STEP // (len(names) + 1)), **{"for": "offset"}))
    description = (
        f"{metric} by slice, with intervals; first those where {who.in_a_line(found.leading)} does worst. Of many slices "
        "some look bad by chance."
    )
    return Chart(
        name="slices",
        title=f"{metric} by slice",
        description=description,
        columns=(
            Column("slice"),
            Column("candidate"),
            Column("rows", "count"),
            *interval_columns("value", "low", "high", "score", threshold),
        ),
        rows=rows,
        svg=svg(drawn, description),
        note=found.note,
    )


# ---------------------------------------------------------------- probabilities


def roc(entries: Sequence[Row], who: Who) -> Chart | None:
    import altair as alt

    found = {entry["name"]: entry for entry in entries if entry.get("roc")}
    if not found:
        return None
    rows = [
        {"candidate": name, "false_positive_rate": fpr, "true_positive_rate": tpr}
        for name, entry in found.items()
        for fpr, tpr in zip(entry["roc"]["fpr"], entry["roc"]["tpr"], strict=True)
    ]
    data = [drawable(row) | {"who": who.in_a_line(row["candidate"])} for row in rows]
    among = who.only(found)
    across = alt.X("false_positive_rate:Q", axis=alt.Axis(title="share of the others let through", tickCount=5))
    up = alt.Y("true_positive_rate:Q", axis=alt.Axis(title="share of the label's rows found", tickCount=5))
    drawn = alt.layer(
        _diagonal(),
        alt.Chart()
        .mark_line(strokeWidth=2)
        .encode(x=across, y=up, order="false_positive_rate:Q", color=among.colour(), strokeDash=among.dash()),
        data=alt.InlineData(values=data),
    ).properties(width=340, height=340)
    of = line(next(iter(found.values()))["roc"]["of"])
    by = "; ".join(f"{who.in_a_line(name)} by {_method(entry)}" for name, entry in found.items())
    description = f"Probabilities: {by}. The dotted line is chance."
    without = [who.in_a_line(entry["name"]) for entry in entries if entry["name"] not in found]
    return Chart(
        name="roc",
        title=f"ROC curve, {of}",
        description=description,
        columns=(Column("candidate"), Column("false_positive_rate", "score"), Column("true_positive_rate", "score")),
        rows=tuple(rows),
        svg=svg(drawn, f"ROC curve, {of}. {description}"),
        note=f"No curve of bare answers: {'; '.join(without)}." if without else "",
    )


def calibration(entries: Sequence[Row], who: Who) -> Chart | None:
    """How often answers of a stated probability are right; on the diagonal as often as stated."""
    import altair as alt

    rows = []
    for entry in entries:
        for one in entry.get("calibration") or ():
            value, low, high = ends_of(one["right"])
            rows.append(
                {"candidate": entry["name"], "above": one["above"], "up_to": one["up_to"], "answers": one["right"]["n"]}
                | {"stated": one["stated"], "right": value, "low": low, "high": high}
            )
    if not rows:
        return None
    x = Axis(0.0, 1.0, False, "score")
    data = [
        drawable(row)
        | {"who": who.in_a_line(row["candidate"])}
        | {"bottom": x.inside(row["low"], 0), "top": x.inside(row["high"], 1)}
        for row in rows
    ]
    among = who.only(row["candidate"] for row in rows)
    across = alt.X("stated:Q", scale=x.scale, axis=alt.Axis(title="probability stated", tickCount=5))
    title = "share that is right"
    one = alt.layer(
        _diagonal(),
        alt.Chart()
        .mark_rule(strokeWidth=2)
        .encode(x=across, y=alt.Y("bottom:Q", scale=x.scale, title=title), y2="top:Q", color=among.colour()),
        alt.Chart()
        .mark_point(filled=True, opacity=1)
        .encode(
            x=across,
            y=alt.Y("right:Q", scale=x.scale, axis=alt.Axis(title=title, tickCount=5)),
            color=among.colour(),
            shape=among.shape(),
            size=alt.Size("answers:Q", scale=alt.Scale(range=[20, 200]), legend=None),
        ),
    ).properties(width=230, height=230)
    drawn = one.facet(
        facet=alt.Facet("who:N", sort=[who.in_a_line(name) for name in who.labels], header=alt.Header(labels=False)),
        columns=2,
        data=alt.InlineData(values=data),
    )
    description = (
        "How often answers of a stated probability are right, with intervals; the larger a point, the more answers. On the "
        "dotted line they are right as often as stated, below it less often. A failure counts as certain and wrong."
    )
    return Chart(
        name="calibration",
        title="Calibration",
        description=description,
        columns=(
            Column("candidate"),
            Column("above", "score"),
            Column("up_to", "score"),
            Column("answers", "count"),
            Column("stated", "score"),
            *interval_columns("right", "low", "high", "score", None),
        ),
        rows=tuple(rows),
        svg=svg(drawn, description),
    )


def _diagonal() -> alt.Chart:
    import altair as alt

    ends = alt.InlineData(values=[{"x": 0, "y": 0}, {"x": 1, "y": 1}])
    drawn: alt.Chart = alt.Chart(ends).mark_line(color=SOFT, strokeDash=[2, 3], strokeWidth=1).encode(x="x:Q", y="y:Q")
    return drawn


def _method(entry: Row) -> str:
    return str(entry.get("probs_method") or "probabilities").replace("_", " ")


# ---------------------------------------------------------------- labels


def confusion(entry: Row, who: Who) -> Chart | None:
    """What was answered by what was expected; None of more than MAX_CONFUSION labels."""
    import altair as alt

    found = entry.get("confusion")
    if not found or len(found["labels"]) > MAX_CONFUSION:
        return None
    shown = distinct({label: cut(line(str(label))) for label in found["columns"]})
    rows, cells = [], []
    for expected, counts in zip(found["labels"], found["counts"], strict=True):
        for answered, count in zip(found["columns"], counts, strict=True):
            share = count / max(sum(counts), 1)
            cells.append(
                {"expected": shown[expected], "answered": shown[answered], "share": share, "rows": str(count or "")}
            )
            if count:
                rows.append({"expected": expected, "answered": answered, "rows": count, "of": sum(counts)})
    order = list(shown.values())
    base = alt.Chart(alt.InlineData(values=cells)).encode(
        x=alt.X("answered:N", sort=order, axis=alt.Axis(labelAngle=-35, labelLimit=150, title="answered")),
        y=alt.Y("expected:N", sort=order, axis=alt.Axis(labelLimit=200, title="expected")),
    )
    shade = alt.FillOpacity("share:Q", scale=alt.Scale(domain=[0, 1], range=[0, 0.45]), legend=None)
    drawn = alt.layer(
        base.mark_rect(fill=ACCENT, stroke=LINE).encode(fillOpacity=shade), base.mark_text().encode(text="rows:N")
    ).properties(width=alt.Step(46), height=alt.Step(26))
    description = f"Rows of {who.in_a_line(entry['name'])} by the expected label and by what was answered; shade: share of the row."
    return Chart(
        name=f"confusion_{entry['name']}",
        title=f"Confusion matrix of {who.in_a_line(entry['name'])}",
        description=description,
        columns=(Column("expected"), Column("answered"), Column("rows", "count"), Column("of", "count")),
        rows=tuple(rows),
        svg=svg(drawn, description),
    )


# ---------------------------------------------------------------- latency and failures


def latency(entries: Sequence[Row], thresholds: Mapping[str, Threshold], who: Who) -> Chart | None:
    """The median and the 95th percentile of the seconds that an answer takes."""
    import altair as alt

    asked = {metric[8:]: found for metric, found in thresholds.items() if metric.startswith("latency_")}
    rows = []
    for entry in entries:
        for percentile in ("p50", "p95") if entry["latency_s"] else ():
            value, low, high = ends_of(estimate_of(entry, f"latency_{percentile}"))
            rows.append(
                {"candidate": entry["name"], "percentile": percentile}
                | {"value_s": value, "low_s": low, "high_s": high}
            )
    if not rows:
        return None
    x = Axis.of([*all_of(rows, "value_s", "low_s", "high_s"), *bounds_of(*asked.values())], "seconds")
    data = [
        drawable(row)
        | {"label": who.labels[row["candidate"]]}
        | {"left": x.inside(row["low_s"], 0), "right": x.inside(row["high_s"], 1)}
        for row in rows
    ]
    line = alt.Y("label:N", sort=None, axis=names_axis(), title=None)
    offset = alt.YOffset("percentile:N", scale=alt.Scale(paddingOuter=0.4))
    legend = alt.Legend(title=None, orient="bottom")
    both = ["p50", "p95"]
    colour = alt.Color("percentile:N", scale=alt.Scale(domain=both, range=list(SERIES[:2])), legend=legend)
    shape = alt.Shape("percentile:N", scale=alt.Scale(domain=both, range=list(SHAPES[:2])), legend=legend)
    horizontal = alt.X("value_s:Q", scale=x.scale, axis=x.axis(f"seconds until the answer was there{x.said}"))
    drawn = alt.layer(
        *(part for threshold in asked.values() for part in line_at(threshold, x, "x", f"{threshold.metric[8:]} ")),
        alt.Chart()
        .mark_rule(strokeWidth=2)
        .encode(y=line, yOffset=offset, x=alt.X("left:Q", scale=x.scale), x2="right:Q", color=colour),
        alt.Chart()
        .mark_point(filled=True, size=90, opacity=1)
        .encode(y=line, yOffset=offset, x=horizontal, color=colour, shape=shape),
        data=alt.InlineData(values=data),
    ).properties(width=WIDTH, height=alt.Step(STEP / 2, **{"for": "offset"}))
    without = [who.in_a_line(entry["name"]) for entry in entries if not entry["latency_s"]]
    description = "Seconds until an answer was there, of each candidate: half of the answers came within p50, 95 of 100 within p95."
    return Chart(
        name="latency",
        title="Latency, p50 and p95",
        description=description,
        columns=(
            Column("candidate"),
            Column("percentile"),
            *interval_columns("value_s", "low_s", "high_s", "seconds", None),
        ),
        rows=tuple(rows),
        svg=svg(drawn, description),
        note=f"Not measured: {'; '.join(without)}." if without else "",
    )


def failures(entries: Sequence[Row], who: Who) -> Chart | None:
    """Rows by kind of failure; None where none failed."""
    import altair as alt

    rows = [
        {"candidate": entry["name"], "kind": kind, "rows": count, "of": entry["coverage"]["total"]}
        for entry in entries
        for kind, count in sorted(entry["coverage"]["failures"].items(), key=lambda item: (-item[1], item[0]))
    ]
    if not rows:
        return None
    data = [
        drawable(row)
        | {
            "who": who.in_a_line(row["candidate"]),
            "share": f"{row['rows']:,} ({numbers.percent(row['rows'], row['of'])})",
        }
        for row in rows
    ]
    kind = alt.Y("kind:N", sort=[name for name in FAILURES], title=None)
    axis = alt.Axis(tickMinStep=1, format=",d", title="rows, each a miss in every quality metric")
    drawn = alt.layer(
        alt.Chart().mark_bar(color=SERIES[0]).encode(y=kind, x=alt.X("rows:Q", axis=axis)),
        alt.Chart().mark_text(align="left", dx=5).encode(y=kind, x="rows:Q", text="share:N"),
    ).properties(width=WIDTH - 60, height=alt.Step(22))
    faceted = drawn.facet(
        row=alt.Row(
            "who:N",
            sort=[who.in_a_line(name) for name in who.labels],
            header=alt.Header(labelAngle=0, labelOrient="top", labelAnchor="start", title=None),
        ),
        data=alt.InlineData(values=data),
    ).resolve_scale(y="independent")
    clean = [who.in_a_line(entry["name"]) for entry in entries if not entry["coverage"]["failures"]]
    description = "Rows without a usable answer, by candidate and kind."
    return Chart(
        name="failures",
        title="Failures by kind",
        description=description,
        columns=(Column("candidate"), Column("kind"), Column("rows", "count"), Column("of", "count")),
        rows=tuple(rows),
        svg=svg(faceted, description),
        note=f"No failure: {'; '.join(clean)}." if clean else "",
    )


# ---------------------------------------------------------------- money


def cost_per_month(
    entries: Sequence[Row], queries_per_month: float | None, break_even: Row | None, who: Who
) -> Chart | None:
    """USD a month against queries a month; with the volume from which on training pays back within the horizon, where
    that is known. None where neither a volume nor such a point says how far to draw."""
    import altair as alt

    pays = break_even if break_even and break_even.get("queries") and break_even.get("horizon_months") else None
    least = pays["queries"] / pays["horizon_months"] if pays else None
    volumes = [volume for volume in (queries_per_month, least) if volume]
    costs = {entry["name"]: entry["cost_per_query_usd"]["value"] for entry in entries}
    if not volumes or all(cost is None for cost in costs.values()):
        return None
    logarithmic = max(volumes) / min(volumes) > LOG_FROM
    first, last = (min(volumes) / 10 if logarithmic else 0.0), 2 * max(volumes)
    steps = sorted({first, *volumes, last, *(_between(first, last) if logarithmic else ())})
    rows = [
        {"candidate": name, "queries_per_month": queries, "cost_usd": cost * queries}
        for name, cost in costs.items()
        if cost is not None
        for queries in steps
    ]
    data = [drawable(row) | {"who": who.in_a_line(row["candidate"])} for row in rows]
    looks = {who.in_a_line(name): i for i, name in enumerate(costs) if costs[name] is not None}
    marks = [(queries_per_month, f"stated volume: {queries_per_month:,.15g}")] if queries_per_month else []
    if pays and least:
        tuned = f"after training (its cost spread over {pays['horizon_months']:g} months)"
        looks[tuned] = len(costs)
        once = pays["one_off_usd"] / pays["horizon_months"]
        more = [
            {"candidate": tuned, "queries_per_month": q, "cost_usd": once + pays["cost_per_query_after_usd"] * q}
            for q in steps
        ]
        rows, data = rows + more, data + [drawable(row) | {"who": tuned} for row in more]
        marks.append((least, f"break-even: {least:,.0f} a month"))
    x = Axis(first, last, logarithmic, "count")
    y = Axis.of([row["cost_usd"] for row in rows], "usd")
    horizontal = alt.X("queries_per_month:Q", scale=x.scale, axis=x.axis(f"queries a month{x.said}"))
    vertical = alt.Y("cost_usd:Q", scale=y.scale, axis=y.axis(f"USD a month{y.said}"))
    names = list(looks)
    colours = [SERIES[i % len(SERIES)] for i in looks.values()]
    dashes = [DASHES[i % len(DASHES)] for i in looks.values()]
    drawn = alt.layer(
        *(part for i, (queries, said) in enumerate(marks) for part in _mark(queries, said, x, 8 + 16 * i)),
        alt.Chart(alt.InlineData(values=data))
        .mark_line(strokeWidth=2)
        .encode(
            x=horizontal,
            y=vertical,
            color=alt.Color("who:N", scale=alt.Scale(domain=names, range=colours), legend=legend()),
            strokeDash=alt.StrokeDash("who:N", scale=alt.Scale(domain=names, range=dashes), legend=legend()),
        ),
    ).properties(width=WIDTH, height=240)
    description = f"What each candidate costs a month by the queries a month; {'; '.join(said for _, said in marks)}."
    unknown = [who.in_a_line(name) for name, cost in costs.items() if cost is None]
    return Chart(
        name="cost_per_month",
        title="Cost per month",
        description=description,
        columns=(Column("candidate"), Column("queries_per_month", "count"), Column("cost_usd", "usd")),
        rows=tuple(rows),
        svg=svg(drawn, description),
        note=f"Not drawn, since the cost per query is not known: {'; '.join(unknown)}." if unknown else "",
    )


def _mark(queries: float, said: str, x: Axis, height: int) -> list[alt.Chart]:
    """A line at a volume, and what it is; `height`: of the words, in px from the top."""
    import altair as alt

    base = alt.Chart(alt.InlineData(values=[{"queries": queries, "said": said}]))
    at = alt.X("queries:Q", scale=x.scale)
    words = base.mark_text(align="left", dx=5, color=ACCENT).encode(x=at, y=alt.value(height), text="said:N")
    return [base.mark_rule(color=ACCENT, strokeDash=[5, 3]).encode(x=at), words]


def _between(first: float, last: float) -> list[float]:
    """Points of a line that is curved on logarithmic axes."""
    return [first * (last / first) ** (i / 24) for i in range(1, 24)]


# ---------------------------------------------------------------- training


def loss(stage: str, logged: Sequence[Sequence[float | None]]) -> Chart | None:
    """The training loss of a stage. logged: (step, loss) in the order of training; None where fewer than two steps have a
    finite loss."""
    import altair as alt

    found = [(step, value) for step, value in logged if step is not None and value is not None and math.isfinite(value)]
    if len(found) < 2:
        return None
    every = math.ceil(len(found) / MAX_POINTS)
    points = found[:-1:every] + found[-1:]
    lowest_step, lowest = min(found, key=lambda point: point[1])
    thinned = f" Drawn: {len(points):,} of the {len(found):,} logged steps." if every > 1 else ""
    description = (
        f"{numbers.number(found[0][1], 'score')} at step {numbers.count(found[0][0])}, "
        f"{numbers.number(found[-1][1], 'score')} at step {numbers.count(found[-1][0])}; "
        f"lowest {numbers.number(lowest, 'score')} at step {numbers.count(lowest_step)}.{thinned}"
    )
    rows = tuple({"step": step, "loss": value} for step, value in points)
    drawn = (
        alt.Chart(alt.InlineData(values=list(rows)))
        .mark_line(color=ACCENT, strokeWidth=2)
        .encode(
            x=alt.X("step:Q", axis=alt.Axis(title="step", format=",d", tickMinStep=1)),
            y=alt.Y("loss:Q", scale=alt.Scale(zero=False), axis=alt.Axis(title="training loss")),
        )
        .properties(width=300, height=140)
    )
    return Chart(
        name=f"loss_{stage}",
        title=f"Training loss of {stage}",
        description=description,
        columns=(Column("step", "count"), Column("loss", "score")),
        rows=rows,
        svg=svg(drawn, f"Training loss of {stage}: {description}"),
    )
