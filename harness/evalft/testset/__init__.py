"""Files of every accepted format -> a TestSet, with all that was assumed and every fault at once.

    load(task)                the examples of task.test, task.dev and task.train; `split` cuts a lone test file
    infer(path)               type, columns and labels of a file that comes without a config
    split(task, share)        a lone test file cut in two, as raw rows

Stages: files (readers per format) -> columns (input and target) -> targets (type) -> examples (ids, faults) -> splits
(decontaminate, hold out dev) -> checks (warnings).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evalft.config import TaskConfig
from evalft.errors import UserError
from evalft.records import Example, TaskType
from evalft.sequences import Spilled, chosen
from evalft.testset import checks, columns, examples, files, hub, splits, targets
from evalft.testset.examples import Built
from evalft.testset.rows import BadValue, Fault, Table, is_missing, listed, user_error

__all__ = ["TestSet", "content_digest", "infer", "load", "split"]

ROLES = ("test", "dev", "train")


@dataclass(frozen=True, slots=True)
class TestSet:
    """The user's rows, ready to be asked and scored."""

    __test__ = False  # not a test case, whatever pytest makes of the name

    task: TaskConfig
    """With name, type, input, target, id (where a column holds it) and labels filled in."""
    test: Sequence[Example]
    dev: Sequence[Example]
    train: Sequence[Example]
    sha256: str
    """Hex digest of ids, inputs, targets and groups of `test`, in order."""
    sampled_from: int | None
    """How many test rows there are, where only a sample of them is in `test`."""
    assumed: tuple[str, ...]
    warnings: tuple[str, ...]
    removed: tuple[str, ...]
    """The place of every dev or train row that was dropped because its input is a test (or dev) row's too."""
    train_possible: int
    """Train rows that there are, held-out ones not counted, or that splitting a lone test file would make."""


def load(task: TaskConfig, *, limit: int | None = None, split: float | None = None, seed: int = 0) -> TestSet:
    """Read task.test, task.dev and task.train. `limit` takes a seeded sample of the test rows, in file order. `split`
    cuts a test file without train rows in two: about this share of its rows stays test, the others are train.

    Raises UserError with every bad row of every file as `file:line: reason`."""
    if limit is not None and limit < 1:
        raise UserError(f"--limit {limit}: at least 1 row is needed")
    tables = _read(task)
    said = [note for of_role in tables.values() for table in of_role for note in table.notes]
    resolved, written, inferred = _resolve(task, tables)
    built = {role: examples.build(role, tables[role], resolved, written) for role in tables}
    resolved, found = _with_labels(resolved, built)
    _raise_faults(resolved, built, labels_given=task.labels is not None)
    if split is not None and "train" not in built:
        built, cut = _cut(built, task, split, seed)
        said.append(cut)
    shares = _shares(built, seed)
    said += [*inferred, *found, *(line for role in built.values() for line in role.assumed), *shares.assumed]
    warnings = [warning for role in built.values() for warning in role.warnings]
    warnings += checks.check(built["test"].examples, built["train"].examples if "train" in built else (), resolved)
    test, possible = built["test"].examples, len(shares.train)
    if "train" not in built:
        possible = len(test) // 2
        said.append(
            f"train: none; half of the test rows ({possible:,}) could be made train rows (evalft init --split 0.5)"
        )
    sampled_from = None
    if limit is not None and limit < len(test):
        sampled_from = len(test)
        test = chosen(test, sorted(random.Random(seed).sample(range(len(test)), limit)))
        said.append(f"test: a seeded sample of {limit:,} of the {sampled_from:,} rows (--limit)")
    return TestSet(
        task=resolved.model_copy(update={"id": built["test"].id_column}),
        test=test,
        dev=shares.dev,
        train=shares.train,
        sha256=content_digest(test),
        sampled_from=sampled_from,
        assumed=tuple(said),
        warnings=(*warnings, *shares.warnings),
        removed=shares.removed,
        train_possible=possible,
    )


