"""`file:PATH`: answers that were made elsewhere, scored like a model's. Nothing is asked and nothing is paid.

One row per answer, in any format that a test set may have (JSONL, JSON, CSV, TSV, Parquet):

    id                          the test row's; where neither file has ids, rows match in order
    text, answer or prediction  the answer as text, read as a model's would be
    labels                      instead of a text: a label, or a list of them
    probs                       {label: p}, or one column per label: probabilities, named `stated`
    cost_usd, latency_s, input_tokens, output_tokens
    batch                       rows that share it and their latency_s were answered together: one measurement of time
    scores                      {"tool/name": 0..1}: row scores that another tool gave, for metrics of that name
    failure, message            how it failed, where it did: a run folder's predictions/*.jsonl is such a file
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, get_args

from evalft import answers
from evalft.candidates import Attempt
from evalft.config import CandidateConfig, TaskConfig
from evalft.errors import CannotStart, UserError
from evalft.prices import TokenPrice
from evalft.prompts import Request
from evalft.records import Example, Failure, FailureKind, Outcome, Prediction, ProbsMethod, Usage
from evalft.testset import files
from evalft.testset.rows import BadValue, Fault, Row, as_text, is_missing, listed, user_error

BATCH = 1024
ANSWER_COLUMNS = ("text", "answer", "prediction")
NO_ANSWER = "has no answer for this row"
SUM_TOLERANCE = 0.02
"""Probabilities that were rounded when they were written sum to nearly 1."""


class RecordedCandidate:
    remote = False

    def __init__(self, config: CandidateConfig, task: TaskConfig, *, price: TokenPrice | None) -> None:
        self.name = config.name
        self._config, self._task, self._price = config, task, price
        self._answers: Answers | None = None

    def start(self) -> list[str]:
        try:
            self._answers = read(self._config, self._task, self._price)
        except UserError as error:
            raise CannotStart(*error.faults) from None
        return self._answers.choices

    def identity(self) -> dict[str, object]:
        return {"kind": "recorded", "file": content_digest(self._config.model)}

    def worst_case_usd(self, request: Request) -> float:
        return 0.0

    def batches(self, requests: Sequence[Request]) -> Iterator[tuple[Request, ...]]:
        return (tuple(requests[i : i + BATCH]) for i in range(0, len(requests), BATCH))

    async def predict(self, batch: Sequence[Request]) -> list[Attempt]:
        assert self._answers is not None, "start() comes first"
        return [Attempt(self._answers.outcome(request.id, request.index)) for request in batch]

    async def close(self) -> None:
        pass


def content_digest(spec: str) -> str | None:
    """sha256 (hex) of the file that `file:PATH` names, so that the same answers elsewhere are the same candidate; None
    where it is not here."""
    path = Path(spec.partition(":")[2])
    return sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def absent(outcomes: Sequence[Outcome]) -> int:
    """How many rows the file has no answer for."""
    return sum(isinstance(one, Failure) and one.message.endswith(NO_ANSWER) for one in outcomes)


# ---------------------------------------------------------------- the answers of a file


@dataclass(frozen=True, slots=True)
class Answers:
    """`outcomes` hold no place in the test set yet: ids and indices are those of the file."""

    path: str
    outcomes: Sequence[Outcome]
    by_id: Mapping[str, int] | None
    """Position by id; None: the file has no ids."""
    choices: list[str]

    def own_id(self, id: str) -> str:
        """The id that the file may know a test row by: rows that repeat one another share an answer."""
        return id if self.by_id is None or id in self.by_id else _first_of(id)

    def outcome(self, id: str, index: int) -> Outcome:
        """The answer to one test row; one that is not there is the failure `empty`, of unknown cost."""
        position = index if self.by_id is None else self.by_id.get(self.own_id(id))
        if position is None or position >= len(self.outcomes):
            return Failure(id, index, 0, "empty", f"{self.path} {NO_ANSWER}", cost_usd=None)
        return replace(self.outcomes[position], id=id, index=index)


def _first_of(id: str) -> str:
    """Of a row that repeats another one (`t7#2`), the id of that one (`t7`): what answers it answers both."""
    return re.sub(r"#\d+$", "", id)


def check(
    candidate: CandidateConfig,
    task: TaskConfig,
    rows: Sequence[Example],
    *,
    sampled_from: int | None,
    given: Sequence[str] = (),
) -> list[str]:
    """Whether the file's answers fit the test rows; what was chosen or is missing, in plain lines. `task.id` is the test
    set's id column, None where it has none. given: metrics whose scores come with the answers. Raises UserError with every fault."""
    found = read(candidate, task, None)
    where = f"candidate {candidate.name}: {found.path}"
    if found.by_id is None:
        if task.id is not None:
            raise UserError(f"{where}: has no column 'id', and the test rows have ids ({task.id!r}); add one")
        if sampled_from is not None or len(found.outcomes) != len(rows):
            raise UserError(
                f"{where}: has no column 'id', and its {len(found.outcomes):,} rows are not the test set's "
                f"{sampled_from or len(rows):,}, so they cannot be matched in order; add a column 'id' to both files"
                + (" or leave --limit away" if sampled_from else "")
            )
        return [f"{candidate.name}: neither file has ids: the answers are matched to the test rows in order"]
    ids = {row.id for row in rows}
    if not ids & found.by_id.keys():
        hint = (
            "" if task.id else "; the test set has no id column (task.id names one), its ids are hashes of the content"
        )
        raise UserError(
            f"{where}: no id of its {len(found.by_id):,} is a test row's ({listed(found.by_id, 3)}; test rows have "
            f"{listed((row.id for row in rows), 3)}){hint}"
        )
    said = []
    for name in given:
        answered = [one.scores or {} for one in found.outcomes if isinstance(one, Prediction)]
        without = sum(name not in scores for scores in answered)
        if answered and without == len(answered):
            there = listed(dict.fromkeys(known for scores in answered for known in scores), 10)
            raise UserError(f"{where}: no answer has a score {name} (scores that are there: {there})")
        if without:
            said.append(
                f"{candidate.name}: {without:,} of {len(answered):,} answers have no score {name} and count as 0"
            )
    missing = [row.id for row in rows if found.own_id(row.id) not in found.by_id]
    if missing:
        said.append(
            f"{candidate.name}: {len(missing):,} test rows have no answer in {found.path} and count as failures (empty): "
            f"{listed(missing, 5)}"
        )
    others = [id for id in found.by_id if id not in ids]
    if others and sampled_from is None:
        said.append(f"{candidate.name}: {len(others):,} answers belong to no test row, left out: {listed(others, 5)}")
    return said


