"""The rows that a report shows: input, target, what each candidate answered, right or wrong, fixed or broken by training.

Rows that training changed or that a candidate failed on come first, then those that one got wrong, then the others
(`report.examples: all`), MAX_ROWS in all; of what is too much a seeded sample, said. Files are read as a stream, twice: first
to choose the rows, then to read the chosen ones, so a million rows need little memory. A torn line (a run that was killed)
is left out.
"""

from __future__ import annotations

import json
import random
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from evalft import numbers
from evalft.reporting import text
from evalft.reporting.word_diff import Pieces, differing
from evalft.store import RunFolder

MAX_ROWS = 5000
CHARACTERS = (4000, 2000, 1000, 500, 250)
"""Of one text: the most with which the page has at most MAX_PAGE_CHARACTERS. The whole text stays in the run folder."""
MAX_PAGE_CHARACTERS = 16_000_000
MAX_SAMPLES = 5
MAX_MARKED = 1000
"""Changed rows in which the words that differ are marked: a long text takes some hundredths of a second."""
MAX_CHOICES = 500
"""Labels, and tags, that the page's filter lists."""
WORTH = {"failed": 2, "partly": 1, "wrong": 1}
NOT_SHOWN = "Not shown: report.examples is none."

Change = Literal["", "fixed", "broken"]
Lines = Sequence[Mapping[str, Any]]


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
    side: Literal["", "before", "after"] = ""
    """Of two candidates that are compared."""
    pieces: Pieces = ()
    """Of a changed row, the first text: marked is what the other side's answer does not say."""


@dataclass(frozen=True, slots=True)
class ShownRow:
    id: str
    number: int
    input: tuple[tuple[str, str], ...]
    """(role, text); the role is empty for plain text."""
    target: str
    labels: tuple[str, ...]
    """The target's; empty for generation."""
    tags: tuple[str, ...]
    group: str
    source: str
    answers: tuple[Answer, ...]
    change: Change = ""
    target_pieces: Pieces = ()
    """Of a changed row, the target: marked is what the answer after lacks."""

    @property
    def rank(self) -> int:
        """Of broken, fixed, failed, not right, right, in this order."""
        marks = {answer.mark for answer in self.answers}
        kinds = (self.change == "broken", self.change == "fixed", "failed" in marks, marks != {"right"})
        return next((rank for rank, fits in enumerate(kinds) if fits), len(kinds))


@dataclass(frozen=True, slots=True)
class Examples:
    rows: tuple[ShownRow, ...]
    """By rank, then in the order of the test set."""
    note: str
    """Which rows these are, and of how many."""
    metric: str
    """The row score that says right or wrong."""
    before: str = ""
    after: str = ""
    """The candidates that a change is between; empty where nothing was trained."""

    @property
    def labels(self) -> tuple[str, ...]:
        return _choices(chain.from_iterable(row.labels for row in self.rows))

    @property
    def tags(self) -> tuple[str, ...]:
        return _choices(chain.from_iterable(row.tags for row in self.rows))


def _choices(found: Iterable[str]) -> tuple[str, ...]:
    """Sorted; none where they are too many to choose from: a search finds them too."""
    distinct = sorted(set(found))
    return tuple(distinct) if len(distinct) <= MAX_CHOICES else ()


@dataclass(frozen=True, slots=True)
class Columns:
    """What is shown of every row of a run."""

    entries: tuple[Mapping[str, Any], ...]
    """Of summary.json, the candidates before and after first."""
    paired: bool
    """The first two are compared."""
    metric: str
    labelled: bool
    """Targets are labels."""


def columns_of(folder: RunFolder, summary: Mapping[str, Any], sides: tuple[str, str] | None = None) -> Columns:
    """sides: the names of the candidates before and after, None where none are compared."""
    entries = {entry["name"]: entry for entry in summary["candidates"]}
    first = sides or ()
    return Columns(
        entries=tuple(entries[name] for name in dict.fromkeys((*first, *entries))),
        paired=bool(sides),
        metric=_row_metric([folder.scores_file(name) for name in entries], summary),
        labelled=bool(summary["task"]["labels"]),
    )


