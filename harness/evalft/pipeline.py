"""assess(): the stages in order. Data flows one way: rows -> requests -> outcomes -> scores -> verdict -> report."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from evalft import cache, candidates, scoring, summary
from evalft.cache import Cache
from evalft.candidates.api import ApiCandidate
from evalft.concluding import Assessment, conclude, price_then
from evalft.config import Config, load
from evalft.errors import BudgetReached, UserError
from evalft.execution import Asking
from evalft.preparing import Prepared, dev_requests, prepare
from evalft.progress import Progress
from evalft.records import Outcome
from evalft.spending import Ledger
from evalft.store import RunFolder
from evalft.testset import TestSet


def assess(
    config: Config,
    *,
    out: Path | None = None,
    limit: int | None = None,
    fresh: bool = False,
    progress: Progress | None = None,
) -> Assessment:
    """Score every candidate on every row of the test set, decide, and write the report into the run folder.

    The same call goes on where an earlier one stopped; a finished run decides again and asks nothing. Raises UserError
    (config, data, a candidate that cannot start) before any row of any candidate is sent.
    """
    progress = progress or Progress(Console(stderr=True), quiet=True)
    prepared = prepare(config, out=out, limit=limit)
    folder = prepared.folder
    with folder.locked():
        _open_folder(prepared, fresh)
        why_partial = asyncio.run(_ask(prepared, fresh, progress))
        return conclude(prepared, why_partial)


def decide_again(path: Path, config: Config) -> Assessment:
    """The verdict from the answers that a run folder holds, under this config's thresholds, prices and volumes.

    Compared with the folder's own config rather than its stored digest: a folder that was moved to where its models are
    not can still be decided on."""
    prepared = prepare(config, out=path)
    if prepared.digest != prepare(load(prepared.folder.file("config")), out=path).digest:
        raise UserError(f"{path}: what --set changes here needs new answers; use `evalft assess` with it")
    with prepared.folder.locked():
        return conclude(prepared, None)


def _open_folder(prepared: Prepared, fresh: bool) -> None:
    folder = prepared.folder
    manifest = folder.manifest()
    known = manifest.get("digest")
    if known and known != prepared.digest:
        raise UserError(
            f"{folder.path}: holds a run of other data, candidates or prompts (digest {known[:8]}, this one is "
            f"{prepared.digest[:8]}); name another folder with --out, or leave --out away"
        )
    done = manifest.get("stages", {}).get("assess") == "done"  # no stages yet: killed just after it was made
    if fresh and known and (done or not manifest["fresh"]):
        folder.set_aside()
        known = None
    if not known:
        folder.write_examples("test", prepared.data.test)
        for name in ("train", "dev"):
            if rows := getattr(prepared.data, name):
                folder.write_examples(name, rows)
        used = {plan.name: plan.price.as_data() for plan in prepared.plans if plan.price}
        folder.update_manifest(**summary.manifest(prepared.config, prepared.data, prepared.digest, fresh), prices=used)
    folder.write_text("config", summary.resolved_config(prepared.config, folder.path))
    folder.update_manifest(stages={"assess": "running"})


# ---------------------------------------------------------------- asking


async def _ask(prepared: Prepared, fresh: bool, progress: Progress) -> str | None:
    """Ask every candidate for what its file does not hold yet. Returns why that ended early: budget, interrupted."""
    config, folder = prepared.config, prepared.folder
    ledger = Ledger(folder.file("spending"), config.limits.max_cost_usd)
    progress.watch_money(lambda: (ledger.settled_usd, ledger.left_usd))
    stop = asyncio.Event()
    opener = None if fresh else partial(Cache, cache.folder())
    settled: dict[str, Any] = dict(folder.manifest().get("settled", {}))
    primary = scoring.primary(config.task)
    try:
        with _stopping_on_interrupt(stop, progress), progress:
            askings = []
            for candidate, plan in zip(config.candidates, prepared.plans, strict=True):
                requests = prepared.requests[candidate.name]
                row_score = partial(_row_score, scoring.row_scorer(config.task), prepared.data)
                askings.append(
                    Asking(
                        candidates.build(
                            candidate,
                            config,
                            price=price_then(candidate.name, folder.manifest()) or plan.price,
                            max_tokens=plan.max_tokens,
                            dev=dev_requests(config, candidate, prepared.data),
                        ),
                        requests,
                        folder=folder,
                        ledger=ledger,
                        limits=config.limits,
                        cache=opener,
                        notify=progress.candidate(candidate.name, len(requests), primary, row_score),
                        stop=stop,
                    )
                )
            try:
                for asking in askings:
                    await _open(asking, settled, folder, progress)
            except BaseException:  # raised again: whatever ends it, what was opened is closed
                for asking in askings:
                    await asking.close()
                raise
            for asking in askings:
                await asking.finish()
                progress.finished(asking.candidate.name)
                if asking.stopped_because:
                    folder.log(f"{asking.candidate.name} stopped: {asking.stopped_because}")
                    progress.say([f"{asking.candidate.name} stopped: {asking.stopped_because}"])
    except BudgetReached as reached:
        progress.say([str(reached)])
        return "budget"
    except ExceptionGroup as group:
        raise _first_of(group) from None
    finally:
        ledger.close()
    return "interrupted" if stop.is_set() else None


async def _open(asking: Asking, settled: dict[str, Any], folder: RunFolder, progress: Progress) -> None:
    name = asking.candidate.name
    await asking.open(settled.get(name))
    if asking.choices:
        for choice in asking.choices:
            folder.log(f"{name}: {choice}")
        choices = folder.manifest().get("choices", {}) | {name: asking.choices}
        if isinstance(asking.candidate, ApiCandidate):
            settled[name] = asking.candidate.settled()
        device = asking.candidate.identity().get("device")
        runs_on = folder.manifest().get("runs_on", {}) | ({name: device} if device else {})
        folder.update_manifest(choices=choices, settled=settled, runs_on=runs_on)


def _row_score(scorer: Any, data: TestSet, outcome: Outcome) -> float:
    return float(scorer(data.test[outcome.index], outcome))


@contextmanager
def _stopping_on_interrupt(stop: asyncio.Event, progress: Progress) -> Iterator[None]:
    """First Ctrl-C: what is in flight is waited for and kept. Second: the ordinary KeyboardInterrupt."""
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        stop.set()
        progress.say(["stopping: what is under way is waited for and kept (Ctrl-C again: stop at once)"])
        loop.remove_signal_handler(signal.SIGINT)

    with suppress(NotImplementedError, RuntimeError, ValueError):  # not on Windows, not outside the main thread
        loop.add_signal_handler(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        with suppress(NotImplementedError, RuntimeError, ValueError):
            loop.remove_signal_handler(signal.SIGINT)


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
