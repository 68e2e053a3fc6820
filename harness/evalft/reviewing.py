"""`evalft review`: the rows a person should look at, as a spreadsheet; and what the person wrote in it, read back.

With a judge: answers to score, those first on which judges differ from each other or from a metric that needs no model,
then a seeded sample of the others, so that agreement is not measured on hard cases alone. Without: targets that may be
wrong, because candidates agree with each other against them. What a person wrote is kept in human.jsonl; a review.csv in
which anything is written is read and never written over.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from evalft import concluding, judging, pipeline, scoring
from evalft.concluding import Assessment
from evalft.config import load
from evalft.errors import UserError
from evalft.judging import people, quoting
from evalft.numbers import counted
from evalft.preparing import Prepared, prepare
from evalft.records import Example, Outcome, Prediction
from evalft.reporting import text
from evalft.store import RunFolder
from evalft.testset import files
from evalft.testset.rows import BadValue, Fault, Row, Table, as_text, is_missing, user_error

DISAGREEMENT = 0.5
"""Of the scale: how far apart two scores of one answer are before a person should look."""
MAX_CHARACTERS = 30_000
"""A spreadsheet's cell holds 32,767."""
YES_NO = {"yes": True, "y": True, "true": True, "1": True, "no": False, "n": False, "false": False, "0": False}

Line = dict[str, str]


@dataclass(frozen=True)
class Reviewed:
    said: tuple[str, ...]
    result: Assessment | None
    """The run decided again, where a person's words were read."""


@dataclass(frozen=True)
class _Nominee:
    key: str
    why: str
    """Empty: nothing speaks against it, it may be drawn for the sample."""
    weight: float
    """How much it should be looked at, where `why` is given."""
    line: Callable[[], Line]


def review(run: Path, *, rows: int = 60, filled: Path | None = None) -> Reviewed:
    """Read `filled`, else review.csv of the run folder where something is written in it; else write review.csv."""
    concluding.require_run(run)
    folder = RunFolder(run)
    config = load(folder.file("config"))
    prepared = prepare(config, out=run)
    path = filled or folder.file("review")
    if filled is not None or path.is_file():
        found, written, faults = _written(path, prepared)
        if faults:
            raise user_error(faults)
        if written:
            said = _store(prepared, found, path)
            return Reviewed((*said, *_left(path, found, written)), pipeline.decide_again(run, config))
        if filled is not None:
            raise UserError(f"{path}: nothing is written in it: fill in `{_column(prepared)}`, then read it again")
    with folder.locked():
        return Reviewed(_write(prepared, rows), None)


def _column(prepared: Prepared) -> str:
    """The column that a person fills in."""
    return "score" if prepared.config.judge else "target_ok"


# ---------------------------------------------------------------- reading


def _written(path: Path, prepared: Prepared) -> tuple[list[dict[str, Any]], int, list[Fault]]:
    """(each row's words, how many rows hold any, faults)."""
    found, faults = [], []
    for table in _tables(path):
        if "key" not in table.columns:
            raise UserError(f"{table.path}: has no column `key`: is it a copy of what `evalft review` wrote?")
        faults += table.faults
        for line, row in table:
            try:
                found.append(_words(row, prepared))
            except BadValue as reason:
                faults.append(Fault(table.path, line, str(reason)))
    written = sum(any(words[name] not in (None, "") for name in ("score", "target_ok", "note")) for words in found)
    return found, written, faults


def _tables(path: Path) -> list[Table]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; `evalft review RUN` writes RUN/review.csv")
    return files.read(str(path), "test")


def _words(row: Row, prepared: Prepared) -> dict[str, Any]:
    scale = judging.scale_of_people(prepared.config) if prepared.config.judge else (0.0, 1.0)
    said = _plain(row, "target_ok").lower()
    if said and said not in YES_NO:
        raise BadValue(f"target_ok {said[:40]!r} is neither yes nor no")
    return {
        "key": _plain(row, "key"),
        "score": people.score_in(row.get("score"), scale) if prepared.config.judge else None,
        "target_ok": YES_NO.get(said),
        "note": _plain(row, "note"),
    }


def _plain(row: Row, column: str) -> str:
    value = row.get(column)
    return "" if is_missing(value) else as_text(value, column).strip()


