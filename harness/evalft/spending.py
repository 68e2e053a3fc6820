"""The dollar cap: before a request is sent its worst case is reserved on disk, afterwards what it cost takes its place.

spending.jsonl holds one line per reservation and one per settlement. A reservation without settlement (the process was
killed with the request in flight) counts as spent, since it may have been billed: the cap holds through kills.

A batch is reserved in one line, the worst case of each of its rows, and settled row by row as its answers are read. A kill
loses nothing of it: what is open is still to be had from the provider, and counts as spent until then.

A server that bills more than a request's worst case (it ignores max_tokens, or adds a long prompt of its own) is found
out by its first answer: from then on every reservation, also of what is in flight, counts as many times over.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evalft.errors import BudgetReached, UserError
from evalft.store import read_lines

SETTLED = -1.0


class Ledger:
    """What this run folder has spent and reserved, in USD, against `cap_usd`."""

    def __init__(self, path: Path, cap_usd: float) -> None:
        self.cap_usd = cap_usd
        self.settled_usd = 0.0
        self.overrun = 1.0
        """The most times its worst case that a request was billed; at least 1."""
        self.requests = 0
        self.cached_requests = 0
        self.awaited: set[str] = set()
        """Batches that somebody waits for here: what they hold may come free."""
        self._open: dict[int, float] = {}
        self._batches: dict[str, array[float]] = {}
        """By key, the worst case of each row; SETTLED where it is known."""
        self._in_batches_usd = 0.0
        """Of all rows that are not settled: what is left is asked for often, and batches are long."""
        self._next = 0
        self._changed = asyncio.Condition()
        for line in read_lines(path) if path.exists() else ():
            if "reserve" in line:
                self._open[line["reserve"]] = line["usd"]
                self._next = line["reserve"] + 1
            elif "cached" in line:
                self.cached_requests += line["cached"]
            elif "reserve_batch" in line:
                self._keep_batch(line["reserve_batch"], line["usds"])
            elif "settle_batch" in line:
                self._billed_in_batch(line["settle_batch"], line["row"], line["usd"])
            elif "release_batch" in line:
                self._forget_batch(line["release_batch"])
            else:
                self._billed(line["settle"], line["usd"])
        self.lost_usd = self.overrun * sum(self._open.values())
        """Reserved by requests whose outcome is not known, because the process died while they were under way."""
        self._lost = set(self._open)
        self._file = path.open("a", encoding="utf-8")

    @property
    def left_usd(self) -> float:
        return self.cap_usd - self.settled_usd - self.overrun * (sum(self._open.values()) + self._in_batches_usd)

    async def reserve(self, usd: float) -> int:
        """Wait until `usd` fits under the cap beside what is in flight; raise BudgetReached when it never will."""
        async with self._changed:
            while self.overrun * usd > self.left_usd + 1e-12:
                if not self._in_flight:
                    raise self._reached(usd)
                await self._changed.wait()
            number, self._next = self._next, self._next + 1
            self._write({"reserve": number, "usd": usd})
            self._open[number] = usd
            return number

    async def settle(self, number: int, usd: float) -> None:
        async with self._changed:
            self._write({"settle": number, "usd": usd})
            self._billed(number, usd)
            self._changed.notify_all()

    def _billed(self, number: int, usd: float) -> None:
        reserved_usd = self._open.pop(number, 0.0)
        self.settled_usd += usd
        self.requests += 1
        if reserved_usd > 0:
            self.overrun = max(self.overrun, usd / reserved_usd)

    @property
    def _in_flight(self) -> bool:
        """Whether something is reserved here that may come free."""
        return len(self._open) > len(self._lost) or bool(self.awaited & self._batches.keys())

    def _reached(self, usd: float) -> BudgetReached:
        return BudgetReached(
            f"the next request could cost ${self.overrun * usd:.6f} and ${max(0.0, self.left_usd):.6f} of "
            f"limits.max_cost_usd = ${self.cap_usd:g} is left; go on with a higher --max-cost"
        )

    # ------------------------------------------------------------ batches

    def fitting(self, usds: Sequence[float]) -> int:
        """How many of the first of these worst cases fit under the cap together, now. Raises BudgetReached where not even
        one does and nothing in flight can make room."""
        left_usd = self.left_usd + 1e-12
        for count, usd in enumerate(usds):
            left_usd -= self.overrun * usd
            if left_usd < 0:
                if not count and not self._in_flight:
                    raise self._reached(usd)
                return count
        return len(usds)

    def reserve_batch(self, key: str, usds: Sequence[float]) -> None:
        self._write({"reserve_batch": key, "usds": list(usds)})
        self._keep_batch(key, usds)

    def is_open(self, key: str, row: int) -> bool:
        """Whether this row of a batch is reserved and not settled yet."""
        return key in self._batches and self._batches[key][row] != SETTLED

    async def settle_in_batch(self, key: str, row: int, usd: float | None) -> None:
        """`usd` None: not known, so it is what was reserved. A row is settled once."""
        if not self.is_open(key, row):
            return
        usd = self._batches[key][row] if usd is None else usd
        async with self._changed:
            self._write({"settle_batch": key, "row": row, "usd": usd})
            self._billed_in_batch(key, row, usd)
            self._changed.notify_all()

    def _billed_in_batch(self, key: str, row: int, usd: float) -> None:
        rows = self._batches[key]
        self.settled_usd += usd
        self.requests += 1
        if rows[row] > 0:
            self.overrun = max(self.overrun, usd / rows[row])
        self._in_batches_usd -= rows[row]
        rows[row] = SETTLED

    def _keep_batch(self, key: str, usds: Sequence[float]) -> None:
        self._batches[key] = array("d", usds)
        self._in_batches_usd += sum(usds)

    def _forget_batch(self, key: str) -> None:
        del self._batches[key]
        # summed anew, so that no rounding adds up
        self._in_batches_usd = sum(usd for rows in self._batches.values() for usd in rows if usd != SETTLED)

    async def release_batch(self, key: str) -> None:
        """What is still open of a batch was not asked, and is billed to nobody."""
        if key in self._batches:
            async with self._changed:
                self._write({"release_batch": key})
                self._forget_batch(key)
                self._changed.notify_all()

    # ------------------------------------------------------------ on disk

    def answered_from_cache(self, count: int) -> None:
        if count:
            self.cached_requests += count
            self._write({"cached": count})

    def _write(self, line: dict[str, Any]) -> None:
        try:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        except OSError as error:
            raise UserError(
                f"{self._file.name}: cannot be written: {error.strerror}; make room and run again"
            ) from None

    def close(self) -> None:
        with contextlib.suppress(OSError):  # said when the line was written
            self._file.close()
