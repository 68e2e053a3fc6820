"""One candidate's outcomes -> row scores, metrics with intervals, coverage: examples x outcomes -> Scored.

A failure stays in every denominator as a miss. Where a candidate gave several answers per example (`samples`), labels are
voted for (`votes`); a generated text scores the mean over its answers, failures being 0.

Every number can be had again from predictions/<candidate>.jsonl by scikit-learn; `metrics.labels` says with which arrays.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from hashlib import sha256
from pathlib import Path

import numpy as np

from evalft import answers, metrics, plugins, votes
from evalft.config import MetricSpec, TaskConfig, is_given
from evalft.errors import UserError
from evalft.metrics import cost, curves, judge, measure, probability, text
from evalft.metrics import labels as label_metrics
from evalft.metrics.measure import Floats, Ints, Measure
from evalft.metrics.names import COSTS, PROBABILISTIC
from evalft.records import Example, Failure, FailureKind, Outcome, Prediction, ProbsMethod, Score, TaskType
from evalft.sequences import Computed
from evalft.stats.interval import Interval
from evalft.testset.rows import FAULTS_SHOWN
from evalft.votes import Votes

Words = Mapping[tuple[int, int], judge.Words]
"""(index, repeat) of an answer -> the scores that judges gave it."""

ROWS_AT_ONCE = 10_000
"""Of texts that are held in memory together."""
ROWS_PER_CLASS = 10
"""With fewer rows of some class a macro metric is not known well enough to pass a threshold."""
NO_LABEL = "(no label)"
"""The confusion matrix's column of failures and labels that the task does not have."""


@dataclass(frozen=True)
class Coverage:
    """How many examples were answered. One of several answers that can be read is enough; else its first failure counts."""

    total: int
    scored: int
    rescued: int
    """Examples with an answer that only the lenient parser understood."""
    failures: Mapping[str, int]


@dataclass(frozen=True)
class LabelRow:
    """One line of the per-label table; `roc_auc` is against all other labels, None where it is not defined."""

    label: str
    support: int
    precision: float
    recall: float
    f1: float
    roc_auc: float | None


@dataclass(frozen=True)
class Confusion:
    """Classification: counts[i][j] rows of target labels[i] were said to be columns[j]; the last column is NO_LABEL."""

    labels: tuple[str, ...]
    columns: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Scored:
    """All that is known about one candidate on the test set. `resample` asks for the same metrics on other rows."""

    scores: Sequence[Score]
    intervals: Mapping[str, Interval]
    """Per metric, strict_accuracy beside accuracy, cost_per_query (USD), latency_p50 and latency_p95 (s)."""
    cannot_pass: Mapping[str, str]
    """Macro metrics that may not pass a threshold, with the class that has too few rows."""
    smallest_class: int | None
    """Rows of the rarest label; None for generation."""
    coverage: Coverage
    probs_method: ProbsMethod | None
    per_label: tuple[LabelRow, ...]
    confusion: Confusion | None
    roc: curves.Roc | None
    calibration: tuple[curves.Bin, ...]
    """Both empty where no probabilities came."""
    unsupported: tuple[str, ...]
    """Labels of the task that no target has: no average holds them."""
    primary: str
    row_metric: str
    """The row score that stands for the primary metric: its own, or accuracy where rows have none of it (macro F1, AUC)."""
    measures: Mapping[str, Measure]
    """What `intervals` are of, as functions of weighted rows: another candidate's on the same rows can be set against."""
    resample: Callable[[Ints], Mapping[str, float]]
    """Row numbers (m,), repeats allowed -> every metric on those rows; nan where it is not defined there."""

    @property
    def row_scores(self) -> Floats:
        """The row scores (n,) of `row_metric`, higher is better."""
        scores = self.measures[self.row_metric].row_scores
        assert scores is not None, "the row metric has a score of every row"
        return scores


