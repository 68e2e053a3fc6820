"""CSV and TSV files -> rows of text with the line each starts on.

Python's csv module reads them, not pandas: every cell stays the text it is (012 is not 12), and a row with a line break
inside quotes is reported at the line where it starts.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from evalft.errors import UserError
from evalft.testset import text_lines
from evalft.testset.rows import Table, listed

_FIELD_LIMIT = 2**31 - 1


def read(file: Path, table: Table) -> None:
    """Fills `table`. Raises UserError where the header itself is unusable."""
    limit = csv.field_size_limit(_FIELD_LIMIT)  # the module's default of 128 KiB is less than one long document
    try:
        if file.suffix.lower() == ".csv":
            _read(file, table, _delimiter(file, table), csv.QUOTE_MINIMAL)
        else:
            _read_tsv(file, table)
    finally:
        csv.field_size_limit(limit)


def _read_tsv(file: Path, table: Table) -> None:
    """Some writers quote TSV fields as in CSV, most do not quote at all: the reading that leaves no fault is taken."""
    quoted, plain = Table(table.path), Table(table.path)
    _read(file, quoted, "\t", csv.QUOTE_MINIMAL)
    chosen = quoted
    if quoted.faults:
        _read(file, plain, "\t", csv.QUOTE_NONE)
        if len(plain.faults) < len(quoted.faults):
            chosen = plain
            chosen.notes.append(f"{table.path}: quotation marks are read as text, since they are not balanced")
    vars(table).update(vars(chosen))


def _read(file: Path, table: Table, delimiter: str, quoting: int) -> None:
    records = _records(file, table, delimiter, quoting)
    line, names = next(records, (1, []))
    columns = _columns(line, names, table)
    for line, fields in records:
        if len(fields) == len(columns):
            table.add(line, dict(zip(columns, fields, strict=True)))
        else:
            table.fault(line, f"has {len(fields)} fields where the header has {len(columns)}; is a field with a "
                        f"{_NAMES[delimiter]} or a line break not quoted?")  # fmt: skip
    table.columns = dict.fromkeys(columns)
    table.header_hint = _header_hint(columns, table)


_NAMES = {",": "comma", ";": "semicolon", "\t": "tab"}


def _records(file: Path, table: Table, delimiter: str, quoting: int) -> Iterator[tuple[int, list[str]]]:
    """(line where the record starts, fields); empty lines are skipped, broken records are faults."""
    text = (line.text for line in text_lines.lines(file, table))
    reader = csv.reader(text, delimiter=delimiter, quoting=quoting, strict=True)  # type: ignore[arg-type]
    while True:
        start = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            table.fault(start, _reason(str(error)))
            continue
        if fields:
            yield start, fields


def _reason(error: str) -> str:
    if "unexpected end of data" in error:
        return "a quotation mark opens here and is never closed"
    if "new-line character" in error:
        return "holds a bare carriage return; convert the line ends, for example: tr '\\r' '\\n' < FILE > NEW"
    return f"broken CSV: {error}; a quotation mark inside a quoted field is written twice"


def _delimiter(file: Path, table: Table) -> str:
    """A comma, unless the header has none and has semicolons (spreadsheets of many countries) or tabs."""
    header = next((line.text for line in text_lines.lines(file, Table(table.path)) if line.text.strip()), "")
    for delimiter in (";", "\t"):
        if "," not in header and delimiter in header:
            table.notes.append(f"{table.path}: columns are separated by a {_NAMES[delimiter]}")
            return delimiter
    return ","


def _columns(line: int, header: list[str], table: Table) -> list[str]:
    names = [name.strip() for name in header]
    twice = [name for name, count in Counter(filter(None, names)).items() if count > 1]
    if twice:
        raise UserError(f"{table.path}:{line}: the header names {listed(twice)} more than once; rename one")
    for position, name in enumerate(names):
        if not name:
            names[position] = f"column {position + 1}"
            table.notes.append(f"{table.path}: the column without a name is called 'column {position + 1}'")
    return names


def _header_hint(columns: list[str], table: Table) -> str:
    """Names that are numbers, sentences, or values that their own column holds again, are a first row, not a header."""
    values: list[set[str]] = [{row[column] for row in table.rows[:1000]} for column in columns]
    alike = [
        column
        for column, seen in zip(columns, values, strict=True)
        if column in seen or column.replace(",", "").replace(".", "").isdigit() or len(column) > 64
    ]
    return f"there seems to be no header line (the first line reads {listed(columns, 5)}); add one" if alike else ""
