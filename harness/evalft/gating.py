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
is an error. Cost and latency are no scores of rows: they are judged where something is required of them (a threshold, or
gate.cost_margin and gate.latency_margin), and else shown beside. See docs/decisions/0035.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evalft import baselines, config, errors, scoring
from evalft.baselines import Baseline, Row, Said
from evalft.comparison import difference_of, value_of
from evalft.config import MetricSpec, Threshold, parse_threshold
from evalft.errors import UserError
from evalft.gate_costs import COST, costs_of, judged_cost, judged_latency
from evalft.gate_judgement import Judged, Judgement
from evalft.metrics import probability
from evalft.metrics.labels import LabelArrays
from evalft.metrics.measure import Floats, Ints
from evalft.metrics.names import COSTS, PROBABILISTIC, lower_is_better
from evalft.pipeline import SPLIT_SHARE
from evalft.preparing import prepare
from evalft.scored_run import Side, parse, read
from evalft.stats import holm
from evalft.stats.interval import Interval
from evalft.stats.level import level_reached
from evalft.stats.paired import paired_difference
from evalft.stats.power import CHANCE
from evalft.votes import Votes

if TYPE_CHECKING:
    from pandas import DataFrame

LEAST_MATCHED = 0.9
"""Of the baseline's rows."""
LEAST_IN_SLICE = 10
PLACES_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Gate:
    verdict: Judged
    status: int
    metrics: tuple[Judgement, ...]
    slices: tuple[Judgement, ...]
    beside: tuple[Judgement, ...]
    """Cost and latency of which nothing is required: no part of the verdict."""
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

    def frame(self) -> DataFrame:
        """One row per metric and slice, and per cost or latency beside: kind, then the fields of a Judgement."""
        import pandas as pd

        kinds = {"metric": self.metrics, "slice": self.slices, "beside": self.beside}
        return pd.DataFrame([{"kind": kind, **asdict(one)} for kind, some in kinds.items() for one in some])


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
    said = baselines.said_of(side)
    thresholds = (  # those of the present config; without one, those that the run was last decided under
        {threshold.metric: threshold for threshold in settings.parsed_thresholds}
        if present
        else {name: parse_threshold(name, text) for name, text in (side.summary["thresholds"] or {}).items()}
    )
    metrics = _metrics(known, side, pairs, said, thresholds)
    slices = _slices(known, side, pairs, next(iter(metrics)))
    margin, tolerance = settings.gate.margin, settings.gate.tolerance
    levels = {name: _level(one.difference, margin) for name, one in {**metrics, **slices}.items()}
    costs = costs_of(side, known, pairs.known, pairs.own, said, settings.gate.cost_margin)
    if costs.held:
        levels[COST] = _level(costs.held, 0.0)
    corrected = holm.adjusted(levels)
    same = _same(side, pairs, said)
    judged = [_judgement(name, one, corrected[name], confidence, tolerance, same) for name, one in metrics.items()]
    beside = []
    for found in (
        judged_cost(side, costs, corrected.get(COST), confidence, settings.gate.cost_margin, thresholds.get(COST)),
        *(
            judged_latency(side, known, name, settings.gate.latency_margin, thresholds.get(name))
            for name in ("latency_p50", "latency_p95")
        ),
    ):
        if found.verdict:
            judged.append(found)
        elif found.after is not None:
            beside.append(found)
    of_slices = [_judgement(name, one, corrected[name], confidence, math.inf, same) for name, one in slices.items()]
    verdicts = {one.verdict for one in [*judged, *of_slices]}
    verdict: Judged = "regression" if "regression" in verdicts else "undecided" if "undecided" in verdicts else "pass"
    return Gate(
        verdict=verdict,
        status=_status(verdict, side, settings.gate.undecided),
        metrics=tuple(judged),
        slices=tuple(replace(one, tolerance=None) for one in of_slices),
        beside=tuple(beside),
        run=side.name,
        baseline=known.path,
        matched=len(pairs.known),
        only_baseline=only_baseline,
        only_run=only_run,
        changed=_changed(known, side),
        margin=margin,
        confidence=confidence,
        notes=_notes(known, side, same, present),
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
        f"task.{key}: {_plainly(theirs.get(key))} in {known.path} but {_plainly(own[key])} in {side.folder.path}"
        for key in baselines.TASK_KEYS
        if own[key] != theirs.get(key)
    ]
    if faults:
        raise UserError(*(f"{fault}; write the baseline again with `evalft baseline`" for fault in faults))