def score(
    examples: Sequence[Example],
    outcomes: Sequence[Outcome],
    task: TaskConfig,
    *,
    extra_metrics: Sequence[str] = (),
    words: Words | None = None,
    seed: int = 0,
) -> Scored:
    """Score one candidate. `task` is resolved (type, labels, metrics); extra_metrics are names that thresholds need;
    `words` are what judges said of its answers, for the metric `judge`.

    Raises ValueError where an example's outcomes are missing, or an outcome belongs to no example.
    """
    per_example = _per_example(examples, outcomes)
    specs = _specs(task, extra_metrics)
    if task.type == "generation":
        judged = _judge_texts(examples, per_example, specs, task, words)
    else:
        judged = _judge_labels(examples, per_example, specs, task)
    measures = {**judged.measures, **cost.measured(per_example)}
    groups = group_numbers(examples)
    intervals = {name: found.interval(groups, seed) for name, found in measures.items()}
    for name in intervals:
        if name.startswith(PROBABILISTIC):
            intervals[name] = replace(intervals[name], probs_method=judged.probs_method)
    row_scores = {name: found.row_scores for name, found in measures.items() if found.row_scores is not None}
    primary_name = specs[0].name
    return Scored(
        scores=_scores(per_example, row_scores),
        intervals=intervals,
        cannot_pass=_cannot_pass(list(intervals), judged.support, task),
        smallest_class=min(judged.support.values(), default=None),
        coverage=_coverage(per_example),
        probs_method=judged.probs_method,
        per_label=judged.per_label,
        confusion=judged.confusion,
        roc=judged.roc,
        calibration=judged.calibration,
        unsupported=tuple(label for label, rows in judged.support.items() if not rows),
        primary=primary_name,
        row_metric=_complete_row_metric(specs, row_scores),
        measures=measures,
        resample=partial(_OnRows, measures),
    )


def elected(examples: Sequence[Example], outcomes: Sequence[Outcome], task: TaskConfig) -> dict[str, votes.Vote]:
    """By example id what its answers come to. Raises ValueError as score() does."""
    labels, task_type = _labels(task, examples), _type(task)
    per_example = _per_example(examples, outcomes)
    return {
        example.id: votes.vote(several, labels, task_type)
        for example, several in zip(examples, per_example, strict=True)
    }


def with_metrics(task: TaskConfig, thresholds: Iterable[str]) -> TaskConfig:
    """The task with its metrics written out (the defaults where it names none). `thresholds` are names to check too.

    Raises UserError with every fault of metrics, their options and the names of thresholds.
    """
    task_type = _type(task)
    specs = task.metrics or [MetricSpec(name=name) for name in metrics.defaults(task_type)]
    faults = metrics.check(specs, task_type, task.labels, task.positive)
    faults += metrics.check_thresholds(list(thresholds), specs, task_type)
    if faults:
        raise UserError(*faults)
    return task.model_copy(update={"metrics": specs})


def primary(task: TaskConfig) -> str:
    """The metric that drives pairs, checkpoints, fixed and broken: the first one."""
    return _specs(task, ())[0].name


def row_metric(task: TaskConfig) -> str:
    """The row score that stands for the primary metric: its own, or accuracy where rows have none of it (F1, AUC); where
    a judge is primary, whose word comes later, the first metric that needs none."""
    name = primary(task)
    if task.type == "generation":
        return _without_judge(_specs(task, ()))[0].name
    average = metrics.averaging(name, _type(task), task.labels or (), task.positive)[1]
    return name if average == "samples" else "accuracy"


