"""Bytes of a text file -> numbered lines of UTF-8 text, as a stream.

UTF-8 is the one encoding that is read: guessing another would put wrong letters into every score. A byte-order mark is
accepted and said; UTF-16 is recognised and refused with the command that converts it.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from evalft.errors import UserError
from evalft.testset.rows import Table


class Line(NamedTuple):
    number: int
    text: str
    """With its line end; bytes that are no text are replaced."""
    good: bool
    """False where the line has been reported as a fault."""


def lines(file: Path, table: Table) -> Iterator[Line]:
    """Lines end at \\n only, so that U+2028 or a form feed in a field does not shift the numbers."""
    offset = 0
    with file.open("rb") as stream:
        for number, raw in enumerate(stream, 1):
            if number == 1:
                refuse_utf16(raw, table)
                if raw.startswith(codecs.BOM_UTF8):
                    table.notes.append(f"{table.path}: starts with a byte-order mark, which is skipped")
                    raw, offset = raw[3:], 3
            good = True
            try:
                text = raw.decode()
            except UnicodeDecodeError as error:
                text, good = raw.decode(errors="replace"), False
                table.fault(number, not_utf8(raw, error.start, offset, table, first=not table.faults))
            if good and b"\0" in raw:
                text, good = text.replace("\0", "\ufffd"), False
                table.fault(number, f"holds a NUL byte (byte {offset + raw.index(0):,} of the file)")
            yield Line(number, text, good)
            offset += len(raw)


def refuse_utf16(head: bytes, table: Table) -> None:
    """UTF-16 has a mark of two bytes, or a NUL in one half of its first (ASCII) letter."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or (
        len(head) > 1 and (head[0] == 0) != (head[1] == 0)
    ):
        raise UserError(f"{table.path}: is UTF-16 text, not UTF-8; convert it: {_iconv('UTF-16', table)}")


def not_utf8(raw: bytes, start: int, offset: int, table: Table, *, first: bool) -> str:
    hint = f"; if it is Latin-1 or Windows-1252, convert it: {_iconv('WINDOWS-1252', table)}" if first else ""
    return f"byte 0x{raw[start]:02X} (byte {offset + start:,} of the file) is not UTF-8{hint}"


def _iconv(encoding: str, table: Table) -> str:
    path = Path(table.path)
    return f"iconv -f {encoding} -t UTF-8 {path} > {path.stem}-utf8{path.suffix}"
