"""Owed rows -> batches at the provider -> answers on disk (`mode: batch`): cheaper, for those who can wait.

A batch is planned, reserved, uploaded, created, waited for and read. Before and after each step a line is appended to the
journal, so that a process killed anywhere is followed by one that goes on: what was not uploaded is planned anew, what
may have been created is looked for at the provider before anything is created, what is under way is waited for, what was
read by half is read to the end. No row is in two batches that are open, and no row is settled twice.

A row that got no answer (expired, a 5xx) goes into a next batch, up to `limits.max_tries`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

from evalft.candidates import Attempt
from evalft.candidates.api import ApiCandidate
from evalft.candidates.batch_routes import ENDS, MAX_BYTES, MAX_ROWS, WINDOW, BatchState, RouteError
from evalft.candidates.usage import added
from evalft.config import LimitsConfig
from evalft.errors import UserError
from evalft.prompts import Request
from evalft.records import Failure, Outcome, Usage
from evalft.spending import Ledger
from evalft.store import append_line, read_lines

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
"""Between two looks at a batch, and before something is tried again."""
GROWTH = 1.5
OUTAGE_S = 3600.0
"""So long a provider may be out of reach while a batch is waited for."""
NOT_SENT = "not sent"

Say = Callable[[Iterable[str]], None]


@dataclass(slots=True)
class Batch:
    """One batch by the key that it is reserved under. `rows` are the custom ids of its lines, in order."""

    key: str
    rows: list[str]
    file: str | None = None
    """Of the provider, like `id`: None until it is uploaded, and created."""
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Tried:
    """What earlier batches made of a row without answering it."""

    tries: int = 0
    usd: float = 0.0
    usage: Usage | None = None

    def and_then(self, outcome: Outcome, tries: int) -> Tried:
        return Tried(self.tries + tries, self.usd + (outcome.cost_usd or 0.0), added(self.usage, outcome.usage))


class Journal:
    """What became of one candidate's batches: a file of lines, each one fact about one batch."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.open: dict[str, Batch] = {}
        """By key: planned, and neither read nor given up."""
        self.tried: dict[str, Tried] = {}
        """By custom id."""
        self.begun = False
        for line in read_lines(path) if path.exists() else ():
            self._take(line)

    def plan(self, rows: list[str]) -> Batch:
        key = uuid4().hex
        self.path.parent.mkdir(exist_ok=True)
        self._note({"batch": key, "rows": rows})
        return self.open[key]

    def uploaded(self, batch: Batch, file: str) -> None:
        self._note({"batch": batch.key, "file": file})

    def created(self, batch: Batch, batch_id: str) -> None:
        self._note({"batch": batch.key, "id": batch_id})

    def ended(self, batch: Batch, how: str, owed: Mapping[str, Tried]) -> None:
        """`owed` are the rows without an answer, with what this batch made of each."""
        self._note({"batch": batch.key, "ended": how, "owed": {row: asdict(tried) for row, tried in owed.items()}})

    def _note(self, line: dict[str, Any]) -> None:
        append_line(self.path, line)
        self._take(line)

    def _take(self, line: Mapping[str, Any]) -> None:
        self.begun = True
        key = line["batch"]
        if "rows" in line:
            self.open[key] = Batch(key, line["rows"])
        elif "file" in line:
            self.open[key].file = line["file"]
        elif "id" in line:
            self.open[key].id = line["id"]
        else:
            del self.open[key]
            for row, found in line["owed"].items():
                before, usage = self.tried.get(row, Tried()), found["usage"]
                self.tried[row] = Tried(
                    before.tries + found["tries"],
                    before.usd + found["usd"],
                    added(before.usage, Usage(**usage) if usage else None),
                )