def row_scorer(task: TaskConfig) -> Callable[[Example, Outcome], float]:
    """Scores single outcomes as they arrive: the primary metric's row score, or right and wrong where it has none."""
    spec = _without_judge(_specs(task, ()))[0]
    if is_given(spec.name):
        return lambda _example, outcome: _given(spec.name, outcome)
    if task.type == "generation":
        score_text = text.row_scorer(spec, task.normalize)
        return lambda example, outcome: score_text(_text(outcome), example)
    base, average = metrics.averaging(spec.name, _type(task), task.labels or (), task.positive)

    def of_labels(example: Example, outcome: Outcome) -> float:
        said = outcome.labels if isinstance(outcome, Prediction) else None
        wanted = target_labels(example)
        if average == "samples":
            return label_metrics.set_score(base, wanted, said)
        return float(said is not None and set(said) == set(wanted))

    return of_labels


def answer_columns(task: TaskConfig) -> list[str]:
    """The columns that `graded` metrics read accepted answers from."""
    return [str(spec.options["column"]) for spec in task.metrics or () if spec.name == "graded"]


def check_columns(examples: Iterable[Example], task: TaskConfig) -> None:
    """Raises UserError with a line for each row whose accepted answers `graded` cannot read."""
    columns = answer_columns(task)
    found: dict[str, list[str]] = {column: [] for column in columns}
    anywhere: set[str] = set()
    for example in examples if columns else ():
        anywhere.update(column for column in columns if column in example.row)
        for column in columns:
            try:
                text.accepted(example, column)
            except UserError as error:
                found[column] += error.faults
    # a column that no row has is one mistake
    faults = [line for column in columns for line in (found[column] if column in anywhere else found[column][:1])]
    if faults:
        more = [f"... and {len(faults) - FAULTS_SHOWN:,} more bad rows"] if len(faults) > FAULTS_SHOWN else []
        raise UserError(*faults[:FAULTS_SHOWN], *more)


def check_gold(examples: Sequence[Example], task: TaskConfig) -> list[str]:
    """The test set scored by itself: one line for each target that is not right by the task's own metrics."""
    faults: list[str] = []
    if task.type == "generation":
        for start in range(0, len(examples), ROWS_AT_ONCE):
            faults += _check_gold_texts(list(examples[start : start + ROWS_AT_ONCE]), task)
        return faults
    for example in examples:
        wanted = target_labels(example)
        said = ", ".join(wanted) or "[]"
        reading = answers.read(said, "stop", _type(task), task.labels or ())
        if set(reading.labels or ()) != set(wanted) or reading.failure:
            why = reading.message or f"is read as {', '.join(reading.labels or ()) or 'no label'}"
            faults.append(f"{_where(example)}: the target {_short(said)}, given as an answer, {why}")
    return faults


def _check_gold_texts(examples: Sequence[Example], task: TaskConfig) -> Iterator[str]:
    targets = [str(example.target) for example in examples]
    for spec in _without_judge(_specs(task, ())):
        if is_given(spec.name) or plugins.is_one(spec.name):  # a plug-in's need not be about the target
            continue
        scores = text.row_scores(spec, targets, examples, task.normalize)
        for example, target, value in zip(examples, targets, scores, strict=True):
            # A target may be one of the lesser accepted answers; one that is not accepted at all is a mistake.
            if value < 1 - 1e-9 and (spec.name != "graded" or value == 0):
                yield f"{_where(example)}: its own target {_short(target)} scores {value:g} in {spec.name}"
            elif spec.name in ("exact_match", "contains") and not text.normalize(target, task.normalize):
                yield f"{_where(example)}: task.normalize leaves nothing of the target {_short(target)}"


def plugin_versions(task: TaskConfig, also: Iterable[str] = ()) -> dict[str, str]:
    """Of the metrics that other packages bring, by name: another version may score otherwise. also: more metrics."""
    names = {spec.name for spec in task.metrics or ()} | set(also)
    return {name: plugins.version("metrics", name) for name in sorted(names) if plugins.is_one(name)}


