"""Rows -> Examples, with every fault of every row, and an id for each that survives reordering of the file."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from evalft.config import TaskConfig
from evalft.records import Example
from evalft.sequences import Spilled
from evalft.testset import columns
from evalft.testset.rows import BadValue, Fault, Row, Table, as_text, is_missing, places
from evalft.testset.targets import Written, target_of

Reader = Callable[[Row], Any]
_NO_SLICES: MappingProxyType[str, str] = MappingProxyType({})  # shared: a million empty dicts are 64 MB


@dataclass
class Built:
    """The examples of one role, in file order."""

    examples: Sequence[Example]
    faults: list[Fault] = field(default_factory=list)
    id_column: str | None = None
    assumed: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def kept(examples: Iterable[Example] = ()) -> Spilled[Example]:
    """The examples as a sequence of any length."""
    return Spilled(
        lambda one: (one.id, one.input, one.target, dict(one.row), one.group, dict(one.slices), one.source),
        lambda fields: Example(*fields),
        examples,
    )


def build(role: str, tables: Sequence[Table], task: TaskConfig, written: Written) -> Built:
    """`task` has its type, input and target filled in; `role` is test, dev or train."""
    found = kept()
    built = Built(found, faults=[fault for table in tables for fault in table.faults])
    built.id_column = _id_column(role, tables, task, built)
    readers = _readers(task, written, built.id_column)
    first_with: dict[str, int] = {}
    repeats: list[int] = []
    for table in tables:
        lacking = columns.missing(table, columns.wanted(task))
        built.faults += [Fault(table.path, 0, reason) for reason in lacking]
        for line, row in table if not lacking else ():
            fields, reasons = _fields(row, readers)
            built.faults += [Fault(table.path, line, reason) for reason in reasons]
            if reasons:
                continue
            fields.setdefault("id", content_id(fields["input"], fields["target"]))
            example = Example(**{"slices": _NO_SLICES} | fields, row=row, source=f"{table.path}:{line}")
            place = first_with.setdefault(example.id, len(found))
            if place < len(found):
                if built.id_column and found[place].row != row:
                    reason = f"id {example.id[:80]!r} stands at {found[place].source} already, with another content"
                    built.faults.append(Fault(table.path, line, reason))
                    continue
                repeats.append(len(found))
            found.append(example)
    if built.id_column and repeats:
        where = [found[index].source for index in repeats]
        built.warnings.append(
            f"{role}: rows that repeat an id with the same content, kept and numbered: {len(where):,}: {places(where)}"
        )
    _number_repeats(found, repeats, first_with)
    empty = sum(example.target == () for example in found) if task.type == "multilabel" else 0
    if empty:
        built.assumed.append(f"{role}: rows with an empty target, which means that no label applies: {empty:,}")
    return built


def check_labels(examples: Iterable[Example], labels: Sequence[str]) -> list[Fault]:
    """A fault for each target label that is not one of `labels`, with the nearest that is."""
    known, near, faults = set(labels), {}, []
    for example in examples:
        for label in (example.target,) if isinstance(example.target, str) else example.target:
            if label not in known:
                if label not in near:
                    close = difflib.get_close_matches(label, labels, n=1, cutoff=0.4)
                    near[label] = f"did you mean {close[0]!r}?" if close else "add it to task.labels"
                path, _, line = example.source.rpartition(":")
                faults.append(Fault(path, int(line), f"label {label[:80]!r} is not in task.labels; {near[label]}"))
    return faults


def _readers(task: TaskConfig, written: Written, id_column: str | None) -> dict[str, Reader]:
    """What to read from a row, by the field of the Example; each raises BadValue."""
    assert task.input and task.target and task.type  # filled in by the caller
    given, target, task_type = task.input, task.target, task.type
    if given == target:
        readers: dict[str, Reader] = {
            "input": lambda row: columns.chat_of(row, given)[0],
            "target": lambda row: target_of(columns.chat_of(row, target)[1], task_type, written),
        }
    else:
        readers = {
            "input": lambda row: columns.input_of(row, given),
            "target": lambda row: target_of(columns.answer_of(columns.value_of(row, target)), task_type, written),
        }
    if task.group:
        group = task.group
        readers["group"] = lambda row: _name_in(row, group)
    if task.slices:
        readers["slices"] = lambda row: {column: _slice_in(row, column) for column in task.slices}
    if id_column:
        readers["id"] = lambda row: _name_in(row, id_column)
    return readers


def _fields(row: Row, readers: Mapping[str, Reader]) -> tuple[dict[str, Any], list[str]]:
    """(the fields of one row's Example, every reason why one cannot be read)."""
    fields = {}
    reasons: dict[
        str, None
    ] = {}  # each once: a chat row without messages lacks its input and its target for one reason
    for name, read in readers.items():
        try:
            fields[name] = read(row)
        except BadValue as reason:
            reasons[str(reason)] = None
    return fields, list(reasons)


def _name_in(row: Row, column: str) -> str:
    text = as_text(columns.value_of(row, column), f"the {column!r}")
    if not text.strip():
        raise BadValue(f"the {column!r} is empty")
    return text


def _slice_in(row: Row, column: str) -> str:
    """A slice may be unknown: null is the empty text."""
    value = columns.value_of(row, column)
    return "" if is_missing(value) else as_text(value, f"the {column!r}")


# ---------------------------------------------------------------- ids


def content_id(given: object, target: object) -> str:
    """14 hex digits (56 bits) of the content: the same row has the same id wherever it stands."""
    return hashlib.sha256(canonical([given, target])).hexdigest()[:14]


def canonical(content: object) -> bytes:
    """One form per content, as JSON."""
    return _ENCODER.encode(content).encode()


_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True)  # made once: json.dumps makes one per call


def _id_column(role: str, tables: Sequence[Table], task: TaskConfig, built: Built) -> str | None:
    """task.id; else a column `id` that tells rows apart; else None. Only test rows must have the column of task.id."""
    everywhere = all(task.id in table.columns for table in tables) if task.id else False
    if task.id and (everywhere or role == "test"):
        return task.id
    if task.id or not all("id" in table.columns for table in tables):
        built.assumed.append(f"{role}: a row's id is a hash of its content")
        return None
    try:
        distinct = len({_name_in(row, "id") for table in tables for row in table.rows})
    except BadValue:
        distinct = 0
    # Below half, `id` is something else (a user, a document); above, one that stands twice is a mistake worth a fault.
    if 2 * distinct < sum(len(table.rows) for table in tables):
        built.assumed.append(f"{role}: a row's id is a hash of its content, since column 'id' does not tell rows apart")
        return None
    built.assumed.append(f"{role}: a row's id is in column 'id'")
    return "id"


def _number_repeats(examples: Spilled[Example], repeats: Iterable[int], taken: dict[str, int]) -> None:
    """The second row of an id gets `#2`, the third `#3`, unless another row has that id already."""
    for index in repeats:
        example, copy = examples[index], 2
        while f"{example.id}#{copy}" in taken:
            copy += 1
        examples[index] = replace(example, id=f"{example.id}#{copy}")
        taken[f"{example.id}#{copy}"] = index
