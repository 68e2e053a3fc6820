"""Checks of the set itself: what makes a score on it mean less than it seems. Warnings only, each with its places."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from evalft.config import TaskConfig
from evalft.numbers import counted
from evalft.records import Example
from evalft.testset.rows import listed, places, twin
from evalft.testset.splits import normal_form

FEW_ROWS = 50
FEW_PER_CLASS = 10
FEW_GROUPS = 8


def check(test: Sequence[Example], train: Sequence[Example], task: TaskConfig) -> list[str]:
    """All warnings; `task` has its type and labels filled in, `train` is as given, before anything is held out."""
    labels = task.labels or []
    warnings = [*_size(test), *_groups(test, train), *_duplicates(test), *_outer_spaces(test)]
    if task.type != "generation":
        warnings += [*_alike_labels(test, train, labels), *_balance(test, train, labels)]
    return warnings


def _size(test: Sequence[Example]) -> Iterator[str]:
    if len(test) < FEW_ROWS:
        yield f"test: only {counted(len(test), 'row')}; intervals will be wide"


def _groups(test: Sequence[Example], train: Sequence[Example]) -> Iterator[str]:
    groups = dict.fromkeys(example.group for example in test if example.group is not None)
    if groups and len(groups) < FEW_GROUPS:
        yield f"test: {len(groups)} groups are fewer than {FEW_GROUPS}: no threshold can be decided"
    shared = {example.group: example.source for example in reversed(train) if example.group in groups}
    if shared:  # by a row of each: a group may be a person's name
        yield f"train: groups that are also in test: {len(shared):,}: those of {places(list(shared.values())[::-1])}"


def _duplicates(test: Sequence[Example]) -> Iterator[str]:
    """Two rows with one input: counted twice where the targets agree, unanswerable where they do not."""
    first: dict[int, int] = {}
    same: list[str] = []
    contradictory: list[str] = []
    for place, example in enumerate(test):
        first_place = first.setdefault(normal_form(example), place)
        if first_place != place:
            first_one = test[first_place]
            found = same if _as_set(first_one) == _as_set(example) else contradictory
            found.append(twin(example.source, first_one.source))
    if same:
        yield f"test: rows that repeat another's input and target: {len(same):,}: {places(same)}"
    if contradictory:
        yield f"test: rows that contradict another, same input and different target: {len(contradictory):,}: {places(contradictory)}"


def _as_set(example: Example) -> frozenset[str]:
    return frozenset(_targets(example))


def _targets(example: Example) -> tuple[str, ...]:
    return (example.target,) if isinstance(example.target, str) else example.target


def _outer_spaces(test: Sequence[Example]) -> Iterator[str]:
    found = [example.source for example in test if any(text != text.strip() for text in _targets(example))]
    if found:
        yield f"test: targets that start or end with a space: {len(found):,}: {places(found)}"


def _alike_labels(test: Iterable[Example], train: Iterable[Example], labels: Sequence[str]) -> Iterator[str]:
    alike: dict[str, list[str]] = {}
    for label in labels:
        alike.setdefault("".join(label.casefold().split()), []).append(label)
    for group in alike.values():
        if len(group) > 1:
            where = {
                label: example.source for example in chain(test, train) for label in _targets(example) if label in group
            }
            yield "labels differ only by case or space: " + ", ".join(
                f"{label!r}" + (f" ({where[label]})" if label in where else "") for label in group
            )


def _balance(test: Sequence[Example], train: Sequence[Example], labels: Sequence[str]) -> Iterator[str]:
    counts = Counter(label for example in test for label in _targets(example))
    few = sorted((count, label) for label, count in counts.items() if count < FEW_PER_CLASS)
    if few:
        shown = places([f"{listed([label])} ({count})" for count, label in few], 20)
        yield f"test: classes with under {FEW_PER_CLASS} rows: {len(few)} of {len(labels)}: {shown}"
    trained = {label for example in train for label in _targets(example)}
    absent = [label for label in labels if label not in counts]
    if absent:
        note = " (train has rows of each)" if trained.issuperset(absent) else ""
        yield f"test: classes without a row: {len(absent)} of {len(labels)}: {listed(absent)}{note}"
    if len(counts) == 1:
        yield f"test: every row has the label {listed(counts)}; nothing tells a model from a constant answer"
