"""Two scored candidates, of one run folder or of two -> what changed on the rows that both answered. Reads only.

Rows are matched by digests of their content (the normal form of the input, and the target), since ids differ where a file
was reordered or renamed. Row scores are those that the runs wrote; metrics of all rows together are computed again from
the answers.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from evalft import numbers, scoring
from evalft.comparison import Comparison, Measures, PairedEstimate, compare_rows, estimate
from evalft.config import TaskConfig
from evalft.errors import UserError
from evalft.metrics.measure import Floats, Ints
from evalft.metrics.names import lower_is_better
from evalft.reporting import text
from evalft.scored_rows import NONE, ScoredRows
from evalft.scored_run import Side, parse, read
from evalft.stats import holm
from evalft.stats.paired import paired_difference

if TYPE_CHECKING:
    from pandas import DataFrame
    from rich.console import Console

Verdict = Literal["better", "worse", "equivalent", "undecided"]
IDS_SHOWN = 5
SLICES_SHOWN = 10
LEAST_IN_SLICE = 10
"""Rows; a slice with fewer shows nothing of its own."""
TESTS = {"mcnemar_exact": "McNemar", "bca": "BCa", "jackknife_t": "jackknife"}
"""Short enough for a column; the others are as they are."""


@dataclass(frozen=True, slots=True)
class Diff:
    base: str
    """RUN:CANDIDATE, as `new`."""
    new: str
    comparison: Comparison
    """Of the matched rows, by the ids of `base`; only_before and only_after are the rows without a match."""
    primary: str
    verdict: Verdict
    """By the primary metric's interval: equivalent where it lies within the margin, undecided where it holds 0."""
    rows_needed: int | None
    """Of an undecided one: about how many rows would settle it, were the difference what it seems. None: none known."""
    confidence: float
    margin: float | None
    """A difference of the primary metric that is smaller does not matter; None: none is known not to."""
    slices: Mapping[str, PairedEstimate]
    """The row metric within each slice of at least LEAST_IN_SLICE rows, by "column=value"."""
    adjusted: Mapping[str, float]
    """The p-values of metrics and slices, corrected for being looked at together (Holm 1979)."""
    cost_per_query_usd: tuple[float | None, float | None]
    """As each run reports it, over all of its rows."""
    notes: tuple[str, ...]
    """What was chosen, left out or cannot be compared, a sentence each."""
    twins: Mapping[str, str]
    """The id in `new` of each matched row, by its id in `base`."""

    def frame(self) -> DataFrame:
        """One row per matched example: id, before, after (row scores), kind (fixed, broken, same)."""
        import pandas as pd

        rows = [(one.id, one.before, one.after, one.kind) for one in self.comparison.changes]
        return pd.DataFrame(rows, columns=["id", "before", "after", "kind"])


def diff(base: str, new: str, *, confidence: float | None = None, margin: float | None = None) -> Diff:
    """Compare two candidates, each named RUN or RUN:CANDIDATE, on the rows that both runs have.

    confidence: two-sided; None is that of base's run. margin: of the primary metric, what is too small to matter; with
    it two candidates can be shown to be equivalent. Raises UserError where a run cannot be read, the tasks are not the
    same, or no row is shared.
    """
    return between(read(*parse(base)), read(*parse(new)), confidence=confidence, margin=margin)