def read_examples(folder: RunFolder, summary: Mapping[str, Any]) -> Examples:
    shown = summary.get("report_examples") or "all"
    if shown == "none":
        return Examples((), NOT_SHOWN, "")
    if not folder.file("test").is_file():
        return Examples((), "Not shown: the folder holds no data/test.jsonl.", "")
    sides = trained_sides(summary)
    columns = columns_of(folder, summary, sides)
    changes = _changes(folder, summary, sides[1]) if sides else {}
    total: int = summary["task"]["examples"]
    kinds = _kinds(folder, columns, changes, total)
    if shown == "failures":
        del kinds["others"]
    chosen, note = choose(total, kinds)
    rows, cut = _rows_at(folder, columns, chosen, changes)
    if shown == "failures":
        note += " Rows that all candidates got right are not shown (report.examples is failures)."
    if len(rows) < total:
        note += " `evalft view` has them all, page by page."
    if cut < CHARACTERS[0]:
        note += f" Each text is cut at {cut:,} characters, which keeps this file small."
    if len(changes.keys() & chosen) > MAX_MARKED:
        note += f" What differs is marked in the first {MAX_MARKED:,} changed rows."
    return Examples(tuple(rows), note, columns.metric, *(sides or ("", "")))


def trained_sides(summary: Mapping[str, Any]) -> tuple[str, str] | None:
    """The candidates before and after training."""
    diff = summary.get("diff")
    if not diff or not {diff["baseline"], diff["tuned"]} <= {entry["name"] for entry in summary["candidates"]}:
        return None
    return diff["baseline"], diff["tuned"]


def _changes(folder: RunFolder, summary: Mapping[str, Any], tuned: str) -> dict[int, Change]:
    """What training did to each row that it changed."""
    kinds: dict[str, Change] = dict.fromkeys(summary["diff"].get("fixed_ids") or (), "fixed")
    kinds |= dict.fromkeys(summary["diff"].get("broken_ids") or (), "broken")
    return {line["index"]: kinds[line["id"]] for line in lines(folder.scores_file(tuned)) if line["id"] in kinds}


def _rows_at(
    folder: RunFolder, columns: Columns, chosen: frozenset[int], changes: Mapping[int, Change]
) -> tuple[list[ShownRow], int]:
    """(the rows at these positions, by rank; the characters that their texts are cut at)."""
    scores = [_chosen_lines(folder.scores_file(entry["name"]), chosen) for entry in columns.entries]
    outcomes = [_chosen_lines(folder.predictions_file(entry["name"]), chosen) for entry in columns.entries]
    examples = list(lines(folder.file("test"), chosen))
    every_outcome = chain.from_iterable(chain.from_iterable(found.values()) for found in outcomes)
    cut = _cut([*map(_length_of_example, examples), *map(_length, every_outcome)])
    by_kind = sorted(changes.keys() & chosen, key=lambda i: (changes[i], i))  # broken, then fixed
    unmarked = frozenset(by_kind[MAX_MARKED:])
    rows = [
        shown_row(
            columns,
            line,
            [found.get(line["index"], ()) for found in outcomes],
            [found.get(line["index"], ()) for found in scores],
            changes.get(line["index"], ""),
            cut=cut,
            marked=line["index"] not in unmarked,
        )
        for line in examples
    ]
    return sorted(rows, key=lambda row: (row.rank, row.number)), cut


def _length_of_example(line: Mapping[str, Any]) -> int:
    given = line["input"]
    return len(given) if isinstance(given, str) else sum(len(message.get("content", "")) for message in given)


def _length(line: Mapping[str, Any]) -> int:
    return len(line.get("text") or line.get("message") or "")


def _cut(lengths: Sequence[int]) -> int:
    fitting = (cut for cut in CHARACTERS if sum(min(length, cut) for length in lengths) <= MAX_PAGE_CHARACTERS)
    return next(fitting, CHARACTERS[-1])


def _kinds(folder: RunFolder, columns: Columns, changed: Iterable[int], total: int) -> dict[str, Sequence[int]]:
    """Every row by what makes it worth showing, what matters most first. A byte a row: there may be a million."""
    worth = bytearray(total)
    for entry in columns.entries:
        for score in lines(folder.scores_file(entry["name"])):
            found = WORTH.get(mark(score, columns.metric), 0)
            if score["index"] < total:
                worth[score["index"]] = max(found, worth[score["index"]])
    for row in changed:
        worth[row] = 2
    first = "that training changed or a candidate failed on" if columns.paired else "that a candidate failed on"
    names = {first: 2, "that a candidate got wrong": 1, "others": 0}
    return {name: array("Q", (row for row, its in enumerate(worth) if its == kind)) for name, kind in names.items()}


def choose(total: int, kinds: Mapping[str, Sequence[int]], most: int = MAX_ROWS) -> tuple[frozenset[int], str]:
    """Positions of at most `most` rows, of the first kinds all where there is room, and the sentences that say which."""
    draw, chosen, said = random.Random(0), set[int](), []
    for words, rows in kinds.items():
        taken = rows if len(rows) <= most - len(chosen) else draw.sample(rows, most - len(chosen))
        chosen.update(taken)
        if taken and len(taken) == len(rows):
            said.append(f"all {len(rows):,} {words}")
        elif rows:
            said.append(f"{len(taken):,} of the {len(rows):,} {words}{' (a seeded random sample)' if taken else ''}")
    left_out = total - len(chosen)
    note = f"{len(chosen):,} of {total:,} rows: {', '.join(said)}." if said else f"None of {total:,} rows."
    return frozenset(chosen), f"{note} {left_out:,} rows are left out." if left_out else note