@cache
def version() -> str:
    """Which code scores: 8 hex digits of the sources that read answers and score them. Other sources may score alike, the
    same ones do. Recorded with every result; `evalft rescore` says whether it changed."""
    package = Path(__file__).parent
    sources = sorted([*package.glob("metrics/*.py"), *package.glob("stats/*.py")])
    whole = sha256()
    for source in (package / "answers.py", package / "votes.py", Path(__file__), *sources):
        whole.update(source.read_bytes())
    return whole.hexdigest()[:8]


# ---------------------------------------------------------------- outcomes by example


def _per_example(examples: Sequence[Example], outcomes: Sequence[Outcome]) -> Sequence[Sequence[Outcome]]:
    """Each example's outcomes in the order of their repeats; as they stand where they are in this order already."""
    samples = max(1, len(outcomes) // len(examples)) if examples else 1
    places = ((example, repeat) for example in examples for repeat in range(samples))
    in_order = len(outcomes) == samples * len(examples) and all(
        (outcome.id, outcome.repeat) == (example.id, repeat)
        for outcome, (example, repeat) in zip(outcomes, places, strict=True)
    )
    if not in_order:
        outcomes = _ordered(examples, outcomes)
    return Computed(len(examples), lambda row: [outcomes[row * samples + i] for i in range(samples)])


def _ordered(examples: Sequence[Example], outcomes: Iterable[Outcome]) -> list[Outcome]:
    by_id: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_id[outcome.id].append(outcome)
    strange = by_id.keys() - {example.id for example in examples}
    if strange:
        raise ValueError(f"{len(strange)} outcomes belong to no example, the first is {min(strange)!r}")
    most = max(map(len, by_id.values()), default=0)
    for example in examples:
        if len(by_id.get(example.id, ())) != most or not most:
            raise ValueError(f"example {example.id!r} has {len(by_id.get(example.id, ()))} of {most} outcomes")
    return [one for example in examples for one in sorted(by_id[example.id], key=lambda outcome: outcome.repeat)]


def _coverage(per_example: Sequence[Sequence[Outcome]]) -> Coverage:
    failures: Counter[str] = Counter()
    rescued = 0
    for several in per_example:
        failure = _failure(several)
        failures.update([failure] if failure else ())
        rescued += _is_rescued(several)
    return Coverage(
        total=len(per_example),
        scored=len(per_example) - failures.total(),
        rescued=rescued,
        failures=dict(sorted(failures.items())),
    )


def _scores(per_example: Sequence[Sequence[Outcome]], row_scores: Mapping[str, Floats]) -> Sequence[Score]:
    def score_of(row: int) -> Score:
        several = per_example[row]
        values = {name: float(scores[row]) for name, scores in row_scores.items()}
        return Score(
            id=several[0].id,
            index=several[0].index,
            values={name: value for name, value in values.items() if not math.isnan(value)},
            failure=_failure(several),
            rescued=_is_rescued(several),
        )

    return Computed(len(per_example), score_of)


def _failure(several: Sequence[Outcome]) -> FailureKind | None:
    """The first of an example's failures, where none of its answers can be read."""
    first = several[0]
    answered = any(isinstance(one, Prediction) for one in several)
    return first.failure if isinstance(first, Failure) and not answered else None


def _is_rescued(several: Sequence[Outcome]) -> bool:
    return any(isinstance(one, Prediction) and one.rescued for one in several)


def group_numbers(examples: Sequence[Example]) -> Ints | None:
    """(n,) a number for each group; a row without one is a group of its own. None where no row has a group."""
    if all(example.group is None for example in examples):
        return None
    numbers: dict[object, int] = {}
    keys = (one.group if one.group is not None else i for i, one in enumerate(examples))
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


# ---------------------------------------------------------------- judging


def label_measures(voted: Votes, task: TaskConfig, extra_metrics: Sequence[str] = ()) -> dict[str, Measure]:
    """The metrics of a task of labels, as `score` gives them, of answers that are counted already."""
    return _of_labels(_specs(task, extra_metrics), voted, probability.forecast(voted.rows, voted.given), task)


def _of_labels(
    specs: Sequence[MetricSpec], voted: Votes, said: probability.Forecast, task: TaskConfig
) -> dict[str, Measure]:
    found = {}
    for name in dict.fromkeys([*(spec.name for spec in specs), "accuracy", "strict_accuracy"]):
        if name == "strict_accuracy":
            found[name] = measure.share(voted.strictly_right)
        elif name.startswith(PROBABILISTIC):
            found[name] = probability.measured(name, voted.rows, said, _type(task), task.positive)
        else:
            found[name] = label_metrics.measured(name, voted.rows, _type(task), task.positive)
    return found


@dataclass(frozen=True)
class _Judged:
    measures: Mapping[str, Measure]
    support: Mapping[str, int]
    """Rows of each label."""
    probs_method: ProbsMethod | None = None
    per_label: tuple[LabelRow, ...] = ()
    confusion: Confusion | None = None
    roc: curves.Roc | None = None
    calibration: tuple[curves.Bin, ...] = ()


def _judge_texts(
    examples: Sequence[Example],
    per_example: Sequence[Sequence[Outcome]],
    specs: Sequence[MetricSpec],
    task: TaskConfig,
    words: Words | None,
) -> _Judged:
    samples = len(per_example[0]) if per_example else 1
    values = {spec.name: np.zeros(len(examples)) for spec in specs}
    for start in range(0, len(examples), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        said = [_text(outcome) for several in per_example[rows] for outcome in several]
        asked = [example for example in examples[rows] for _ in range(samples)]
        for spec in _without_judge(specs):
            if is_given(spec.name):
                scores = np.array([_given(spec.name, outcome) for several in per_example[rows] for outcome in several])
            else:
                scores = text.row_scores(spec, said, asked, task.normalize)
            values[spec.name][rows] = scores.reshape(-1, samples).mean(axis=1)
    found = {}
    for spec in specs:
        given = is_given(spec.name)
        right_or_wrong = spec.name in text.RIGHT_OR_WRONG or (given and bool(np.isin(values[spec.name], (0, 1)).all()))
        exact = samples == 1 and right_or_wrong
        if spec.name == "judge":
            found["judge"] = _by_judges(per_example, words)
        else:
            found[spec.name] = measure.share(values[spec.name] == 1) if exact else measure.mean(values[spec.name])
    return _Judged(found, support={})


def _given(name: str, outcome: Outcome) -> float:
    """The score that came with an answer; 0 for a failure, and where it has none."""
    return (outcome.scores or {}).get(name, 0.0) if isinstance(outcome, Prediction) else 0.0


def _by_judges(per_example: Sequence[Sequence[Outcome]], words: Words | None) -> Measure:
    if words is None:
        return measure.not_measured(len(per_example), "bca", "not judged on these rows")
    return judge.measured([[words.get((one.index, one.repeat), (None,)) for one in row] for row in per_example])


def _judge_labels(
    examples: Sequence[Example], per_example: Sequence[Sequence[Outcome]], specs: Sequence[MetricSpec], task: TaskConfig
) -> _Judged:
    task_type, labels = _type(task), _labels(task, examples)
    gathering = votes.Gathering(labels)
    for example, several in zip(examples, per_example, strict=True):
        gathering.append(target_labels(example), votes.vote(several, labels, task_type))
    voted = gathering.votes()
    rows, said = voted.rows, probability.forecast(voted.rows, voted.given)
    found = _of_labels(specs, voted, said, task)
    table = label_metrics.per_label(rows)
    aucs = probability.label_auc(rows, said, task_type)
    return _Judged(
        found,
        support={label: int(n) for label, n in zip(labels, table["support"], strict=True)},
        probs_method=said.method,
        per_label=tuple(
            LabelRow(
                label=labels[i],
                support=int(table["support"][i]),
                precision=float(table["precision"][i]),
                recall=float(table["recall"][i]),
                f1=float(table["f1"][i]),
                roc_auc=aucs[i],
            )
            for i in rows.supported
        ),
        confusion=_confusion(rows) if task_type == "classification" else None,
        roc=curves.roc(rows, said, task_type, task.positive),
        calibration=curves.calibration(rows, said, task_type, group_numbers(examples)),
    )


def _confusion(rows: label_metrics.LabelArrays) -> Confusion:
    counts = tuple(tuple(int(count) for count in line) for line in label_metrics.confusion(rows))
    return Confusion(rows.labels, (*rows.labels, NO_LABEL), counts)


def _cannot_pass(names: Sequence[str], support: Mapping[str, int], task: TaskConfig) -> dict[str, str]:
    rare = sorted((rows, label) for label, rows in support.items() if rows < ROWS_PER_CLASS)
    if not rare:
        return {}
    rows, label = rare[0]
    others = f", and {len(rare) - 1} more classes under {ROWS_PER_CLASS}" if len(rare) > 1 else ""
    count = f"{rows} row{'s' if rows != 1 else ''}"
    reason = f"class {label!r} has {count}{others}; a macro metric cannot pass with under {ROWS_PER_CLASS} of a class"
    macro = [name for name in names if metrics.is_macro(name, _type(task), list(support), task.positive)]
    return dict.fromkeys(macro, reason)


class _OnRows(Mapping[str, float]):
    """Every metric on a choice of rows, worked out when asked for: thousands of choices need few of the metrics."""

    def __init__(self, measures: Mapping[str, Measure], index: Ints) -> None:
        self._measures, self._index = measures, index

    def __getitem__(self, name: str) -> float:
        found = self._measures[name]
        size = int(found.cells.max(initial=-1)) + 1
        weights = np.bincount(found.cells[self._index], minlength=size).astype(np.float64)
        return float(found.statistic(weights[None, :])[0])

    def __iter__(self) -> Iterator[str]:
        return iter(self._measures)

    def __len__(self) -> int:
        return len(self._measures)


# ---------------------------------------------------------------- small things


def _type(task: TaskConfig) -> TaskType:
    assert task.type is not None, "the task is resolved"
    return task.type


def _specs(task: TaskConfig, extra: Sequence[str]) -> list[MetricSpec]:
    specs = list(task.metrics or [MetricSpec(name=name) for name in metrics.defaults(_type(task))])
    listed = {spec.name for spec in specs}
    specs += [MetricSpec(name=name) for name in dict.fromkeys(extra) if name not in listed and name not in COSTS]
    if all(spec.name == "judge" for spec in specs):  # beside a judge there is always a metric that no model gives
        specs.append(MetricSpec(name="exact_match"))
    return specs


def _without_judge(specs: Sequence[MetricSpec]) -> list[MetricSpec]:
    return [spec for spec in specs if spec.name != "judge"]


def _complete_row_metric(specs: Sequence[MetricSpec], row_scores: Mapping[str, Floats]) -> str:
    """The primary metric where every row has a score of it; else accuracy, or the first metric that every row has."""
    for name in (specs[0].name, "accuracy", *(spec.name for spec in specs)):
        if name in row_scores and not np.isnan(row_scores[name]).any():
            return name
    raise ValueError("no metric has a score of every row")


def _labels(task: TaskConfig, examples: Sequence[Example]) -> tuple[str, ...]:
    return tuple(task.labels or sorted({label for example in examples for label in target_labels(example)}))


def target_labels(example: Example) -> tuple[str, ...]:
    """What a task of labels wants of the row."""
    return (example.target,) if isinstance(example.target, str) else example.target


def _text(outcome: Outcome) -> str | None:
    return answers.without_thinking(outcome.text or "") if isinstance(outcome, Prediction) else None


def _where(example: Example) -> str:
    return example.source or f"example {example.id!r}"


def _short(value: str) -> str:
    return repr(value if len(value) <= 60 else value[:60] + "...")
