"""What a target is: the task type where it is not given, how multi-label targets are written, and the target of a row."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Literal

from evalft.records import TaskType
from evalft.testset.rows import BadValue, as_text, is_missing, kind_of

Written = Literal["lists", "json", "|", ";", ",", "single"]
"""How the labels of one multi-label target are written: a list, a list as text, text with a separator, one label."""

SEPARATORS: tuple[Literal["|", ";", ","], ...] = ("|", ";", ",")
MAX_LABELS = 500
MAX_LABEL_LENGTH = 64
MAX_NUMERIC_LABELS = 20


def infer_type(values: Sequence[object], labels: Collection[str] | None) -> tuple[TaskType, str]:
    """(type, why) from the raw targets of the test rows, by the rules of "Inferred type" in the docs."""
    if _mostly_lists(values):
        return "multilabel", "targets are lists"
    known = set(labels or ())
    if not all(text in known for text in _texts(values)):
        if _all_lists(_distinct(values)):
            return "multilabel", "targets are lists written as text"
        separator = _separator(values)
        if separator:
            return "multilabel", f"targets split on {separator!r} into labels that recur"
    rows, number = sum(1 for _ in _texts(values)), sum(1 for _ in _distinct(values))
    is_classification = 0 < number <= min(rows / 2, MAX_LABELS) and _are_labels(set(_texts(values)))
    return "classification" if is_classification else "generation", f"{number:,} distinct targets in {rows:,} rows"


def _are_labels(distinct: Collection[str]) -> bool:
    many = len(distinct) > MAX_NUMERIC_LABELS
    return max(map(len, distinct)) <= MAX_LABEL_LENGTH and not (many and all(map(_is_number, distinct)))


def how_written(values: Sequence[object], labels: Collection[str] | None) -> Written:
    """How multi-label targets are written, decided once for all rows."""
    if _mostly_lists(values):
        return "lists"
    if _all_lists(_distinct(values)):
        return "json"
    if labels:
        known = set(labels)

        def unknown(written: Written) -> int:
            return sum(part not in known for text in _distinct(values) for part in _parts(text, written))

        candidates: tuple[Written, ...] = ("single", *SEPARATORS)
        return min(candidates, key=unknown)
    used: list[Written] = [separator for separator in SEPARATORS if any(separator in text for text in _texts(values))]
    found = _separator(values)
    return found if found else used[0] if used else "single"


def target_of(value: object, task_type: TaskType, written: Written) -> str | tuple[str, ...]:
    """The target of one row. Raises BadValue."""
    if task_type == "multilabel":
        return _labels_of(value, written)
    if isinstance(value, list) and not any(isinstance(item, dict) for item in value):
        raise BadValue(
            f"the target is a list, and the task is {task_type}; set --type multilabel (task.type) for lists"
        )
    text = as_text(value, "the target")
    if not text.strip():
        raise BadValue("the target is empty")
    return text


def _labels_of(value: object, written: Written) -> tuple[str, ...]:
    """An empty list, and an empty text where labels are separated, are real targets: no label applies."""
    if written == "lists":
        if not isinstance(value, list):
            raise BadValue(
                f"the target is {'missing (null)' if is_missing(value) else kind_of(value)}; other rows have lists"
            )
        parts = [as_text(item, "a label") for item in value]
    else:
        text = as_text(value, "the target")
        try:
            parts = _parts(text, written)
        except ValueError:
            raise BadValue("the target is not a list written as text, as the other rows have") from None
    if not all(part.strip() for part in parts):
        raise BadValue("a label is empty")
    return tuple(dict.fromkeys(parts))


def _mostly_lists(values: Sequence[object]) -> bool:
    """One list among texts is that row's fault, not every other row's."""
    return 0 < len(values) <= 2 * sum(isinstance(value, list) for value in values)


def _parts(text: str, written: Written) -> list[str]:
    if not text.strip():
        return []
    if written == "json":
        return _list_in(text)
    if written in ("single", "lists"):
        return [text]
    return [part for part in map(str.strip, text.split(written)) if part]


def _all_lists(texts: Iterable[str]) -> bool:
    empty = True
    try:
        for text in texts:
            _list_in(text)
            empty = False
    except ValueError:
        return False
    return not empty


def _list_in(text: str) -> list[str]:
    """The list that a CSV cell spells: JSON's ["a"] or, as pandas writes it, Python's ['a']. Raises ValueError."""
    if not (text.startswith("[") and text.endswith("]") and len(text) < 10_000):
        raise ValueError(text)
    try:
        items = json.loads(text)
    except (ValueError, RecursionError):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # an odd backslash is no news
                items = ast.literal_eval(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            raise ValueError(text) from None
    if not isinstance(items, list):
        raise ValueError(text)
    try:
        return [as_text(item, "a label") for item in items]
    except BadValue:
        raise ValueError(text) from None


def _separator(values: Sequence[object]) -> Literal["|", ";", ","] | None:
    """The separator that splits the targets into parts that recur.

    Prose and formulas hold commas and bars too, so: at least half of the distinct parts stand in two or more distinct
    targets, no part is empty, long or cut out of a bracket, and commas are not those of 1,200."""
    for separator in SEPARATORS:
        several = numbers = 0
        seen_in: Counter[str] = Counter()
        for text in _distinct(values):
            parts = [part.strip() for part in text.strip().removesuffix(separator).split(separator)]
            several += len(parts) > 1
            numbers += len(parts) > 1 and bool(re.fullmatch(r"-?\d{1,3}(,\d{3})+(\.\d+)?", text))
            seen_in.update(set(parts))
            if len(seen_in) > MAX_LABELS:
                break
        if (
            several
            and len(seen_in) <= MAX_LABELS
            and 2 * sum(count > 1 for count in seen_in.values()) >= len(seen_in)
            and all(part and len(part) <= MAX_LABEL_LENGTH and _balanced(part) for part in seen_in)
            and not (separator == "," and numbers == several)
        ):
            return separator
    return None


def _balanced(part: str) -> bool:
    return all(part.count(opening) == part.count(closing) for opening, closing in ("()", "[]", "{}"))


def _texts(values: Iterable[object]) -> Iterator[str]:
    for value in values:
        try:
            text = as_text(value, "the target")
        except BadValue:
            continue
        if text.strip():
            yield text


def _distinct(values: Iterable[object]) -> Iterator[str]:
    """Each text once, where it is met first. Hashes are kept of them, not the texts: there may be a million long ones."""
    met: set[int] = set()
    for text in _texts(values):
        if hash(text) not in met:
            met.add(hash(text))
            yield text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