def _cut(built: Mapping[str, Built], task: TaskConfig, share: float, seed: int) -> tuple[dict[str, Built], str]:
    """(the roles with train rows taken out of test, what was done)."""
    rows = built["test"].examples
    test, train = splits.cut(rows, splits.units(rows), share, seed)
    if not test:
        raise UserError(_one_unit(task))
    by = "input" if rows[0].group is None else "group"
    said = (
        f"split: {len(test):,} of the {len(rows):,} rows of {task.test} stay test, {len(train):,} became train rows "
        f"(by a hash of the {by}; no train row is scored)"
    )
    return {**built, "test": replace(built["test"], examples=test), "train": Built(train)}, said


def _one_unit(task: TaskConfig) -> str:
    return (
        f"{task.test}: cannot be split, since all rows have {f'one {task.group!r}' if task.group else 'the same input'}"
    )


def infer(
    path: str | Path, *, input: str | None = None, target: str | None = None, type: TaskType | None = None
) -> tuple[TaskConfig, tuple[str, ...]]:
    """(task, what was assumed) of a data file, folder, glob or hf: name that comes without a config."""
    name = str(path)
    where = name if name.startswith("hf:") else str(Path(name).expanduser().absolute())
    loaded = load(TaskConfig(test=where, input=input, target=target, type=type))
    return loaded.task, loaded.assumed


def split(
    task: TaskConfig, share: float = 0.5, *, seed: int = 0
) -> tuple[list[Mapping[str, object]], list[Mapping[str, object]]]:
    """(test rows, train rows) of a lone task.test, as read: `share` of them stay test, cut by group, else by content."""
    if not 0 < share < 1:
        raise UserError(f"--split {share}: the share of rows that stay test is between 0 and 1, such as 0.5")
    rows = load(task.model_copy(update={"train": None, "dev": None}), seed=seed).test
    test, train = splits.cut(rows, splits.units(rows), share, seed)
    if not test:
        raise UserError(_one_unit(task))
    return [example.row for example in test], [example.row for example in train]


def content_digest(rows: Iterable[Example]) -> str:
    """sha256 (hex) of ids, inputs, targets and groups, in order. What a prompt reads from other columns is not in it."""
    sha256 = hashlib.sha256()
    for example in rows:
        sha256.update(examples.canonical([example.id, example.input, example.target, example.group]) + b"\n")
    return sha256.hexdigest()


# ---------------------------------------------------------------- steps of load


def _read(task: TaskConfig) -> dict[str, list[Table]]:
    """The tables of each role that the task names; what is wrong with several files is said at once."""
    if not task.test:
        raise UserError("task.test: no test set is named; run `evalft assess DATA` or `evalft init --from DATA`")
    tables, faults = {}, list[str]()
    for role in ROLES:
        path: str | None = getattr(task, role)
        if path:
            try:
                tables[role] = files.read(path, role)
            except UserError as error:
                faults += error.faults
    if faults:
        raise UserError(*faults)
    return tables


def _resolve(task: TaskConfig, tables: dict[str, list[Table]]) -> tuple[TaskConfig, targets.Written, list[str]]:
    """Name, columns, type and the way multi-label targets are written, from the rows where the task does not say."""
    test = tables["test"]
    unread = [fault for of_role in tables.values() for table in of_role for fault in table.faults]
    if unread and not any(table.rows for table in test):
        raise user_error(unread)
    try:
        input_column, target_column, said = columns.choose(test, task)
    except UserError as error:
        raise UserError(*error.faults, *user_error(unread).faults) from None
    test_path = task.test or ""
    name = task.name or (hub.name_of(test_path) if test_path.startswith("hf:") else Path(test_path).stem) or "task"
    task = task.model_copy(update={"name": name, "input": input_column, "target": target_column})
    task_type = task.type
    if task_type is None:
        task_type, why = targets.infer_type(_raw_targets(test, task), task.labels)
        said.append(f"type: {task_type}: {why} (--type overrides)")
    written: targets.Written = "single"
    if task_type == "multilabel":
        everywhere = [table for of_role in tables.values() for table in of_role]
        written = targets.how_written(_raw_targets(everywhere, task), task.labels)
        said.append(f"target: {_HOW[written]}")
    return task.model_copy(update={"type": task_type}), written, said