def read(candidate: CandidateConfig, task: TaskConfig, price: TokenPrice | None) -> Answers:
    """Raises UserError with every bad row as `file:line: reason`. `price` prices the tokens of rows without cost_usd."""
    path = Path(candidate.model_id)
    if not path.is_file():
        raise UserError(f"candidate {candidate.name}: {files.shown(path)}: no such file of answers")
    (table,) = files.read(str(path), "answers")
    if not table.faults and not table.rows:
        raise UserError(f"{table.path}: holds no rows")
    columns = _Columns.of(list(table.columns), task, table.path)
    faults, outcomes, first = list(table.faults), list[Outcome](), dict[str, int]()
    lines: dict[str, int] = {}
    batches: dict[str, int] = {}
    for line, row in table:
        try:
            id = columns.id_of(row)
            if id is not None and id in first:
                raise BadValue(f"id {id[:80]!r} stands on line {lines[id]} already: which answer counts is not known")
            outcome = columns.outcome(row, task, price)
        except BadValue as reason:
            faults.append(Fault(table.path, line, str(reason)))
            continue
        if id is not None:
            first[id], lines[id] = len(outcomes), line
        if isinstance(outcome, Prediction):  # one that names no batch stands alone, whatever its time
            named = None if is_missing(row.get("batch")) else str(row["batch"])
            number = len(outcomes) if named is None else batches.setdefault(named, len(outcomes))
            outcome = replace(outcome, batch=number)
        outcomes.append(outcome)
    if faults:
        raise user_error(faults)
    unpriced = sum(outcome.cost_usd is None for outcome in outcomes)
    choices = [
        *table.notes,
        f"answers read from {table.path}; nothing is asked",
        *columns.said(),
        *(
            [f"the cost of {unpriced:,} of {len(outcomes):,} answers is not known, so cost per query is not"]
            if unpriced
            else []
        ),
    ]
    return Answers(table.path, outcomes, first if columns.id else None, choices)


