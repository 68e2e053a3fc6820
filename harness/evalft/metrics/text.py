"""Metrics of generated text: one score per row from an answer and its target, 1 being right.

Answers and targets are normalised alike, by the task's `normalize` list. `regex` and `json_schema` look at the answer
as it is, and need no target; `graded` compares it with the accepted answers that a column of the row lists.
"""

from __future__ import annotations

import difflib
import json
import math
import os
import re
import signal
import string
import threading
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from evalft import plugins
from evalft.config import MetricSpec
from evalft.errors import UserError
from evalft.metrics.measure import Floats
from evalft.records import Example
from evalft.testset.rows import BadValue, as_text, kind_of, listed

RIGHT_OR_WRONG = ("exact_match", "contains", "regex", "json_schema", "numeric")
"""Metrics whose row score is 0 or 1, so that over one answer per row they are shares."""
LONGEST_S = 10.0
"""For a pattern of the user's, on one answer."""


def row_scores(
    spec: MetricSpec, answers: Sequence[str | None], examples: Sequence[Example], normalizers: Sequence[str]
) -> Floats:
    """The row scores (n,) of one metric, of each answer to its example; None, a failure, scores 0."""
    answered = [i for i, answer in enumerate(answers) if answer is not None]
    given = [answers[i] or "" for i in answered]
    wanted = [examples[i] for i in answered]
    scores = np.zeros(len(answers))
    scores[answered] = _scorer(spec, normalizers)(given, wanted) if answered else 0.0
    return scores


def row_scorer(spec: MetricSpec, normalizers: Sequence[str]) -> Callable[[str | None, Example], float]:
    """The same for single answers, as they arrive."""
    score = _scorer(spec, normalizers)
    return lambda answer, example: 0.0 if answer is None else score([answer], [example])[0]


Scorer = Callable[[Sequence[str], Sequence[Example]], Sequence[float]]
"""Answers, their examples -> row scores."""


def _scorer(spec: MetricSpec, normalizers: Sequence[str]) -> Scorer:
    options: Mapping[str, Any] = spec.options
    if plugins.is_one(spec.name):
        return partial(_by_plugin, spec)
    if spec.name in ("bleu", "chrf", "rouge"):
        return _shipped(spec.name)
    if spec.name == "regex":
        pattern = re.compile(options["pattern"])
        return _each(_in_time("regex", lambda answer, _target: pattern.search(answer) is not None))
    if spec.name == "json_schema":
        is_valid = schema_validator(options["schema"])
        return _each(_in_time("json_schema", lambda answer, _target: is_valid(answer)))
    if spec.name == "numeric":
        tolerance = float(options.get("tolerance", 0))
        return _each(lambda answer, target: _same_number(answer, target, tolerance))
    if spec.name == "contains":
        fold = str.casefold if options.get("ignore_case", False) else str
        return _each(lambda a, t: fold(normalize(t, normalizers)) in fold(normalize(a, normalizers)))
    if spec.name == "graded":
        return partial(_graded, options["column"], normalizers)
    if spec.name == "token_f1":
        return _each(
            lambda a, t: (
                1 if a == t else _token_f1(normalize(a, normalizers).split(), normalize(t, normalizers).split())
            )
        )
    assert spec.name == "exact_match", f"no metric of text is called {spec.name!r}"
    return _each(lambda a, t: a == t or normalize(a, normalizers) == normalize(t, normalizers))


def _each(score: Callable[[str, str], float]) -> Scorer:
    return lambda answers, examples: [
        float(score(answer, str(example.target))) for answer, example in zip(answers, examples, strict=True)
    ]


