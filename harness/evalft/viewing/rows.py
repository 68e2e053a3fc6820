"""The rows of a run, a page at a time. Its files are read through once, to learn where each row's lines are and how it was
scored; after that a page reads its own lines, and a search at most those of SEARCHED_AT_ONCE rows.
"""

from __future__ import annotations

import json
import unicodedata
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from evalft.reporting.examples import (
    MAX_CHOICES,
    Change,
    ShownRow,
    columns_of,
    index_alone,
    labels_of,
    mark,
    shown_row,
    tags_of,
    trained_sides,
)
from evalft.store import RunFolder
from evalft.viewing.runs import stamp_of

ROWS_A_PAGE = 50
SEARCHED_AT_ONCE = 20_000
"""Rows that a page reads at most to find some that hold the words; the page after it goes on."""
MARKS = ("unscored", "right", "partly", "wrong", "failed")
MISSED = tuple(map(MARKS.index, ("partly", "wrong", "failed")))


@dataclass(frozen=True, slots=True)
class Query:
    words: str = ""
    show: str = ""
    """broken, fixed (between the sides), failed, missed, differ; with a candidate's position, "missed 2", of it alone."""
    label: str = ""
    tag: str = ""
    sides: tuple[str, str] | None = None
    """The candidates before and after; None: those of the training, if there was one."""
    start: int = 0
    """The row, from 0, that the page starts at or after."""


@dataclass(frozen=True, slots=True)
class Page:
    rows: tuple[ShownRow, ...]
    next: int | None
    """The start of the page after this one; None where this is the last."""
    fitting: int | None
    """How many rows fit in all; None where only reading them would tell."""
    sides: tuple[str, str] | None