def between(old: Side, other: Side, *, confidence: float | None = None, margin: float | None = None) -> Diff:
    """The same of two sides that are read already."""
    _require_same_task(old, other)
    slow = [side.slow for side in (old, other) if side.slow]
    notes = [*_incomplete(old), *_incomplete(other), *_unlike(old, other), *dict.fromkeys(slow)]
    if confidence is None:
        confidence = float(old.summary.get("confidence") or 0.95)
        notes.insert(0, f"the confidence is that of {old.folder.path}: {numbers.confidence(confidence)}")
    pairs = _matched(old.rows, other.rows)
    if not pairs.old.size:
        raise UserError(
            f"{old.name}, {other.name}: no scored row of one has the input and target of a row of the other; "
            "compare runs of the same test set"
        )
    if changed := set(pairs.only_old) & set(pairs.only_new):
        notes.append(
            f"{numbers.counted(len(changed), 'id')} on both sides with another input or target: {_some(sorted(changed))}"
        )
    primary = scoring.primary(old.task)
    row_metric = _row_metric(primary, old, other)
    before, after = pairs.values(old.rows, other.rows)
    found = compare_rows(
        pairs.ids(old.rows),
        before,
        after,
        primary=row_metric,
        confidence=confidence,
        groups=_groups(old.rows, pairs.old),
        measures=_measures(old, other, pairs, notes),
    )
    slices = _slices(old.rows, pairs.old, before[row_metric], after[row_metric], confidence, notes)
    p_values = {name: one.p_value for name, one in {**found.metrics, **slices}.items() if one.p_value is not None}
    verdict = _verdict(found.metrics.get(primary), lower_is_better(primary), margin)
    return Diff(
        base=old.name,
        new=other.name,
        comparison=replace(found, only_before=pairs.only_old, only_after=pairs.only_new),
        primary=primary,
        verdict=verdict,
        rows_needed=_rows_needed(found.metrics.get(primary), margin) if verdict == "undecided" else None,
        confidence=confidence,
        margin=margin,
        slices=slices,
        adjusted=holm.adjusted(p_values),
        cost_per_query_usd=(_cost(old), _cost(other)),
        notes=tuple(notes),
        twins=dict(zip(pairs.ids(old.rows), (other.rows.ids[row] for row in pairs.new.tolist()), strict=True)),
    )


def as_data(diff: Diff) -> dict[str, Any]:
    """For --json; what was not measured is null, with its reason."""
    found = diff.comparison
    return {
        "base": diff.base,
        "new": diff.new,
        "verdict": diff.verdict,
        "rows_needed": diff.rows_needed,
        "primary": diff.primary,
        "confidence": diff.confidence,
        "margin": diff.margin,
        "metrics": {name: _estimate_data(diff, name, one) for name, one in found.metrics.items()},
        "slices": {name: _estimate_data(diff, name, one) for name, one in diff.slices.items()},
        "row_metric": found.row_metric,
        "matched": len(found.changes),
        **{kind: found.count(kind) for kind in ("fixed", "broken", "same")},
        "fixed_ids": list(found.ids("fixed")),
        "broken_ids": list(found.ids("broken")),
        "only_base": list(found.only_before),
        "only_new": list(found.only_after),
        "cost_per_query_usd": dict(zip(("base", "new"), diff.cost_per_query_usd, strict=True)),
        "notes": list(diff.notes),
    }


def _estimate_data(diff: Diff, name: str, one: PairedEstimate) -> dict[str, Any]:
    return asdict(one) | {"p_adjusted": diff.adjusted.get(name)}


