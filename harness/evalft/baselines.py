"""A baseline: what one candidate scored on each row, small enough for git, for `evalft gate` to hold a later run against.

The first line says what was measured: task, candidate and its settings, the names of the scores. Each other line is a row:

    ["content and target", [score, ...], [label, ...], "probabilities", cost]

24 hex digits stand for the content (64 bits of the input's normal form, 32 of the target), so no text of the rows is in
it; scores are in the order of the head, null where a row has none; labels (of classification and multi-label tasks) are
those the candidate gave, by their place in the head, or null for a failure. Probabilities, where the candidate gives
any and the labels are few (LABELS_WITH_PROBABILITIES), are the log-odds of the head's labels in steps of 0.0001, 24 bits
each, in base64: near 0 and 1, where language models put most of them, they keep an order that four decimals would lose.
The cost is in USD, to three digits. What comes last and is null is left out. Lines are sorted: the same scores make the
same file, whatever the order of the test set. Latencies are never the same, so only the head has them, over all rows.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress, repeat
from pathlib import Path
from typing import Any

import numpy as np

from evalft import config
from evalft.errors import UserError
from evalft.metrics.measure import Floats
from evalft.metrics.names import PROBABILISTIC
from evalft.metrics.probability import NONE
from evalft.scored_rows import ScoredRows
from evalft.scored_run import Side, parse, read
from evalft.store import write_atomically

SCHEMA = "evalft.baseline/1"
DIGITS = 4
"""Of a score, behind the point."""
COST_DIGITS = 3
"""Significant ones, of a row's cost."""
LABELS_WITH_PROBABILITIES = 6
"""With more labels a row would be over 100 bytes."""
STEPS = 10_000
"""Of log-odds per unit."""
_MOST = 2**23 - 1
TASK_KEYS = ("type", "metrics", "normalize", "labels", "positive")
"""What scores depend on: a baseline of other ones is of another measure."""


@dataclass(frozen=True, slots=True)
class Row:
    content: str
    target: str
    scores: Mapping[str, float]
    labels: tuple[str, ...] | None
    """None for a failure, and for generation."""
    probs: Mapping[str, float] | None = None
    """As they are kept, by label; None where the row has none."""
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Baseline:
    path: str
    head: Mapping[str, Any]
    rows: tuple[Row, ...]


def contents(rows: ScoredRows) -> Iterator[tuple[str, str]]:
    """(16 hex digits of the input, 8 of the target) of each row."""
    for given, target in zip(rows.inputs.tolist(), rows.targets.tolist(), strict=True):
        yield f"{given:016x}", f"{target:08x}"


def rounded(scores: Floats) -> Floats:
    """Row scores (n,) as a baseline keeps them."""
    distinct, places = np.unique(scores, return_inverse=True)
    return np.array([round(score, DIGITS) for score in distinct.tolist()])[places.reshape(-1)]


def settings_of(side: Side) -> dict[str, Any]:
    """The candidate as the run's config has it, with the prompt it was asked with. A model in a folder or file is named
    without the folder that it lies in, which is another one in every checkout, and by a digest of its content."""
    data = config.as_data(config.load(side.folder.file("config")))
    own = next((one for one in data["candidates"] if one["name"] == side.candidate), {"name": side.candidate})
    kept = {key: value for key, value in own.items() if key != "price"}
    digests = side.folder.manifest().get("models", {})
    for key in ("model", "adapter"):
        if digest := digests.get(f"{side.candidate} {key}"):
            kept[key] = f"{Path(kept[key].removeprefix('hf:').removeprefix('file:')).name} ({digest[:12]})"
    return {"prompt": data["task"].get("prompt"), "system": data["task"].get("system")} | kept


def task_of(side: Side) -> dict[str, Any]:
    data = side.task.model_dump(mode="json")
    return {key: sorted(data[key]) if key == "labels" and data[key] else data[key] for key in TASK_KEYS}


def write(name: str, path: Path) -> int:
    """Write the baseline of RUN or RUN:CANDIDATE; how many rows it holds. Raises UserError where the run is not whole."""
    side = read(*parse(name))
    whole(side)
    names = [key for key in side.entry["metrics"] if side.rows.has(key)]
    said = said_of(side)
    head = {
        "schema": SCHEMA,
        "evalft": side.summary["evalft"],
        "created": side.summary["created"],
        "task": task_of(side) | {"name": side.task.name},
        "candidate": settings_of(side),
        "scores": names,
        "probabilities": said.labels,
        "probs_method": probs_method(side),
        "measured": {key: one["value"] for key, one in side.entry["metrics"].items()},
        "cost_per_query_usd": side.entry["cost_per_query_usd"]["value"],
        "latency_s": side.entry["latency_s"],
    }
    lines = sorted(json.dumps(line, separators=(",", ":")) for line in _lines(side, names, said))
    write_atomically(path, (f"{line}\n" for line in [json.dumps(head, ensure_ascii=False), *lines]))
    return len(lines)


def whole(side: Side) -> None:
    """Raises UserError where rows of the run have no score yet."""
    missing = int(side.summary["task"]["examples"]) - len(side.rows)
    if side.summary.get("partial") or missing:
        raise UserError(f"{side.folder.path}: is not complete; go on with `evalft assess {side.folder.path}`")


