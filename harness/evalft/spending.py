"""The dollar cap: before a request is sent its worst case is reserved on disk, afterwards what it cost takes its place.

spending.jsonl holds one line per reservation and one per settlement. A reservation without settlement (the process was
killed with the request in flight) counts as spent, since it may have been billed: the cap holds through kills.

A server that bills more than a request's worst case (it ignores max_tokens, or adds a long prompt of its own) is found
out by its first answer: from then on every reservation, also of what is in flight, counts as many times over.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

from evalft.errors import BudgetReached, UserError
from evalft.store import read_lines


class Ledger:
    """What this run folder has spent and reserved, in USD, against `cap_usd`."""

    def __init__(self, path: Path, cap_usd: float) -> None:
        self.cap_usd = cap_usd
        self.settled_usd = 0.0
        self.overrun = 1.0
        """The most times its worst case that a request was billed; at least 1."""
        self.requests = 0
        self.cached_requests = 0
        self._open: dict[int, float] = {}
        self._next = 0
        self._changed = asyncio.Condition()
        for line in read_lines(path) if path.exists() else ():
            if "reserve" in line:
                self._open[line["reserve"]] = line["usd"]
                self._next = line["reserve"] + 1
            elif "cached" in line:
                self.cached_requests += line["cached"]
            else:
                self._billed(line["settle"], line["usd"])
        self.lost_usd = self.overrun * sum(self._open.values())
        """Reserved by requests whose outcome is not known, because the process died while they were under way."""
        self._lost = set(self._open)
        self._file = path.open("a", encoding="utf-8")

    @property
    def left_usd(self) -> float:
        return self.cap_usd - self.settled_usd - self.overrun * sum(self._open.values())

    async def reserve(self, usd: float) -> int:
        """Wait until `usd` fits under the cap beside what is in flight; raise BudgetReached when it never will."""
        async with self._changed:
            while self.overrun * usd > self.left_usd + 1e-12:
                if len(self._open) == len(self._lost):
                    raise BudgetReached(
                        f"the next request could cost ${self.overrun * usd:.6f} and ${max(0.0, self.left_usd):.6f} of "
                        f"limits.max_cost_usd = ${self.cap_usd:g} is left; go on with a higher --max-cost"
                    )
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

    def answered_from_cache(self, count: int) -> None:
        if count:
            self.cached_requests += count
            self._write({"cached": count})

    def _write(self, line: dict[str, float]) -> None:
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
