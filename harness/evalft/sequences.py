"""Sequences of records that need little memory: past `IN_MEMORY` they lie in a temporary file, or are made when asked for.

A test set may have a million rows, and each is held as a row, an example, a request, an outcome and a score: of what is
beyond `IN_MEMORY`, 12 bytes stay in memory. The file has no name and goes with the process, however it ends.
"""

from __future__ import annotations

import marshal
import tempfile
import weakref
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from threading import Lock
from typing import IO, Any, Generic, TypeVar, overload

from evalft.errors import UserError

T = TypeVar("T")

IN_MEMORY = 20_000
"""Records of one sequence."""


class Spilled(Sequence[T], Generic[T]):
    """A list that is appended to. `encode` gives what a record consists of, of the types that marshal knows (None,
    numbers, texts, tuples, lists, dicts); `decode` makes the record again."""

    def __init__(self, encode: Callable[[T], Any], decode: Callable[[Any], T], records: Iterable[T] = ()) -> None:
        self._encode, self._decode = encode, decode
        self._first: list[T] = []
        self._starts, self._sizes, self._end = array("Q"), array("I"), 0
        self._file: IO[bytes] | None = None
        self._lock = Lock()  # one place in the file, whoever reads
        for record in records:
            self.append(record)

    def append(self, record: T) -> None:
        if len(self._first) < IN_MEMORY:
            self._first.append(record)
            return
        start, size = self._write(record)
        self._starts.append(start)
        self._sizes.append(size)

    def __setitem__(self, index: int, record: T) -> None:
        if index < len(self._first):
            self._first[index] = record
        else:
            place = index - len(self._first)
            self._starts[place], self._sizes[place] = self._write(record)

    def __len__(self) -> int:
        return len(self._first) + len(self._starts)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            return chosen(self, range(*index.indices(len(self))))
        place = _place(index, len(self))
        return self._first[place] if place < len(self._first) else self._read(place - len(self._first))

    def __iter__(self) -> Iterator[T]:
        yield from self._first
        yield from map(self._read, range(len(self._starts)))

    def _write(self, record: T) -> tuple[int, int]:
        data = marshal.dumps(self._encode(record))
        try:
            with self._lock:
                if self._file is None:
                    self._file = tempfile.TemporaryFile(prefix="evalft-")  # noqa: SIM115  # as long as the sequence
                    weakref.finalize(self, self._file.close)
                self._file.seek(self._end)
                self._file.write(data)
        except OSError as error:
            raise UserError(
                f"{tempfile.gettempdir()}: rows cannot be kept there: {error.strerror}; make room, or name another folder "
                "with TMPDIR"
            ) from None
        start, self._end = self._end, self._end + len(data)
        return start, len(data)

    def _read(self, place: int) -> T:
        assert self._file is not None
        with self._lock:
            self._file.seek(self._starts[place])
            data = self._file.read(self._sizes[place])
        return self._decode(marshal.loads(data))


class Computed(Sequence[T], Generic[T]):
    """`length` records, each made by `record(place)` whenever it is asked for."""

    def __init__(self, length: int, record: Callable[[int], T]) -> None:
        self._length, self._record = length, record

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            return chosen(self, range(*index.indices(self._length)))
        return self._record(_place(index, self._length))

    def __iter__(self) -> Iterator[T]:
        return map(self._record, range(self._length))


def chosen(records: Sequence[T], places: Sequence[int]) -> Sequence[T]:
    """The records at these places, in this order."""
    return Computed(len(places), lambda i: records[places[i]])


def _place(index: int, length: int) -> int:
    place = index + length if index < 0 else index
    if not 0 <= place < length:
        raise IndexError(index)
    return place