@dataclass(frozen=True, slots=True)
class _Columns:
    """Which column is what."""

    id: str | None
    answer: str | None
    labels: bool
    probs: bool
    per_label: tuple[str, ...]
    """Columns that are labels' probabilities, where there is one for every label."""

    @classmethod
    def of(cls, columns: Sequence[str], task: TaskConfig, path: str) -> _Columns:
        named = [column for column in ANSWER_COLUMNS if column in columns]
        labels = task.labels or []
        apart = set(labels) & {"id", *ANSWER_COLUMNS, "labels", "probs"}
        per_label = tuple(labels) if labels and not apart and set(labels) <= set(columns) else ()
        if len(named) > 1:
            raise UserError(f"{path}: columns {listed(named)} could each be the answer; keep one of them")
        known = bool(named or "labels" in columns or "probs" in columns or per_label)
        if not known or (task.type == "generation" and not named):
            raise UserError(
                f"{path}: no column holds the answers: name one {' or '.join(ANSWER_COLUMNS)}"
                + ("" if task.type == "generation" else ", labels or probs")
                + f"; its columns are {listed(columns, 30)}"
            )
        id_column = next((column for column in (task.id, "id") if column and column in columns), None)
        return cls(id_column, named[0] if named else None, "labels" in columns, "probs" in columns, per_label)

    def said(self) -> list[str]:
        said = [f"the answer is in column {self.answer!r}"] if self.answer else []
        if not self.answer and not self.labels:
            said.append("the answer is the label of largest probability (multi-label: all over 0.5)")
        if self.per_label:
            said.append("probabilities are in the columns named after the labels")
        return said

    def id_of(self, row: Row) -> str | None:
        if self.id is None:
            return None
        id = as_text(row.get(self.id), f"the {self.id!r}")
        if not id:
            raise BadValue(f"the {self.id!r} is empty")
        return id

    def outcome(self, row: Row, task: TaskConfig, price: TokenPrice | None) -> Outcome:
        usage = _usage(row)
        cost_usd = _amount(row, "cost_usd")
        if cost_usd is None and price is not None and usage is not None:
            cost_usd = price.cost_usd(usage)
        text = (
            None if self.answer is None or is_missing(row.get(self.answer)) else as_text(row[self.answer], "the answer")
        )
        reason = row.get("finish_reason")
        same: dict[str, Any] = {
            "usage": usage,
            "cost_usd": cost_usd,
            "latency_s": _amount(row, "latency_s"),
            "finish_reason": reason if isinstance(reason, str) and reason else None,
        }
        failure = row.get("failure")
        if failure not in (None, ""):
            if failure not in get_args(FailureKind):
                raise BadValue(f"failure {str(failure)[:40]!r} is not one of {', '.join(get_args(FailureKind))}")
            return Failure("", 0, 0, failure, str(row.get("message") or ""), text=text, **same)
        if (scores := _scores(row.get("scores"))) is not None and task.type == "generation":
            return Prediction("", 0, 0, text or "", None, scores=scores, **same)  # read and judged where it was made
        probs = _probs(row, task, self.per_label) if self.probs or self.per_label else None
        given = row.get("labels") if self.labels else None
        labels = None if task.type == "generation" and given in (None, "") else _labels(given, task)
        if labels is None and text is None and probs is not None:
            labels = _most_likely(probs, task)
        method = row.get("probs_method")
        more: dict[str, Any] = {
            "probs": probs,
            "probs_method": None if probs is None else method if method in get_args(ProbsMethod) else "stated",
        }
        reading = _read(text, same, task)
        if isinstance(labels, tuple) and reading.labels != labels:
            return Prediction("", 0, 0, None, labels, **more, **same)  # the labels given rule, and the text is not kept
        if isinstance(labels, str):
            reading = answers.Reading(failure="unparsable", message=labels)
        if reading.failure:
            return Failure("", 0, 0, reading.failure, reading.message, text=text, **same)
        return Prediction("", 0, 0, text, reading.labels, rescued=reading.rescued, **more, **same)


