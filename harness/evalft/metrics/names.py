"""The names of metrics: which there are for a task, what a bare name means, and what is wrong with those asked for."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Literal

from evalft import plugins
from evalft.config import MetricSpec, is_given
from evalft.records import TaskType

Average = Literal["micro", "macro", "weighted", "samples", "positive", "binary"]
"""positive: of `task.positive` alone; binary: of the second of two classes, whose AUC is that of the first."""

COUNTED = ("precision", "recall", "f1", "jaccard")
RANKED = ("roc_auc", "pr_auc")
PROBABILISTIC = (*RANKED, "brier", "ece")
COSTS = ("cost_per_query", "latency_p50", "latency_p95")
"""What a threshold may be on beside metrics."""

_ON_LABELS = (
    "accuracy",
    "strict_accuracy",
    *(f"{name}{average}" for name in COUNTED for average in ("", "_micro", "_macro", "_weighted")),
    *(f"{name}{average}" for name in RANKED for average in ("", "_micro", "_macro", "_weighted")),
    "hamming",
    "brier",
    "ece",
)
_AVAILABLE: Mapping[TaskType, tuple[str, ...]] = {
    "classification": (*_ON_LABELS, "balanced_accuracy", "mcc"),
    "multilabel": (*_ON_LABELS, *(f"{name}_samples" for name in COUNTED)),
    "generation": (
        "exact_match",
        "contains",
        "regex",
        "json_schema",
        "numeric",
        "token_f1",
        "graded",
        "bleu",
        "chrf",
        "rouge",
        "judge",
    ),
}
_DEFAULTS: Mapping[TaskType, tuple[str, ...]] = {
    "classification": ("accuracy", "f1", "jaccard", "roc_auc"),
    "multilabel": ("jaccard", "f1", "roc_auc", "accuracy"),
    "generation": ("exact_match", "token_f1"),
}
_OPTIONS = {
    "regex": ("pattern",),
    "json_schema": ("schema",),
    "numeric": ("tolerance",),
    "contains": ("ignore_case",),
    "graded": ("column",),
    "judge": ("pairwise",),
}


def available(task_type: TaskType) -> tuple[str, ...]:
    return _AVAILABLE[task_type]


def defaults(task_type: TaskType) -> tuple[str, ...]:
    """The metrics of a task that names none; the first is primary."""
    return _DEFAULTS[task_type]


def lower_is_better(name: str) -> bool:
    return name in ("hamming", "brier", "ece", *COSTS)


def averaging(
    name: str, task_type: TaskType, labels: Sequence[str], positive: str | None
) -> tuple[str, Average | None]:
    """A metric's name as what is computed and how it is averaged over labels (None: it is not)."""
    if name == "balanced_accuracy":
        return "recall", "macro"
    for average in ("micro", "macro", "weighted", "samples"):
        base = name.removesuffix(f"_{average}")
        if base != name and base in (*COUNTED, *RANKED):
            return base, average
    if name not in (*COUNTED, *RANKED):
        return name, None
    if positive is not None:
        return name, "positive"
    if name in RANKED:
        return name, "binary" if task_type == "classification" and len(labels) == 2 else "macro"
    return name, "macro" if task_type == "classification" else "samples"


def is_macro(name: str, task_type: TaskType, labels: Sequence[str], positive: str | None) -> bool:
    """Whether every class counts the same in it, so that a class of a few rows can move it."""
    return averaging(name, task_type, labels, positive)[1] == "macro"


# ---------------------------------------------------------------- faults


def check(
    specs: Sequence[MetricSpec], task_type: TaskType, labels: Sequence[str] | None, positive: str | None
) -> list[str]:
    """What is wrong with `task.metrics` and `task.positive`, one line each; empty when all is well."""
    faults = []
    seen = set()
    for spec in specs:
        where = f"task.metrics: {spec.name}"
        if spec.name in seen:
            faults.append(f"{where}: is listed twice")
        seen.add(spec.name)
        fault = _unknown(spec.name, task_type) or _wrong_options(spec)
        if fault:
            faults.append(f"{where}: {fault}")
    if positive is not None and task_type == "generation":
        faults.append("task.positive: has no meaning for generation; remove it")
    elif positive is not None and labels is not None and positive not in labels:
        faults.append(f"task.positive: {positive!r} is not one of the labels ({', '.join(labels[:20])})")
    return faults


def check_thresholds(names: Sequence[str], specs: Sequence[MetricSpec], task_type: TaskType) -> list[str]:
    """What is wrong with the names that thresholds are on; a metric with options takes those of `task.metrics`."""
    listed = {spec.name for spec in specs}
    faults = []
    for name in names:
        if name in listed or name in COSTS:
            continue
        fault = _unknown(name, task_type, also=COSTS) or _wrong_options(MetricSpec(name=name))
        if fault:
            faults.append(f"thresholds: {name}: {fault}")
    return faults


def _unknown(name: str, task_type: TaskType, also: Sequence[str] = ()) -> str | None:
    if is_given(name):
        return (
            None
            if task_type == "generation"
            else "a score that came with answers is of texts, and this task has labels"
        )
    if plugins.is_one(name):
        score_texts = None if task_type == "generation" else "a plug-in scores texts, and this task has labels"
        return score_texts or plugins.fault("metrics", name)
    known = [*available(task_type), *also]
    if name in known:
        return None
    for other, names in _AVAILABLE.items():
        if name in names:
            return (
                f"is a metric of {other} tasks; this task is {task_type} (known: {', '.join(defaults(task_type))}, ...)"
            )
    begin_alike = [one for one in known if len(name) > 2 and one.startswith(name)]
    near = begin_alike or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"unknown metric; did you mean {near[0]!r}?" if near else f"unknown metric; known: {', '.join(known)}"


def _wrong_options(spec: MetricSpec) -> str | None:
    if plugins.is_one(spec.name):
        return None  # its own to check
    known = _OPTIONS.get(spec.name, ())
    for option in spec.options:
        if option not in known:
            near = difflib.get_close_matches(option, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(known) or 'none'}"
            return f"unknown option {option!r}; {hint}"
    value = next(iter(spec.options.values()), None)
    if spec.name == "regex":
        return _wrong_pattern(value)
    if spec.name == "json_schema":
        return _wrong_schema(value)
    if spec.name == "numeric" and value is not None and not _is_amount(value):
        return f"tolerance is a number of at least 0, not {value!r}"
    if spec.name == "graded" and not isinstance(value, str):
        return "needs the column that lists a row's accepted answers; write {graded: {column: answers}}"
    if spec.name == "judge" and value is not None and not isinstance(value, bool):
        return f"pairwise is true or false, not {value!r}"
    if spec.name == "contains" and value is not None and not isinstance(value, bool):
        return f"ignore_case is true or false, not {value!r}"
    return None


def _wrong_pattern(pattern: object) -> str | None:
    if not isinstance(pattern, str):
        return 'needs a pattern; write {regex: {pattern: "^A"}}'
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        return f"pattern {pattern!r} is not a regular expression: {error}"
    return None


def _wrong_schema(schema: object) -> str | None:
    if not isinstance(schema, Mapping | bool):
        return "needs a schema; write {json_schema: {schema: {type: object, ...}}}"
    from evalft.metrics.text import schema_validator  # here: jsonschema is imported for this metric only

    try:
        schema_validator(schema)
    except ValueError as error:
        return f"schema is not a JSON schema: {error}"
    return None


def _is_amount(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
