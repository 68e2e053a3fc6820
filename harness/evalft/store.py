"""The run folder: the API between stages, and the only module that knows its file names.

    config.yaml   manifest.json   predictions/<candidate>.jsonl   scores/<candidate>.jsonl   charts/<name>.csv
    scores/<candidate>.npz   what those hold, as arrays (`scored_rows`): read where it is of the files as they are
    data/test.jsonl   summary.json   report.html   report.md   junit.xml   spending.jsonl   log.txt   lock
    data/expanded.jsonl, pairs.jsonl ...   adapters/<stage>/   stages.json
    batches/<candidate>.jsonl   what became of the batches that were sent (mode: batch)
    parts/<name>/     predictions and scores on other rows: the teacher's, the stages' on dev, samples for pairs;
                      what judges said of answers (judge)
    review.csv, human.jsonl   what a person is to look at, and what people said; data/people.jsonl: of judge.human

Lines are appended whole and flushed as answers arrive; a torn last line (a kill, a full disk) is owed again. Everything
else is written beside its place and renamed, so a reader sees the old file or the new one and nothing between.
"""

from __future__ import annotations

import json
import os
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from evalft.errors import UserError
from evalft.records import Example, Failure, Outcome, Prediction, Score, Usage
from evalft.sequences import Spilled

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUMMARY_SCHEMA = "evalft.summary/1"
NAMES = {
    "config": "config.yaml",
    "manifest": "manifest.json",
    "summary": "summary.json",
    "html": "report.html",
    "markdown": "report.md",
    "junit": "junit.xml",
    "spending": "spending.jsonl",
    "log": "log.txt",
    "test": "data/test.jsonl",
    "train": "data/train.jsonl",
    "dev": "data/dev.jsonl",
    "expanded": "data/expanded.jsonl",
    "provenance": "data/provenance.jsonl",
    "removed": "data/removed.jsonl",
    "card": "data/README.md",
    "expansion": "data/expansion.json",
    "stages": "stages.json",
    "people": "data/people.jsonl",
    "human": "human.jsonl",
    "review": "review.csv",
}


