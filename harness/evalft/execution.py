"""Requests -> outcomes: bounded, paced, retried, cached, metered, and on disk as they arrive.

This is the one layer that retries. A candidate is asked in two steps, so that a candidate that cannot start ends the
command before any row of any candidate is sent: `open` reads what the run folder and the cache already hold, makes the
candidate ready and sends one real row; `finish` sends the rest. A killed process loses only what was in flight.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import IO

from evalft.cache import Cache
from evalft.candidates import Attempt, Candidate
from evalft.candidates.api import ApiCandidate
from evalft.candidates.local import LocalCandidate
from evalft.config import LimitsConfig
from evalft.errors import BudgetReached, CannotStart, UserError
from evalft.prompts import Request
from evalft.records import Failure, Outcome, Prediction, Usage
from evalft.spending import Ledger
from evalft.store import RunFolder, prediction_line

FIRST_CONCURRENCY = 8
GIVE_UP_S = 600.0
"""No example is tried for longer than this."""
LONGEST_WAIT_S = 60.0
DEAD_AFTER = (20, 30.0)
"""So many connections in a row that failed, and so many seconds since the last answer: the server is gone."""
PREFLIGHT_ROWS = 3
"""How many different rows may be refused before the candidate is said not to start."""

PREFLIGHT_TRIES = 2
"""Of one row before the candidate is known to answer at all; a full rate limit is waited for."""

Notify = Callable[[Outcome], None]
Ask = Callable[[], Awaitable[Attempt]]


class Asking:
    """One candidate's requests in one run folder."""

    def __init__(
        self,
        candidate: Candidate,
        requests: Sequence[Request],
        *,
        folder: RunFolder,
        ledger: Ledger,
        limits: LimitsConfig,
        cache: Callable[[dict[str, object]], Cache] | None,
        notify: Notify,
        stop: asyncio.Event,
    ) -> None:
        self.candidate = candidate
        self.choices: list[str] = []
        self.stopped_because: str | None = None
        self._folder, self._ledger, self._limits, self._notify, self._stop = folder, ledger, limits, notify, stop
        self._open_cache = cache
        self._cache: Cache | None = None
        self._writer: IO[str] | None = None
        self._asked = False
        known = {(o.index, o.repeat): o for o in folder.read_predictions(candidate.name)}
        self._done = {key: outcome for key, outcome in known.items() if outcome.tries or outcome.cached}
        self._owed = [request for request in requests if (request.index, request.repeat) not in self._done]
        for outcome in self._done.values():
            notify(outcome)

    @property
    def owed(self) -> int:
        return len(self._owed)

    # ------------------------------------------------------------ step one

    async def open(self, settled: dict[str, object] | None) -> None:
        """Make the candidate ready and send it one real row; nothing at all where no row is owed. `settled` is what an
        earlier preflight of this run found out. Raises CannotStart."""
        if not self._owed:
            return
        candidate = self.candidate
        self._asked = True
        self.choices = await asyncio.to_thread(candidate.start)
        self._writer = self._folder.append_predictions(candidate.name)
        wanted = candidate.identity()
        if self._open_cache:
            self._cache = self._open_cache(wanted)
            settled = settled or self._cache.settled()
        if isinstance(candidate, ApiCandidate) and settled:
            self.choices += candidate.settle(settled)
        self._take_from_cache()
        if isinstance(candidate, LocalCandidate) and self._owed:
            await asyncio.to_thread(candidate.check_room, self._owed)
        if isinstance(candidate, ApiCandidate) and self._owed:
            await self._preflight(candidate)
            if self._cache:
                self._cache.put_settled(wanted, candidate.settled())

    def _take_from_cache(self) -> None:
        if not self._cache:
            return
        self._cache.identify(self.candidate.identity())
        left: list[Request] = []
        for request in self._owed:
            outcome = self._cache.get(request)
            if outcome is None:
                left.append(request)
            else:
                self._on_disk(outcome)
                self._take(outcome)
        self._ledger.answered_from_cache(len(self._owed) - len(left))
        self._owed = left

    async def _preflight(self, candidate: ApiCandidate) -> None:
        """The first row for real, so that what the endpoint refuses or ignores is known before the others are sent."""
        refusals: list[str] = []
        for request in self._owed[:PREFLIGHT_ROWS]:
            before = candidate.settled()

            async def ask(request: Request = request) -> Attempt:
                attempt, said = await candidate.preflight(request)
                self.choices += said
                return attempt

            outcome, last = await self._until_answered(request, ask, keep_unanswered=False)
            if not _unanswered(outcome):
                self._owed = [other for other in self._owed if other is not request]
                if candidate.settled() != before:
                    self._take_from_cache()
                self._remember(request, outcome)
                return
            if last.stops or getattr(outcome, "failure", "") == "connection":
                raise CannotStart(_cannot_start(candidate, outcome))
            refusals.append(str(getattr(outcome, "message", "")))
        if any(isinstance(outcome, Prediction) for outcome in self._done.values()):
            return  # it has answered other rows: these are failures of their own
        if all("no answer within" in refusal for refusal in refusals):
            raise CannotStart(
                f"candidate {candidate.name}: {candidate.base_url}: {refusals[0]}; is limits.timeout_s too short?"
            )
        raise CannotStart(
            f"candidate {candidate.name}: {candidate.base_url} refuses every request: {refusals[0]}; "
            "check its settings in the config"
        )

    # ------------------------------------------------------------ step two

    async def finish(self) -> None:
        """Ask what is owed. Returns when every request has its outcome, when the candidate stopped (what was not asked is
        then a failure with 0 tries, owed again by the next run), or when `stop` is set. Raises BudgetReached."""
        try:
            if self._owed and not self._stop.is_set():
                await (self._ask_remote() if self.candidate.remote else self._ask_local())
        finally:
            await self.close()
        if self._asked and not self._owed:
            self._folder.order_predictions(self.candidate.name)

    async def close(self) -> None:
        await self.candidate.close()
        if self._cache:
            self._cache.close()
        if self._writer:
            self._writer.close()

    async def _ask_local(self) -> None:
        for batch in self.candidate.batches(self._owed):
            if self._stop.is_set():
                return
            attempts = await self.candidate.predict(batch)
            # in one piece: a batch that is sampled is drawn from one seed, and half of one could not be drawn again
            self._on_disk(*(attempt.outcome for attempt in attempts))
            for request, attempt in zip(batch, attempts, strict=True):
                self._remember(request, attempt.outcome)
        self._owed = []

    async def _ask_remote(self) -> None:
        pace = Pace(self._limits.concurrency)
        queue: Iterator[tuple[Request, ...]] = iter(self.candidate.batches(self._owed))
        out_of_budget: BudgetReached | None = None

        async def worker() -> None:
            nonlocal out_of_budget
            for (request,) in queue:
                if self._stop.is_set() or out_of_budget:
                    return
                try:
                    outcome, _ = await self._until_answered(request, partial(self._one_try, request), pace)
                except BudgetReached as reached:
                    out_of_budget = reached
                    return
                self._remember(request, outcome)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._limits.concurrency, len(self._owed))):
                group.create_task(worker())
        self._owed = [request for request in self._owed if (request.index, request.repeat) not in self._done]
        if out_of_budget:
            raise out_of_budget

    async def _one_try(self, request: Request) -> Attempt:
        (attempt,) = await self.candidate.predict((request,))
        return attempt

    async def _until_answered(
        self, request: Request, ask: Ask, pace: Pace | None = None, keep_unanswered: bool = True
    ) -> tuple[Outcome, Attempt]:
        """Try until there is an answer, a failure that will not mend, or no tries left. The cost of every try counts."""
        clock = asyncio.get_running_loop().time
        pace = pace or Pace(1)
        give_up_at = clock() + GIVE_UP_S
        tries, cost_usd, usage = 0, 0.0, None
        while True:
            async with pace.slot():
                if self.stopped_because:
                    outcome: Outcome = _not_asked(request, self.stopped_because)
                    self._on_disk(outcome)
                    return outcome, Attempt(outcome)
                number = await self._ledger.reserve(self.candidate.worst_case_usd(request))
                attempt = await ask()
            tries += 1
            billed = attempt.outcome.cost_usd
            cost_usd, usage = cost_usd + billed, _added(usage, attempt.outcome.usage)
            pace.learn(attempt)
            self._notice_the_end(attempt, pace, clock())
            wait_s = _wait_s(attempt, tries)
            most = self._limits.max_tries if keep_unanswered else min(PREFLIGHT_TRIES, self._limits.max_tries)
            over = self.stopped_because or self._stop.is_set() or (tries >= most and not attempt.throttled)
            over = over or tries >= self._limits.max_tries
            if not attempt.retry or over or clock() + wait_s > give_up_at:
                # refused for all requests, or interrupted before its last try: owed again by the next run
                cut_short = attempt.stops or (attempt.retry and bool(self._stop.is_set() or self.stopped_because))
                outcome = replace(attempt.outcome, tries=0 if cut_short else tries, cost_usd=cost_usd, usage=usage)
                if keep_unanswered or not _unanswered(outcome):
                    self._on_disk(outcome)
                await self._ledger.settle(number, billed)
                return outcome, attempt
            await self._ledger.settle(number, billed)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), wait_s)

    def _notice_the_end(self, attempt: Attempt, pace: Pace, now: float) -> None:
        message = getattr(attempt.outcome, "message", "")
        if attempt.stops and not self.stopped_because:
            self.stopped_because = message
        elif pace.server_is_gone(now) and not self.stopped_because:
            self.stopped_because = f"the server is gone: {message}"

    # ------------------------------------------------------------ keeping

    def _on_disk(self, *outcomes: Outcome) -> None:
        """Before the money is settled: an answer that was paid for is on disk whatever happens next."""
        assert self._writer is not None
        try:
            self._writer.write("".join(prediction_line(outcome) for outcome in outcomes))
            self._writer.flush()
        except OSError as error:
            raise UserError(
                f"{self._writer.name}: cannot be written: {error.strerror}; make room and run again"
            ) from None

    def _remember(self, request: Request, outcome: Outcome) -> None:
        if self._cache:
            self._cache.put(request, outcome)
        self._take(outcome)

    def _take(self, outcome: Outcome) -> None:
        self._done[outcome.index, outcome.repeat] = outcome
        self._notify(outcome)


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


