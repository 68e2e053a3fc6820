"""The scored rows of one candidate as arrays: what `diff`, `gate` and `view` compute on.

They are gathered from the JSONL files of the run folder, which are the truth, in a pass that holds a few bytes of each
row. Parsing a hundred thousand lines takes seconds, so what was gathered lies beside the scores as arrays
(scores/<candidate>.npz) with the checksums of the files that it was gathered from, and of the code that gathered it: where
any of them is another now (scores edited by hand, a kill between two writes, an older run) it is gathered again, with the
same result. See docs/decisions/0036.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from evalft import votes
from evalft.config import TaskConfig
from evalft.errors import UserError
from evalft.metrics.labels import LabelArrays
from evalft.metrics.measure import Floats, Ints
from evalft.metrics.probability import Given
from evalft.records import Example, Outcome
from evalft.store import RunFolder, as_outcome, write_arrays
from evalft.testset import splits
from evalft.votes import Votes

NONE = -1
"""In place of a code: the row is in no group, or has no value in the slice column."""
KEPT_FROM = 20_000
"""Rows of a test set: fewer are parsed in a few seconds at most, which is not worth another pass at the end of every run."""
READ_AT_ONCE = 1 << 20
"""Bytes."""


@dataclass(frozen=True)
class Codes:
    """A text of each row, or none."""

    names: tuple[str, ...]
    of: NDArray[np.int32]
    """(n,) a place in `names`, or NONE."""


@dataclass(frozen=True)
class ScoredRows:
    """The n rows of a test set that have a score, in its order."""

    ids_as_json: bytes
    """A list of texts: a text of each row would take as much memory as all else."""
    index: NDArray[np.uint32]
    """(n,) which row of the test set."""
    inputs: NDArray[np.uint64]
    targets: NDArray[np.uint32]
    """(n,) digests of the content, see `content_of`."""
    values: Mapping[str, Floats]
    """Row scores (n,) by metric; nan for a row without."""
    groups: Codes
    slices: Mapping[str, Codes]
    """By column."""
    answers: NDArray[np.uint16]
    """(n,) how many there are on disk."""
    costs: Floats
    """(n,) USD of all answers to the row, as they were asked; nan where it is not known."""
    votes: Votes | None
    """What the answers come to; None for generation."""
    fault: str | None = None
    """Why the answers cannot be read; `votes` and `costs` are then of those before it."""

    def __len__(self) -> int:
        return len(self.index)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        return tuple(json.loads(self.ids_as_json))

    def has(self, metric: str, rows: Ints | slice = slice(None)) -> bool:
        """Every one (of these rows) has a score of it."""
        return metric in self.values and not np.isnan(self.values[metric][rows]).any()

    def without_slices(self) -> ScoredRows:
        return replace(self, slices={})

    def group_numbers(self, rows: Ints) -> Ints | None:
        """(m,) a number for each group of these rows (m,), in order of appearance; a row without one is a group of its own.
        None where no row has a group."""
        codes = self.groups.of[rows].astype(np.int64)
        if not (codes != NONE).any():
            return None
        own = np.where(codes == NONE, len(self.groups.names) + rows, codes)
        _, first, numbers = np.unique(own, return_index=True, return_inverse=True)
        place = np.empty_like(first)
        place[np.argsort(first)] = np.arange(first.size)
        return np.asarray(place[numbers.reshape(-1)])

    def slice_rows(self, rows: Ints) -> dict[str, Ints]:
        """By "column=value", which of these rows (m,) are in the slice, by their places among them; in order of
        appearance."""
        found: dict[str, list[Ints]] = {}
        first: list[tuple[int, int, str]] = []
        for number, (column, codes) in enumerate(self.slices.items()):
            of = codes.of[rows]
            order = np.argsort(of, kind="stable")
            starts = np.searchsorted(of[order], np.arange(len(codes.names) + 1))
            for code, value in enumerate(codes.names):
                members = order[starts[code] : starts[code + 1]]
                if members.size:
                    found.setdefault(f"{column}={value}", []).append(members)
                    first.append((int(members[0]), number, f"{column}={value}"))
        return {name: np.sort(np.concatenate(found[name])) for _, _, name in sorted(first)}


def content_of(example: Example) -> tuple[int, int]:
    """(64 bits of the input's normal form, 32 of the target): the same wherever the row stands, whatever its id."""
    target = [example.target] if isinstance(example.target, str) else sorted(example.target)
    digest = blake2b(json.dumps(target, ensure_ascii=False).encode(errors="surrogatepass"), digest_size=4).digest()
    return splits.normal_form(example), int.from_bytes(digest, "big")


def read(folder: RunFolder, candidate: str, task: TaskConfig) -> tuple[ScoredRows, str | None]:
    """(the rows, why they had to be read from the JSONL files, if so). Raises UserError where those are damaged."""
    path = folder.arrays_file(candidate)
    why = "is not there"
    if path.is_file():
        try:
            found = _loaded(path, _checksums(folder, candidate), task)
        except (EOFError, KeyError, OSError, TypeError, ValueError, zipfile.BadZipFile):
            found = None
        if found is not None:
            return found, None
        why = "is not of the files as they are now"
    rows, _ = _gather(folder, candidate, task)
    if len(rows) < KEPT_FROM and not path.is_file():
        return rows, None
    return rows, f"{path} {why}, so rows were read from the JSONL files; `evalft decide {folder.path}` writes it"


def write(folder: RunFolder, candidate: str, task: TaskConfig) -> None:
    """scores/<candidate>.npz from the files as they are; left alone where it is of them already."""
    path = folder.arrays_file(candidate)
    if path.is_file() and read(folder, candidate, task)[1] is None:
        return
    rows, sums = _gather(folder, candidate, task)
    if rows.fault is None:
        write_arrays(path, _arrays(rows, sums, task))


# ---------------------------------------------------------------- gathered from JSONL


class _Lines:
    """The objects of a JSONL file, which is only read; a torn last line is left out. `checksum` is of what was read."""

    def __init__(self, path: Path) -> None:
        self.path, self.size, self.checksum = path, 0, 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if not self.path.is_file():
            return
        with self.path.open("rb") as file:
            for line in file:
                place = self.size
                self.size, self.checksum = place + len(line), zlib.crc32(line, self.checksum)
                if line.endswith(b"\n"):
                    try:
                        yield json.loads(line)
                    except ValueError:
                        raise UserError(
                            f"{self.path}: damaged at byte {place}; move the file away and run again"
                        ) from None


class _OutOfOrder(Exception):
    """A file is not in the order of the test set, as of a run that is not finished, or edited by hand."""


class _Taking(Protocol):
    def take(self, index: int, id: str) -> list[dict[str, Any]]:
        """The lines of a row, in the order of the file. Raises _OutOfOrder."""

    def end(self) -> None:
        """The file was read to its end. Raises _OutOfOrder where lines are left."""


class _InOrder:
    """Of a file in the order of the test set: one row at a time in memory."""

    def __init__(self, lines: _Lines) -> None:
        self._lines = iter(lines)
        self._next = next(self._lines, None)

    def take(self, index: int, id: str) -> list[dict[str, Any]]:
        found = []
        while self._next is not None and self._next.get("index", -1) <= index:
            if self._next["id"] != id:
                raise _OutOfOrder
            found.append(self._next)
            self._next = next(self._lines, None)
        return found

    def end(self) -> None:
        if self._next is not None:
            raise _OutOfOrder


class _ById:
    """Of a file in any order, all in memory; lines of no row are left alone."""

    def __init__(self, lines: _Lines) -> None:
        self._of: dict[str, list[dict[str, Any]]] = {}
        for line in lines:
            self._of.setdefault(line["id"], []).append(line)

    def take(self, index: int, id: str) -> list[dict[str, Any]]:
        return self._of.get(id, [])

    def end(self) -> None:
        pass


def _gather(folder: RunFolder, candidate: str, task: TaskConfig) -> tuple[ScoredRows, list[list[int]]]:
    """(the rows, the checksums of the files)."""
    files = _files(folder, candidate)
    try:
        return _gathered(files, task, _InOrder)
    except _OutOfOrder:
        return _gathered(files, task, _ById)


def _gathered(
    files: Sequence[Path], task: TaskConfig, taking: Callable[[_Lines], _Taking]
) -> tuple[ScoredRows, list[list[int]]]:
    test, of_scores, of_answers = read = [_Lines(file) for file in files]
    scores, answers = taking(of_scores), _Answers(of_answers, taking, task, files[0])
    rows = _Gathering()
    for data in test:
        index, id = data["index"], data["id"]
        lines, outcomes = scores.take(index, id), answers.take(index, id)
        if lines:
            given, target = data["input"], data["target"]
            example = Example(
                id,
                given if isinstance(given, str) else tuple(given),
                target if isinstance(target, str) else tuple(target),
                {},
                data["group"],
                data["slices"],
            )
            rows.append(index, example, lines[-1]["values"], outcomes)
            answers.append(example, outcomes)
    scores.end()
    answers.end()
    return rows.scored(answers), [[one.size, one.checksum] for one in read]


class _Answers:
    """The answers to each row, the last of each repeat, and what they come to; from a fault in their file on, none."""

    def __init__(self, lines: _Lines, taking: Callable[[_Lines], _Taking], task: TaskConfig, test: Path) -> None:
        self.fault: str | None = None
        self._type = task.type or "generation"
        labels = () if self._type == "generation" else task.labels or _labels_of(test)
        self.votes = None if self._type == "generation" else votes.Gathering(labels)
        self._labels = labels
        self._of: _Taking | None = self._without_fault(lambda: taking(lines))

    def take(self, index: int, id: str) -> list[Outcome]:
        return self._without_fault(lambda: self._outcomes(index, id)) or []

    def append(self, example: Example, outcomes: Sequence[Outcome]) -> None:
        if self.votes is not None:
            wanted = (example.target,) if isinstance(example.target, str) else example.target
            self.votes.append(wanted, votes.vote(outcomes, self._labels, self._type))

    def end(self) -> None:
        if self._of is not None:
            self._of.end()

    def _outcomes(self, index: int, id: str) -> list[Outcome]:
        lines = [] if self._of is None else self._of.take(index, id)
        if len(lines) < 2:
            return [as_outcome(line) for line in lines]
        last = {line["repeat"]: line for line in lines}
        return [as_outcome(last[repeat]) for repeat in sorted(last)]

    def _without_fault(self, made: Callable[[], Any]) -> Any:
        try:
            return made()
        except (UserError, KeyError, TypeError, ValueError) as error:
            self.fault, self._of = str(error), None
            return None


class _Gathering:
    """ScoredRows in the making, in a few bytes of each row."""

    def __init__(self) -> None:
        self._ids = bytearray(b"[")
        self._index, self._inputs, self._targets = array("I"), array("Q"), array("I")
        self._values: dict[str, array[float]] = {}
        self._groups, self._slices = _Coding(), dict[str, _Coding]()
        self._answers, self._costs = array("H"), array("d")

    def append(self, index: int, example: Example, values: Mapping[str, float], outcomes: Sequence[Outcome]) -> None:
        row = len(self._index)
        self._ids += (b"," if row else b"") + json.dumps(example.id).encode()
        self._index.append(index)
        given, target = content_of(example)
        self._inputs.append(given)
        self._targets.append(target)
        for name, value in values.items():
            self._values.setdefault(name, array("d"))
            _fill(self._values[name], row, np.nan)
            self._values[name].append(value)
        self._groups.append(row, example.group)
        for column, text in example.slices.items():
            self._slices.setdefault(column, _Coding()).append(row, text)
        self._answers.append(len(outcomes))
        costs = [np.nan if one.cost_usd is None else one.cost_usd for one in outcomes]
        self._costs.append(sum(costs) if costs else np.nan)

    def scored(self, answers: _Answers) -> ScoredRows:
        n = len(self._index)
        for column in self._values.values():
            _fill(column, n, np.nan)
        return ScoredRows(
            ids_as_json=bytes(self._ids + b"]"),
            index=np.asarray(self._index, dtype=np.uint32),
            inputs=np.asarray(self._inputs, dtype=np.uint64),
            targets=np.asarray(self._targets, dtype=np.uint32),
            values={name: np.asarray(column) for name, column in self._values.items()},
            groups=self._groups.codes(n),
            slices={column: coding.codes(n) for column, coding in self._slices.items()},
            answers=np.asarray(self._answers, dtype=np.uint16),
            costs=np.asarray(self._costs),
            votes=None if answers.votes is None else answers.votes.votes(),
            fault=answers.fault,
        )


class _Coding:
    """Codes in the making."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self._of = array("i")

    def append(self, row: int, text: str | None) -> None:
        _fill(self._of, row, NONE)
        self._of.append(NONE if text is None else self._places.setdefault(text, len(self._places)))

    def codes(self, n: int) -> Codes:
        _fill(self._of, n, NONE)
        return Codes(tuple(self._places), np.asarray(self._of, dtype=np.int32))


def _fill(column: array[Any], n: int, value: float) -> None:
    """With `value` up to row n."""
    if len(column) < n:
        column.extend([value] * (n - len(column)))


def _labels_of(test: Path) -> tuple[str, ...]:
    found = set[str]()
    for line in _Lines(test):
        found.update([line["target"]] if isinstance(line["target"], str) else line["target"])
    return tuple(sorted(found))


# ---------------------------------------------------------------- kept as arrays


@cache
def _made_by() -> str:
    """Which code gathers: another may gather otherwise."""
    sources = (Path(__file__), Path(votes.__file__), Path(splits.__file__))
    return blake2b(b"".join(source.read_bytes() for source in sources), digest_size=8).hexdigest()


def _files(folder: RunFolder, candidate: str) -> list[Path]:
    return [folder.file("test"), folder.scores_file(candidate), folder.predictions_file(candidate)]


def _checksums(folder: RunFolder, candidate: str) -> list[list[int]]:
    return [_checksum(path) for path in _files(folder, candidate)]


def _checksum(path: Path) -> list[int]:
    """[bytes, CRC-32]; of no file [0, 0]. It tells what has changed, not who changed it: a cryptographic digest is many times
    slower and would tell no more, since whoever writes the files writes the arrays too."""
    size = checksum = 0
    if path.is_file():
        with path.open("rb") as file:
            while part := file.read(READ_AT_ONCE):
                size, checksum = size + len(part), zlib.crc32(part, checksum)
    return [size, checksum]


def _about(rows: ScoredRows, sums: list[list[int]], task: TaskConfig) -> dict[str, Any]:
    return {
        "made_by": _made_by(),
        "files": sums,
        "type": task.type,
        "labels": task.labels,
        "voted": rows.votes and rows.votes.rows.labels,
        "metrics": list(rows.values),
        "groups": rows.groups.names,
        "slices": {column: codes.names for column, codes in rows.slices.items()},
    }


def _arrays(rows: ScoredRows, sums: list[list[int]], task: TaskConfig) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {
        "about": _as_bytes(_about(rows, sums, task)),
        "ids": np.frombuffer(rows.ids_as_json, dtype=np.uint8),
        "index": rows.index,
        "inputs": rows.inputs,
        "targets": rows.targets,
        "groups": rows.groups.of,
        "answers": rows.answers,
        "costs": rows.costs,
    }
    found |= {f"value {i}": column for i, column in enumerate(rows.values.values())}
    found |= {f"slice {i}": codes.of for i, codes in enumerate(rows.slices.values())}
    if rows.votes is not None:
        labels, given = rows.votes.rows, rows.votes.given
        found |= {
            "target": np.packbits(labels.target, axis=1),
            "predicted": np.packbits(labels.predicted, axis=1),
            "failed": labels.failed,
            "unknown": labels.unknown,
            "strictly right": rows.votes.strictly_right,
            "method": given.method,
            "unseen": given.unseen,
        } | ({} if given.table is None else {"probabilities": given.table})
    return found


def _loaded(path: Path, sums: list[list[int]], task: TaskConfig) -> ScoredRows | None:
    """The rows, where the file is of the same files and task. Raises what a file leads to that evalft did not write."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
        about = _data(held["about"])
        expected = {"made_by": _made_by(), "files": sums, "type": task.type, "labels": task.labels}
        if any(about[key] != value for key, value in expected.items()):
            return None
        ids_as_json = held["ids"].tobytes()
        n = len(json.loads(ids_as_json))

        def column(name: str, kind: type[np.generic], *shape: int) -> NDArray[Any]:
            found = held[name]
            if found.dtype != np.dtype(kind) or found.shape != (n, *shape):
                raise ValueError(f"{name}: {found.dtype} {found.shape}")
            return np.asarray(found)

        def codes(name: str, names: Sequence[str]) -> Codes:
            of = column(name, np.int32)
            if n and not NONE <= of.min() <= of.max() < len(names):
                raise ValueError(f"{name}: not of its {len(names)} names")
            return Codes(tuple(names), of)

        def voted(labels: Sequence[str]) -> Votes:
            width = -(-len(labels) // 8)
            target, predicted = (
                np.unpackbits(column(name, np.uint8, width), axis=1, count=len(labels)).view(np.bool_)
                for name in ("target", "predicted")
            )
            rows = LabelArrays(
                tuple(labels), target, predicted, column("failed", np.bool_), column("unknown", np.bool_)
            )
            table = column("probabilities", np.float64, len(labels)) if "probabilities" in held else None
            return Votes(
                rows,
                column("strictly right", np.bool_),
                Given(table, column("method", np.int8), column("unseen", np.float64)),
            )

        return ScoredRows(
            ids_as_json=ids_as_json,
            index=column("index", np.uint32),
            inputs=column("inputs", np.uint64),
            targets=column("targets", np.uint32),
            values={name: column(f"value {i}", np.float64) for i, name in enumerate(about["metrics"])},
            groups=codes("groups", about["groups"]),
            slices={name: codes(f"slice {i}", names) for i, (name, names) in enumerate(about["slices"].items())},
            answers=column("answers", np.uint16),
            costs=column("costs", np.float64),
            votes=None if about["voted"] is None else voted(about["voted"]),
        )


def _as_bytes(data: Any) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(data).encode(), dtype=np.uint8)


def _data(array: NDArray[np.uint8]) -> Any:
    return json.loads(array.tobytes())