_HOW: dict[targets.Written, str] = {
    "lists": "lists of labels",
    "json": "lists of labels, written as text",
    "single": "one label per row, since no separator stands in them",
    "|": "labels separated by '|'",
    ";": "labels separated by ';'",
    ",": "labels separated by ','",
}


def _raw_targets(tables: Iterable[Table], task: TaskConfig) -> Sequence[object]:
    """Targets as read, without rows that have none that can be read (they are faults when examples are built)."""
    return Spilled(lambda value: value, lambda value: value, _readable_targets(tables, task))


def _readable_targets(tables: Iterable[Table], task: TaskConfig) -> Iterator[object]:
    assert task.input and task.target
    chat = task.input == task.target
    for table in tables:
        for row in table.rows:
            try:
                value = columns.chat_of(row, task.target)[1] if chat else columns.answer_of(row.get(task.target))
            except BadValue:
                continue
            if not is_missing(value):
                yield value


def _with_labels(task: TaskConfig, built: Mapping[str, Built]) -> tuple[TaskConfig, list[str]]:
    """The labels of test and train rows, where the task lists none."""
    if task.type == "generation" or task.labels is not None:
        return task, []
    found: set[str] = set()
    for role in ("test", "train"):
        for example in built[role].examples if role in built else ():
            found.update((example.target,) if isinstance(example.target, str) else example.target)
    return task.model_copy(update={"labels": sorted(found)}), [
        f"labels: {len(found)} found in the targets: {listed(sorted(found))}"
    ]


def _raise_faults(task: TaskConfig, built: Mapping[str, Built], *, labels_given: bool) -> None:
    """Raise UserError if there is any fault in the rows, or in the labels that task names."""
    faults = [fault for role in built.values() for fault in role.faults]
    labels = task.labels or []
    if task.type == "generation":
        if task.positive is not None:
            faults.insert(0, Fault("task.positive", 0, "a generation task has no labels; remove it or set task.type"))
    elif labels_given or not faults:  # labels found in the rows are incomplete while rows are faulty
        faults += [fault for role in built.values() for fault in examples.check_labels(role.examples, labels)]
        if task.positive is not None and task.positive not in labels:
            faults.insert(0, Fault("task.positive", 0, f"{task.positive!r} is not one of the labels {listed(labels)}"))
    if faults:
        raise user_error(faults)


@dataclass(frozen=True, slots=True)
class _Shares:
    """No row of test is in dev or train, none of dev in train."""

    dev: Sequence[Example]
    train: Sequence[Example]
    removed: tuple[str, ...]
    assumed: tuple[str, ...]
    warnings: tuple[str, ...]


def _shares(built: Mapping[str, Built], seed: int) -> _Shares:
    """Decontaminate, and hold out a dev set where none is given."""
    rows: dict[str, Sequence[Example]] = {role: of_role.examples for role, of_role in built.items()}
    removed, warnings, said = list[str](), list[str](), list[str]()
    for role, protected in (("dev", ("test",)), ("train", ("test", "dev"))):
        if role in rows:
            held = {name: rows[name] for name in protected if name in rows}
            rows[role], places, warned = splits.without(rows[role], role, held)
            removed += places
            warnings += warned
    if "train" in rows and "dev" not in rows:
        rows["dev"], rows["train"], held_out = splits.hold_out(rows["train"], seed)
        said.append(held_out)
    return _Shares(rows.get("dev", ()), rows.get("train", ()), tuple(removed), tuple(said), tuple(warnings))