def show(diff: Diff, console: Console) -> None:
    """Prints, readable at 80 columns. Names and ids are others' text: no terminal escape and no markup of theirs acts."""
    from rich.table import Table
    from rich.text import Text

    def plain(words: str, style: str = "") -> Text:
        words = text.printable(words)
        return Text(words.encode(console.encoding, "backslashreplace").decode(console.encoding), style=style)

    found = diff.comparison
    console.print(plain(f"base: {diff.base}"))
    console.print(plain(f"new:  {diff.new}"))
    console.print(plain(sentence(diff), "bold"))
    console.print()

    def table_of(what: str, estimates: Mapping[str, PairedEstimate]) -> None:
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
        table.add_column(what, overflow="fold")
        for heading in ("base", "new", "change", f"{numbers.confidence(diff.confidence)} interval", "p, Holm"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("test", no_wrap=True)
        for name, one in estimates.items():
            table.add_row(*(plain(cell) for cell in cells(name, one, diff.adjusted.get(name))))
        console.print(table)
        console.print()

    table_of("metric", found.metrics)
    if diff.slices:
        by_p = sorted(diff.slices, key=lambda name: diff.adjusted.get(name, 2.0))
        table_of(f"slice, by {found.row_metric}", {name: diff.slices[name] for name in by_p[:SLICES_SHOWN]})
        if len(by_p) > SLICES_SHOWN:
            console.print(plain(f"and {len(by_p) - SLICES_SHOWN:,} slices with larger p (--json has all)"))
    console.print(
        plain(
            f"{len(found.changes):,} rows by {found.row_metric}: {found.count('fixed'):,} fixed, "
            f"{found.count('broken'):,} broken, {found.count('same'):,} the same"
        )
    )
    for kind, ids in (("fixed", found.ids("fixed")), ("broken", found.ids("broken"))):
        if ids:
            console.print(plain(f"  {kind}: {_some(ids)}"))
    for side, ids in (("base", found.only_before), ("new", found.only_after)):
        if ids:
            console.print(plain(f"{len(ids):,} rows only in {side}, left out: {_some(ids)}", "yellow"))
    costs = [numbers.usd(cost) for cost in diff.cost_per_query_usd]
    console.print(plain(f"cost per query, as each run reports it: {costs[0]} base, {costs[1]} new"))
    for name, one in found.metrics.items():
        if one.reason:
            console.print(plain(f"{name}: {one.reason}"))
    for note in diff.notes:
        console.print(plain(f"Note: {note}"))


# ---------------------------------------------------------------- words


def sentence(diff: Diff) -> str:
    """What the primary metric shows."""
    found = diff.comparison.metrics.get(diff.primary)
    if found is None or found.delta is None:
        return f"Undecided: {diff.primary} could not be compared."
    what = f"{diff.primary} went from {numbers.number(found.before, 'score')} to {numbers.number(found.after, 'score')}"
    if diff.verdict == "undecided":
        rows = (
            f"; about {diff.rows_needed:,} rows would settle it, if that is the difference" if diff.rows_needed else ""
        )
        return f"Undecided, no difference shown: {what}{rows}."
    if diff.verdict == "equivalent":
        return f"Equivalent, the whole interval is within {diff.margin:g} of no change: {what}."
    return f"{diff.verdict.capitalize()}: {what}."


def cells(name: str, found: PairedEstimate, p_adjusted: float | None) -> tuple[str, ...]:
    """Metric, base, new, change, interval, corrected p-value, test."""
    sign = "+" if (found.delta or 0) > 0 else ""
    return (
        name,
        numbers.number(found.before, "score"),
        numbers.number(found.after, "score"),
        "" if found.delta is None else sign + numbers.number(found.delta, "score"),
        numbers.interval(found.delta, found.low, found.high, "score"),
        numbers.probability(p_adjusted),
        "" if found.p_value is None else TESTS.get(found.test, found.test),
    )


def _some(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - IDS_SHOWN:,} more" if len(ids) > IDS_SHOWN else ""
    return ", ".join(ids[:IDS_SHOWN]) + more


def _verdict(found: PairedEstimate | None, lower_is_better: bool, margin: float | None) -> Verdict:
    if found is None:
        return "undecided"
    low = -math.inf if found.low is None else found.low
    high = math.inf if found.high is None else found.high
    if margin is not None and -margin < low and high < margin:
        return "equivalent"  # two one-sided tests (Schuirmann 1987), each at half of 1 - confidence: stricter than they need be
    if low > 0:
        return "worse" if lower_is_better else "better"
    if high < 0:
        return "better" if lower_is_better else "worse"
    return "undecided"


def _rows_needed(found: PairedEstimate | None, margin: float | None) -> int | None:
    """To two digits. An interval narrows with the root of the rows: until it leaves 0, or lies within the margin."""
    if found is None or found.delta is None or found.low is None or found.high is None:
        return None
    room = max(abs(found.delta), margin - abs(found.delta) if margin else 0.0)
    if room <= 0 or found.high == found.low:
        return None
    rows = found.n * ((found.high - found.low) / 2 / room) ** 2
    return max(found.n + 1, math.ceil(float(f"{rows:.2g}")))


# ---------------------------------------------------------------- slices


def _slices(
    rows: ScoredRows, matched: Ints, before: Floats, after: Floats, confidence: float, notes: list[str]
) -> dict[str, PairedEstimate]:
    """The row scores within each slice of the matched rows; slices with too few rows are noted."""
    members = rows.slice_rows(matched)
    small = [name for name, of_slice in members.items() if len(of_slice) < LEAST_IN_SLICE]
    if small:
        notes.append(f"{len(small):,} slices have under {LEAST_IN_SLICE} rows and are not compared: {_some(small)}")
    found = {}
    for name in sorted(members.keys() - set(small)):
        old, new = before[members[name]], after[members[name]]
        difference = paired_difference(old, new, _groups(rows, matched[members[name]]))
        found[name] = estimate(difference, confidence, float(old.mean()), float(new.mean()))
    return found


def _groups(rows: ScoredRows, matched: Ints) -> Ints | None:
    """(m,) a number for each group of these rows (m,), by their names in order; rows without one come last, by their ids.
    What is drawn depends on it, so it is none of the order of rows."""
    codes = rows.groups.of[matched]
    if not (codes != NONE).any():
        return None
    places = np.argsort(np.argsort(np.array(rows.groups.names, dtype=object)))
    own = np.flatnonzero(codes == NONE)
    number = np.where(codes == NONE, 0, places[codes])
    by_id = sorted(own.tolist(), key=lambda row: rows.ids[matched[row]])
    number[by_id] = len(places) + np.arange(len(by_id))
    return np.asarray(np.unique(number, return_inverse=True)[1])


# ---------------------------------------------------------------- reading


def _require_same_task(old: Side, new: Side) -> None:
    """Scores of different metrics, labels or rules of scoring are not comparable."""
    faults = []
    for key in ("type", "positive", "metrics", "normalize", "labels"):
        one, other = _comparable(old.task, key), _comparable(new.task, key)
        if one != other:
            faults.append(f"task.{key}: {one} in {old.folder.path}, {other} in {new.folder.path}")
    one, other = (_judge(side) for side in (old, new))
    if one and other and one != other:
        faults.append(f"judge: {one} in {old.folder.path}, {other} in {new.folder.path}")
    if faults:
        raise UserError(*(f"{fault}; assess both with the same" for fault in faults))


def _comparable(task: TaskConfig, key: str) -> Any:
    if key == "metrics":
        return [{spec.name: spec.options} if spec.options else spec.name for spec in task.metrics or ()]
    if key == "labels" and task.labels is not None:
        return sorted(task.labels)
    return getattr(task, key)


def _judge(side: Side) -> dict[str, Any] | None:
    """Who judged and by what; None where nobody did."""
    found = side.summary.get("judge")
    if not found:
        return None
    return {"models": [model["name"] for model in found["models"]]} | {
        key: found[key] for key in ("rubric", "scale", "compared_with")
    }


def _row_metric(primary: str, *sides: Side) -> str:
    """The row score that tells fixed from broken: the primary metric's, else accuracy; exact_match where a judge left
    rows without a score."""
    for name in (primary, "accuracy", "exact_match"):
        if all(side.rows.has(name) for side in sides):
            return name
    paths = ", ".join(dict.fromkeys(str(side.folder.path) for side in sides))
    raise UserError(f"{paths}: rows have no score of {primary}; `evalft decide RUN` scores stored answers again")


def _cost(side: Side) -> float | None:
    cost = side.entry["cost_per_query_usd"]["value"]
    return None if cost is None else float(cost)


def _incomplete(side: Side) -> list[str]:
    missing = int(side.summary["task"]["examples"]) - len(side.rows)
    return [f"{side.name}: {missing:,} rows have no score yet and are left out"] if missing else []


def _unlike(old: Side, new: Side) -> list[str]:
    """Metrics that only one side has, those whose probabilities come from different methods, judges that may not decide."""
    notes = [
        f"{side.name}: the judge is uncalibrated ({why}): a difference in judge decides nothing"
        for side in (old, new)
        if (why := (side.summary.get("judge") or {}).get("uncalibrated"))
    ]
    for one, other in ((old, new), (new, old)):
        if alone := [name for name in one.entry["metrics"] if name not in other.entry["metrics"]]:
            notes.append(f"only in {one.name}, so not compared: {', '.join(alone)}")
    for name, found in old.entry["metrics"].items():
        before, after = found.get("probs_method"), new.entry["metrics"].get(name, {}).get("probs_method")
        if before != after and name in new.entry["metrics"]:
            notes.append(f"{name}: probabilities are from {before} in base and from {after} in new")
    return notes


# ---------------------------------------------------------------- matching


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Rows with one content, in the order of the old side."""

    old: Ints
    new: Ints
    """(m,) each, places among the scored rows of a side."""
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]
    """The ids without a partner."""

    def ids(self, old: ScoredRows) -> list[str]:
        return [old.ids[row] for row in self.old.tolist()]

    def values(self, old: ScoredRows, new: ScoredRows) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """The row scores (m,) of each side by metric."""
        return (
            {name: column[self.old] for name, column in old.values.items()},
            {name: column[self.new] for name, column in new.values.items()},
        )


def _matched(old: ScoredRows, new: ScoredRows) -> _Pairs:
    """Rows that repeat are paired with the twin of their own id where there is one, else in order."""
    if old.ids == new.ids and (old.inputs == new.inputs).all() and (old.targets == new.targets).all():
        return _Pairs(np.arange(len(old)), np.arange(len(old)), (), ())
    waiting: dict[Hashable, dict[str, int]] = defaultdict(dict)
    for content, id, row in zip(_contents(new), new.ids, range(len(new)), strict=True):
        waiting[content][id] = row
    pairs, alone = [], []
    for content, id, row in zip(_contents(old), old.ids, range(len(old)), strict=True):
        twins = waiting[content]
        if twins:
            pairs.append((row, twins.pop(id if id in twins else next(iter(twins)))))
        else:
            alone.append(id)
    left = sorted(row for twins in waiting.values() for row in twins.values())
    places = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return _Pairs(places[:, 0], places[:, 1], tuple(alone), tuple(new.ids[row] for row in left))


def _contents(rows: ScoredRows) -> Iterable[Hashable]:
    return zip(rows.inputs.tolist(), rows.targets.tolist(), strict=True)


# ---------------------------------------------------------------- metrics of all rows together


def _measures(old: Side, new: Side, pairs: _Pairs, notes: list[str]) -> tuple[Measures, Measures] | None:
    """Both candidates' metrics on the matched rows; None, with a note, where their answers are not there."""
    if old.task.type == "generation":
        return None  # each of its metrics is a mean of row scores
    extra = [name for name in old.entry["metrics"] if name in new.entry["metrics"]]
    both = []
    for side, rows in ((old, pairs.old), (new, pairs.new)):
        voted = side.rows.votes
        why = side.rows.fault or _unanswered(side.rows, rows)
        if why or voted is None:
            notes.append(f"{side.name}: metrics that rows have no score of are not compared: {why}")
            return None
        labels = old.rows.votes.rows.labels if old.rows.votes else ()
        both.append(scoring.label_measures(voted.at(rows).ordered_as(labels), old.task, extra))
    return both[0], both[1]


def _unanswered(rows: ScoredRows, matched: Ints) -> str | None:
    counts = rows.answers[matched]
    most = int(counts.max())
    lacking = np.flatnonzero(counts < max(1, most))
    if not lacking.size:
        return None
    return f"example {rows.ids[matched[lacking[0]]]!r} has {counts[lacking[0]]} of {most} outcomes"
