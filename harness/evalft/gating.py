"""`evalft gate`: is a run worse than its baseline? A regression, a pass, or not to be told; never a pass for want of data.

Rows are matched by content. On the matched rows every judged metric (those with a threshold, else the primary one) has a
paired difference, turned so that more is better:

- regression: the upper end is below -margin. Metrics and slices are looked at together: the levels at which their ends
  get there are corrected by Holm (1979).
- pass: no regression, and the lower end of each judged metric is above -tolerance (at the run's confidence; no correction,
  since all of them must be), or no answer differs. The default tolerance is the smallest difference that so many rows show
  with a chance of 0.8, by the interval's own width.
- undecided: else.

Prompt, model and settings may differ from the baseline's: that is what is judged, and it is named. What makes the numbers
incomparable (another task, other targets, under 90 % of the rows matched, a run of another config than the present one)
is an error. Cost and latency are no scores of rows: one with a threshold regresses where it fails that threshold.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from evalft import baselines, config, errors, scoring
from evalft.baselines import Baseline, Row
from evalft.comparison import difference_of, value_of
from evalft.config import MetricSpec
from evalft.errors import UserError
from evalft.metrics.names import COSTS, PROBABILISTIC, lower_is_better
from evalft.pipeline import SPLIT_SHARE
from evalft.preparing import prepare
from evalft.records import Example, Failure, Outcome, Prediction
from evalft.scored_run import Side, parse, read
from evalft.stats import holm
from evalft.stats.interval import Interval
from evalft.stats.level import level_reached
from evalft.stats.paired import paired_difference
from evalft.stats.power import CHANCE

Judged = Literal["pass", "regression", "undecided"]
Pairs = Sequence[tuple[Row, Example]]
LEAST_MATCHED = 0.9
"""Of the baseline's rows."""
LEAST_IN_SLICE = 10
PLACES_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Judgement:
    """One metric, or one slice; its difference is turned so that more is better."""

    name: str
    before: float | None
    after: float | None
    change: float | None
    low: float | None
    high: float | None
    p_regression: float
    """How often rows that are not worse than by the margin would look as bad, corrected for all that is judged."""
    tolerance: float | None
    """None: not held against one (slices, cost and latency)."""
    verdict: Judged
    reason: str | None = None
    judged: bool = True
    """False: shown beside, and no part of the verdict."""


@dataclass(frozen=True, slots=True)
class Gate:
    verdict: Judged
    status: int
    metrics: tuple[Judgement, ...]
    slices: tuple[Judgement, ...]
    run: str
    """RUN:CANDIDATE"""
    baseline: str
    matched: int
    only_baseline: int
    only_run: tuple[str, ...]
    """Ids."""
    changed: tuple[str, ...]
    """Settings of the candidate that differ from the baseline's."""
    margin: float
    confidence: float
    notes: tuple[str, ...]


def gate(baseline: Path, run: str, present: Path | None = None) -> Gate:
    """Hold RUN (or RUN:CANDIDATE) against a baseline file. present: the config that the run must be of; None: any.

    Raises UserError where the two cannot be compared, or the run is not whole."""
    known = baselines.read_file(baseline)
    side = read(*parse(run, usual=known.head["candidate"]["name"]))
    baselines.whole(side)
    settings = config.load(present or side.folder.file("config"))
    if present:
        _require_present(side, present)
    _require_same_task(known, side)
    pairs, only_baseline, only_run = _matched(known, side)
    confidence = float(side.summary["confidence"] or 0.95)
    labels = baselines.labels_of(side)
    metrics = _metrics(known, side, pairs, labels)
    slices = _slices(known, side, pairs, next(iter(metrics)))
    margin, tolerance = settings.gate.margin, settings.gate.tolerance
    levels = {name: _level(one.difference, margin) for name, one in {**metrics, **slices}.items()}
    corrected = holm.adjusted(levels)
    same = all(_same(row, side, example, labels) for row, example in pairs)
    judged = [
        *(_judgement(name, one, corrected[name], confidence, tolerance, same) for name, one in metrics.items()),
        *_costs(side),
    ]
    of_slices = [_judgement(name, one, corrected[name], confidence, math.inf, same) for name, one in slices.items()]
    verdicts = {one.verdict for one in [*judged, *of_slices]}
    verdict: Judged = "regression" if "regression" in verdicts else "undecided" if "undecided" in verdicts else "pass"
    return Gate(
        verdict=verdict,
        status=_status(verdict, side, settings.gate.undecided),
        metrics=tuple(judged),
        slices=tuple(replace(one, tolerance=None) for one in of_slices),
        run=side.name,
        baseline=known.path,
        matched=len(pairs),
        only_baseline=only_baseline,
        only_run=only_run,
        changed=_changed(known, side),
        margin=margin,
        confidence=confidence,
        notes=_notes(side, same, present),
    )


