"""A path, glob, folder or hf: name -> one Table per file. The extension says the format; nothing is unpacked or guessed."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable
from pathlib import Path

from evalft.errors import UserError
from evalft.testset import csv_rows, hub, json_rows, parquet_rows
from evalft.testset.rows import Table

READERS: dict[str, Callable[[Path, Table], None]] = {
    ".jsonl": json_rows.read_lines,
    ".ndjson": json_rows.read_lines,
    ".json": json_rows.read_document,
    ".csv": csv_rows.read,
    ".tsv": csv_rows.read,
    ".parquet": parquet_rows.read,
}
_STEMS = {"test": ("test",), "dev": ("dev", "valid"), "train": ("train",)}


def read(path: str, role: str) -> list[Table]:
    """The rows of every file that `path` means. `role` (test, dev, train) picks the files of a folder and the default split.

    Raises UserError for what concerns a file as a whole; faults of single rows are in the tables."""
    if path.startswith("hf:"):
        return [hub.read(path, role)]
    if os.path.isdir(path) and hub.is_dataset(Path(path)):
        return [hub.read(f"hf:{shown(path)}", role)]
    tables = [_read_file(file) for file in _files(path, role)]
    empty = [table for table in tables if not table.rows and not table.faults]
    if empty:
        raise UserError(*(f"{table.path}: holds no rows; write one example per row" for table in empty))
    if len(tables) > 1:
        tables[0].notes.insert(0, f"{role}: {len(tables)} files in the order of their names, {shown(path)}")
    return tables


def shown(path: str | Path) -> str:
    """Relative to the working folder where the file is below it, as the user would write it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith(os.pardir) else relative


def _files(path: str, role: str) -> list[Path]:
    file = Path(path)
    try:
        if file.is_dir():
            return _files_of_folder(file, role)
        if file.exists():
            return [file]
        found = [Path(name) for name in sorted(glob.glob(path, recursive=True)) if not Path(name).is_dir()]
    except (OSError, ValueError) as error:  # a name that is too long, or holds a NUL
        raise UserError(f"{path[:100]!r}: cannot be read: {error}") from None
    if not found:
        hint = f"{shown(file.parent)} holds {_neighbours(file.parent)}" if file.parent.is_dir() else "check the path"
        raise UserError(f"{shown(path)}: no such file; {hint}")
    return found


def _files_of_folder(folder: Path, role: str) -> list[Path]:
    """All data files of a folder, or, where some are named after test, dev or train, those of this role."""
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in READERS and file.is_file())
    by_role = {name: [file for file in files if file.stem.lower().startswith(stems)] for name, stems in _STEMS.items()}
    chosen = by_role[role] if any(by_role.values()) else files
    if not chosen:
        what = f"no {role} file" if files else "no file of a known format"
        raise UserError(f"{shown(folder)}: is a folder with {what} ({_neighbours(folder)}); name a file in it")
    return chosen


def _neighbours(folder: Path) -> str:
    names = sorted(file.name for file in folder.iterdir() if file.suffix.lower() in READERS)
    return (
        f"no data file ({', '.join(READERS)})" if not names else ", ".join(names[:10]) + (" ..." if names[10:] else "")
    )


def _read_file(file: Path) -> Table:
    table = Table(shown(file))
    reader = READERS.get(file.suffix.lower())
    if file.suffix.lower() in (".gz", ".zip", ".bz2", ".xz", ".zst"):
        raise UserError(f"{table.path}: is compressed; decompress it first")
    if reader is None:
        raise UserError(
            f"{table.path}: {file.suffix or 'a name without extension'} is not a known format; save it as one of {', '.join(READERS)}"
        )
    try:
        if file.stat().st_size == 0:
            raise UserError(f"{table.path}: is empty; write one example per row")
        reader(file, table)
    except OSError as error:
        raise UserError(f"{table.path}: cannot be read: {error.strerror or error}") from None
    return table
