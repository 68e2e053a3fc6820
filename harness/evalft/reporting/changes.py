"""What changed between two candidates: the paired differences of summary.json, as sentences and a table.

Counts and differences are those that the run wrote (comparison.py). The rows themselves are in examples.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evalft import numbers
from evalft.config import Threshold
from evalft.metrics.names import lower_is_better
from evalft.reporting.candidates import estimate_of, tagged

HAIR = 1e-12
NO_DIFFERENCE = "no difference shown"
TESTS = {
    "mcnemar_exact": "exact McNemar test",
    "bca": "paired bootstrap (BCa)",
    "basic": "paired bootstrap (basic)",
    "jackknife_t": "jackknife over groups, Student's t",
    "normal": "normal approximation",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One metric, after minus before."""

    metric: str
    before: str
    after: str
    change: str
    interval: str
    p_value: str
    test: str
    reading: str
    """better, worse, no difference shown"""


@dataclass(frozen=True, slots=True)
class Diff:
    """One candidate against another on the same rows."""

    role: str
    """ "the best other candidate ", or empty for the untuned base, whose tag says it."""
    before: str
    before_tags: tuple[str, ...]
    after: str
    differences: tuple[Difference, ...]
    unmeasured: tuple[tuple[str, str], ...]
    """Metrics that could not be compared, and why."""
    primary: str
    counts: str
    sentence: str
    """The primary metric and the counts, for those who read no table."""


# ---------------------------------------------------------------- differences


def diffs(summary: Mapping[str, Any], tags: Mapping[str, tuple[str, ...]], confidence: str) -> tuple[Diff, ...]:
    """tags: what has to be known of each candidate, by name."""
    roles = {"diff": "", "diff_best": "the best other candidate "}
    return tuple(
        _diff(summary[key], role, summary, tags, confidence) for key, role in roles.items() if summary.get(key)
    )


def _diff(
    diff: Mapping[str, Any],
    role: str,
    summary: Mapping[str, Any],
    tags: Mapping[str, tuple[str, ...]],
    confidence: str,
) -> Diff:
    before, after = str(diff["baseline"]), str(diff["tuned"])
    entries = {entry["name"]: entry for entry in summary["candidates"]}

    def value(name: str, metric: str) -> str:
        estimate = estimate_of(entries[name], metric) if name in entries else None
        return numbers.number(estimate["value"] if estimate else None, numbers.unit_of(metric))

    differences = {
        metric: _difference(metric, found, value(before, metric), value(after, metric))
        for metric, found in diff["metrics"].items()
    }
    unmeasured = {str(metric): str(why) for metric, why in (diff.get("unmeasured") or {}).items()}
    rows = diff["fixed"] + diff["broken"] + diff["same"]
    counts = f"{diff['fixed']:,} fixed, {diff['broken']:,} broken, {diff['same']:,} the same of {rows:,} rows"
    primary = primary_metric(diff, summary)
    who = f"{after} against {role}{tagged(before, tags.get(before, ()))}"
    headline = ""
    if primary in differences:
        headline = _headline(differences[primary], confidence)
    elif primary in unmeasured:
        headline = f"the change of {primary} was not measured ({unmeasured[primary]}); "
    return Diff(
        role=role,
        before=before,
        before_tags=tags.get(before, ()),
        after=after,
        differences=tuple(differences.values()),
        unmeasured=tuple(unmeasured.items()),
        primary=primary,
        counts=counts,
        sentence=f"{who}: {headline}{counts}.",
    )


def primary_metric(diff: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """The metric by which rows are fixed and broken."""
    return str(diff.get("primary") or next(iter(summary["task"]["metrics"]), ""))


def _difference(metric: str, found: Mapping[str, Any], before: str, after: str) -> Difference:
    unit = numbers.unit_of(metric)
    delta, low, high = found["delta"] + 0.0, found["low"], found["high"]  # + 0.0: minus zero is zero
    low_text = _end(low, "low", unit, delta, Threshold(metric, "<=", 0.0))
    high_text = _end(high, "high", unit, delta, Threshold(metric, ">=", 0.0))
    rose, fell = low is not None and low > 0, high is not None and high < 0
    good, bad = (fell, rose) if lower_is_better(metric) else (rose, fell)
    return Difference(
        metric=metric.replace("_", " ") if unit != "score" else metric,
        before=before,
        after=after,
        change=("+" if delta > 0 else "") + numbers.number(delta, unit),
        interval=f"{low_text} to {high_text}",
        p_value=numbers.probability(found["p_value"]),
        test=TESTS.get(found["test"], str(found["test"]).replace("_", " ")),
        reading="better" if good else "worse" if bad else NO_DIFFERENCE,
    )


def _end(value: float | None, side: numbers.End, unit: numbers.Unit, delta: float, held: Threshold) -> str:
    """`held` against 0: rounding outwards must not make an interval touch 0 that does not. An exact test can show a
    difference whose interval ends at 0 but for a hair (stats/paired.py)."""
    if value is not None and 0 < abs(value) < HAIR:
        return "just above 0" if value > 0 else "just below 0"
    return numbers.end(value, side, unit, beside=delta, threshold=held)


def _headline(primary: Difference, confidence: str) -> str:
    p_value = f", p {primary.p_value}" if primary.p_value != "–" else ""
    return (
        f"{primary.metric} {primary.change} ({confidence} interval {primary.interval}{p_value}, {primary.test}), "
        f"{primary.reading}; "
    )
