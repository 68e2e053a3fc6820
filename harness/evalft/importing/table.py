"""Plain rows (CSV, TSV, JSON, JSONL, Parquet): one row holds the input, the target, the answer, and maybe scores."""

from __future__ import annotations

from pathlib import Path

from evalft.errors import UserError
from evalft.importing.imported import Imported, Row
from evalft.testset import files
from evalft.testset.rows import BadValue, Fault, as_text, is_missing, listed, user_error

ANSWERS = ("answer", "prediction", "text")
KEPT = ("cost_usd", "latency_s", "input_tokens", "output_tokens", "failure", "message")


def read(path: Path, input: str | None, target: str | None, answer: str | None) -> Imported:
    """Columns are named by the options, else `input`, `target` and one of `answer`, `prediction`, `text`; `id` is one. Scores are
    the columns `score` and `score_NAME`."""
    (table,) = files.read(str(path), "rows")
    columns = list(table.columns)
    input = _one(path, columns, "input", [input] if input else ["input"])
    target = _one(path, columns, "target", [target] if target else ["target"])
    answer = _one(path, columns, "answer", [answer] if answer else list(ANSWERS))
    scores = [column for column in columns if column == "score" or column.startswith("score_")]
    found = Imported("table", path.stem, answers={path.stem: []})
    faults = list(table.faults)
    for number, (line, row) in enumerate(table):
        try:
            id = str(row["id"]) if not is_missing(row.get("id")) else f"row-{number + 1}"
            if id in found.rows:
                raise BadValue(f"id {id[:80]!r} stands there twice")
            found.rows[id] = {"id": id, "input": row.get(input), "target": row.get(target)}
            said: Row = {"id": id, "text": None if is_missing(row.get(answer)) else as_text(row[answer], "the answer")}
            said |= {key: row[key] for key in KEPT if not is_missing(row.get(key))}
            if scores:
                said["scores"] = {_name(one): _score(row[one], one) for one in scores if not is_missing(row.get(one))}
            found.answers[path.stem].append(said)
        except BadValue as reason:
            faults.append(Fault(table.path, line, str(reason)))
    if faults:
        raise user_error(faults)
    found.said.append(
        f"the input is in {input!r}, the target in {target!r}, the answer in {answer!r}, "
        + (f"scores in {listed(scores)}" if scores else "and there are no scores (columns score, score_NAME)")
    )
    return found


def _one(path: Path, columns: list[str], what: str, names: list[str]) -> str:
    there = [name for name in names if name in columns]
    if len(there) == 1:
        return there[0]
    which = "several columns could be" if there else "no column is"
    raise UserError(f"{path}: {which} the {what}; name it with --{what} (its columns are {listed(columns, 30)})")


def _name(column: str) -> str:
    return f"table/{column.removeprefix('score_')}"


def _score(value: object, column: str) -> float:
    try:
        return float(str(value))
    except ValueError:
        raise BadValue(f"{column!r} is {str(value)[:40]!r}, no number") from None