class Batching:
    """One candidate's owed requests, asked in batches. `on_disk` and `remember` take each outcome, before and after it is
    settled; `done` are the outcomes that are on disk already."""

    def __init__(
        self,
        candidate: ApiCandidate,
        owed: Sequence[Request],
        done: Mapping[tuple[int, int], Outcome],
        *,
        journal: Journal,
        run_name: str,
        ledger: Ledger,
        limits: LimitsConfig,
        on_disk: Callable[[Outcome], None],
        remember: Callable[[Request, Outcome], None],
        say: Say,
        stop: asyncio.Event,
    ) -> None:
        self._candidate, self._journal, self._ledger, self._limits = candidate, journal, ledger, limits
        self._on_disk, self._remember, self._say_lines, self._stop = on_disk, remember, say, stop
        self._routes = candidate.batch_routes()
        self._requests = {_custom_id(request.index, request.repeat): request for request in owed}
        self._done = done
        self._metadata = {"evalft_run": run_name[:500], "evalft_candidate": candidate.name[:500]}
        self._stopped: str | None = None
        self._most_rows = MAX_ROWS
        self._full = 0
        """How often in a row the provider had no room for a batch."""
        self._rounds = 0
        self._given_up: set[str] = set()
        """Batches whose answers cannot be had now, by key: left to the next run."""
        self._said: dict[str, tuple[str, int]] = {}

    async def run(self) -> str | None:
        """Until each row has its outcome, or the user interrupts: None. Until this candidate cannot go on: why. Raises
        BudgetReached where not even one more row fits under the cap."""
        try:
            await self._go_on()
            while True:
                await self._wait()
                if self._stopped or self._stop.is_set() or not self._left():
                    break
                await self._send()
        finally:
            self._ledger.awaited.difference_update(self._journal.open)
        if self._stopped and not self._stop.is_set():
            self._leave(self._stopped)
        under_way = [batch.id or f"of file {batch.file}" for batch in self._journal.open.values()]
        if under_way and self._stop.is_set():
            self._say(f"batch {', '.join(under_way)} goes on there; the same command waits for it again")
        return None if self._stop.is_set() else self._stopped

    def _leave(self, why: str) -> None:
        """What stands for the rows of a candidate that stopped: 0 tries, owed again by the next run."""
        for row, request in self._requests.items():
            before = self._journal.tried.get(row, Tried())
            outcome = Failure(
                request.id, request.index, request.repeat, "api_error", f"not answered: {why}",
                usage=before.usage, cost_usd=before.usd, tries=0,
            )  # fmt: skip
            self._on_disk(outcome)
            self._remember(request, outcome)

    def _left(self) -> list[Request]:
        """What is in no open batch."""
        sent = {row for batch in self._journal.open.values() for row in batch.rows}
        return [request for row, request in self._requests.items() if row not in sent]

    # ------------------------------------------------------------ sending

    async def _go_on(self) -> None:
        """Take up what an earlier process left."""
        for batch in list(self._journal.open.values()):
            if batch.file is None:
                await self._drop(batch)
                continue
            self._ledger.awaited.add(batch.key)
            if batch.id is None:
                await self._create(batch, maybe_made=True)
            else:
                self._say(f"waiting again for batch {batch.id} of {len(batch.rows):,} rows")

    async def _send(self) -> None:
        """As many batches as are owed, as the provider's limits allow and as fit under the cap. Raises BudgetReached."""
        if self._rounds:
            await self._pause(_backoff_s(self._rounds))
        self._rounds += 1
        while not (self._stopped or self._stop.is_set()):
            requests = list(islice(self._left(), self._most_rows))
            usds = [self._candidate.worst_case_usd(request) for request in requests]
            fitting = self._ledger.fitting(usds)
            if fitting:
                await self._submit(self._write(requests[:fitting], usds))
            elif requests and not self._under_way():  # another candidate's batch may leave room
                await self._pause(LONGEST_WAIT_S)
            if fitting < len(requests) or not self._left() or self._most_rows < MAX_ROWS:
                return

    def _write(self, requests: Sequence[Request], usds: Sequence[float]) -> Batch:
        """The file to upload, written line by line, as many rows as it may hold; planned, then reserved."""
        rows: list[str] = []
        size_bytes = 0
        self._journal.path.parent.mkdir(exist_ok=True)
        try:
            with self._input.open("wb") as file:
                for request in requests:
                    row = _custom_id(request.index, request.repeat)
                    line = self._candidate.batch_line(request, row)
                    size_bytes += len(line)
                    if rows and size_bytes > MAX_BYTES:
                        break
                    file.write(line)
                    rows.append(row)
        except OSError as error:
            raise UserError(f"{self._input}: cannot be written: {error.strerror}; make room and run again") from None
        batch = self._journal.plan(rows)
        self._ledger.reserve_batch(batch.key, usds[: len(rows)])
        self._ledger.awaited.add(batch.key)
        return batch

    @property
    def _input(self) -> Path:
        return self._journal.path.with_suffix(".upload.jsonl")

    async def _submit(self, batch: Batch) -> None:
        try:
            file = await self._upload()
        except RouteError as error:
            self._stopped = f"{len(batch.rows):,} rows cannot be uploaded: {error}"
            await self._drop(batch)
            return
        self._journal.uploaded(batch, file)
        self._input.unlink()
        await self._create(batch, maybe_made=False)

    async def _upload(self) -> str:
        number = 0
        while True:
            number += 1
            try:
                return await self._routes.upload(self._input)
            except RouteError as error:
                if not error.retry or number >= self._limits.max_tries or self._stop.is_set():
                    raise
            await self._pause(_backoff_s(number))

    async def _create(self, batch: Batch, *, maybe_made: bool) -> None:
        """`maybe_made`: a request to create it went out and nobody knows what came of it. Then it is looked for first."""
        assert batch.file is not None
        for number in range(1, self._limits.max_tries + 1):
            try:
                state = await self._routes.find(batch.file) if maybe_made else None
            except RouteError as error:
                last, again, refused = error, error.retry, False
            else:
                try:
                    state = state or await self._routes.create(batch.file, self._metadata | {"evalft_batch": batch.key})
                except RouteError as error:
                    last, again, refused = error, error.retry or _not_seen_yet(error, batch.file), error.certain
                    maybe_made = maybe_made or not refused
                else:
                    self._journal.created(batch, state.id)
                    self._say(
                        f"batch {state.id}: {len(batch.rows):,} rows sent, answers come within {WINDOW}; Ctrl-C leaves it "
                        "there, and the same command waits again"
                    )
                    return
            if not again or self._stop.is_set():
                break
            await self._pause(_backoff_s(number))
        if refused:
            self._stopped = f"no batch can be made: {last}"
            await self._drop(batch)
        else:
            self._stopped = (
                f"whether there is a batch of file {batch.file} is not known: {last}; the next run looks again"
            )

    async def _drop(self, batch: Batch) -> None:
        """It was not created: its rows are owed as before, and its money is free."""
        await self._end(batch, NOT_SENT, {})
        self._input.unlink(missing_ok=True)

    async def _end(self, batch: Batch, how: str, owed: Mapping[str, Tried]) -> None:
        await self._ledger.release_batch(batch.key)
        self._ledger.awaited.discard(batch.key)
        self._journal.ended(batch, how, owed)

    # ------------------------------------------------------------ waiting

    def _under_way(self) -> list[Batch]:
        return [batch for batch in self._journal.open.values() if batch.id and batch.key not in self._given_up]

    async def _wait(self) -> None:
        """Until every batch is read or given up, or the user interrupts."""
        wait_s = FIRST_WAIT_S
        out_of_reach: dict[str, float] = {}  # since when, by key
        while self._under_way() and not self._stop.is_set():
            for batch in self._under_way():
                assert batch.id is not None
                try:
                    state = await self._routes.retrieve(batch.id)
                    self._say_state(batch, state)
                    if state.status in ENDS:
                        await self._read(batch, state)
                    out_of_reach.pop(batch.key, None)
                except RouteError as error:
                    if batch.key not in out_of_reach:
                        self._say(f"batch {batch.id}: {error}; looked at again for up to {OUTAGE_S / 60:.0f} min")
                    for_s = time.monotonic() - out_of_reach.setdefault(batch.key, time.monotonic())
                    if not error.retry or for_s > OUTAGE_S:
                        self._given_up.add(batch.key)
                        self._stopped = f"batch {batch.id}: {error}" + (self._lost if error.status == 404 else "")
            if self._under_way():
                await self._pause(wait_s)
                wait_s = min(LONGEST_WAIT_S, GROWTH * wait_s)

    @property
    def _lost(self) -> str:
        return f"; if it is gone for good, delete {self._journal.path}: what is not answered is then asked, and paid for, again"

    def _say_state(self, batch: Batch, state: BatchState) -> None:
        if self._said.get(batch.key) != (state.status, state.done):
            self._said[batch.key] = state.status, state.done
            self._say(
                f"batch {state.id}: {state.done:,} of {len(batch.rows):,} done ({state.status.replace('_', ' ')})"
            )

    # ------------------------------------------------------------ reading

    async def _read(self, batch: Batch, state: BatchState) -> None:
        """Everything that an ended batch has to say. Raises RouteError where its files cannot be had now."""
        if state.status == "failed":
            await self._failed(batch, state)
            return
        if state.done and not (state.output_file or state.error_file):  # it may be called completed a moment too early
            raise RouteError(f"it is {state.status} and names no file of answers")
        tries = int(state.status != "cancelled")
        """That a row without an answer has had."""
        unread = {row: place for place, row in enumerate(batch.rows)}
        owed: dict[str, Tried] = {}
        for file in (state.output_file, state.error_file):
            if file:
                await self._read_file(file, batch, unread, owed, tries)
        billed = state.status == "completed"  # else it is what was not got round to
        for row, place in unread.items():
            if request := self._requests.get(row):
                why = f"the batch was {state.status} without an answer to it"
                attempt = self._candidate.unanswered_in_batch(request, why, billed=billed)
                await self._take(batch, place, request, attempt, owed, tries)
        if state.status == "cancelled" and owed:
            self._stopped = self._stopped or f"batch {batch.id} was cancelled"
        self._full = 0
        await self._end(batch, state.status, owed)
        if owed and not self._stopped:
            self._say(f"batch {batch.id}: {len(owed):,} rows without an answer are asked again in another batch")

    async def _read_file(
        self, file: str, batch: Batch, unread: dict[str, int], owed: dict[str, Tried], tries: int
    ) -> None:
        async with aclosing(self._routes.lines(file)) as lines:
            async for line in lines:
                place = unread.pop(str(line.get("custom_id")), None)
                if place is None:
                    continue
                request = self._requests.get(batch.rows[place])
                if request is None:  # on disk, perhaps not settled: the process was killed in between
                    await self._ledger.settle_in_batch(batch.key, place, self._billed_for(batch.rows[place]))
                    continue
                attempt = self._candidate.read_batch_line(request, line)
                await self._take(batch, place, request, attempt, owed, tries)

    async def _take(
        self, batch: Batch, place: int, request: Request, attempt: Attempt, owed: dict[str, Tried], tries: int
    ) -> None:
        row, outcome = batch.rows[place], attempt.outcome
        if attempt.stops:
            self._stopped = self._stopped or str(getattr(outcome, "message", ""))
            tries = 0
        elif not attempt.retry:
            tries = 1
        so_far = self._journal.tried.get(row, Tried()).and_then(outcome, tries)
        if attempt.stops or (attempt.retry and so_far.tries < self._limits.max_tries):
            owed[row] = Tried().and_then(outcome, tries)
            await self._ledger.settle_in_batch(batch.key, place, outcome.cost_usd)
            return
        outcome = replace(outcome, tries=so_far.tries, cost_usd=so_far.usd, usage=so_far.usage)
        self._on_disk(outcome)
        await self._ledger.settle_in_batch(batch.key, place, attempt.outcome.cost_usd)
        del self._requests[row]
        self._remember(request, outcome)

    def _billed_for(self, row: str) -> float | None:
        """What this batch billed for a row whose outcome is on disk; None where that is from the cache."""
        index, repeat = row.split("-")
        outcome = self._done[int(index), int(repeat)]
        return None if outcome.cached else (outcome.cost_usd or 0.0) - self._journal.tried.get(row, Tried()).usd

    async def _failed(self, batch: Batch, state: BatchState) -> None:
        """The provider refused the batch as a whole; no row was asked."""
        await self._end(batch, state.status, {})
        no_room = "token_limit" in state.code or "enqueued token limit" in state.message.lower()
        if no_room and len(batch.rows) > 1 and self._full < self._limits.max_tries:
            self._full += 1
            self._most_rows = -(-len(batch.rows) // 2)
            self._say(f"batch {batch.id}: {state.message}; at most {self._most_rows:,} rows are sent at once")
        else:
            self._stopped = f"batch {batch.id} failed: {state.message or state.code or 'no reason is given'}"

    # ------------------------------------------------------------ small things

    async def _pause(self, wait_s: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), wait_s)

    def _say(self, line: str) -> None:
        self._say_lines([f"{self._candidate.name}: {line}"])


def _custom_id(index: int, repeat: int) -> str:
    return f"{index}-{repeat}"


def _backoff_s(number: int) -> float:
    """Exponential, with jitter (Brooker 2015)."""
    return random.uniform(0.5, 1.0) * float(min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**number))


def _not_seen_yet(error: RouteError, file: str) -> bool:
    """A file that was uploaded a moment ago may not be known everywhere yet."""
    return error.status in (400, 404) and file in str(error)