def _store(prepared: Prepared, found: Sequence[Mapping[str, Any]], path: Path) -> list[str]:
    """Into human.jsonl: later words on the same answer replace earlier ones, empty cells replace nothing."""
    folder = prepared.folder
    known = {nominee.key for nominee in _nominees(prepared, with_known=True)}
    with folder.locked():
        lines = people.stored(folder)
        taken = 0
        for words in found:
            said = {name: word for name, word in words.items() if word not in (None, "")}
            if len(said) > 1 and words["key"] in known:
                lines[words["key"]] = (
                    {"score": None, "target_ok": None, "note": ""} | lines.get(words["key"], {}) | said
                )
                taken += 1
        if not taken:
            raise UserError(f"{path}: none of its rows is of an answer in {folder.path}; is it of another run?")
        folder.write_lines("human", lines.values())
    return [f"read from {path}: {counted(taken, 'row')}; what people said so far is in {folder.file('human')}"]


def _left(path: Path, found: Sequence[object], written: int) -> list[str]:
    if written < len(found):
        return [f"{counted(len(found) - written, 'row')} of {path} still empty; fill in and run the same command again"]
    return [f"{path} is filled in; for more rows move it away and run `evalft review` again"]


# ---------------------------------------------------------------- writing


def _write(prepared: Prepared, rows: int) -> tuple[str, ...]:
    nominees = _nominees(prepared, with_known=False)
    if not nominees:
        raise UserError(f"{prepared.folder.path}: there is nothing left to look at")
    chosen = _chosen(nominees, rows)
    lines = [one.line() for one in chosen]
    file = io.StringIO()
    writer = csv.DictWriter(file, list(lines[0]), quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in line.items()} for line in lines)
    prepared.folder.write_text("review", "\ufeff" + file.getvalue())  # the mark makes Excel read UTF-8
    doubted = sum(bool(one.why) for one in chosen)
    column, path = _column(prepared), prepared.folder.file("review")
    if judging.is_pairwise(prepared.config):
        how = "1 (`answer` is better), 0 (`other answer` is) or 0.5 (neither)"
    elif prepared.config.judge:
        low, high = judging.scale_of_people(prepared.config)
        how = f"a number from {low:g} to {high:g}"
    else:
        how = "yes or no"
    return (
        f"{path}: {counted(doubted, 'row')} in doubt and {len(chosen) - doubted:,} drawn at random, of {len(nominees):,}",
        f"write {how} into `{column}`, save it as CSV, then run: evalft review {prepared.folder.path}",
    )


def _cell(value: str) -> str:
    return text.cell(text.shortened(text.visible(value), MAX_CHARACTERS))


