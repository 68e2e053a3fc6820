"""A baseline: what one candidate scored on each row, small enough for git, for `evalft gate` to hold a later run against.

The first line says what was measured: task, candidate and its settings, the names of the scores. Each other line is a row:

    ["content and target", [score, ...], [label, ...]]

24 hex digits stand for the content (64 bits of the input's normal form, 32 of the target), so no text of the rows is in
it; scores are in the order of the head, null where a row has none; labels (of classification and multi-label tasks) are
those the candidate gave, by their place in the head, or null for a failure. Lines are sorted: the same scores make the
same file, whatever the order of the test set.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalft import config, scoring
from evalft.errors import UserError
from evalft.records import Example
from evalft.scored_run import Side, outcomes_of, parse, read
from evalft.store import write_atomically
from evalft.testset.splits import normal_form

SCHEMA = "evalft.baseline/1"
DIGITS = 4
"""Of a score, behind the point."""
TASK_KEYS = ("type", "metrics", "normalize", "labels", "positive")
"""What scores depend on: a baseline of other ones is of another measure."""


@dataclass(frozen=True, slots=True)
class Row:
    content: str
    target: str
    scores: Mapping[str, float]
    labels: tuple[str, ...] | None
    """None for a failure, and for generation."""


@dataclass(frozen=True, slots=True)
class Baseline:
    path: str
    head: Mapping[str, Any]
    rows: tuple[Row, ...]


def content_of(example: Example) -> tuple[str, str]:
    """(16 hex digits of the input, 8 of the target): the same wherever the row stands, whatever its id."""
    target = [example.target] if isinstance(example.target, str) else sorted(example.target)
    digest = hashlib.blake2b(json.dumps(target, ensure_ascii=False).encode(), digest_size=4)
    return f"{normal_form(example):016x}", digest.hexdigest()


def settings_of(side: Side) -> dict[str, Any]:
    """The candidate as the run's config has it, with the prompt it was asked with."""
    data = config.as_data(config.load(side.folder.file("config")))
    own = next((one for one in data["candidates"] if one["name"] == side.candidate), {"name": side.candidate})
    kept = {key: value for key, value in own.items() if key != "price"}
    return {"prompt": data["task"].get("prompt"), "system": data["task"].get("system")} | kept


def task_of(side: Side) -> dict[str, Any]:
    data = side.task.model_dump(mode="json")
    return {key: sorted(data[key]) if key == "labels" and data[key] else data[key] for key in TASK_KEYS}


def write(name: str, path: Path) -> int:
    """Write the baseline of RUN or RUN:CANDIDATE; how many rows it holds. Raises UserError where the run is not whole."""
    side = read(*parse(name))
    whole(side)
    names = [key for key in side.entry["metrics"] if all(key in score.values for score in side.scores.values())]
    head = {
        "schema": SCHEMA,
        "evalft": side.summary["evalft"],
        "created": side.summary["created"],
        "task": task_of(side) | {"name": side.task.name},
        "candidate": settings_of(side),
        "scores": names,
        "measured": {key: one["value"] for key, one in side.entry["metrics"].items()},
    }
    lines = sorted(json.dumps(line, separators=(",", ":")) for line in _lines(side, names))
    write_atomically(path, (f"{line}\n" for line in [json.dumps(head, ensure_ascii=False), *lines]))
    return len(lines)


def whole(side: Side) -> None:
    """Raises UserError where rows of the run have no score yet."""
    missing = int(side.summary["task"]["examples"]) - len(side.examples)
    if side.summary.get("partial") or missing:
        raise UserError(f"{side.folder.path}: is not complete; go on with `evalft assess {side.folder.path}`")


def read_file(path: Path) -> Baseline:
    """Raises UserError with the line of what is no baseline."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}; `evalft baseline RUN --out {path}` writes one") from None
    head = _parsed(path, 1, lines[0] if lines else "")
    if not isinstance(head, dict) or head.get("schema") != SCHEMA:
        raise UserError(f"{path}:1: is no baseline of this version; `evalft baseline RUN --out {path}` writes one")
    labels, names = (head["task"]["labels"] or []), head["scores"]
    rows = []
    for number, text in enumerate(lines[1:], 2):
        try:
            content, scores, *said = _parsed(path, number, text)
            given = said[0] if said else None
            rows.append(
                Row(
                    content[:16],
                    content[16:],
                    {name: float(value) for name, value in zip(names, scores, strict=True)},
                    None if given is None else tuple(labels[place] for place in given),
                )
            )
        except (TypeError, ValueError, IndexError):
            raise UserError(
                f"{path}:{number}: is no row of a baseline; write it again with `evalft baseline`"
            ) from None
    return Baseline(str(path), head, tuple(rows))


def _parsed(path: Path, number: int, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise UserError(f"{path}:{number}: is not JSON; a merge may have torn it: write it again") from None


def _lines(side: Side, names: Sequence[str]) -> Iterator[list[Any]]:
    given = labels_of(side)
    places = {label: place for place, label in enumerate(sorted(side.task.labels or ()))}
    for example in side.examples:
        scores = side.scores[example.id].values
        line: list[Any] = ["".join(content_of(example)), [round(scores[name], DIGITS) for name in names]]
        if side.task.type != "generation":
            labels = given.get(example.id)
            line.append(None if labels is None else sorted(places[label] for label in labels if label in places))
        yield line


def labels_of(side: Side) -> dict[str, tuple[str, ...] | None]:
    """By example id the labels that the candidate's answers come to; None for a failure. Empty for generation."""
    if side.task.type == "generation":
        return {}
    ids = {example.id for example in side.examples}
    outcomes = [one for one in outcomes_of(side) if one.id in ids]
    return scoring.elected(side.examples, outcomes, side.task)