def lines(path: Path, chosen: frozenset[int] | None = None) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file, or those of these rows; none where there is no file, and without a torn line."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        for written in file:
            if chosen is not None and (index := index_alone(written)) is not None and index not in chosen:
                continue  # nearly all lines: they are not taken apart
            try:
                line = json.loads(written.decode(errors="replace"))
            except ValueError:
                continue
            if isinstance(line, dict) and (chosen is None or line.get("index") in chosen):
                yield line


_INDEX = re.compile(rb'"index": ?(\d{1,12})[,}]')


def index_alone(line: bytes) -> int | None:
    """The row that a line is of. It is the first "index" of a line: only the id stands before it, with its quotes escaped."""
    found = _INDEX.search(line)
    return int(found[1]) if found else None


def _row_metric(files: Sequence[Path], summary: Mapping[str, Any]) -> str:
    """What tells right from wrong: the metric that training's changes are by, else the primary one where rows have a score of
    it, else the first that they have."""
    asked = [(summary.get("diff") or {}).get("row_metric"), *summary["task"]["metrics"]]
    for file in files:
        for score in lines(file):
            if score["values"]:
                preferred = [*asked, "accuracy", "exact_match", "jaccard", "token_f1"]
                return str(next((metric for metric in preferred if metric in score["values"]), min(score["values"])))
    return ""


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
    for line in lines(path, chosen):
        found.setdefault(line["index"], []).append(line)
    return found


def _answer(entry: Mapping[str, Any], outcomes: Lines, scores: Lines, metric: str, cut: int) -> Answer:
    """One candidate's answers to a row, from their lines in predictions/ and scores/."""
    score = scores[0] if scores else {"values": {}}
    value = score["values"].get(metric)
    texts, read_as = [], []
    for outcome in sorted(outcomes, key=lambda line: line.get("repeat", 0))[:MAX_SAMPLES]:
        labels = None if outcome.get("labels") is None else _labels(outcome["labels"])
        written = outcome.get("text")
        if written is None and labels is not None:
            written = labels
        if written is not None:
            texts.append(text.shortened(written, cut))
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
        message=text.shortened(str(failed.get("message") or ""), cut),
        rescued=bool(score.get("rescued") or any(outcome.get("rescued") for outcome in outcomes)),
    )


def shown_row(
    columns: Columns,
    line: Mapping[str, Any],
    outcomes: Sequence[Lines],
    scores: Sequence[Lines],
    change: Change = "",
    *,
    cut: int = CHARACTERS[0],
    marked: bool = True,
) -> ShownRow:
    """A line of data/test.jsonl, with the lines of predictions/ and scores/ of each candidate in `columns`.

    marked: where the row changed, the words are marked in which the answers before and after and the target differ."""
    given, target = line["input"], line["target"]
    messages = [("", given)] if isinstance(given, str) else [(m.get("role", ""), m.get("content", "")) for m in given]
    expected = text.shortened(target if isinstance(target, str) else _labels(target), cut)
    target_pieces: Pieces = ()
    answers = [
        _answer(entry, found, scored, columns.metric, cut)
        for entry, found, scored in zip(columns.entries, outcomes, scores, strict=True)
    ]
    if columns.paired:
        before, after, *others = answers
        old, new = (one.texts[0] if one.texts else None for one in (before, after))
        if change and marked:
            (old_pieces, new_pieces), target_pieces = differing(old, new), differing(expected, new)[0]
            before, after = replace(before, pieces=old_pieces), replace(after, pieces=new_pieces)
        answers = [replace(before, side="before"), replace(after, side="after"), *others]
    return ShownRow(
        id=str(line["id"]),
        number=line["index"] + 1,
        input=tuple((role, text.shortened(content, cut)) for role, content in messages),
        target=expected,
        labels=labels_of(line) if columns.labelled else (),
        tags=tags_of(line),
        group="" if line.get("group") is None else str(line["group"]),
        source=str(line.get("source") or ""),
        answers=tuple(answers),
        change=change,
        target_pieces=target_pieces,
    )


def labels_of(line: Mapping[str, Any]) -> tuple[str, ...]:
    """The target's, of a line of data/test.jsonl."""
    return (line["target"],) if isinstance(line["target"], str) else tuple(line["target"])


def tags_of(line: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"{name}: {value}" for name, value in (line.get("slices") or {}).items())


def _labels(labels: Sequence[str]) -> str:
    return ", ".join(labels) or "(no label)"