def read_file(path: Path) -> Baseline:
    """Raises UserError with the line of what is no baseline."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; `evalft baseline RUN --out {path}` writes one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}; `evalft baseline RUN --out {path}` writes one") from None
    head = _parsed(path, 1, lines[0] if lines else "")
    if not isinstance(head, dict) or head.get("schema") != SCHEMA:
        raise UserError(f"{path}:1: is no baseline of this version; `evalft baseline RUN --out {path}` writes one")
    labels, names = (head["task"]["labels"] or []), head["scores"]
    rows = []
    for number, text in enumerate(lines[1:], 2):
        try:
            content, scores, given, code, cost_usd = [*_parsed(path, number, text), None, None, None][:5]
            rows.append(
                Row(
                    content[:16],
                    content[16:],
                    {name: float(value) for name, value in zip(names, scores, strict=True)},
                    None if given is None else tuple(labels[place] for place in given),
                    None if code is None else decoded(code, head["probabilities"]),
                    None if cost_usd is None else float(cost_usd),
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


def _lines(side: Side, names: Sequence[str], said: Said) -> Iterator[list[Any]]:
    places = {label: place for place, label in enumerate(sorted(side.task.labels or ()))}
    columns = [rounded(side.rows.values[name]).tolist() for name in names]
    scores = zip(*columns, strict=True) if columns else repeat(())
    for content, of_row, row in zip(contents(side.rows), scores, said.rows, strict=False):
        labels = None if row.labels is None else sorted(places[label] for label in row.labels if label in places)
        code = encoded(row.probs, said.labels) if row.probs is not None and said.labels else None
        line = [list(of_row), labels, code, row.cost_usd]
        while line[-1] is None:
            line.pop()
        yield ["".join(content), *line]


# ---------------------------------------------------------------- what a candidate said


@dataclass(frozen=True, slots=True)
class SaidOfRow:
    labels: tuple[str, ...] | None
    probs: Mapping[str, float] | None
    """As a baseline keeps them."""
    cost_usd: float | None
    """As a baseline keeps it."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a candidate's answers come to, row by row, no finer than a baseline keeps it: two sides that are the same in
    the file are the same."""

    rows: Sequence[SaidOfRow]
    """In the order of the side's."""
    labels: list[str] | None
    """Whose probabilities are kept; None: none are."""


def said_of(side: Side) -> Said:
    """Raises UserError where the answers cannot be read."""
    if side.rows.fault is not None:
        path = side.folder.predictions_file(side.candidate)
        raise UserError(f"{path}: its answers cannot be read: {side.rows.fault}; move the file away and run again")
    n, costs, voted = len(side.rows), _costs(side), side.rows.votes
    if voted is None:
        return Said([SaidOfRow(None, None, cost) for cost in costs], None)
    known = sorted(side.task.labels or ())
    wanted = any(name.startswith(PROBABILISTIC) for name in side.entry["metrics"])
    table, has = voted.given.table, voted.given.method != NONE
    kept = known if wanted and table is not None and len(known) <= LABELS_WITH_PROBABILITIES else None
    probs: Sequence[Mapping[str, float] | None] = [None] * n
    if kept and table is not None:
        probs = [
            decoded(encoded(dict(zip(voted.rows.labels, of_row, strict=True)), kept), kept) if some else None
            for of_row, some in zip(table.tolist(), has.tolist(), strict=True)
        ]
    labels = (
        None if failed else tuple(compress(voted.rows.labels, marks))
        for marks, failed in zip(voted.rows.predicted.tolist(), voted.rows.failed.tolist(), strict=True)
    )
    return Said(list(map(SaidOfRow, labels, probs, costs)), kept)


def probs_method(side: Side) -> str | None:
    """The kind of the candidate's probabilities, where a metric rests on them."""
    return next((one["probs_method"] for one in side.entry["metrics"].values() if one.get("probs_method")), None)


def _costs(side: Side) -> list[float | None]:
    """USD of each row. None where they are not what the run reports: at another price than the day's, or unknown."""
    costs, reported = side.rows.costs, side.entry["cost_per_query_usd"]["value"]
    if not reported or not math.isclose(float(costs.mean()), reported, rel_tol=1e-6):  # nan: some are not known
        return [None] * len(costs)
    return [float(f"{cost:.{COST_DIGITS}g}") for cost in costs.tolist()]


def encoded(probs: Mapping[str, float], labels: Sequence[str]) -> str:
    """Four characters a label: its log-odds in steps of 1 / STEPS; 0 and 1 stand at the ends."""
    whole = b"".join((_steps(probs.get(label, 0.0)) + _MOST).to_bytes(3, "big") for label in labels)
    return base64.b64encode(whole).decode()


def decoded(code: str, labels: Sequence[str]) -> dict[str, float]:
    """Raises ValueError where `code` is of other labels."""
    whole = base64.b64decode(code, validate=True)
    if len(whole) != 3 * len(labels):
        raise ValueError(f"probabilities of {len(whole) / 3:g} labels, not {len(labels)}")
    steps = [int.from_bytes(whole[place : place + 3], "big") - _MOST for place in range(0, len(whole), 3)]
    return {label: _probability(step) for label, step in zip(labels, steps, strict=True)}


def _steps(p: float) -> int:
    if not 0 < p < 1:
        return _MOST if p >= 1 else -_MOST
    return round(STEPS * (math.log(p) - math.log1p(-p)))


def _probability(steps: int) -> float:
    odds = math.exp(min(steps / STEPS, 700.0))
    return odds / (1 + odds)