def _plainly(value: Any) -> str:
    """A metric as its name, with its options where it has some."""
    if isinstance(value, list):
        return ", ".join(map(_plainly, value)) or "none"
    if isinstance(value, Mapping) and "name" in value:
        return f"{value['name']} {value['options']}" if value.get("options") else str(value["name"])
    return str(value)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Rows with one content, in the order of the run."""

    known: list[Row]
    own: Ints
    """(m,) places among the run's scored rows."""


def _matched(known: Baseline, side: Side) -> tuple[Pairs, int, tuple[str, ...]]:
    """(pairs of rows with one content, how many rows only the baseline has, the ids of those only the run has). Rows that
    repeat are matched once each."""
    waiting: dict[str, list[Row]] = defaultdict(list)
    for row in known.rows:
        waiting[row.content].append(row)
    pairs: list[Row] = []
    own: list[int] = []
    other_target: list[int] = []
    only_run: list[str] = []
    for place, (content, target) in enumerate(baselines.contents(side.rows)):
        twin = next((row for row in waiting[content] if row.target == target), None)
        if twin is not None:
            waiting[content].remove(twin)
            pairs.append(twin)
            own.append(place)
        elif waiting[content]:
            other_target.append(place)
        else:
            only_run.append(side.rows.ids[place])
    if other_target:
        ids = {side.rows.ids[place] for place in other_target[:PLACES_SHOWN]}
        examples = (example for example in side.folder.read_examples("test") if example.id in ids)
        places = ", ".join(example.source or example.id for example in examples)
        raise UserError(
            f"{known.path}: {len(other_target):,} rows have another target than in the baseline ({places}), so what is right "
            "has changed; write the baseline again with `evalft baseline`"
        )
    if len(pairs) < LEAST_MATCHED * len(known.rows) or not pairs:
        raise UserError(
            f"{known.path}: only {len(pairs):,} of its {len(known.rows):,} rows are in {side.folder.path}, and "
            f"{LEAST_MATCHED:.0%} are needed; write the baseline of this test set with `evalft baseline`"
        )
    return Pairs(pairs, np.array(own, dtype=np.int64)), len(known.rows) - len(pairs), tuple(only_run)


# ---------------------------------------------------------------- differences


@dataclass(frozen=True, slots=True)
class _Compared:
    before: float | None
    after: float | None
    difference: Interval
    """More is better."""


def _metrics(
    known: Baseline, side: Side, pairs: Pairs, said: Said, thresholds: Mapping[str, Threshold]
) -> dict[str, _Compared]:
    """The judged metrics, by the row scores where rows have one, else by the labels that were given."""
    wanted = [name for name in thresholds if name not in COSTS] or [scoring.primary(side.task)]
    groups = side.rows.group_numbers(pairs.own)
    found = {}
    for name in wanted:
        if name in known.head["scores"] and side.rows.has(name, pairs.own):
            found[name] = _of_rows(*_scores(name, side, pairs), groups)
        elif side.task.type == "generation":
            raise UserError(
                f"thresholds.{name}: not every row has a score of it, and a baseline keeps no texts, so it cannot be judged; set "
                "a threshold on a metric of rows, such as exact_match"
            )
        else:
            if name.startswith(PROBABILISTIC):
                _require_probabilities(name, known, side)
            found[name] = _of_labels(name, side, pairs, said, groups)
    return found


def _scores(name: str, side: Side, pairs: Pairs) -> tuple[Floats, Floats]:
    """The row scores (m,) of both."""
    return np.array([row.scores[name] for row in pairs.known]), baselines.rounded(side.rows.values[name][pairs.own])


def _of_rows(before: Floats, after: Floats, groups: Ints | None) -> _Compared:
    return _Compared(float(before.mean()), float(after.mean()), paired_difference(before, after, groups))


def _require_probabilities(name: str, known: Baseline, side: Side) -> None:
    """Labels alone are as good as the method `hard` has; any other kind must be in the file."""
    if "hard" in (known.head.get("probs_method"), baselines.probs_method(side)) or known.head.get("probabilities"):
        return
    if len(side.task.labels or ()) > baselines.LABELS_WITH_PROBABILITIES:
        raise UserError(
            f"thresholds.{name}: a baseline keeps the probabilities of at most {baselines.LABELS_WITH_PROBABILITIES} labels, and "
            f"this task has {len(side.task.labels or ()):,}, so it cannot be judged; set a threshold on a metric of rows or labels, "
            "such as accuracy or f1"
        )
    raise UserError(
        f"thresholds.{name}: {known.path} keeps no probabilities; write it again with `evalft baseline`, from a run that "
        f"measures {name}"
    )


