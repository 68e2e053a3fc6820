"""Requests -> outcomes: bounded, paced, retried, cached, metered, and on disk as they arrive.

This is the one layer that retries. A candidate is asked in two steps, so that a candidate that cannot start ends the
command before any row of any candidate is sent: `open` reads what the run folder and the cache already hold, makes the
candidate ready and sends one real row; `finish` sends the rest. A killed process loses only what was in flight.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import IO

from evalft.batching import Batching, Journal
from evalft.cache import Cache
from evalft.candidates import Attempt, Candidate
from evalft.candidates.api import ApiCandidate
from evalft.candidates.batch_routes import RouteError
from evalft.candidates.local import LocalCandidate
from evalft.candidates.usage import added
from evalft.config import LimitsConfig
from evalft.errors import BudgetReached, CannotStart, UserError
from evalft.pacing import Pace
from evalft.prompts import Request
from evalft.records import Failure, Outcome, Prediction, Usage
from evalft.sequences import chosen
from evalft.spending import Ledger
from evalft.store import RunFolder, prediction_line

GIVE_UP_S = 600.0
"""No example is tried for longer than this."""
LONGEST_WAIT_S = 60.0
PREFLIGHT_ROWS = 3
"""How many different rows may be refused before the candidate is said not to start."""

PREFLIGHT_TRIES = 2
"""Of one row before the candidate is known to answer at all; a full rate limit is waited for."""

FROM_CACHE_AT_ONCE = 500
"""Answers that are read before they are written to the run folder."""
SAME_ERRORS = 3
"""So many times the same 5xx with the same message: the request itself is what the server cannot serve."""
TEMPORARY = ("HTTP 502", "HTTP 503", "HTTP 504", "HTTP 529")
OUTAGE_S = (10.0, 20.0)
"""Before the last of them, where the status says that it is not about the request but about the moment."""
TOLD_AFTER = 3
"""Tries of a row, from which on each further one is told."""

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
        say: Callable[[Iterable[str]], None] = lambda lines: None,
        tell: Callable[[str], None] = lambda _line: None,
    ) -> None:
        """`tell` is given a line where a row is asked again and again, and where asking becomes slower."""
        self.candidate = candidate
        self.choices: list[str] = []
        self.stopped_because: str | None = None
        self._folder, self._ledger, self._limits, self._notify, self._stop = folder, ledger, limits, notify, stop
        self._say = say
        self._open_cache = cache
        self._cache: Cache | None = None
        self._writer: IO[str] | None = None
        self._asked = False
        self.has_new_answers = False
        """Others than those of the run folder and the cache."""
        self._tell, self._pace = tell, Pace(limits.concurrency, tell)
        self.asked_again: dict[tuple[int, int], int] = {}
        """How often the rows were tried that have no answer yet and are tried again."""
        self._answered = False
        self._done = _Places()
        self._billed_before: dict[tuple[int, int], tuple[float, Usage | None]] = {}
        self._last, self._in_order = (-1, -1), True
        for outcome in folder.read_in_order(candidate.name):
            if outcome.tries or outcome.cached:
                self._take(outcome)
            else:
                self._in_order = False  # a later line will say more
                self._billed_before[outcome.index, outcome.repeat] = (outcome.cost_usd or 0.0, outcome.usage)
        self._owed = self._not_done(requests)
        self.in_batches = isinstance(candidate, ApiCandidate) and candidate.in_batches
        self._journal = Journal(folder.batches_file(candidate.name)) if self.in_batches else None

    def _not_done(self, requests: Sequence[Request]) -> Sequence[Request]:
        places = array("Q", (place for place, one in enumerate(requests) if (one.index, one.repeat) not in self._done))
        return requests if len(places) == len(requests) else chosen(requests, places)

    @property
    def owed(self) -> int:
        return len(self._owed)

    @property
    def _has_work(self) -> bool:
        """Rows that are owed, or a batch that is not settled to its last row."""
        return bool(self._owed or (self._journal and self._journal.open))

    # ------------------------------------------------------------ step one

    async def open(self, settled: dict[str, object] | None) -> None:
        """Make the candidate ready and send it one real row; nothing at all where no row is owed. `settled` is what an
        earlier preflight of this run found out. Raises CannotStart."""
        if not self._has_work:
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
        if isinstance(candidate, ApiCandidate) and self._owed and not (self._journal and self._journal.begun):
            if self._journal:
                await self._check_batches(candidate)
            with contextlib.suppress(_NotAsked):  # interrupted
                async with self._stopping_at_once():
                    await self._preflight(candidate)
            if self._ledger.overrun > 1:
                self.choices.append(
                    f"a request was billed {self._ledger.overrun:.3g} times its worst case: so much is reserved"
                )
            if self._cache:
                self._cache.put_settled(wanted, candidate.settled())

    def _take_from_cache(self) -> None:
        if not self._cache:
            return
        self._cache.identify(self.candidate.identity())
        before = len(self._owed)
        with self._cache.together():
            for start in range(0, before, FROM_CACHE_AT_ONCE):
                found = map(self._cache.get, self._owed[start : start + FROM_CACHE_AT_ONCE])
                outcomes = [outcome for outcome in found if outcome is not None]
                if outcomes:
                    self._on_disk(*outcomes)
                for outcome in outcomes:
                    self._take(outcome)
        self._owed = self._not_done(self._owed)
        self._ledger.answered_from_cache(before - len(self._owed))

    async def _check_batches(self, candidate: ApiCandidate) -> None:
        try:
            await candidate.batch_routes().check()
        except RouteError as error:
            if not error.retry and error.status not in (401, 403):  # the preflight says what is wrong with a key
                raise CannotStart(
                    f"candidate {candidate.name}: {candidate.base_url} takes no batches (GET /batches: {error}); "
                    "leave out `mode: batch`"
                ) from None

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
                self._done.add(request.index, request.repeat)
                self._owed = self._not_done(self._owed)
                if candidate.settled() != before:
                    self._take_from_cache()
                self._remember(request, outcome)
                return
            if self._stop.is_set():
                return
            if last.stops or getattr(outcome, "failure", "") == "connection":
                raise CannotStart(_cannot_start(candidate, outcome))
            refusals.append(str(getattr(outcome, "message", "")))
        if self._answered:
            return  # it has answered other rows: these are failures of their own
        if all("no answer within" in refusal for refusal in refusals):
            raise CannotStart(
                f"candidate {candidate.name}: {candidate.base_url}: {refusals[0]}; is limits.timeout_s too short?"
            )
        if all(refusal.startswith(TEMPORARY) for refusal in refusals):
            raise CannotStart(
                f"candidate {candidate.name}: {candidate.base_url} is down or overloaded: {refusals[0]}; run the same command "
                "again when it is up"
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
            if self._journal and self._has_work and not self._stop.is_set():
                await self._ask_in_batches(self._journal)
            elif self._owed and not self._stop.is_set():
                async with self._stopping_at_once():
                    await (self._ask_remote() if self.candidate.remote else self._ask_local())
        finally:
            await self.close()
        if self._asked and not self._owed and not self._in_order:
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
            with self._cache.together() if self._cache else contextlib.nullcontext():
                for request, attempt in zip(batch, attempts, strict=True):
                    self._remember(request, attempt.outcome)
        self._owed = ()

    async def _ask_in_batches(self, journal: Journal) -> None:
        candidate = self.candidate
        assert isinstance(candidate, ApiCandidate)
        candidate.asks_in_batches()
        done = {(one.index, one.repeat): one for one in self._folder.read_predictions(candidate.name)}

        def remember(request: Request, outcome: Outcome) -> None:
            done[request.index, request.repeat] = outcome
            self._remember(request, outcome)

        asked = Batching(
            candidate,
            self._owed,
            done,
            journal=journal,
            run_name=self._folder.path.name,
            ledger=self._ledger,
            limits=self._limits,
            on_disk=self._on_disk,
            remember=remember,
            say=self._say,
            stop=self._stop,
        )
        try:
            self.stopped_because = await asked.run()
        finally:
            self._owed = self._not_done(self._owed)

    @contextlib.asynccontextmanager
    async def _stopping_at_once(self) -> AsyncIterator[None]:
        """Who waits for a place or for the next try when the user interrupts does not wait any longer."""

        async def open_gate() -> None:
            await self._stop.wait()
            self._pace.open_gate()

        task = asyncio.create_task(open_gate())
        try:
            yield
        finally:
            task.cancel()

    async def _ask_remote(self) -> None:
        queue: Iterator[tuple[Request, ...]] = iter(self.candidate.batches(self._owed))
        out_of_budget: BudgetReached | None = None

        async def worker() -> None:
            nonlocal out_of_budget
            for (request,) in queue:
                if self._stop.is_set() or out_of_budget:
                    return
                try:
                    outcome, _ = await self._until_answered(request, partial(self._one_try, request))
                except _NotAsked:
                    return
                except BudgetReached as reached:
                    out_of_budget = reached
                    self._pace.open_gate()
                    return
                self._remember(request, outcome)

        async with asyncio.TaskGroup() as group:
            # twice as many as places in flight: while one waits for its next try, another asks
            for _ in range(min(2 * self._limits.concurrency, len(self._owed))):
                group.create_task(worker())
        self._owed = self._not_done(self._owed)
        if out_of_budget:
            raise out_of_budget

    async def _one_try(self, request: Request) -> Attempt:
        (attempt,) = await self.candidate.predict((request,))
        return attempt

    async def _until_answered(
        self, request: Request, ask: Ask, keep_unanswered: bool = True
    ) -> tuple[Outcome, Attempt]:
        """Try until there is an answer, a failure that will not mend, or no tries left. The cost of every try counts.
        Raises _NotAsked where asking ended before the first try."""
        clock = asyncio.get_running_loop().time
        pace, max_tries = self._pace, self._limits.max_tries
        tries, same, last, give_up_at = 0, 0, None, math.inf
        cost_usd, usage = self._billed_before.get((request.index, request.repeat), (0.0, None))
        size_bytes = sum(len(message["content"].encode()) for message in request.messages)
        while True:
            async with pace.slot(size_bytes, again=tries > 0) as ticket:
                if pace.gate_open:
                    return self._left(request, last, cost_usd, usage)
                give_up_at = min(give_up_at, clock() + GIVE_UP_S)
                number = await self._ledger.reserve(self.candidate.worst_case_usd(request))
                attempt = await ask()
            tries += 1
            billed = attempt.outcome.cost_usd or 0.0
            cost_usd, usage = cost_usd + billed, added(usage, attempt.outcome.usage)
            pace.learn(ticket, attempt)
            self._notice_the_end(attempt, clock())
            same = same + 1 if attempt.broken and last and _said(last) == _said(attempt) else int(attempt.broken)
            last = attempt
            wait_s = _wait_s(attempt, tries, same)
            most = max_tries if keep_unanswered or attempt.throttled else min(PREFLIGHT_TRIES, max_tries)
            over = pace.gate_open or tries >= most or same >= SAME_ERRORS
            if not attempt.retry or over or clock() + wait_s > give_up_at:
                # refused for all requests, interrupted before its last try, or in an outage: owed again by the next run
                outage = same >= SAME_ERRORS and pace.server_is_down
                cut_short = attempt.stops or outage or (attempt.retry and pace.gate_open)
                outcome = replace(attempt.outcome, tries=0 if cut_short else tries, cost_usd=cost_usd, usage=usage)
                if same >= SAME_ERRORS and isinstance(outcome, Failure):
                    outcome = replace(outcome, message=f"{outcome.message} (the same {same} times)")
                if keep_unanswered or not _unanswered(outcome):
                    self._on_disk(outcome)
                await self._ledger.settle(number, billed)
                return outcome, attempt
            await self._ledger.settle(number, billed)
            self.asked_again[request.index, request.repeat] = tries
            if tries >= TOLD_AFTER and not attempt.throttled:
                self._tell(f"row {request.id}: try {tries + 1} of at most {most}: {_said(attempt)}")
            await pace.sleep(wait_s)

    def _left(
        self, request: Request, last: Attempt | None, cost_usd: float, usage: Usage | None
    ) -> tuple[Outcome, Attempt]:
        """What stands for a request that is not asked (again) because asking ended: 0 tries, owed by the next run."""
        if last is None and not self.stopped_because:
            raise _NotAsked
        outcome = last.outcome if last else _not_asked(request, self.stopped_because or "")
        outcome = replace(outcome, tries=0, cost_usd=cost_usd, usage=usage)
        self._on_disk(outcome)
        return outcome, last or Attempt(outcome)

    def _notice_the_end(self, attempt: Attempt, now: float) -> None:
        if self.stopped_because:
            return
        if attempt.stops:
            self.stopped_because = _said(attempt)
        elif attempt.throttled and (attempt.retry_after_s or 0.0) > GIVE_UP_S:
            self.stopped_because = f"{_said(attempt)}; it asks to be left alone for {attempt.retry_after_s:,.0f} s"
        elif self._pace.server_is_gone(now):
            self.stopped_because = f"the server is gone: {_said(attempt)}"
        if self.stopped_because:
            self._pace.open_gate()

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
        self.has_new_answers = True
        self._take(outcome)

    def _take(self, outcome: Outcome) -> None:
        place = (outcome.index, outcome.repeat)
        self._answered |= isinstance(outcome, Prediction)
        self._in_order, self._last = self._in_order and place > self._last, place
        self._done.add(*place)
        self.asked_again.pop(place, None)
        self._notify(outcome)


class _Places:
    """A set of (index, repeat), a byte each."""

    def __init__(self) -> None:
        self._of_repeat: dict[int, bytearray] = {}

    def add(self, index: int, repeat: int) -> None:
        marks = self._of_repeat.setdefault(repeat, bytearray())
        if index >= len(marks):
            marks.extend(bytes(index + 1 - len(marks)))
        marks[index] = 1

    def __contains__(self, place: tuple[int, int]) -> bool:
        index, repeat = place
        marks = self._of_repeat.get(repeat, b"")
        return index < len(marks) and marks[index] == 1


class _NotAsked(Exception):
    """Asking ended before this request was asked."""


def _said(attempt: Attempt) -> str:
    return str(getattr(attempt.outcome, "message", ""))


def _wait_s(attempt: Attempt, tries: int, same: int) -> float:
    """Exponential backoff with jitter (Brooker 2015), in seconds, and at least as long as the server said."""
    first_s = 1.0 if attempt.throttled else 0.5
    wait_s = random.uniform(0.5, 1.0) * float(min(LONGEST_WAIT_S, first_s * 2 ** (tries - 1)))
    if attempt.retry_after_s is not None:
        return max(wait_s, attempt.retry_after_s + random.uniform(0, 0.25))
    if same == SAME_ERRORS - 1 and _said(attempt).startswith(TEMPORARY):
        return random.uniform(*OUTAGE_S)
    return wait_s


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
        if not candidate.key_env:
            return f"{where}: no key was sent: {message}; name its variable with `api_key_env` under `providers:`"
        return f"{where}: the key is refused: {message}; check the environment variable {candidate.key_env}"
    if isinstance(outcome, Failure) and outcome.failure == "connection":
        return f"{where}: no connection: {message}; is the server running, and the address right?"
    return f"{where}: {message}"
