"""People's scores of answers, from a file (`judge.human`) and from `evalft review` (human.jsonl in the run folder).

A score belongs to one answer. What `review` writes names it by a key, a hash of candidate, row and answer, which holds
whatever a spreadsheet does to ids and texts; other files name it by `id` and `candidate`, and may hold the `answer`
itself. A score of an answer that the candidate does not give in this run is left out and counted, never used.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalft.errors import UserError
from evalft.judging.quoting import answer_text
from evalft.records import Example, Outcome, Prediction
from evalft.store import RunFolder, read_lines
from evalft.testset import files
from evalft.testset.rows import BadValue, Fault, Row, as_text, is_missing, listed, user_error

Place = tuple[str, int, int]
"""(candidate, index of the row, repeat)."""


@dataclass(frozen=True, slots=True)
class PersonScore:
    """One score on the judge's scale, and what names the answer: the key, or candidate and id."""

    score: float
    key: str = ""
    candidate: str = ""
    id: str = ""
    answer: str | None = None


def key_of(candidate: str, example: str, repeat: int, answer: str) -> str:
    """Starts with a letter, so that no spreadsheet takes it for a number."""
    text = json.dumps([candidate, example, repeat, answer])
    return f"r{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def read(path: str, scale: tuple[float, float], candidates: Sequence[str]) -> tuple[list[PersonScore], list[Row]]:
    """(the scores of a file, its rows that hold one). Rows without a score are not filled in yet and are passed over.

    Raises UserError with every fault as file:line."""
    faults: list[Fault] = []
    scores: list[PersonScore] = []
    rows: list[Row] = []
    for table in files.read(path, "test"):
        if "score" not in table.columns or not {"key", "id"} & set(table.columns):
            raise UserError(
                f"{table.path}: people's scores need a column `score`, and `id` that says which row each is of; "
                f"its columns are {listed(table.columns)}"
            )
        faults += table.faults
        for line, row in table:
            try:
                found = _person_score(row, scale, candidates)
            except BadValue as reason:
                faults.append(Fault(table.path, line, str(reason)))
                continue
            if found is not None:
                scores.append(found)
                rows.append(row)
    if faults:
        raise user_error(faults)
    return scores, rows


def _person_score(row: Row, scale: tuple[float, float], candidates: Sequence[str]) -> PersonScore | None:
    score = score_in(row.get("score"), scale)
    if score is None:
        return None
    key, example, candidate, answer = (_cell(row, name) for name in ("key", "id", "candidate", "answer"))
    if not key and not example:
        raise BadValue("has a score and neither id nor key")
    if not key and not candidate:
        if len(candidates) > 1:
            raise BadValue(
                "does not say which candidate's answer was scored; there are several: add a column candidate"
            )
        candidate = candidates[0]
    return PersonScore(score, key, candidate, example, answer or None)


def score_in(cell: object, scale: tuple[float, float]) -> float | None:
    """A score from scale[0] to scale[1]; None where the cell is empty. Raises BadValue."""
    if is_missing(cell) or (isinstance(cell, str) and not cell.strip()):
        return None
    text = as_text(cell, "score").strip()
    number = text.replace(",", ".", 1)  # spreadsheets of many countries write 7,5
    if not re.fullmatch(r"[-+]?[0-9]{1,9}(\.[0-9]{0,9})?", number) or not scale[0] <= float(number) <= scale[1]:
        raise BadValue(f"score {text[:40]!r} is not a number from {scale[0]:g} to {scale[1]:g}")
    return float(number)


def _cell(row: Row, column: str) -> str:
    value = row.get(column)
    return "" if is_missing(value) else as_text(value, column).strip()


def placed(
    scores: Sequence[PersonScore], answers: Mapping[str, Mapping[tuple[int, int], Outcome]]
) -> tuple[dict[Place, float], int]:
    """(the score of each answer, several people's averaged; how many scores are of no answer of this run).

    answers: per candidate, by (index, repeat). A score named by id is of the first repeat."""
    by_key: dict[str, Place] = {}
    by_id: dict[tuple[str, str], Place] = {}
    for candidate, outcomes in answers.items():
        for (index, repeat), outcome in outcomes.items():
            if isinstance(outcome, Prediction):
                by_key[key_of(candidate, outcome.id, repeat, answer_text(outcome))] = (candidate, index, repeat)
                if repeat == 0:
                    by_id[candidate, outcome.id] = (candidate, index, repeat)
    found: dict[Place, list[float]] = defaultdict(list)
    strange = 0
    for one in scores:
        place = by_key.get(one.key) if one.key else by_id.get((one.candidate, one.id))
        if place is not None and not one.key and one.answer is not None:
            said = answer_text(answers[place[0]][place[1:]])
            place = place if _same(one.answer, said) else None
        if place is None:
            strange += 1
        else:
            found[place].append(one.score)
    return {place: sum(given) / len(given) for place, given in found.items()}, strange


def _same(written: str, answer: str) -> bool:
    """But for white space, and the apostrophe that keeps a spreadsheet from computing."""
    one, other = (" ".join(text.split()) for text in (written, answer))
    return one in (other, f"'{other}")


# ---------------------------------------------------------------- human.jsonl


def stored(folder: RunFolder) -> dict[str, dict[str, Any]]:
    """What people said through `evalft review`, by key: {"key", "score", "target_ok", "note"}, the last word of each."""
    path = folder.file("human")
    return {line["key"]: line for line in read_lines(path)} if path.is_file() else {}


def reviewed(folder: RunFolder) -> list[PersonScore]:
    return [PersonScore(line["score"], key) for key, line in stored(folder).items() if line["score"] is not None]


def target_key(example: Example) -> str:
    target = example.target if isinstance(example.target, str) else json.dumps(list(example.target))
    return key_of("", example.id, 0, target)


def targets_reviewed(rows: Sequence[Example], folder: RunFolder) -> tuple[int, int]:
    """(targets of these rows that a person looked at, those that were found wrong)."""
    lines = stored(folder)
    found = [lines[key]["target_ok"] for key in map(target_key, rows) if key in lines] if lines else []
    return sum(ok is not None for ok in found), sum(ok is False for ok in found)