class _Lines:
    """Where the lines of each row are in a file that evalft appended to; a torn line and one of no row are left out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows, self._starts, self._sizes = array("Q"), array("Q"), array("I")

    def read(self, parse: Callable[[bytes], Mapping[str, Any] | None]) -> Iterator[Mapping[str, Any]]:
        if not self.path.is_file():
            return
        start = 0
        with self.path.open("rb") as file:
            for line in file:
                data = parse(line) if line.endswith(b"\n") else None
                if data is not None:
                    self._rows.append(data["index"])
                    self._starts.append(start)
                    self._sizes.append(len(line))
                    yield data
                start += len(line)
        if any(one > other for one, other in pairwise(self._rows)):  # answers stand as they came until a run is done
            order = sorted(range(len(self._rows)), key=self._rows.__getitem__)
            self._rows, self._starts = (array("Q", (column[i] for i in order)) for column in (self._rows, self._starts))
            self._sizes = array("I", (self._sizes[i] for i in order))

    def at(self, row: int, file: IO[bytes] | None) -> list[bytes]:
        if file is None:
            return []
        found = []
        for i in range(bisect_left(self._rows, row), bisect_right(self._rows, row)):
            file.seek(self._starts[i])
            found.append(file.read(self._sizes[i]))
        return found


class Rows:
    """Raises whatever files that evalft did not write lead to."""

    def __init__(self, folder: RunFolder, summary: Mapping[str, Any]) -> None:
        self._folder, self._summary = folder, summary
        self.names = [entry["name"] for entry in summary["candidates"]]
        self.stamp = self._stamp()
        columns = columns_of(folder, summary)
        self._metric = columns.metric
        self._test = _Lines(folder.file("test"))
        of_kind: dict[tuple[tuple[str, ...], tuple[str, ...]], int] = {}
        kind_of = array("I")
        for line in self._test.read(_object):
            kind = (labels_of(line) if columns.labelled else (), tags_of(line))
            kind_of.append(of_kind.setdefault(kind, len(of_kind)))
        self._kinds, self._kind_of = list(of_kind), np.array(kind_of, dtype=np.int64)
        self.total = len(kind_of)
        self._answers = {name: _Lines(folder.predictions_file(name)) for name in self.names}
        self._scores = {name: _Lines(folder.scores_file(name)) for name in self.names}
        self._values = {name: np.full(self.total, np.nan) for name in self.names}
        self._marks = {name: np.zeros(self.total, dtype=np.uint8) for name in self.names}
        for name in self.names:
            for _ in self._answers[name].read(_row_alone):
                pass
            for score in self._scores[name].read(_object):
                if score["index"] < self.total:
                    self._values[name][score["index"]] = score["values"].get(self._metric, np.nan)
                    self._marks[name][score["index"]] = MARKS.index(mark(score, self._metric))

    @property
    def labels(self) -> tuple[str, ...]:
        return _few(chain.from_iterable(labels for labels, _ in self._kinds))

    @property
    def tags(self) -> tuple[str, ...]:
        return _few(chain.from_iterable(tags for _, tags in self._kinds))

    @property
    def is_current(self) -> bool:
        return self.stamp == self._stamp()

    def _stamp(self) -> object:
        files = [self._folder.file("summary"), self._folder.file("test")]
        for name in self.names:
            files += [self._folder.predictions_file(name), self._folder.scores_file(name)]
        return [stamp_of(file) for file in files]

    def page(self, query: Query, most: int = ROWS_A_PAGE) -> Page:
        sides = query.sides or trained_sides(self._summary)
        fits = self._fitting(query, sides)
        columns = columns_of(self._folder, self._summary, sides)
        names = [entry["name"] for entry in columns.entries]
        shown: list[ShownRow] = []
        following = None
        with ExitStack() as opened:
            files = {
                lines: opened.enter_context(lines.path.open("rb")) if lines.path.is_file() else None
                for lines in (self._test, *self._answers.values(), *self._scores.values())
            }

            def lines_at(row: int, of: _Lines) -> list[dict[str, Any]]:
                found = map(_object, of.at(row, files[of]))
                return [line for line in found if line and line["index"] == row]  # a file may just have been replaced

            holds = self._search(query.words, files)
            for looked_at, row in enumerate(map(int, np.flatnonzero(fits[query.start :]) + query.start)):
                if len(shown) == most or (query.words and looked_at == SEARCHED_AT_ONCE):
                    following = row
                    break
                if not holds(row):
                    continue
                shown += [
                    shown_row(
                        columns,
                        line,
                        [lines_at(row, self._answers[name]) for name in names],
                        [lines_at(row, self._scores[name]) for name in names],
                        self._change(row, sides),
                    )
                    for line in lines_at(row, self._test)
                ]
        return Page(tuple(shown), following, None if query.words else int(fits.sum()), sides)

    def _change(self, row: int, sides: tuple[str, str] | None) -> Change:
        if not sides:
            return ""
        before, after = (self._values[name][row] for name in sides)
        return "fixed" if after > before else "broken" if after < before else ""

    def _fitting(self, query: Query, sides: tuple[str, str] | None) -> NDArray[np.bool_]:
        """(rows,) whether each fits all but the searched words."""
        kinds = [
            number
            for number, (labels, tags) in enumerate(self._kinds)
            if (not query.label or query.label in labels) and (not query.tag or query.tag in tags)
        ]
        fits: NDArray[np.bool_] = np.isin(self._kind_of, kinds)
        if self._summary.get("report_examples") == "failures":
            fits &= np.any([np.isin(self._marks[name], MISSED) for name in self.names], axis=0)
        show, _, position = query.show.partition(" ")
        of = [self.names[int(position)]] if position else self.names
        if show in ("failed", "missed"):
            wanted = MISSED if show == "missed" else (MARKS.index("failed"),)
            fits &= np.any([np.isin(self._marks[name], wanted) for name in of], axis=0)
        elif show == "differ":
            missed = np.any([np.isin(self._marks[name], MISSED) for name in of], axis=0)
            fits &= missed & np.any([self._marks[name] == MARKS.index("right") for name in of], axis=0)
        elif show in ("broken", "fixed"):
            if not sides:
                return np.zeros_like(fits)
            change = self._values[sides[1]] - self._values[sides[0]]
            fits &= (change > 0) if show == "fixed" else (change < 0)
        return fits

    def _search(self, words: str, files: Mapping[_Lines, IO[bytes] | None]) -> Callable[[int], bool]:
        """Whether a row's input, target, answers, id, tags, group or place holds these words."""
        wanted = _plain(words.strip())
        written = json.dumps(wanted, ensure_ascii=False)[1:-1]
        encoded = written.encode(errors="replace")

        def may_hold(line: bytes) -> bool:
            if line.isascii():
                return encoded in line.lower() or b"\\u" in line
            return written in _plain(line.decode(errors="replace")) or b"\\u" in line

        tagged = {kind for kind, (_, tags) in enumerate(self._kinds) if any(wanted in _plain(tag) for tag in tags)}

        def holds(row: int) -> bool:
            if int(self._kind_of[row]) in tagged:
                return True
            for lines in (self._test, *self._answers.values()):
                for line in lines.at(row, files[lines]):
                    if not may_hold(line):
                        continue  # nearly all lines: only the others are taken apart
                    if any(wanted in _plain(part) for part in _parts(_object(line) or {})):
                        return True
            return False

        return holds if wanted else lambda row: True


def _parts(line: Mapping[str, Any]) -> Iterator[str]:
    """The texts of a line of data/test.jsonl or of predictions/ that a page shows, but for tags."""
    given, target = line.get("input"), line.get("target")
    yield from ([given] if isinstance(given, str) else [str(message.get("content", "")) for message in given or ()])
    yield from ([target] if isinstance(target, str) else target or ())
    yield from line.get("labels") or ()
    yield from (str(line.get(key) or "") for key in ("id", "group", "source", "text", "failure", "message"))


def _row_alone(line: bytes) -> Mapping[str, int] | None:
    index = index_alone(line)
    return None if index is None else {"index": index}


def _few(found: Iterable[str]) -> tuple[str, ...]:
    distinct = sorted(set(found))
    return tuple(distinct) if len(distinct) <= MAX_CHOICES else ()


def _plain(words: str) -> str:
    return unicodedata.normalize("NFC", words).lower()


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        data = json.loads(line.decode())
    except ValueError:
        return None
    return data if isinstance(data, dict) and isinstance(data.get("index"), int) and data["index"] >= 0 else None