def _chosen(nominees: Sequence[_Nominee], rows: int) -> list[_Nominee]:
    """Half of them what should be looked at most, the others a sample of the rest; each fills up for the other."""
    doubted = sorted((one for one in nominees if one.why), key=lambda one: (-one.weight, one.key))
    first = doubted[: max(rows - rows // 2, rows - (len(nominees) - len(doubted)))]
    picked = {one.key for one in first}
    rest = sorted((one for one in nominees if one.key not in picked), key=_drawn)
    return [*first, *rest[: rows - len(first)]]


def _drawn(nominee: _Nominee) -> str:
    return sha256(f"review:{nominee.key}".encode()).hexdigest()


def _nominees(prepared: Prepared, *, with_known: bool) -> list[_Nominee]:
    """Everything a person may be asked to look at; `with_known`: also what people have said something of."""
    known = {} if with_known else people.stored(prepared.folder)
    found = _answers(prepared, with_known) if prepared.config.judge else _targets(prepared)
    return [one for one in found if one.key not in known]


# ---------------------------------------------------------------- answers to score


def _answers(prepared: Prepared, with_known: bool) -> Iterable[_Nominee]:
    config, rows, folder = prepared.config, prepared.data.test, prepared.folder
    judged = judging.collect(config, rows, folder, judging.given_scores(prepared.own_config))
    assert judged is not None and config.judge is not None
    answers = judging.read_answers(config, folder)
    scorer, metric = scoring.row_scorer(config.task), scoring.row_metric(config.task)
    low, high = judging.scale_of_people(config)
    names = [judge.name for judge in config.judge.model]
    first = config.candidates[0]

    for place, words in judged.by_judges.items():
        if place in judged.by_people and not with_known:
            continue
        candidate, index, repeat = place
        answer, row = answers[candidate][index, repeat], rows[index]
        other, by_metric = None, scorer(row, answer)
        if judging.is_pairwise(config):
            other = answers[first.name][index, repeat % first.samples]
            by_metric = (by_metric - scorer(row, other) + 1) / 2
        key = people.key_of(candidate, row.id, repeat, quoting.answer_text(answer))
        why, weight = _doubt(words, by_metric, metric)
        said = {
            name: "" if word is None else f"{low + word * (high - low):g}"
            for name, word in zip(names, words, strict=True)
        }
        yield _Nominee(key, why, weight, partial(_answer_line, key, why, candidate, row, answer, other, said))


def _answer_line(
    key: str,
    why: str,
    candidate: str,
    row: Example,
    answer: Outcome,
    other: Outcome | None,
    said: Mapping[str, str],
) -> Line:
    """The judges' scores stand last, so that they can be hidden from who scores."""
    return (
        {"key": key, "why": why or "sample", "id": row.id, "candidate": candidate}
        | {"input": quoting.input_text(row), "target": _target(row), "answer": quoting.answer_text(answer)}
        | ({"other answer": quoting.answer_text(other)} if other else {})
        | {"score": "", "note": ""}
        | {f"judge: {name}": score for name, score in said.items()}
    )


def _doubt(words: Sequence[float | None], by_metric: float, metric: str) -> tuple[str, float]:
    """(why a person should look, how much), by what judges and a metric say of one answer."""
    given = [word for word in words if word is not None]
    if not given:
        return "no judge gave a score", 2.0
    spread, gap = max(given) - min(given), abs(sum(given) / len(given) - by_metric)
    if spread >= DISAGREEMENT and spread >= gap:
        return "the judges differ", spread
    return ("", 0.0) if gap < DISAGREEMENT else (f"the judge differs from {metric}", gap)


# ---------------------------------------------------------------- targets that may be wrong


def _targets(prepared: Prepared) -> Iterable[_Nominee]:
    """Rows that candidates answer alike and otherwise than the target; of a single candidate, all it gets wrong."""
    config, rows = prepared.config, prepared.data.test
    answers = judging.read_answers(config, prepared.folder)
    scorer = scoring.row_scorer(config.task)
    for index, row in enumerate(rows):
        given = {name: of.get((index, 0)) for name, of in answers.items()}
        said = {name: _said(one) for name, one in given.items() if isinstance(one, Prediction)}
        wrong = Counter(said[name] for name, one in given.items() if name in said and one and scorer(row, one) < 1)
        (answer, times), sure = (wrong.most_common(1) or [("", 0)])[0], 0.0
        if times:
            sure = max(_sure(one) for name, one in given.items() if said.get(name) == answer)
        alike = times >= min(2, len(answers))
        why = f"{times} of {len(answers)} candidates say {answer!r}" if alike else ""

        key = people.target_key(row)
        yield _Nominee(key, why, times + sure, partial(_target_line, key, why, row, given))


def _target_line(key: str, why: str, row: Example, given: Mapping[str, Outcome | None]) -> Line:
    return (
        {"key": key, "why": why or "sample", "id": row.id}
        | {"input": quoting.input_text(row), "target": _target(row)}
        | {f"answer: {name}": _said(one) if one else "" for name, one in given.items()}
        | {"target_ok": "", "note": ""}
    )


def _said(outcome: Outcome) -> str:
    if isinstance(outcome, Prediction) and outcome.labels is not None:
        return ", ".join(outcome.labels)
    return quoting.answer_text(outcome).strip()


def _sure(outcome: Outcome | None) -> float:
    """The probability of the answer, where there is one; below 1, so that more candidates always count for more."""
    probs = outcome.probs if isinstance(outcome, Prediction) else None
    return 0.99 * max(probs.values(), default=0.0) if probs else 0.0


def _target(row: Example) -> str:
    return row.target if isinstance(row.target, str) else ", ".join(row.target)