# ---------------------------------------------------------------- what cannot be compared


def _require_present(side: Side, present: Path) -> None:
    """A run of yesterday's config says nothing of today's."""
    wanted, own = config.load(present), side.folder.manifest().get("digest")
    splits = (None,) if wanted.task.train else (None, SPLIT_SHARE)  # as `assess` and as `run` takes a lone file
    if all(prepare(wanted, out=side.folder.path, split=share).digest != own for share in splits):
        raise UserError(
            f"{side.folder.path}: is not a run of {present} as it is now (data, candidates or prompts differ); run `evalft "
            f"assess {present}` and name the folder that it writes"
        )


def _require_same_task(known: Baseline, side: Side) -> None:
    own, theirs = baselines.task_of(side), known.head["task"]
    faults = [
        f"task.{key}: {theirs.get(key)} in {known.path}, {own[key]} in {side.folder.path}"
        for key in baselines.TASK_KEYS
        if own[key] != theirs.get(key)
    ]
    if faults:
        raise UserError(*(f"{fault}; write the baseline again with `evalft baseline`" for fault in faults))


def _matched(known: Baseline, side: Side) -> tuple[Pairs, int, tuple[str, ...]]:
    """(pairs of rows with one content, how many rows only the baseline has, the ids of those only the run has). Rows that
    repeat are matched once each."""
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in known.rows:
        rows[row.content].append(row)
    pairs: list[tuple[Row, Example]] = []
    other_target: list[Example] = []
    only_run: list[str] = []
    for example in side.examples:
        content, target = baselines.content_of(example)
        twin = next((row for row in rows[content] if row.target == target), None)
        if twin is not None:
            rows[content].remove(twin)
            pairs.append((twin, example))
        elif rows[content]:
            other_target.append(example)
        else:
            only_run.append(example.id)
    if other_target:
        places = ", ".join(example.source or example.id for example in other_target[:PLACES_SHOWN])
        raise UserError(
            f"{known.path}: {len(other_target):,} rows have another target than in the baseline ({places}), so what is right "
            "has changed; write the baseline again with `evalft baseline`"
        )
    if len(pairs) < LEAST_MATCHED * len(known.rows) or not pairs:
        raise UserError(
            f"{known.path}: only {len(pairs):,} of its {len(known.rows):,} rows are in {side.folder.path}, and "
            f"{LEAST_MATCHED:.0%} are needed; write the baseline of this test set with `evalft baseline`"
        )
    return pairs, len(known.rows) - len(pairs), tuple(only_run)


# ---------------------------------------------------------------- differences


@dataclass(frozen=True, slots=True)
class _Compared:
    before: float | None
    after: float | None
    difference: Interval
    """More is better."""


def _metrics(
    known: Baseline, side: Side, pairs: Pairs, labels: Mapping[str, tuple[str, ...] | None]
) -> dict[str, _Compared]:
    """The judged metrics, by the row scores where rows have one, else by the labels that were given."""
    wanted = [name for name in side.entry["thresholds"] or {} if name not in COSTS] or [scoring.primary(side.task)]
    groups = scoring.group_numbers([example for _, example in pairs])
    found = {}
    for name in wanted:
        if name in known.head["scores"] and all(name in side.scores[example.id].values for _, example in pairs):
            before = np.array([row.scores[name] for row, _ in pairs])
            after = np.array([round(side.scores[one.id].values[name], baselines.DIGITS) for _, one in pairs])
            difference = paired_difference(before, after, groups)
            found[name] = _Compared(float(before.mean()), float(after.mean()), difference)
        elif side.task.type == "generation" or name.startswith(PROBABILISTIC):
            raise UserError(
                f"thresholds.{name}: a baseline keeps no probabilities and no texts, so it cannot be judged; set a threshold on "
                "a metric of rows or labels, such as accuracy or f1"
            )
        else:
            found[name] = _of_labels(name, side, pairs, labels, groups)
    return found


def _of_labels(
    name: str,
    side: Side,
    pairs: Pairs,
    labels: Mapping[str, tuple[str, ...] | None],
    groups: NDArray[np.int_] | None,
) -> _Compared:
    task = side.task.model_copy(update={"metrics": [MetricSpec(name=name)]})
    examples = [example for _, example in pairs]
    old, new = (
        scoring.score(examples, [_said(one, given) for one, given in zip(examples, said, strict=True)], task).measures[
            name
        ]
        for said in ([row.labels for row, _ in pairs], [labels[example.id] for example in examples])
    )
    difference, sign = difference_of(old, new, groups), -1.0 if lower_is_better(name) else 1.0
    return _Compared(value_of(old), value_of(new), difference if sign > 0 else _turned(difference))


