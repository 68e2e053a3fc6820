"""The rows that a report shows: input, target, what each candidate answered, right or wrong.

All rows that some candidate got wrong or failed, and the others too (`report.examples: all`), up to MAX_ROWS; beyond,
a seeded sample, said. Files are read as a stream, twice: first to choose the rows, then to read the chosen ones, so a
million rows need little memory. A torn line (a run that was killed) is left out.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalft import numbers
from evalft.reporting import text
from evalft.store import RunFolder

MAX_ROWS = 5000
MAX_CHARACTERS = 4000
"""Of one text; the whole of it stays in the run folder."""
MAX_SAMPLES = 5


@dataclass(frozen=True, slots=True)
class Answer:
    candidate: str
    stand_in: bool
    texts: tuple[str, ...]
    """What the model wrote, one per sample; empty where it was not asked."""
    labels: str
    """The labels read from it, where that is not the text itself."""
    mark: str
    """right, partly, wrong, failed, unscored"""
    score: str
    failure: str
    message: str
    rescued: bool


@dataclass(frozen=True, slots=True)
class ShownRow:
    id: str
    number: int
    input: tuple[tuple[str, str], ...]
    """(role, text); the role is empty for plain text."""
    target: str
    tags: tuple[str, ...]
    source: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Examples:
    rows: tuple[ShownRow, ...]
    note: str
    """Which rows these are, and of how many."""
    metric: str
    """The row score that says right or wrong."""


def read_examples(folder: RunFolder, summary: Mapping[str, Any]) -> Examples:
    shown = summary.get("report_examples") or "all"
    if shown == "none":
        return Examples((), "Not shown: report.examples is none.", "")
    test = folder.file("test")
    if not test.is_file():
        return Examples((), "Not shown: the folder holds no data/test.jsonl.", "")
    entries: list[dict[str, Any]] = summary["candidates"]
    files = [folder.scores_file(entry["name"]) for entry in entries]
    total: int = summary["task"]["examples"]
    metric = _row_metric(files, summary["task"]["metrics"])
    missed = _missed(files, metric)
    chosen, note = choose(total, missed, only_missed=shown == "failures")
    return Examples(tuple(rows_at(folder, entries, chosen, metric)), note, metric)


def rows_at(
    folder: RunFolder, entries: Sequence[Mapping[str, Any]], chosen: frozenset[int], metric: str
) -> list[ShownRow]:
    """The rows at these positions, in order, each with what these candidates answered; right or wrong by `metric`."""
    scores = [_chosen_lines(folder.scores_file(entry["name"]), chosen) for entry in entries]
    outcomes = [_chosen_lines(folder.predictions_file(entry["name"]), chosen) for entry in entries]
    rows = []
    for line in lines(folder.file("test")):
        if line["index"] in chosen:
            i = line["index"]
            answers = tuple(
                _answer(entry, outcome.get(i, []), score.get(i, []), metric)
                for entry, outcome, score in zip(entries, outcomes, scores, strict=True)
            )
            rows.append(_row(line, answers))
    return sorted(rows, key=lambda row: row.number)


def choose(total: int, missed: Sequence[int], *, only_missed: bool, most: int = MAX_ROWS) -> tuple[frozenset[int], str]:
    """Positions of the rows to show, and the sentence that says which."""
    what = "that at least one candidate got wrong or did not answer"
    draw = random.Random(0)
    if len(missed) > most:
        return (
            frozenset(draw.sample(sorted(missed), most)),
            f"{most:,} of the {len(missed):,} rows {what} (a seeded random sample), of {total:,} rows in all.",
        )
    if only_missed:
        return frozenset(missed), f"The {len(missed):,} rows {what}, of {total:,} (report.examples is failures)."
    if total <= most:
        return frozenset(range(total)), f"All {total:,} rows; {len(missed):,} of them are rows {what}."
    others = sorted(set(range(total)) - set(missed))
    sample = draw.sample(others, most - len(missed))
    return (
        frozenset([*missed, *sample]),
        f"{most:,} of {total:,} rows: all {len(missed):,} rows {what}, and a seeded random sample of {len(sample):,} others.",
    )


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file; none where there is no file, and without a torn line."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for text_line in file:
            try:
                line = json.loads(text_line)
            except ValueError:
                continue
            if isinstance(line, dict):
                yield line


def _row_metric(files: Sequence[Path], asked: Sequence[str]) -> str:
    """The primary metric where it has a row score, else the first that has one."""
    for file in files:
        for score in lines(file):
            if score["values"]:
                preferred = [*asked, "accuracy", "exact_match", "jaccard", "token_f1"]
                return next((metric for metric in preferred if metric in score["values"]), min(score["values"]))
    return ""


def _missed(files: Sequence[Path], metric: str) -> list[int]:
    missed = set()
    for file in files:
        for score in lines(file):
            if mark(score, metric) in ("partly", "wrong", "failed"):
                missed.add(score["index"])
    return sorted(missed)


def mark(score: Mapping[str, Any], metric: str) -> str:
    """What one score line says of its row; row scores run from 0 to 1."""
    value = score["values"].get(metric)
    if score.get("failure"):
        return "failed"
    if value is None:
        return "unscored"
    return "right" if value >= 1 - 1e-9 else "wrong" if value <= 0 else "partly"


def _chosen_lines(path: Path, chosen: frozenset[int]) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for line in lines(path):
        if line.get("index") in chosen:
            found.setdefault(line["index"], []).append(line)
    return found


def _answer(
    entry: Mapping[str, Any], outcomes: Sequence[Mapping[str, Any]], scores: Sequence[Mapping[str, Any]], metric: str
) -> Answer:
    score = scores[0] if scores else {"values": {}}
    value = score["values"].get(metric)
    texts, read_as = [], []
    for outcome in sorted(outcomes, key=lambda line: line.get("repeat", 0))[:MAX_SAMPLES]:
        labels = None if outcome.get("labels") is None else _labels(outcome["labels"])
        written = outcome.get("text")
        if written is None and labels is not None:
            written = labels
        if written is not None:
            texts.append(text.shortened(written, MAX_CHARACTERS))
        if labels is not None and labels != (written or "").strip():
            read_as.append(labels)
    failed = next((outcome for outcome in outcomes if outcome.get("failure")), {})
    return Answer(
        candidate=entry["name"],
        stand_in=bool(entry.get("stand_in")),
        texts=tuple(texts),
        labels="; ".join(read_as),
        mark=mark(score, metric) if scores else "unscored",
        score="" if value in (None, 0, 1) else numbers.number(value, "score"),
        failure=score.get("failure") or failed.get("failure") or "",
        message=text.shortened(str(failed.get("message") or ""), MAX_CHARACTERS),
        rescued=bool(score.get("rescued") or any(outcome.get("rescued") for outcome in outcomes)),
    )


def _row(line: Mapping[str, Any], answers: tuple[Answer, ...]) -> ShownRow:
    given, target = line["input"], line["target"]
    messages = [("", given)] if isinstance(given, str) else [(m.get("role", ""), m.get("content", "")) for m in given]
    tags = [f"{name}: {value}" for name, value in (line.get("slices") or {}).items()]
    if line.get("group") is not None:
        tags.append(f"group: {line['group']}")
    return ShownRow(
        id=str(line["id"]),
        number=line["index"] + 1,
        input=tuple((role, text.shortened(content, MAX_CHARACTERS)) for role, content in messages),
        target=text.shortened(target if isinstance(target, str) else _labels(target), MAX_CHARACTERS),
        tags=tuple(tags),
        source=str(line.get("source") or ""),
        answers=answers,
    )


def _labels(labels: Sequence[str]) -> str:
    return ", ".join(labels) or "(no label)"
