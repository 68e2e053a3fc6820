"""JSONL and JSON files -> rows with the line each starts on.

Strict JSON: NaN and Infinity are not numbers, a key given twice in one object is a fault (the first value would be lost),
half a surrogate pair is not text.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from evalft.errors import UserError
from evalft.testset import text_lines
from evalft.testset.rows import BadValue, Row, Table, kind_of, listed

WRAPPERS = ("data", "rows", "examples", "records", "items", "instances", "test", "train", "dev", "validation")
"""Keys under which a JSON document may hold its list of rows."""

STORED = frozenset(["id", "index", "input", "target", "group", "slices", "source", "row"])
"""Keys of a line that store.write_examples wrote."""

_MAYBE_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_SPACE = re.compile(r"[ \t\n\r]*")


def read_lines(file: Path, table: Table) -> None:
    """One object per line, read as a stream; empty lines are skipped."""
    for number, text, good in text_lines.lines(file, table):
        if not good or not text.strip():
            continue
        try:
            table.add(number, _own_columns(_row(_parse(text))))
        except BadValue as reason:
            if not table.rows and text.strip() in ("[", "{"):
                raise UserError(f"{table.path}: is one JSON document, not JSON lines; rename it to .json") from None
            table.fault(number, str(reason))


def _own_columns(row: Row) -> Row:
    """A line of a run folder's data/*.jsonl holds the user's row as it was: a run can be run again from its folder."""
    return row["row"] if row.keys() == STORED and isinstance(row["row"], dict) else row


def read_document(file: Path, table: Table) -> None:
    """A list of objects, an object that holds one such list under a key of WRAPPERS, or JSON lines."""
    raw = file.read_bytes()
    text_lines.refuse_utf16(raw[:2], table)
    if b"\0" in raw:
        table.fault(raw.count(b"\n", 0, raw.index(0)) + 1, f"holds a NUL byte (byte {raw.index(0):,} of the file)")
        return
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        table.fault(line, text_lines.not_utf8(raw, error.start, 0, table, first=True))
        return
    if raw.startswith(b"\xef\xbb\xbf"):
        table.notes.append(f"{table.path}: starts with a byte-order mark, which is skipped")
    start = _skip_space(text, 0)
    if text.startswith("[", start):
        _read_list(text, start, table)
    else:
        _read_object(file, text, start, table)


def _read_object(file: Path, text: str, start: int, table: Table) -> None:
    """A document that does not start as a list: its rows stand under one key, or it is JSON lines after all."""
    try:
        document, end = _parse_at(text, start)
    except BadValue as reason:
        table.fault(text.count("\n", 0, start) + 1, str(reason))
        return
    if _skip_space(text, end) < len(text):
        table.notes.append(f"{table.path}: is read as JSON lines, one object per line")
        read_lines(file, table)
        return
    keys = [key for key in WRAPPERS if isinstance(document, dict) and isinstance(document.get(key), list)]
    if len(keys) == 1:
        table.notes.append(f"{table.path}: the rows are the list under key {keys[0]!r}")
        _read_list(text, _start_of_value(text, start, keys[0]), table)
    elif isinstance(document, dict) and "\n" not in text.strip():
        table.add(1, _row(document))
    else:
        found = f"an object with the keys {listed(document)}" if isinstance(document, dict) else kind_of(document)
        raise UserError(
            f"{table.path}: holds {found}, not a list of rows; write a list of objects, or JSON lines (.jsonl) with one "
            'object per row such as {"input": "...", "target": "..."}'
        )


def _read_list(text: str, start: int, table: Table) -> None:
    """The elements of the list that starts at `start`, one by one, so that each has its line."""
    position, line, counted = _skip_space(text, start + 1), 1, 0
    if text.startswith("]", position):
        return _expect_end(text, position + 1, table)
    while True:
        line, counted = line + text.count("\n", counted, position), position
        try:
            value, position = _parse_at(text, position)
        except BadValue as reason:
            return table.fault(line, f"{reason}; what follows could not be read")
        try:
            table.add(line, _row(value))
        except BadValue as reason:
            table.fault(line, str(reason))
        position = _skip_space(text, position)
        if text.startswith("]", position):
            return _expect_end(text, position + 1, table)
        if not text.startswith(",", position):
            line += text.count("\n", counted, position)
            return table.fault(
                line, "broken JSON: expected a comma or the end of the list; what follows could not be read"
            )
        position = _skip_space(text, position + 1)


def _expect_end(text: str, position: int, table: Table) -> None:
    """Nothing may follow the list, unless it is a value of the wrapping object, which was parsed already."""
    rest = _skip_space(text, position)
    if rest < len(text) and text[_skip_space(text, 0)] == "[":
        table.fault(text.count("\n", 0, rest) + 1, "broken JSON: more text after the end of the list")


def _start_of_value(text: str, start: int, wanted: str) -> int:
    """Where the value of `wanted` starts in the (valid) object at `start`."""
    position = start + 1
    while True:
        key, position = _parse_at(text, _skip_space(text, position))
        position = _skip_space(text, _skip_space(text, position) + 1)  # over the colon
        if key == wanted:
            return position
        _, position = _parse_at(text, position)
        position = _skip_space(text, position) + 1  # over the comma


def _skip_space(text: str, position: int) -> int:
    return _SPACE.match(text, position).end()  # type: ignore[union-attr]  # the pattern matches the empty string too


def _object(pairs: list[tuple[str, Any]]) -> Row:
    """Keys are interned: a million rows share their column names."""
    row = {sys.intern(key): value for key, value in pairs}
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        raise BadValue(f"key {next(key for key in keys if keys.count(key) > 1)!r} is given twice")
    return row


def _no_constant(name: str) -> object:
    raise BadValue(f"broken JSON: {name} is not a JSON value; write null or a text")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_constant)


def _parse(text: str) -> object:
    value, end = _parse_at(text, _skip_space(text, 0))
    if _skip_space(text, end) < len(text):
        raise BadValue(f"broken JSON: more text after the object (column {end + 1})")
    return value


def _parse_at(text: str, position: int) -> tuple[Any, int]:
    try:
        value, end = _DECODER.raw_decode(text, position)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        raise BadValue(f"broken JSON: {error.msg[0].lower()}{error.msg[1:]} ({where})") from None
    except RecursionError:
        raise BadValue("broken JSON: nested too deep") from None
    except ValueError:  # int() refuses thousands of digits
        raise BadValue("broken JSON: a number has too many digits") from None
    if _MAYBE_SURROGATE.search(text, position, end):
        _refuse_half_surrogates(value)
    return value, end


def _row(value: object) -> Row:
    if not isinstance(value, dict):
        raise BadValue(f"is {kind_of(value)}, not an object such as " + '{"input": "...", "target": "..."}')
    return value


def _refuse_half_surrogates(value: object) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise BadValue(f"holds half of a surrogate pair (\\u{ord(error.object[error.start]):04x}), not text") from None
