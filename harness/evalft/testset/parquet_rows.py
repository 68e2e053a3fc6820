"""Parquet files -> rows; a row's place is its number from 1. Values that JSON has no type for become text."""

from __future__ import annotations

from pathlib import Path

from evalft.errors import UserError
from evalft.testset.rows import Row, Table


def read(file: Path, table: Table) -> None:
    """Fills `table` batch by batch."""
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file) as parquet:
            names = parquet.schema_arrow.names
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise UserError(f"{table.path}: the column {twice[0]!r} is there more than once; rename one")
            table.columns = dict.fromkeys(names)
            for batch in parquet.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    table.add(len(table.rows) + 1, plain_row(row))
    except UserError:
        raise
    except Exception as error:  # pyarrow raises a dozen kinds for a broken file, some of them bare OSError or KeyError
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{table.path}: cannot be read as Parquet: {reason[:200]}; write the file again") from None


def plain_row(row: Row) -> Row:
    return {name: _plain(value) for name, value in row.items()}


def _plain(value: object) -> object:
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value  # a fault where it is used as text, harmless elsewhere
    return str(value)  # dates, times, decimals
