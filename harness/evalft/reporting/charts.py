"""summary.json -> charts.

A function takes what summary.json holds and gives a Chart, or None where the run does not have what it would show: no
empty box. The rows of a chart are its figures; the picture is drawn from those very rows. Where there is nothing to compare
(one candidate, and no threshold) it has none, and stands as a CSV alone: drawing a first picture takes two seconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evalft import numbers
from evalft.config import Threshold
from evalft.metrics.names import lower_is_better
from evalft.reporting import view
from evalft.reporting.candidates import MAX_CONFUSION, ends_of, estimate_of
from evalft.reporting.chart import (
    LOG_FROM,
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
    line,
    name_of,
)
from evalft.reporting.slices import Sliced, by_slice
from evalft.store import RunFolder

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
    steps = sorted(map(drawable, front), key=lambda row: (row["cost_usd"], sign * row["value"]))
    names = {row["candidate"] for row in front}
    description = f"The {metric} of each candidate against what it costs per query."
    if len(known) > 1:
        best = "; ".join(who.in_a_line(name) for name in who.labels if name in names)
        description += f" No other candidate is at once better and cheaper than: {best} (dotted line)."
    picture = ""
    if len(known) > 1 or quality_bound or cost_bound:
        from evalft.reporting import pictures

        picture = pictures.quality_and_cost(description, data, steps, metric, thresholds, x, y, who)
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
        svg=picture,
        note=f"Not drawn: {'; '.join(unknown)}." if unknown else "",
    )


def _dominates(one: Row, other: Row, sign: float) -> bool:
    """Whether `one` is as good and as cheap, and better in one of both."""
    quality, cost = sign * (one["value"] - other["value"]), other["cost_usd"] - one["cost_usd"]
    return bool(quality >= 0 and cost >= 0 and (quality > 0 or cost > 0))


def by_candidate(entries: Sequence[Row], metric: str, threshold: Threshold | None, who: Who) -> Chart | None:
    """One metric: a line for each candidate with its value, its interval, and where it has to be."""
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
    require = f", required {numbers.requirement(threshold)}" if threshold else ""
    description = f"Value and interval of each candidate{'; dashed: what is required' if threshold else ''}."
    values = "; ".join(f"{who.in_a_line(row['candidate'])} {_said(row, unit, threshold)}" for row in known)
    picture = ""
    if len(known) > 1 or threshold:
        from evalft.reporting import pictures

        picture = pictures.by_candidate(f"{name}{require}: {values}".replace("\n", ", "), data, name, threshold, x)
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
        svg=picture,
        note=f"Not measured, and not drawn: {'; '.join(missing)}." if missing else "",
    )


def _said(row: Row, unit: numbers.Unit, threshold: Threshold | None) -> str:
    value = numbers.number(row["value"], unit, threshold)
    ends = numbers.interval(row["value"], row["low"], row["high"], unit, threshold)
    status = f"{view.SYMBOLS[row['status']]} {row['status']} " if row.get("status") else ""
    return f"{status}{value}\n{ends}"


# ---------------------------------------------------------------- slices


def slices(found: Sliced | None, thresholds: Mapping[str, Threshold], who: Who) -> Chart | None:
    if found is None:
        return None
    from evalft.reporting import pictures

    metric, rows = found.metric, found.rows
    candidates = len({row["candidate"] for row in rows})
    labels = distinct(
        {row["slice"]: f"{cut(line(row['slice']))}\n{numbers.counted(row['rows'], 'row')}" for row in rows}
    )
    threshold = thresholds.get(metric)
    x = Axis.of([*all_of(rows, "value", "low", "high"), *bounds_of(threshold)], "score")
    data = [
        {key: row[key] for key in ("value", "low", "high")}
        | {"label": labels[row["slice"]], "who": who.in_a_line(row["candidate"])}
        | {"left": x.inside(row["low"], 0), "right": x.inside(row["high"], 1)}
        for row in rows
    ]
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
        svg=pictures.slices(description, data, metric, threshold, x, who, candidates),
        note=found.note,
    )


# ---------------------------------------------------------------- probabilities


def roc(entries: Sequence[Row], who: Who) -> Chart | None:
    found = {entry["name"]: entry for entry in entries if entry.get("roc")}
    if not found:
        return None
    from evalft.reporting import pictures

    rows = [
        {"candidate": name, "false_positive_rate": fpr, "true_positive_rate": tpr}
        for name, entry in found.items()
        for fpr, tpr in zip(entry["roc"]["fpr"], entry["roc"]["tpr"], strict=True)
    ]
    data = [drawable(row) | {"who": who.in_a_line(row["candidate"])} for row in rows]
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
        svg=pictures.roc(f"ROC curve, {of}. {description}", data, who),
        note=f"No curve of bare answers: {'; '.join(without)}." if without else "",
    )


def calibration(entries: Sequence[Row], who: Who) -> Chart | None:
    """How often answers of a stated probability are right; on the diagonal as often as stated."""
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
    from evalft.reporting import pictures

    x = Axis(0.0, 1.0, False, "score")
    data = [
        drawable(row)
        | {"who": who.in_a_line(row["candidate"])}
        | {"bottom": x.inside(row["low"], 0), "top": x.inside(row["high"], 1)}
        for row in rows
    ]
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
        svg=pictures.calibration(description, data, x, who),
    )


def _method(entry: Row) -> str:
    return str(entry.get("probs_method") or "probabilities").replace("_", " ")


# ---------------------------------------------------------------- labels


def confusion(entry: Row, who: Who) -> Chart | None:
    """What was answered by what was expected; None of more than MAX_CONFUSION labels."""
    found = entry.get("confusion")
    if not found or len(found["labels"]) > MAX_CONFUSION:
        return None
    from evalft.reporting import pictures

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
    description = f"Rows of {who.in_a_line(entry['name'])} by the expected label and by what was answered; shade: share of the row."
    return Chart(
        name=f"confusion_{entry['name']}",
        title=f"Confusion matrix of {who.in_a_line(entry['name'])}",
        description=description,
        columns=(Column("expected"), Column("answered"), Column("rows", "count"), Column("of", "count")),
        rows=tuple(rows),
        svg=pictures.confusion(description, cells, list(shown.values())),
    )


# ---------------------------------------------------------------- latency and failures


def latency(entries: Sequence[Row], thresholds: Mapping[str, Threshold], who: Who) -> Chart | None:
    """The median and the 95th percentile of the seconds that an answer takes."""
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
    without = [who.in_a_line(entry["name"]) for entry in entries if not entry["latency_s"]]
    description = "Seconds until an answer was there, of each candidate: half of the answers came within p50, 95 of 100 within p95."
    picture = ""
    if len(rows) > 2 or asked:
        from evalft.reporting import pictures

        picture = pictures.latency(description, data, list(asked.values()), x)
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
        svg=picture,
        note=f"Not measured: {'; '.join(without)}." if without else "",
    )


def failures(entries: Sequence[Row], who: Who) -> Chart | None:
    """Rows by kind of failure; None where none failed."""
    rows = [
        {"candidate": entry["name"], "kind": kind, "rows": count, "of": entry["coverage"]["total"]}
        for entry in entries
        for kind, count in sorted(entry["coverage"]["failures"].items(), key=lambda item: (-item[1], item[0]))
    ]
    if not rows:
        return None
    from evalft.reporting import pictures

    data = [
        drawable(row)
        | {
            "who": who.in_a_line(row["candidate"]),
            "share": f"{row['rows']:,} ({numbers.percent(row['rows'], row['of'])})",
        }
        for row in rows
    ]
    clean = [who.in_a_line(entry["name"]) for entry in entries if not entry["coverage"]["failures"]]
    description = "Rows without a usable answer, by candidate and kind."
    return Chart(
        name="failures",
        title="Failures by kind",
        description=description,
        columns=(Column("candidate"), Column("kind"), Column("rows", "count"), Column("of", "count")),
        rows=tuple(rows),
        svg=pictures.failures(description, data, who),
        note=f"No failure: {'; '.join(clean)}." if clean else "",
    )


# ---------------------------------------------------------------- money


def cost_per_month(
    entries: Sequence[Row], queries_per_month: float | None, break_even: Row | None, who: Who
) -> Chart | None:
    """USD a month against queries a month; with the volume from which on training pays back within the horizon, where
    that is known. None where neither a volume nor such a point says how far to draw."""
    pays = break_even if break_even and break_even.get("queries") and break_even.get("horizon_months") else None
    least = pays["queries"] / pays["horizon_months"] if pays else None
    volumes = [volume for volume in (queries_per_month, least) if volume]
    costs = {entry["name"]: entry["cost_per_query_usd"]["value"] for entry in entries}
    if not volumes or all(cost is None for cost in costs.values()):
        return None
    from evalft.reporting import pictures

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
    description = f"What each candidate costs a month by the queries a month; {'; '.join(said for _, said in marks)}."
    unknown = [who.in_a_line(name) for name, cost in costs.items() if cost is None]
    return Chart(
        name="cost_per_month",
        title="Cost per month",
        description=description,
        columns=(Column("candidate"), Column("queries_per_month", "count"), Column("cost_usd", "usd")),
        rows=tuple(rows),
        svg=pictures.cost_per_month(description, data, looks, marks, x, y),
        note=f"Not drawn, since the cost per query is not known: {'; '.join(unknown)}." if unknown else "",
    )


def _between(first: float, last: float) -> list[float]:
    """Points of a line that is curved on logarithmic axes."""
    return [first * (last / first) ** (i / 24) for i in range(1, 24)]


# ---------------------------------------------------------------- training


def loss(stage: str, logged: Sequence[Sequence[float | None]]) -> Chart | None:
    """The training loss of a stage. logged: (step, loss) in the order of training; None where fewer than two steps have a
    finite loss."""
    found = [(step, value) for step, value in logged if step is not None and value is not None and math.isfinite(value)]
    if len(found) < 2:
        return None
    from evalft.reporting import pictures

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
    return Chart(
        name=f"loss_{stage}",
        title=f"Training loss of {stage}",
        description=description,
        columns=(Column("step", "count"), Column("loss", "score")),
        rows=rows,
        svg=pictures.loss(f"Training loss of {stage}: {description}", rows),
    )
