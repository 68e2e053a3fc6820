"""Raw rows as the readers give them: a Table per file, the line each row starts on, and the faults met on the way.

Nothing is dropped in silence and nothing stops at the first fault: whatever is wrong becomes a Fault with its place, and
`user_error` turns all of them into the one error that the user sees.
"""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from evalft.errors import UserError
from evalft.sequences import Spilled

Row = dict[str, Any]
"""Column -> value as read: text everywhere in CSV, JSON types elsewhere."""

FAULTS_SHOWN = 50
MAX_RECURRING = 10_000


class BadValue(Exception):
    """A value that cannot be used; the message is the reason, without the place."""


class Fault(NamedTuple):
    """One line of the error: where (line 0 is the file as a whole) and why."""

    path: str
    line: int
    reason: str


@dataclass
class Table:
    """The rows of one file. Lines count from 1, in Parquet and hub data sets rows do."""

    path: str
    """As shown to the user."""
    rows: Spilled[Row] = field(default_factory=lambda: Spilled(dict, dict))
    lines: array[int] = field(default_factory=lambda: array("Q"))
    columns: dict[str, None] = field(default_factory=dict)
    """Every column that any row has, in the order met."""
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What the reader assumed, in plain words."""
    header_hint: str = ""
    """A likely reason for a missing column: the header of a CSV file looks like data."""

    recurring: dict[str, str] = field(default_factory=dict)

    def add(self, line: int, row: Row) -> None:
        """Short texts that recur (labels, groups, slices) become one object: 64 bytes each in a million rows."""
        for column, value in row.items():
            if (
                type(value) is str
                and len(value) <= 32
                and (value in self.recurring or len(self.recurring) < MAX_RECURRING)
            ):
                row[column] = self.recurring.setdefault(value, value)
        self.rows.append(row)
        self.lines.append(line)
        if not row.keys() <= self.columns.keys():
            self.columns.update(dict.fromkeys(row))

    def fault(self, line: int, reason: str) -> None:
        self.faults.append(Fault(self.path, line, reason))

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        return zip(self.lines, self.rows, strict=True)


def user_error(faults: Iterable[Fault]) -> UserError:
    """All faults, in the order of files and lines; past FAULTS_SHOWN they are counted only."""
    by_file: dict[str, list[Fault]] = {}
    for fault in faults:
        by_file.setdefault(fault.path, []).append(fault)
    ordered = [fault for of_file in by_file.values() for fault in sorted(of_file, key=lambda fault: fault.line)]
    lines = [f"{path}:{line}: {reason}" if line else f"{path}: {reason}" for path, line, reason in ordered]
    more = len(lines) - FAULTS_SHOWN
    return UserError(
        *lines[:FAULTS_SHOWN], *([f"... and {more:,} more bad rows; correct these first"] if more > 0 else [])
    )


def as_text(value: object, what: str) -> str:
    """A scalar as text: 1 -> "1", 1.0 -> "1.0", True -> "true". Raises BadValue for anything else."""
    if isinstance(value, str):
        if "\0" in value:
            raise BadValue(f"{what} holds a NUL character")
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return str(value)
    if is_missing(value):
        raise BadValue(f"{what} is missing (null)")
    raise BadValue(f"{what} is {kind_of(value)}, not text")


def is_missing(value: object) -> bool:
    """None, or the NaN that pandas writes to Parquet for it."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def kind_of(value: object) -> str:
    if isinstance(value, list):
        return "a list of objects" if value and all(isinstance(item, dict) for item in value) else "a list"
    names = {dict: "an object", bytes: "binary data", float: "an infinite number", int: "a number", bool: "a boolean"}
    return names.get(type(value), "text" if isinstance(value, str) else f"a {type(value).__name__}")


def listed(names: Iterable[str], most: int = 20) -> str:
    """`a, b, c` for a message: odd or long names quoted and cut, the rest counted."""
    shown = list(names)
    text = ", ".join(name if re.fullmatch(r"[\w.-]{1,40}", name) else repr(name[:40]) for name in shown[:most])
    return text + (f" and {len(shown) - most} more" if len(shown) > most else "") if shown else "none"


def twin(source: str, other: str) -> str:
    """`a.csv:9 (as line 3)`: the place of a row and of the one that it repeats."""
    path, _, line = other.rpartition(":")
    return f"{source} (as line {line})" if source.startswith(f"{path}:") else f"{source} (as {other})"


def places(found: Sequence[str], most: int = 5) -> str:
    return ", ".join(found[:most]) + (f" and {len(found) - most:,} more" if len(found) > most else "")