def _said(example: Example, labels: tuple[str, ...] | None) -> Outcome:
    if labels is None:
        return Failure(example.id, 0, 0, "unparsable", "")
    return Prediction(example.id, 0, 0, None, labels)


def _turned(found: Interval) -> Interval:
    ends = found.ends

    def turned(alpha: float) -> tuple[float, float]:
        low, high = ends(alpha)
        return -high, -low

    return replace(found, value=None if found.value is None else -found.value, ends=turned)


def _slices(known: Baseline, side: Side, pairs: Pairs, first: str) -> dict[str, _Compared]:
    """The row score of the first judged metric, or accuracy, within each slice that has rows enough."""
    names = [name for name in (first, "accuracy", "exact_match") if name in known.head["scores"]]
    members: dict[str, list[tuple[Row, Example]]] = defaultdict(list)
    for row, example in pairs:
        for column, value in example.slices.items():
            members[f"{column}={value}"].append((row, example))
    found = {}
    for slice_name, some in sorted(members.items()):
        if len(some) >= LEAST_IN_SLICE and names:
            before = np.array([row.scores[names[0]] for row, _ in some])
            after = np.array([round(side.scores[one.id].values[names[0]], baselines.DIGITS) for _, one in some])
            groups = scoring.group_numbers([example for _, example in some])
            difference = paired_difference(before, after, groups)
            found[slice_name] = _Compared(float(before.mean()), float(after.mean()), difference)
    return found


# ---------------------------------------------------------------- verdict


def _level(difference: Interval, margin: float) -> float:
    if difference.value is None:
        return 1.0
    return level_reached(difference.ends, -margin, "high", strict=True)


def _judgement(
    name: str, one: _Compared, p_regression: float, confidence: float, tolerance: float | None, same: bool
) -> Judgement:
    from scipy.special import ndtri

    alpha = (1 - confidence) / 2
    shown = one.difference.estimate(confidence)
    if tolerance is None and shown.value is not None and shown.low is not None:
        z = -float(ndtri(alpha))
        tolerance = (shown.value - shown.low) * (z + float(ndtri(CHANCE))) / z
    verdict: Judged = "undecided"
    if p_regression <= alpha:
        verdict = "regression"
    elif same or tolerance == math.inf or shown.low is not None and tolerance is not None and shown.low > -tolerance:
        verdict = "pass"
    return Judgement(
        name, one.before, one.after, shown.value, shown.low, shown.high, p_regression, tolerance, verdict, shown.reason
    )


def _costs(side: Side) -> list[Judgement]:
    verdicts: Mapping[str, Judged] = {"pass": "pass", "fail": "regression", "undecided": "undecided"}
    return [
        Judgement(
            name, None, _measured(side, name), None, None, None, 1.0, None, verdicts[found["status"]],
            f"held against its threshold ({found['require']}), not against the baseline",
        )
        for name, found in (side.entry["thresholds"] or {}).items()
        if name in COSTS
    ]  # fmt: skip


def _measured(side: Side, name: str) -> float | None:
    entry = side.entry
    found = (
        entry["cost_per_query_usd"] if name == "cost_per_query" else entry["latency_s"][name.removeprefix("latency_")]
    )
    return None if found is None else found["value"]


def _same(row: Row, side: Side, example: Example, labels: Mapping[str, tuple[str, ...] | None]) -> bool:
    values = side.scores[example.id].values
    scores = {name: round(values[name], baselines.DIGITS) for name in row.scores if name in values}
    given = labels.get(example.id)
    return (
        scores == row.scores and (given is None) == (row.labels is None) and set(given or ()) == set(row.labels or ())
    )


def _status(verdict: Judged, side: Side, undecided: str) -> int:
    coverage = side.entry["coverage"]
    if coverage["scored"] < (side.summary.get("min_coverage") or 0) * coverage["total"]:
        return errors.COVERAGE
    if verdict == "regression":
        return errors.FAILED
    return errors.UNDECIDED if verdict == "undecided" and undecided == "fail" else errors.DONE


def _changed(known: Baseline, side: Side) -> tuple[str, ...]:
    before, after = known.head["candidate"], baselines.settings_of(side)
    return tuple(
        f"{key}: {_short(before.get(key))} -> {_short(after.get(key))}"
        for key in dict.fromkeys([*before, *after])
        if before.get(key) != after.get(key)
    )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _notes(side: Side, same: bool, present: Path | None) -> tuple[str, ...]:
    notes = []
    if same:
        notes.append("every answer scores as it did in the baseline")
    if not present:
        notes.append("whether the run is of the present config was not looked at (--config names one)")
    coverage = side.entry["coverage"]
    if coverage["scored"] < coverage["total"]:
        notes.append(
            f"{coverage['total'] - coverage['scored']:,} of {coverage['total']:,} rows failed and count as misses"
        )
    return tuple(notes)