def _scores(value: object) -> dict[str, float] | None:
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except ValueError:
            raise BadValue('scores is not JSON such as {"tool/metric": 1}') from None
    if value in (None, ""):
        return None
    if not isinstance(value, dict):
        raise BadValue("scores is not an object of metrics and numbers")
    for name, score in value.items():
        if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
            raise BadValue(f"the score {name[:40]!r} is {score!r}, no number from 0 to 1")
    return {str(name): float(score) for name, score in value.items()}


def _read(text: str | None, same: Mapping[str, Any], task: TaskConfig) -> answers.Reading:
    return answers.read(text, same["finish_reason"], task.type or "generation", task.labels or ())


def _labels(value: object, task: TaskConfig) -> tuple[str, ...] | str | None:
    """The labels given, why they cannot be used, or None where none are given."""
    if value in (None, ""):
        return None
    if task.type == "generation":
        raise BadValue("labels are given, and a generation task has none")
    if isinstance(value, str):
        reading = answers.read(value, "stop", task.type or "classification", task.labels or ())
        return reading.message if reading.labels is None else reading.labels
    named = value if isinstance(value, list) else [value]
    found = [as_text(label, "a label") for label in named]
    unknown = [label for label in found if label not in (task.labels or ())]
    if unknown:
        return f"the answer has labels that the task does not have: {listed(unknown, 5)}"
    if task.type == "classification" and len(set(found)) != 1:
        return f"the answer has {len(set(found))} labels, and a row has one"
    return tuple(label for label in task.labels or () if label in found)


def _probs(row: Row, task: TaskConfig, per_label: Sequence[str]) -> dict[str, float] | None:
    value: object = {label: row.get(label) for label in per_label} if per_label else row.get("probs")
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except ValueError:
            raise BadValue('probs is not JSON such as {"label": 0.7}') from None
    if value in (None, "") or (per_label and isinstance(value, dict) and all(p in (None, "") for p in value.values())):
        return None
    if not isinstance(value, dict) or task.type == "generation":
        raise BadValue(
            "probs is not an object of labels and probabilities" if task.labels else "this task has no labels"
        )
    labels = task.labels or []
    unknown = [str(label) for label in value if label not in labels]
    if unknown:
        raise BadValue(f"probs names labels that the task does not have: {listed(unknown, 5)}")
    found = {label: _amount(value, label) or 0.0 for label in labels}
    total = sum(found.values())
    if task.type == "classification":
        if abs(total - 1) > SUM_TOLERANCE:
            raise BadValue(f"the probabilities sum to {total:.4g}, not to 1")
        return {label: p / total for label, p in found.items()}
    if max(found.values()) > 1:
        raise BadValue("a probability is over 1")
    return found


def _most_likely(probs: Mapping[str, float], task: TaskConfig) -> tuple[str, ...]:
    if task.type == "multilabel":
        return tuple(label for label, p in probs.items() if p > 0.5)
    return (max(probs, key=probs.__getitem__),)


def _usage(row: Row) -> Usage | None:
    """From the columns input_tokens and output_tokens, or the `usage` of a run folder's predictions."""
    found = row.get("usage")
    given = found if isinstance(found, dict) else row
    tokens = {
        name: _amount(given, name) for name in ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")
    }
    if tokens["input_tokens"] is None or tokens["output_tokens"] is None:
        return None
    return Usage(**{name: int(count or 0) for name, count in tokens.items()}, estimated=given.get("estimated") is True)


def _amount(row: Mapping[str, Any], column: str) -> float | None:
    """A number of at least 0, None where the cell is empty. Raises BadValue."""
    value = row.get(column)
    if is_missing(value) or (isinstance(value, str) and not value.strip()):
        return None
    try:
        number = float("nan") if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or number < 0:
        raise BadValue(f"{column} is {str(value)[:40]!r}, not a number of at least 0")
    return number
