"""How many requests may be under way at once, and when the next one may go: learned from what the server says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from evalft.candidates import Attempt
from evalft.records import Failure

FIRST_CONCURRENCY = 8
LONGEST_WAIT_S = 60.0
DEAD_AFTER = (20, 30.0)
"""So many connections in a row that failed, and so many seconds since the last answer: the server is gone."""


class Pace:
    """How many requests may be under way: doubling from a few until the server complains, then AIMD (Chiu & Jain 1989).

    A refusal for the rate limit halves the limit (once per second at most) and holds all requests for as long as the
    server says; every answer then adds 1/limit, so one more per round."""

    def __init__(self, ceiling: int) -> None:
        self._ceiling = ceiling
        self._limit = float(min(ceiling, FIRST_CONCURRENCY))
        self._complained = False
        self._in_flight = 0
        self._hold_until = 0.0
        self._halved_at = -1.0
        self._failed_connections = 0
        self._answered_at: float | None = None
        self._changed = asyncio.Condition()

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        clock = asyncio.get_running_loop().time
        if self._answered_at is None:
            self._answered_at = clock()
        async with self._changed:
            while True:
                await self._changed.wait_for(lambda: self._in_flight < max(1, int(self._limit)))
                hold = self._hold_until - clock()
                if hold <= 0:
                    break
                self._changed.release()
                try:
                    await asyncio.sleep(hold)
                finally:
                    await self._changed.acquire()
            self._in_flight += 1
        try:
            yield
        finally:
            async with self._changed:
                self._in_flight -= 1
                self._changed.notify_all()

    def learn(self, attempt: Attempt) -> None:
        now = asyncio.get_running_loop().time()
        if isinstance(attempt.outcome, Failure) and attempt.outcome.failure == "connection":
            self._failed_connections += 1
        else:
            self._failed_connections = 0
            self._answered_at = now
        if attempt.throttled:
            self._complained = True
            if now - self._halved_at >= 1.0:
                self._limit = max(1.0, self._limit / 2)
                self._halved_at = now
            self._hold_until = max(self._hold_until, now + min(LONGEST_WAIT_S, attempt.retry_after_s or 0.5))
        elif not attempt.retry and not attempt.stops:
            step = 1 / self._limit if self._complained else 1.0
            self._limit = min(float(self._ceiling), self._limit + step)

    def server_is_gone(self, now: float) -> bool:
        count, seconds = DEAD_AFTER
        return self._failed_connections >= count and now - (self._answered_at or now) >= seconds
