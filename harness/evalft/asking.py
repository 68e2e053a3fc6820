"""Jobs -> answers on disk: candidates made ready, then asked one after another, under one cap, with one way to stop.

The test set is one job per candidate; a training run has more: the teacher's rows, each stage on dev, samples for pairs.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from evalft import cache, candidates, scoring, usage_seen
from evalft.cache import Cache
from evalft.candidates import Candidate
from evalft.candidates.api import ApiCandidate
from evalft.config import CandidateConfig, Config, TaskConfig
from evalft.errors import BUDGET, INTERRUPTED, BudgetReached, CannotStart, EvalftError
from evalft.execution import Asking
from evalft.prices import HourPrice, TokenPrice
from evalft.progress import Progress
from evalft.prompts import Request
from evalft.records import Example, Outcome
from evalft.spending import Ledger
from evalft.store import RunFolder


class Unfinished(EvalftError):
    """Asking ended early: `why` is budget or interrupted. What was answered is on disk, and the same command goes on."""

    def __init__(self, why: str) -> None:
        with_what = " with a higher --max-cost" if why == "budget" else ""
        super().__init__(f"stopped ({why}); the same command{with_what} goes on where this one stopped")
        self.why = why
        self.status = BUDGET if why == "budget" else INTERRUPTED


@dataclass(frozen=True)
class Job:
    """One candidate, what it is asked, and where its answers go."""

    candidate: CandidateConfig
    requests: Sequence[Request]
    rows: Sequence[Example] | None
    """What `requests` are of, by index: their targets give the running score. None: there is nothing to score yet."""
    price: TokenPrice | HourPrice | None
    max_tokens: int
    folder: RunFolder
    """Its predictions/ takes the answers: the run folder, or a part of it."""
    task: TaskConfig
    """How answers are read: the run's, or one of generation where a teacher writes inputs."""
    title: str = ""
    """What the progress line is called; the candidate's name where it is left out."""
    dev: Sequence[tuple[Request, Collection[str]]] = ()


def ask(jobs: Sequence[Job], config: Config, folder: RunFolder, *, fresh: bool, progress: Progress) -> None:
    """Ask each job for what its file does not hold yet; `folder` is the run's, with its ledger and manifest. `fresh`:
    nothing from the cache, which then holds these answers in place of older ones. Raises Unfinished, and CannotStart
    before any row of any job is sent."""
    asyncio.run(_ask(jobs, config, folder, fresh, progress))


async def _ask(jobs: Sequence[Job], config: Config, folder: RunFolder, fresh: bool, progress: Progress) -> None:
    ledger = Ledger(folder.file("spending"), config.limits.max_cost_usd)
    progress.watch_money(lambda: (ledger.settled_usd, ledger.left_usd))
    stop = asyncio.Event()
    opener = partial(Cache, cache.folder(), fresh=fresh)
    try:
        with _stopping_on_interrupt(stop, progress), progress:
            askings = [(job, _asking(job, config, folder, ledger, opener, progress, stop)) for job in jobs]
            for job, asking in askings:
                progress.watch_asked_again(job.title or job.candidate.name, asking.asked_again)
            try:
                for job, asking in askings:
                    await _open(job, asking, folder, progress)
            except BaseException:  # raised again: whatever ends it, what was opened is closed
                for _, asking in askings:
                    await asking.close()
                raise
            for job, asking in askings:
                if not asking.in_batches:
                    await _finish(job, asking, config, folder, progress)
            await _finish_batches([pair for pair in askings if pair[1].in_batches], config, folder, progress)
    except BudgetReached as reached:
        progress.say([str(reached)])
        raise Unfinished("budget") from None
    except ExceptionGroup as group:
        raise _first_of(group) from None
    finally:
        ledger.close()
    if stop.is_set():
        raise Unfinished("interrupted")


async def _finish(job: Job, asking: Asking, config: Config, folder: RunFolder, progress: Progress) -> None:
    await asking.finish()
    progress.finished(job.title or job.candidate.name)
    if asking.has_new_answers and isinstance(asking.candidate, ApiCandidate) and job.folder.path == folder.path:
        answered = job.folder.read_predictions(asking.candidate.name)
        usage_seen.remember(job.candidate, config, job.requests, answered)
    if asking.stopped_because:
        folder.log(f"{asking.candidate.name} stopped: {asking.stopped_because}")
        progress.say([f"{asking.candidate.name} stopped: {asking.stopped_because}"])