def _in_time(metric: str, score: Callable[[str, str], bool]) -> Callable[[str, str], bool]:
    """`score`, ended with a UserError where a pattern takes longer than `LONGEST_S` on one answer: a repeat within a
    repeat takes time that doubles with each character, and the answers are strangers'. Python's re looks for signals
    while it works; other threads than the main one, and Windows, have none to send."""

    def stop(*_: object) -> None:
        raise UserError(
            f"task.metrics: {metric}: its pattern takes over {LONGEST_S:g} s on one answer; write it without a repeat "
            "within a repeat, such as (a+)+"
        )

    def watched(answer: str, target: str) -> bool:
        if os.name != "posix" or threading.current_thread() is not threading.main_thread():
            return score(answer, target)
        before = signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, LONGEST_S)
        try:
            return score(answer, target)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before or signal.SIG_DFL)

    return watched


# ---------------------------------------------------------------- normalisation


def normalize(text: str, normalizers: Sequence[str]) -> str:
    """The text with what does not count taken away, in the order of SQuAD (Rajpurkar et al. 2016), however listed."""
    for name, step in _STEPS.items():
        if name in normalizers:
            text = step(text)
    return text


def _without_punctuation(text: str) -> str:
    return "".join(c for c in text if c not in string.punctuation and not unicodedata.category(c).startswith("P"))


def _evenly_spaced(text: str) -> bool:
    """Whether all of its white space is lone spaces; any other is not printable."""
    return "  " not in text and text.isprintable()


_STEPS: Mapping[str, Callable[[str], str]] = {
    "lower": str.lower,
    "punctuation": _without_punctuation,
    "articles": lambda text: re.sub(r"\b(?:a|an|the)\b", " ", text, flags=re.IGNORECASE),
    "collapse_spaces": lambda text: text if _evenly_spaced(text) else re.sub(r"\s{2,}|[^\S ]", " ", text),
    "strip": str.strip,
}


# ---------------------------------------------------------------- single metrics


def _token_f1(answer: Sequence[str], target: Sequence[str]) -> float:
    """SQuAD's F1 of the two bags of tokens; two empty ones are equal."""
    if not answer or not target:
        return float(answer == target)
    shared = sum((Counter(answer) & Counter(target)).values())
    return 2 * shared / (len(answer) + len(target))


_NUMBER = re.compile(r"(?:(?<![\w)\]}])[-+−])?(?:\d{1,3}(?:,\d{3})+(?![\d])|\d+)(?:\.\d+)?(?:[eE][-+]?\d{1,4}(?!\w))?")


def last_number(text: str) -> float | None:
    """The last number of a text, or of what follows its last "####" (the answer mark of GSM8K); None without one."""
    found = _NUMBER.findall(text.rpartition("####")[2])
    if not found:
        return None
    value = float(found[-1].replace(",", "").replace("−", "-"))
    return value if math.isfinite(value) else None


def _same_number(answer: str, target: str, tolerance: float) -> bool:
    said, wanted = last_number(answer), last_number(target)
    if said is None or wanted is None:
        return False
    return abs(said - wanted) <= tolerance + 1e-9 * abs(wanted)  # 0.1 + 0.2 is 0.3


