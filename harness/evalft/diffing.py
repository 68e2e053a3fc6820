"""Two scored candidates, of one run folder or of two -> what changed on the rows that both answered. Reads only.

Rows are matched by content (the normal form of the input, and the target), since ids differ where a file was reordered
or renamed. Row scores are those that the runs wrote; metrics of all rows together are computed again from the answers.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from evalft import numbers, scoring
from evalft.comparison import Comparison, Measures, PairedEstimate, compare, groups_of
from evalft.config import TaskConfig
from evalft.errors import UserError
from evalft.metrics.names import lower_is_better
from evalft.records import Example, Score
from evalft.reporting import text
from evalft.scored_run import Side, outcomes_of, parse, read
from evalft.stats import holm
from evalft.testset.splits import normal_form

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
    notes = [*_incomplete(old), *_incomplete(other), *_unlike(old, other)]
    if confidence is None:
        confidence = float(old.summary.get("confidence") or 0.95)
        notes.insert(0, f"the confidence is that of {old.folder.path}: {numbers.confidence(confidence)}")
    pairs, only_old, only_other = _matched(old.examples, other.examples)
    if not pairs:
        raise UserError(
            f"{old.name}, {other.name}: no scored row of one has the input and target of a row of the other; "
            "compare runs of the same test set"
        )
    examples = [example for example, _ in pairs]
    primary = scoring.primary(old.task)
    row_metric = _row_metric(primary, old, other)
    before = [old.scores[one.id] for one in examples]
    after = [replace(other.scores[twin.id], id=one.id) for one, twin in pairs]
    found = compare(
        before,
        after,
        primary=row_metric,
        confidence=confidence,
        groups=groups_of(examples),
        measures=_measures(old, other, pairs, notes),
    )
    slices = _slices(examples, before, after, row_metric, confidence, notes)
    p_values = {name: one.p_value for name, one in {**found.metrics, **slices}.items() if one.p_value is not None}
    verdict = _verdict(found.metrics.get(primary), lower_is_better(primary), margin)
    return Diff(
        base=old.name,
        new=other.name,
        comparison=replace(found, only_before=only_old, only_after=only_other),
        primary=primary,
        verdict=verdict,
        rows_needed=_rows_needed(found.metrics.get(primary), margin) if verdict == "undecided" else None,
        confidence=confidence,
        margin=margin,
        slices=slices,
        adjusted=holm.adjusted(p_values),
        cost_per_query_usd=(_cost(old), _cost(other)),
        notes=tuple(notes),
        twins={one.id: twin.id for one, twin in pairs},
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
        "metrics": {name: _estimate_data(diff, name, estimate) for name, estimate in found.metrics.items()},
        "slices": {name: _estimate_data(diff, name, estimate) for name, estimate in diff.slices.items()},
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


def _estimate_data(diff: Diff, name: str, estimate: PairedEstimate) -> dict[str, Any]:
    return asdict(estimate) | {"p_adjusted": diff.adjusted.get(name)}


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
        for name, estimate in estimates.items():
            table.add_row(*(plain(cell) for cell in cells(name, estimate, diff.adjusted.get(name))))
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
    for name, estimate in found.metrics.items():
        if estimate.reason:
            console.print(plain(f"{name}: {estimate.reason}"))
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
    examples: Sequence[Example],
    before: Sequence[Score],
    after: Sequence[Score],
    row_metric: str,
    confidence: float,
    notes: list[str],
) -> dict[str, PairedEstimate]:
    """`row_metric` within each slice of `examples`; slices with too few rows are noted."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, example in enumerate(examples):
        for column, value in example.slices.items():
            rows[f"{column}={value}"].append(row)
    small = [name for name, members in rows.items() if len(members) < LEAST_IN_SLICE]
    if small:
        notes.append(f"{len(small):,} slices have under {LEAST_IN_SLICE} rows and are not compared: {_some(small)}")
    found = {}
    for name in sorted(rows.keys() - set(small)):
        part = compare(
            [before[row] for row in rows[name]],
            [after[row] for row in rows[name]],
            primary=row_metric,
            confidence=confidence,
            groups=groups_of([examples[row] for row in rows[name]]),
        )
        found[name] = part.metrics[row_metric]
    return found


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
        if all(name in score.values for side in sides for score in side.scores.values()):
            return name
    paths = ", ".join(dict.fromkeys(str(side.folder.path) for side in sides))
    raise UserError(f"{paths}: rows have no score of {primary}; `evalft decide RUN` scores stored answers again")


def _cost(side: Side) -> float | None:
    cost = side.entry["cost_per_query_usd"]["value"]
    return None if cost is None else float(cost)


def _incomplete(side: Side) -> list[str]:
    missing = int(side.summary["task"]["examples"]) - len(side.examples)
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


def _matched(
    old: Sequence[Example], new: Sequence[Example]
) -> tuple[list[tuple[Example, Example]], tuple[str, ...], tuple[str, ...]]:
    """(pairs of rows with one content, in the order of `old`; the ids of `old` and of `new` without a partner).

    Rows that repeat are paired with the twin of their own id where there is one, else in order.
    """
    twins: dict[Hashable, list[Example]] = defaultdict(list)
    for example in new:
        twins[_content(example)].append(example)
    pairs, alone = [], []
    for example in old:
        found = twins[_content(example)]
        if found:
            twin = next((one for one in found if one.id == example.id), found[0])
            found.remove(twin)
            pairs.append((example, twin))
        else:
            alone.append(example.id)
    paired = {twin.id for _, twin in pairs}
    return pairs, tuple(alone), tuple(example.id for example in new if example.id not in paired)


def _content(example: Example) -> Hashable:
    target = example.target if isinstance(example.target, str) else tuple(sorted(example.target))
    return normal_form(example), target


# ---------------------------------------------------------------- metrics of all rows together


def _measures(
    old: Side, new: Side, pairs: Sequence[tuple[Example, Example]], notes: list[str]
) -> tuple[Measures, Measures] | None:
    """Both candidates' metrics on the matched rows; None, with a note, where their answers are not there."""
    if old.task.type == "generation":
        return None  # each of its metrics is a mean of row scores
    extra = [name for name in old.entry["metrics"] if name in new.entry["metrics"]]
    examples = [example for example, _ in pairs]
    both = []
    for side, ids in ((old, [one.id for one, _ in pairs]), (new, [twin.id for _, twin in pairs])):
        renamed = dict(zip(ids, (example.id for example in examples), strict=True))
        try:
            outcomes = [replace(one, id=renamed[one.id]) for one in outcomes_of(side) if one.id in renamed]
            both.append(scoring.score(examples, outcomes, old.task, extra_metrics=extra).measures)
        except ValueError as error:
            notes.append(f"{side.name}: metrics that rows have no score of are not compared: {error}")
            return None
    return both[0], both[1]