def _wait_s(attempt: Attempt, tries: int) -> float:
    """What the server said, else exponential backoff with full jitter (Brooker 2015), in seconds."""
    if attempt.retry_after_s is not None:
        return attempt.retry_after_s + random.uniform(0, 0.25)
    return random.uniform(0.5, 1.0) * float(min(LONGEST_WAIT_S, 0.5 * 2 ** (tries - 1)))


def _added(one: Usage | None, other: Usage | None) -> Usage | None:
    if one is None or other is None:
        return one or other
    return Usage(
        one.input_tokens + other.input_tokens,
        one.output_tokens + other.output_tokens,
        one.cached_tokens + other.cached_tokens,
        one.reasoning_tokens + other.reasoning_tokens,
        one.estimated or other.estimated,
        one.cache_write_tokens + other.cache_write_tokens,
    )


def _unanswered(outcome: Outcome) -> bool:
    return isinstance(outcome, Failure) and outcome.failure in ("api_error", "connection", "timeout")


def _not_asked(request: Request, why: str) -> Failure:
    return Failure(request.id, request.index, request.repeat, "api_error", f"not asked: {why}", tries=0)


def _cannot_start(candidate: ApiCandidate, outcome: Outcome) -> str:
    message = getattr(outcome, "message", "")
    where = f"candidate {candidate.name}: {candidate.base_url}"
    if "HTTP 404" in message:
        return f"{where}: the model or the address is not known there: {message}; check `model:` and the base URL"
    if "HTTP 401" in message or "HTTP 403" in message:
        return f"{where}: the key is refused: {message}; check the environment variable {candidate.key_env or '(none set)'}"
    if isinstance(outcome, Failure) and outcome.failure == "connection":
        return f"{where}: no connection: {message}; is the server running, and the address right?"
    return f"{where}: {message}"