def slug(name: str) -> str:
    """A candidate's or task's file name: readable, safe on every file system, distinct for distinct names."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:80]
    return plain if plain == name else f"{plain}-{sha256(name.encode()).hexdigest()[:6]}".lstrip("-")


class RunFolder:
    """A run on disk. Opening creates nothing; `create` and the writers do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def file(self, name: str) -> Path:
        return self.path / NAMES[name]

    def predictions_file(self, candidate: str) -> Path:
        return self.path / "predictions" / f"{slug(candidate)}.jsonl"

    def scores_file(self, candidate: str) -> Path:
        return self.path / "scores" / f"{slug(candidate)}.jsonl"

    def arrays_file(self, candidate: str) -> Path:
        return self.scores_file(candidate).with_suffix(".npz")

    def batches_file(self, candidate: str) -> Path:
        """The journal of a candidate's batches; what is uploaded is written beside it, and removed."""
        return self.path / "batches" / f"{slug(candidate)}.jsonl"

    def part(self, name: str) -> RunFolder:
        """A place of its own for answers to other rows than the test set's: the teacher's, a stage's on dev."""
        part = RunFolder(self.path / "parts" / name)
        part.create()
        return part

    def data_file(self, name: str) -> Path:
        """Rows that a training reads: data/<name>.jsonl."""
        return self.path / "data" / f"{name}.jsonl"

    def write_charts(self, tables: Mapping[str, str]) -> None:
        """charts/: the figures of each chart, by file name; those of a chart that is no more go."""
        for file in (self.path / "charts").glob("*.csv"):
            if file.name not in tables:
                file.unlink()
        for name, table in tables.items():
            write_atomically(self.path / "charts" / name, table)

    def adapter(self, stage: str) -> Path:
        return self.path / "adapters" / stage

    def exists(self) -> bool:
        return self.file("manifest").is_file()

    def create(self) -> None:
        try:
            for folder in ("predictions", "scores", "data"):
                (self.path / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{self.path}: cannot be made: {error.strerror}; name another place with --out") from None

    # ------------------------------------------------------------ whole files

    def write_text(self, name: str, text: str) -> None:
        write_atomically(self.file(name), text)

    def write_json(self, name: str, data: object) -> None:
        self.write_text(name, json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n")

    def read_json(self, name: str) -> dict[str, Any]:
        path = self.file(name)
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{path}: no such file; is {self.path} a run folder?") from None
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be read: {error}") from None
        if not isinstance(data, dict):
            raise UserError(f"{path}: is not an object")
        return data

    def read_summary(self) -> dict[str, Any]:
        """summary.json of this version. Raises UserError where there is none yet, or one that is not read here."""
        if self.exists() and not self.file("summary").exists():
            raise UserError(f"{self.path}: has no result yet; `evalft assess {self.path}` goes on with it")
        data = self.read_json("summary")
        if data.get("schema") != SUMMARY_SCHEMA:
            raise UserError(
                f"{self.path}: its summary is {data.get('schema')!r}, this version reads {SUMMARY_SCHEMA!r}; run "
                "`evalft assess` again"
            )
        return data

    def log(self, line: str) -> None:
        with self.file("log").open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {line}\n")

    def set_aside(self) -> Path:
        """Move a finished run out of the way, so that it can be measured again: nothing that was paid for is deleted."""
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.{number}")).exists():
            number += 1
        aside.mkdir()
        for entry in self.path.iterdir():
            if entry.name != "lock":
                entry.rename(aside / entry.name)
        self.create()
        return aside

    def manifest(self) -> dict[str, Any]:
        return self.read_json("manifest") if self.exists() else {}

    def update_manifest(self, **parts: object) -> None:
        self.write_json("manifest", self.manifest() | parts)

    def stage(self, name: str, state: str) -> None:
        """How far a stage of the run is: running, waiting, incomplete or done."""
        self.update_manifest(stages=self.manifest().get("stages", {}) | {name: state})

    # ------------------------------------------------------------ examples, predictions, scores

    def write_examples(self, name: str, examples: Sequence[Example]) -> None:
        """data/<name>.jsonl: the rows as used, readable as a test set again."""
        write_atomically(self.file(name), (_line(_example_data(i, example)) for i, example in enumerate(examples)))

    def read_examples(self, name: str) -> list[Example]:
        """The rows that `write_examples` wrote."""
        return [_example(data) for data in read_lines(self.file(name))]

    def write_lines(self, name: str, lines: Iterable[Mapping[str, Any]]) -> None:
        write_atomically(self.file(name), (_line(line) for line in lines))

    def read_predictions(self, candidate: str) -> Sequence[Outcome]:
        """The outcomes on disk, in file order. A torn last line is cut off, so that the next append starts clean."""
        path = self.predictions_file(candidate)
        return kept(as_outcome(data) for data in read_lines(path)) if path.exists() else ()

    def read_in_order(self, candidate: str) -> Sequence[Outcome]:
        """The outcomes in example order, the last of each (example, repeat); the file is put in this order too."""
        outcomes = self.read_predictions(candidate)
        places = ((one.index, one.repeat) for one in outcomes)
        if all(one < other for one, other in pairwise(places)):
            return outcomes
        self.order_predictions(candidate)
        return self.read_predictions(candidate)

    def append_predictions(self, candidate: str) -> IO[str]:
        return self.predictions_file(candidate).open("a", encoding="utf-8")

    def order_predictions(self, candidate: str) -> None:
        """Put in example order, the last line of each (example, repeat) winning."""
        path = self.predictions_file(candidate)
        keys, ends = array("Q"), array("Q", [0])
        for data, end in _lines_and_ends(path):
            keys.append(data["index"] << 32 | data["repeat"])
            ends.append(end)
        order = sorted(range(len(keys)), key=keys.__getitem__)
        last = [one for one, other in pairwise(order) if keys[one] != keys[other]] + order[-1:]
        with path.open("rb") as file:

            def line(number: int) -> str:
                file.seek(ends[number])
                return file.read(ends[number + 1] - ends[number]).decode()

            write_atomically(path, map(line, last))

    def write_predictions(self, candidate: str, outcomes: Iterable[Outcome]) -> None:
        write_atomically(self.predictions_file(candidate), (prediction_line(outcome) for outcome in outcomes))

    def write_scores(self, candidate: str, scores: Iterable[Score]) -> None:
        write_atomically(self.scores_file(candidate), (_line(_fields(score)) for score in scores))

    def read_scores(self, candidate: str) -> list[Score]:
        path = self.scores_file(candidate)
        return [Score(**data) for data in read_lines(path)] if path.exists() else []

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One process at a time works in a run folder; the lock goes with the process, however it ends."""
        self.create()
        with (self.path / "lock").open("a") as file:
            if os.name == "posix":
                import fcntl

                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise UserError(f"{self.path}: another evalft is at work in this folder; wait for it") from None
            yield


def kept(outcomes: Iterable[Outcome]) -> Sequence[Outcome]:
    """The outcomes as a sequence of any length."""
    return Spilled(_outcome_data, as_outcome, outcomes)


def prediction_line(outcome: Outcome) -> str:
    return _line(_outcome_data(outcome))


def _outcome_data(outcome: Outcome) -> dict[str, Any]:
    data = _fields(outcome)
    if outcome.usage is not None:
        data["usage"] = _fields(outcome.usage)
    if data.get("scores") is None:
        data.pop("scores", None)
    return data


def _fields(record: Outcome | Usage | Score) -> dict[str, Any]:
    """What asdict() would give of a flat record, without copying every value of every row."""
    return {name: getattr(record, name) for name in record.__slots__}


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file that this program appends to; a torn last line is cut off the file."""
    return (data for data, _ in _lines_and_ends(path))


def _lines_and_ends(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Each object, and the byte that its line ends before."""
    whole = 0
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            try:
                data = json.loads(line.decode())
            except ValueError:
                raise UserError(f"{path}: damaged at byte {whole}; move the file away and run again") from None
            whole += len(line)
            yield data, whole
    if whole != path.stat().st_size:
        with path.open("r+b") as file:
            file.truncate(whole)


def append_line(path: Path, data: Mapping[str, Any]) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(_line(data))
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}; make room and run again") from None


def write_atomically(path: Path, text: str | Iterable[str]) -> None:
    with _replacing(path, "w", encoding="utf-8") as file:
        file.writelines([text] if isinstance(text, str) else text)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """An .npz of arrays of numbers; read it with allow_pickle=False."""
    import numpy as np

    with _replacing(path, "wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # none of them is named as an option of savez


@contextmanager
def _replacing(path: Path, mode: str, encoding: str | None = None) -> Iterator[IO[Any]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open(mode, encoding=encoding) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None


def _line(data: Mapping[str, Any]) -> str:
    return _ENCODER.encode(data) + "\n"


def _plain(value: object) -> object:
    """Read-only mappings as objects; dates and the like of a Parquet row as text."""
    return dict(value) if isinstance(value, Mapping) else str(value)


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_plain)


def _example_data(index: int, example: Example) -> dict[str, Any]:
    """What reports show, and the row's own columns, from which the same example is read again."""
    return {
        "id": example.id,
        "index": index,
        "input": example.input,
        "target": example.target,
        "group": example.group,
        "slices": dict(example.slices),
        "source": example.source,
        "row": dict(example.row),
    }


def _example(data: dict[str, Any]) -> Example:
    given, target = data["input"], data["target"]
    return Example(
        id=data["id"],
        input=given if isinstance(given, str) else tuple(given),
        target=target if isinstance(target, str) else tuple(target),
        row=data["row"],
        group=data["group"],
        slices=data["slices"],
        source=data["source"],
    )


def as_outcome(data: Mapping[str, Any]) -> Outcome:
    """The outcome of a line of predictions/. Raises TypeError where it is none."""
    data = dict(data)
    if data.get("usage"):
        data["usage"] = Usage(**data["usage"])
    if "failure" in data:
        return Failure(**data)
    if data.get("labels") is not None:
        data["labels"] = tuple(data["labels"])
    return Prediction(**data)


def read_outcome(text: str, **instead: object) -> Outcome:
    """The outcome of a prediction's line; `instead` are fields that are other ones now."""
    return as_outcome(json.loads(text) | instead)
