"""One candidate's entry of summary.json -> Candidate: what a report shows of it, its numbers already text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalft import numbers
from evalft.config import Threshold

MAX_CONFUSION = 20
"""Labels of a confusion matrix that is drawn."""

STAND_IN = "stand-in for a closed API"

FAILURES = {
    "refused": "the model declined to answer",
    "filtered": "the provider's filter withheld the answer",
    "truncated": "the answer ended at the token limit",
    "empty": "no text came back",
    "unparsable": "no known label could be read from the answer",
    "wrong_schema": "the answer does not have the required form",
    "bad_response": "the endpoint's reply was malformed",
    "timeout": "no answer within the time limit",
    "connection": "the connection failed",
    "api_error": "the endpoint returned an error",
    "out_of_memory": "the row did not fit into memory",
}
BASES = {
    "usage": "billed tokens, failures and retries included; cached answers at their original price",
    "gpu_time": "GPU time of the batches, without loading the model, at the price per hour",
    "cpu_time": "wall time of the batches on this machine (its load counts), without loading the model, at the price per hour",
    "override": "the price that the config gives",
}


RECORDED = "as the file of answers gives it, or its tokens at the price that the config gives"


@dataclass(frozen=True, slots=True)
class Measure:
    """One measured thing of one candidate. `status` only where something is required of it."""

    name: str
    value: str
    interval: str
    method: str = ""
    n: str = ""
    note: str = ""
    require: str = ""
    status: str | None = None
    pass_end: str = ""
    pass_level: str = ""
    fail_end: str = ""
    fail_level: str = ""
    p_value: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    anchor: str
    name: str
    model: str
    tags: tuple[str, ...]
    status: str | None
    headline: tuple[Measure, ...]
    """One per View.columns."""
    cost: Measure
    latency: tuple[Measure, ...]
    """p50 and p95; empty where there is none."""
    coverage: str
    coverage_percent: str
    complete: bool
    metrics: tuple[Measure, ...]
    thresholds: tuple[Measure, ...]
    failures: tuple[tuple[str, int, str, str], ...]
    """kind, rows, share, what it means"""
    rescued: int
    absent: int
    """Rows that a file of answers has none for; they are among the failures."""
    cached: str
    """How many answers are from the cache, and how old; empty where none is."""
    choices: tuple[str, ...]
    per_label: Table | None
    confusion_note: str
    cost_basis: str
    cost_total: str
    price: tuple[tuple[str, str], ...]


def shown(
    position: int,
    entry: Mapping[str, Any],
    base: str | None,
    columns: Sequence[str],
    thresholds: Mapping[str, Threshold],
) -> Candidate:
    coverage = entry["coverage"]
    total, scored = coverage["total"], coverage["scored"]
    labels = len((entry.get("confusion") or {}).get("labels", ()))
    latency = ("latency_p50", "latency_p95") if entry["latency_s"] else ()
    return Candidate(
        anchor=f"candidate-{position}",
        name=entry["name"],
        model=entry["model"],
        tags=tags(entry, base),
        status=entry["status"],
        headline=tuple(_measure(entry, metric, thresholds.get(metric)) for metric in columns),
        cost=_measure(entry, "cost_per_query", thresholds.get("cost_per_query")),
        latency=tuple(_measure(entry, metric, thresholds.get(metric)) for metric in latency),
        coverage=f"{scored:,} of {total:,}",
        coverage_percent=numbers.percent(scored, total),
        complete=scored == total,
        metrics=tuple(_measure(entry, metric, thresholds.get(metric)) for metric in entry["metrics"]),
        thresholds=tuple(_measure(entry, metric, thresholds[metric]) for metric in entry["thresholds"] or ()),
        failures=tuple(
            (kind, rows, numbers.percent(rows, total), FAILURES.get(kind, ""))
            for kind, rows in sorted(coverage["failures"].items(), key=lambda item: (-item[1], item[0]))
        ),
        rescued=coverage["rescued"],
        absent=coverage.get("absent", 0),
        cached=_cached(entry.get("cache")),
        choices=tuple(filter(None, (_cached(entry.get("cache")), *(entry.get("choices") or ())))),
        per_label=_per_label(entry.get("per_label") or ()),
        confusion_note=f"Not drawn: {labels} labels are more than {MAX_CONFUSION}." if labels > MAX_CONFUSION else "",
        cost_basis=RECORDED if entry["model"].startswith("file:") else BASES[entry["cost_per_query_usd"]["basis"]],
        cost_total=numbers.usd(entry["cost_total_usd"]),
        price=_price(entry.get("price") or {}),
    )


def _cached(found: Mapping[str, Any] | None) -> str:
    if not found:
        return ""
    when = found["first"] if found["first"] == found["last"] else f"{found['first']} to {found['last']}"
    return f"{found['answers']:,} of {found['of']:,} answers are from the cache, given {when}; --fresh asks again"


def base_name(summary: Mapping[str, Any]) -> str | None:
    """The candidate that the tuned one was trained from, where it was measured."""
    named = (entry["name"] for entry in summary["candidates"] if entry["role"] == "baseline")
    return next(named, (summary.get("diff") or {}).get("baseline"))


def tags(entry: Mapping[str, Any], base: str | None) -> tuple[str, ...]:
    """What a reader has to know of a candidate wherever it is listed."""
    found = []
    if entry["role"] == "tuned":
        stage = f", stage {entry['stage']}" if entry.get("stage") else ""
        found.append(f"tuned from {base or entry['model']}{stage}")
    elif entry["role"] == "baseline":
        found.append("untuned base")
    return (*found, STAND_IN) if entry.get("stand_in") else tuple(found)


def tagged(name: str, marks: Sequence[str]) -> str:
    """`name (tag, tag)`, for a sentence."""
    return f"{name} ({', '.join(marks)})" if marks else name


def estimate_of(entry: Mapping[str, Any], metric: str) -> Mapping[str, Any] | None:
    """What was measured under a metric's or threshold's name."""
    if metric == "cost_per_query":
        return dict(entry["cost_per_query_usd"])
    if metric.startswith("latency_"):
        latency = (entry["latency_s"] or {}).get(metric.removeprefix("latency_"))
        return dict(latency) if latency else None
    found = entry["metrics"].get(metric)
    return dict(found) if found else None


def ends_of(estimate: Mapping[str, Any] | None) -> tuple[float | None, float | None, float | None]:
    """Value, low, high; an end that the data do not bound is None."""
    if estimate is None or estimate["value"] is None:
        return None, None, None
    open_sides = estimate.get("unbounded", ())
    low, high = (None if side in open_sides else estimate[side] for side in ("low", "high"))
    return estimate["value"], low, high


def _measure(entry: Mapping[str, Any], metric: str, threshold: Threshold | None) -> Measure:
    estimate = estimate_of(entry, metric) or {"value": None, "low": None, "high": None}
    result = (entry["thresholds"] or {}).get(metric) or {}
    unit = numbers.unit_of(metric)
    value = estimate["value"]
    low, high = (None if side in estimate.get("unbounded", ()) else estimate[side] for side in ("low", "high"))
    pass_side, fail_side = _sides(threshold)
    method = str(estimate.get("method") or "").replace("_", " ")
    probs = estimate.get("probs_method")
    return Measure(
        name=metric.replace("_", " ") if unit != "score" else metric,
        value=numbers.number(value, unit, threshold),
        interval=numbers.interval(value, low, high, unit, threshold),
        method=f"{method}; probabilities: {probs.replace('_', ' ')}" if probs else method,
        n=f"{estimate['n']:,}" if estimate.get("n") is not None else "",
        note=_notes(estimate.get("reason"), result.get("reason")),
        require=numbers.requirement(threshold) if threshold else "",
        status=result.get("status"),
        pass_end=_corrected(result, "pass", pass_side, unit, value, threshold),
        pass_level=numbers.probability(result.get("pass_level")),
        fail_end=_corrected(result, "fail", fail_side, unit, value, threshold),
        fail_level=numbers.probability(result.get("fail_level")),
        p_value=numbers.probability(result.get("p_value")),
    )


def _notes(*reasons: str | None) -> str:
    """Each thing once: a metric's caveat and its threshold's reason may hold the same part, or one said more fully."""
    parts = dict.fromkeys(part for reason in reasons if reason for part in str(reason).split("; "))
    return "; ".join(part for part in parts if not any(other.startswith(f"{part}:") for other in parts))


def _sides(threshold: Threshold | None) -> tuple[numbers.End, numbers.End]:
    """Which end of the interval has to meet the threshold to pass, and which has to miss it to fail."""
    return ("low", "high") if threshold is None or threshold.op == ">=" else ("high", "low")


def _corrected(
    result: Mapping[str, Any],
    kind: str,
    side: numbers.End,
    unit: numbers.Unit,
    beside: float | None,
    threshold: Threshold | None,
) -> str:
    if f"{kind}_level" not in result:
        return "–"
    return numbers.end(result.get(f"{kind}_end"), side, unit, beside=beside, threshold=threshold)


def _per_label(rows: Sequence[Mapping[str, Any]]) -> Table | None:
    if not rows:
        return None
    scores = [
        name for name in ("precision", "recall", "f1", "roc_auc") if any(row.get(name) is not None for row in rows)
    ]
    return Table(
        columns=("label", "support", *scores),
        rows=tuple(
            (
                str(row["label"]),
                f"{row['support']:,}",
                *("–" if row.get(name) is None else numbers.number(row[name], "score") for name in scores),
            )
            for row in rows
        ),
    )


def _price(price: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    per = {
        "input": "input, per million tokens",
        "cached": "cached input, per million tokens",
        "cache_write": "input kept in the provider's cache, per million tokens",
        "output": "output, per million tokens",
        "hour": "per hour",
    }
    facts = [(text, numbers.price(price[key])) for key, text in per.items() if price.get(key) is not None]
    facts += [
        (
            f"of requests with over {tier['above']:,} input tokens",
            f"{numbers.price(tier['input'])} input, {numbers.price(tier['output'])} output",
        )
        for tier in price.get("tiers") or ()
    ]
    return tuple(facts + [(key, str(price[key])) for key in ("source", "date") if price.get(key)])