def _of_labels(
    name: str,
    side: Side,
    pairs: Pairs,
    said: Said,
    groups: Ints | None,
) -> _Compared:
    task = side.task.model_copy(update={"metrics": [MetricSpec(name=name)]})
    voted = side.rows.votes
    assert voted is not None, "the task has labels"
    rows = voted.rows.at(pairs.own)
    given = [said.rows[place] for place in pairs.own.tolist()]
    after = _votes(rows, [one.probs for one in given])
    before = _votes(_labels_of(pairs.known, rows), [row.probs for row in pairs.known])
    old, new = (scoring.label_measures(side_votes, task)[name] for side_votes in (before, after))
    difference, sign = difference_of(old, new, groups), -1.0 if lower_is_better(name) else 1.0
    return _Compared(value_of(old), value_of(new), difference if sign > 0 else _turned(difference))


def _labels_of(known: Sequence[Row], rows: LabelArrays) -> LabelArrays:
    """What the baseline's rows were said to be; their targets are those of the run's `rows`."""
    place = {label: i for i, label in enumerate(rows.labels)}
    said = [(row, place[label]) for row, one in enumerate(known) for label in one.labels or () if label in place]
    predicted = np.zeros_like(rows.predicted)
    predicted[tuple(np.array(said, dtype=np.int64).reshape(-1, 2).T)] = True
    failed = np.array([row.labels is None for row in known], dtype=bool)
    return replace(rows, predicted=predicted, failed=failed, unknown=np.zeros_like(failed))


def _votes(rows: LabelArrays, probs: Sequence[Mapping[str, float] | None]) -> Votes:
    return Votes(rows, rows.right, probability.given(((one, None, None) for one in probs), rows.labels))


def _turned(found: Interval) -> Interval:
    ends = found.ends

    def turned(alpha: float) -> tuple[float, float]:
        low, high = ends(alpha)
        return -high, -low

    return replace(found, value=None if found.value is None else -found.value, ends=turned)


def _slices(known: Baseline, side: Side, pairs: Pairs, first: str) -> dict[str, _Compared]:
    """The row score of the first judged metric, or accuracy, within each slice that has rows enough."""
    names = [name for name in (first, "accuracy", "exact_match") if name in known.head["scores"]]
    if not names:
        return {}
    before, after = _scores(names[0], side, pairs)
    return {
        name: _of_rows(before[members], after[members], side.rows.group_numbers(pairs.own[members]))
        for name, members in sorted(side.rows.slice_rows(pairs.own).items())
        if len(members) >= LEAST_IN_SLICE
    }


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
    too_few = False
    if tolerance is None and shown.value is not None and shown.low is not None:
        z = -float(ndtri(alpha))
        tolerance = min(1.0, (shown.value - shown.low) * (z + float(ndtri(CHANCE))) / z)
        too_few = tolerance == 1.0  # to show any difference, so that there is none that they rule out
    within = tolerance == math.inf or shown.low is not None and tolerance is not None and shown.low > -tolerance
    verdict: Judged = "undecided"
    if p_regression <= alpha:
        verdict = "regression"
    elif same or (within and not too_few):
        verdict = "pass"
    return Judgement(
        name, one.before, one.after, shown.value, shown.low, shown.high, p_regression, tolerance, verdict, shown.reason
    )


def _same(side: Side, pairs: Pairs, said: Said) -> bool:
    """Every row has the scores, labels and probabilities of the baseline."""
    for name in pairs.known[0].scores:
        if not side.rows.has(name, pairs.own) or not np.array_equal(*_scores(name, side, pairs)):
            return False
    return all(
        (given.labels is None) == (row.labels is None)
        and set(given.labels or ()) == set(row.labels or ())
        and given.probs == row.probs
        for row, given in zip(pairs.known, (said.rows[place] for place in pairs.own.tolist()), strict=True)
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


def _notes(known: Baseline, side: Side, same: bool, present: Path | None) -> tuple[str, ...]:
    notes = []
    before, after = known.head.get("probs_method"), baselines.probs_method(side)
    if before and after and before != after:
        notes.append(f"probabilities are from {before} in the baseline and from {after} in the run")
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