def accepted(example: Example, column: str) -> list[tuple[str, float]]:
    """The accepted answers of one row, each with its grade in 0..1, from a column that holds a list (or its JSON, as a
    CSV file does) of {"text", "score"} or of plain texts, which are graded 1. Raises UserError with the row's place."""
    try:
        if column not in example.row:
            near = difflib.get_close_matches(column, list(example.row), n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise BadValue(
                f"no column {column!r} (task.metrics: graded); {hint}its columns are {listed(example.row, 30)}"
            )
        value = example.row[column]
        items = _json_or_none(value) if isinstance(value, str) else value
        if not isinstance(items, list) or not items:
            raise BadValue(
                f"{column!r} is {_kind(value)}, not the accepted answers that task.metrics: graded reads; "
                'write [{"text": "x^2", "score": 1}, {"text": "x^{2}", "score": 0.5}], or texts alone'
            )
        return [_with_grade(item, f"answer {number} of {column!r}") for number, item in enumerate(items, 1)]
    except BadValue as error:
        raise UserError(f"{example.source or f'example {example.id!r}'}: {error}") from None


def _with_grade(item: object, what: str) -> tuple[str, float]:
    answer, score = item, 1.0
    if isinstance(item, dict):
        if not {"text", "score"} <= item.keys():
            raise BadValue(f"{what} has no {'text' if 'text' not in item else 'score'}")
        answer, score = item["text"], item["score"]
    text = as_text(answer, what)
    if not text.strip():
        raise BadValue(f"{what} is empty")
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        raise BadValue(f"{what} has the score {score!r}, which is no number from 0 to 1")
    return text, float(score)


def _json_or_none(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _kind(value: object) -> str:
    return "missing (null)" if value is None else "an empty list" if value == [] else kind_of(value)


def _graded(
    column: str, normalizers: Sequence[str], answers: Sequence[str], examples: Sequence[Example]
) -> Sequence[float]:
    """The grade of the accepted answer that each answer equals, the best where it equals several; else 0."""
    scores = []
    for answer, example in zip(answers, examples, strict=True):
        said = normalize(answer, normalizers)
        grades = (grade for text, grade in accepted(example, column) if normalize(text, normalizers) == said)
        scores.append(max(grades, default=0.0))
    return scores


def schema_validator(schema: Mapping[str, Any] | bool) -> Callable[[str], bool]:
    """Whether a text is JSON (alone, or in one code fence) that a JSON schema accepts. ValueError: no valid schema."""
    try:
        from jsonschema import exceptions
        from jsonschema.validators import validator_for
        from referencing import Registry
        from referencing.exceptions import Unresolvable
    except ImportError:
        raise UserError("task.metrics: json_schema: needs jsonschema; pip install jsonschema") from None
    plain = json.loads(json.dumps(schema))  # YAML's numbers remember how they were written: plain ones here
    dialect = validator_for(plain, default=validator_for({"$schema": "https://json-schema.org/draft/2020-12/schema"}))
    try:
        dialect.check_schema(plain)
    except exceptions.SchemaError as error:
        raise ValueError(error.message) from None
    validator = dialect(plain, registry=Registry())  # an empty registry: nothing is fetched from the network

    def is_valid(text: str) -> bool:
        try:
            return bool(validator.is_valid(json.loads(_unfenced(text))))
        except (ValueError, RecursionError):
            return False
        except Unresolvable as error:
            raise UserError(f"task.metrics: json_schema: {error}; put what $ref names into the schema") from None

    return is_valid


def _unfenced(text: str) -> str:
    text = text.strip()
    if text.startswith("```") and text.endswith("```") and "\n" in text:
        return text.partition("\n")[2].removesuffix("```")
    return text


def _by_plugin(spec: MetricSpec, answers: Sequence[str], examples: Sequence[Example]) -> Sequence[float]:
    """The plug-in's row scores, once they are what row scores are. Raises UserError that names it."""
    plugin = plugins.load("metrics", spec.name)
    found = plugin(list(answers), list(examples), **spec.options)
    try:
        scores = [float(one) for one in found]
    except (TypeError, ValueError):
        raise plugin.wrong(f"gave {found!r:.80}, not a list of numbers") from None
    if len(scores) != len(examples):
        raise plugin.wrong(f"gave {len(scores):,} scores for {len(examples):,} answers")
    for score, example in zip(scores, examples, strict=True):
        if not 0 <= score <= 1:  # nan is not either
            raise plugin.wrong(f"gave {score:g} for example {example.id!r}; a row score is a number from 0 to 1")
    return scores


def _shipped(name: str) -> Scorer:
    """bleu, chrf, rouge: `evaluate.Metric`s over maintained packages, from the extra `metrics`."""
    try:
        from evalft.metrics import evaluate_metrics

        metric = evaluate_metrics.load(name)
    except ImportError as error:
        raise UserError(f"task.metrics: {name}: needs {error.name}; pip install 'evalft[metrics]'") from None

    def score(answers: Sequence[str], examples: Sequence[Example]) -> Sequence[float]:
        targets = [str(example.target) for example in examples]
        scores: Sequence[float] = metric.compute(predictions=list(answers), references=targets)["scores"]
        return scores

    return score