async def _finish_batches(
    askings: Sequence[tuple[Job, Asking]], config: Config, folder: RunFolder, progress: Progress
) -> None:
    """All at once, since each may take a day. Who reaches the cap does not keep others from what they wait for, which
    is paid for."""
    reached: list[BudgetReached] = []

    async def finish(job: Job, asking: Asking) -> None:
        try:
            await _finish(job, asking, config, folder, progress)
        except BudgetReached as error:
            reached.append(error)

    async with asyncio.TaskGroup() as group:
        for job, asking in askings:
            group.create_task(finish(job, asking))
    if reached:
        raise reached[0]


def _asking(
    job: Job,
    config: Config,
    folder: RunFolder,
    ledger: Ledger,
    opener: Callable[[dict[str, object]], Cache],
    progress: Progress,
    stop: asyncio.Event,
) -> Asking:
    scorer, rows = scoring.row_scorer(job.task), job.rows
    name = job.title or job.candidate.name

    def tell(line: str) -> None:
        folder.log(f"{name}: {line}")
        progress.trouble(name, line)

    def row_score(outcome: Outcome) -> float:
        return float(scorer(rows[outcome.index], outcome)) if rows else 0.0

    return Asking(
        candidates.build(
            job.candidate,
            config.model_copy(update={"task": job.task}),
            price=job.price,
            max_tokens=job.max_tokens,
            dev=job.dev,
        ),
        job.requests,
        folder=job.folder,
        ledger=ledger,
        limits=config.limits,
        cache=None if job.candidate.provider == "file" else opener,  # a file is at hand as it is
        notify=progress.candidate(
            name,
            len(job.requests),
            scoring.row_metric(job.task) if rows else "",
            row_score,
            grouped=bool(rows and rows[0].group is not None),
            in_batches=job.candidate.mode == "batch",
        ),
        stop=stop,
        say=progress.say,
        tell=tell,
    )


async def _open(job: Job, asking: Asking, folder: RunFolder, progress: Progress) -> None:
    """What the candidate settled on is kept per name: the same candidate is asked alike in every job of the run."""
    name = asking.candidate.name
    if asking.owed and job.folder.path == folder.path:
        _check_same_model(job.candidate, asking.candidate, folder)
    there = len(job.requests) - asking.owed
    if there and asking.owed:
        progress.say([f"{job.title or name}: {there:,} of {len(job.requests):,} answers are in the run folder already"])
    settled: dict[str, Any] = dict(folder.manifest().get("settled", {}))
    await asking.open(settled.get(name))
    if asking.choices:
        progress.choices(job.title or name, asking.choices)
        for choice in asking.choices:
            folder.log(f"{job.title or name}: {choice}")
        if isinstance(asking.candidate, ApiCandidate):
            settled[name] = asking.candidate.settled()
            folder.update_manifest(settled=settled)
        if device := asking.candidate.identity().get("device"):
            folder.update_manifest(runs_on=folder.manifest().get("runs_on", {}) | {job.title or name: device})
        if job.folder.path == folder.path:
            said = [choice.replace(f"{folder.path.absolute()}/", "") for choice in asking.choices]  # it can be moved
            choices = folder.manifest().get("choices", {}) | {name: said}
            folder.update_manifest(choices=choices)


def _check_same_model(config: CandidateConfig, candidate: Candidate, folder: RunFolder) -> None:
    """A model of the hub may have moved on since this run folder's first answers: those of two models are never mixed.
    (What a folder holds and everything else that is asked is in the run folder's digest.)"""
    if config.provider != "hf":
        return
    identity = candidate.identity()
    now = [identity["model"], identity["adapter"]]
    known = folder.manifest().get("answered_by", {})
    if known.setdefault(config.name, now) != now:
        raise CannotStart(
            f"candidate {config.name}: the answers so far are of {known[config.name][0]}, and {config.model} is now "
            f"{now[0]}; measure again with --fresh, or pin the model with `revision:`"
        )
    folder.update_manifest(answered_by=known)


@contextmanager
def _stopping_on_interrupt(stop: asyncio.Event, progress: Progress) -> Iterator[None]:
    """First Ctrl-C, or a TERM from a scheduler: what is in flight is waited for and kept. Ctrl-C after it: the ordinary
    end. A TERM after it changes nothing: `timeout` sends one to the process and one to its group."""
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        if not stop.is_set():
            progress.say(["stopping: what is under way is waited for and kept (Ctrl-C again: stop at once)"])
        stop.set()
        ordinary(signal.SIGINT)

    def ordinary(*numbers: signal.Signals) -> None:
        for number in caught.intersection(numbers):
            loop.remove_signal_handler(number)
            caught.remove(number)

    caught: set[signal.Signals] = set()
    # an event loop takes no signals on Windows, nor outside the main thread: Ctrl-C then ends the process as it always does
    with suppress(NotImplementedError, RuntimeError, ValueError):
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, interrupt)
            caught.add(number)
    try:
        yield
    finally:
        ordinary(*caught)


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
