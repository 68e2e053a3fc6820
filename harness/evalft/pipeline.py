"""assess(): the stages in order. Data flows one way: rows -> requests -> outcomes -> scores -> verdict -> report."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from rich.console import Console

from evalft import cache, candidates, errors, planning, prompts, scoring, summary, testset
from evalft.cache import Cache
from evalft.candidates.api import ApiCandidate
from evalft.candidates.model_files import reads_raw_input, share_that_fits
from evalft.config import CandidateConfig, Config, digest, shown_spec
from evalft.decision.evidence import Evidence, Setting, TrainingPlan
from evalft.decision.reach import thresholds_in_doubt
from evalft.decision.tuning import trainable_base
from evalft.decision.verdict import decide
from evalft.errors import BudgetReached, UserError
from evalft.execution import Asking
from evalft.prices import HourPrice, TokenPrice
from evalft.progress import Progress
from evalft.prompts import Request
from evalft.records import Outcome, Prediction
from evalft.reporting import html, markdown
from evalft.scoring import Scored
from evalft.spending import Ledger
from evalft.store import RunFolder, slug
from evalft.testset import TestSet


@dataclass(frozen=True)
class Prepared:
    """What `check` shows and `assess` asks: everything resolved, nothing spent."""

    config: Config
    data: TestSet
    requests: Mapping[str, Sequence[Request]]
    plans: Sequence[planning.CandidatePlan]
    folder: RunFolder
    digest: str


@dataclass(frozen=True)
class Assessment:
    """A finished or partial run: its folder, what summary.json holds, and the exit status under --exit-code."""

    path: Path
    summary: Mapping[str, Any]
    status: int
    """0, or why it did not finish: 5 budget, 6 coverage, 130 interrupted."""
    verdict_status: int
    """0 ship, 3 tune, stop or fix_labels, 4 more_test_data; `status` where that is not 0."""


def prepare(config: Config, *, out: Path | None = None, limit: int | None = None) -> Prepared:
    """Read and check all there is to check without spending anything. Raises UserError with every fault."""
    if not config.candidates:
        raise UserError(
            "no candidates: name one with --model openai:gpt-5-mini or --model hf:FOLDER, or under `candidates:`"
        )
    data = testset.load(config.task, limit=limit)
    config = config.model_copy(update={"task": scoring.with_metrics(data.task, config.thresholds)})
    faults, doubts = thresholds_in_doubt(config.parsed_thresholds)
    if faults:
        raise UserError(*faults)
    data = replace(data, warnings=(*data.warnings, *doubts))
    config, said = _with_prompts(config, data)
    data = replace(data, assumed=(*data.assumed, *said))
    requests = {candidate.name: _requests(config, candidate, data) for candidate in config.candidates}
    plans = planning.plan(config, config.task, data.test, requests)
    whole = _digest(config, data, requests)
    path = out or Path("reports") / f"{slug(config.task.name or 'task')}-{whole[:8]}"
    return Prepared(config, data, requests, plans, RunFolder(path), whole)


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
        return _conclude(prepared, why_partial)


def decide_again(path: Path, config: Config) -> Assessment:
    """The verdict from the scores that a run folder holds, under this config's thresholds, prices and volumes."""
    prepared = prepare(config, out=path)
    known = prepared.folder.manifest().get("digest")
    if known != prepared.digest:
        raise UserError(f"{path}: what --set changes here needs new answers; use `evalft assess` with it")
    with prepared.folder.locked():
        return _conclude(prepared, None)


def require_run(path: Path) -> None:
    """Raises UserError where `path` is no run folder."""
    if not RunFolder(path).exists():
        raise UserError(
            f"{path}: is not a run folder (it has no manifest.json); `evalft assess` makes one below reports/"
        )


def render(path: Path) -> None:
    """report.html and report.md of a run folder."""
    require_run(path)
    RunFolder(path).write_text("html", html.render(path))
    RunFolder(path).write_text("markdown", markdown.render(path))


# ---------------------------------------------------------------- preparing


def _with_prompts(config: Config, data: TestSet) -> tuple[Config, list[str]]:
    """The default prompt written out, so that the resolved config shows it; rows with chat messages bring their own.

    A default prompt lists the labels. A local model that scores labels does not need the list, and where its context is
    too short for it the candidate is asked without, which is said."""
    task = config.task
    if task.prompt is not None or not all(isinstance(example.input, str) for example in data.test):
        return config, []
    config = config.model_copy(update={"task": task.model_copy(update={"prompt": prompts.default_prompt(task)})})
    settled, said = [], []
    for candidate in config.candidates:
        scores_labels = candidate.provider == "hf" and task.type == "classification" and not candidate.prompt
        if scores_labels and not reads_raw_input(candidate.model_id):
            texts = ["\n".join(turn["content"] for turn in one.messages) for one in _requests(config, candidate, data)]
            share = share_that_fits(candidate.model_id, texts, task.labels or [])
            if share is not None and share < 0.5:
                candidate = candidate.model_copy(update={"prompt": prompts.UNLISTED})
                said.append(
                    f"{candidate.name}: the prompt that lists all {len(task.labels or [])} labels is too long for its "
                    f"context ({share:.0%} of the rows would fit), so it is asked without the list; task.prompt decides"
                )
        settled.append(candidate)
    return config.model_copy(update={"candidates": settled}), said


def _requests(config: Config, candidate: CandidateConfig, data: TestSet) -> list[Request]:
    messages = prompts.prompter(
        config.task, candidate, data.train, raw=candidate.provider == "hf" and reads_raw_input(candidate.model_id)
    )
    return [
        Request(example.id, index, repeat, messages(example))
        for index, example in enumerate(data.test)
        for repeat in range(candidate.samples)
    ]


def _dev_requests(config: Config, candidate: CandidateConfig, data: TestSet) -> list[tuple[Request, Sequence[str]]]:
    """Dev rows with their labels, for cut-offs of sequence classifiers."""
    if not (config.task.type == "multilabel" and candidate.provider == "hf" and reads_raw_input(candidate.model_id)):
        return []
    messages = prompts.prompter(config.task, candidate, data.train, raw=True)
    return [(Request(row.id, i, 0, messages(row)), tuple(row.target)) for i, row in enumerate(data.dev)]


def _digest(config: Config, data: TestSet, requests: Mapping[str, Sequence[Request]]) -> str:
    """Of all that the answers and their scores depend on; not prices, thresholds, limits, decide, gate, report."""
    task = config.task
    return digest(
        {
            "rows": [testset.content_digest(rows) for rows in (data.test, data.dev, data.train)],
            "task": task.model_dump(mode="json", exclude={"test", "dev", "train", "name"}),
            "candidates": [candidates.digest_parts(candidate, config) for candidate in config.candidates],
            "asked": [_asked_digest(requests[candidate.name]) for candidate in config.candidates],
            "expand": config.expand.model_dump(mode="json"),
            "tune": config.tune.model_dump(mode="json", exclude={"processes", "strategy", "tracking"}),
        }
    )


def _asked_digest(requests: Sequence[Request]) -> str:
    """Of the messages as sent: a prompt may read any column of a row."""
    whole = sha256()
    for request in requests:
        whole.update(json.dumps([dict(turn) for turn in request.messages], sort_keys=True).encode())
    return whole.hexdigest()


def _open_folder(prepared: Prepared, fresh: bool) -> None:
    folder = prepared.folder
    manifest = folder.manifest()
    known = manifest.get("digest")
    if known and known != prepared.digest:
        raise UserError(
            f"{folder.path}: holds a run of other data, candidates or prompts (digest {known[:8]}, this one is "
            f"{prepared.digest[:8]}); name another folder with --out, or leave --out away"
        )
    if fresh and known and (manifest["stages"]["assess"] == "done" or not manifest["fresh"]):
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
                            price=_price_then(candidate.name, folder.manifest()) or plan.price,
                            max_tokens=plan.max_tokens,
                            dev=_dev_requests(config, candidate, prepared.data),
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
            except BaseException:
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


# ---------------------------------------------------------------- concluding


def _conclude(prepared: Prepared, why_partial: str | None) -> Assessment:
    """Score what is on disk, decide, write the result. A run with missing rows has scores so far and no verdict."""
    config, data, folder = prepared.config, prepared.data, prepared.folder
    manifest = folder.manifest()
    scored: dict[str, Scored] = {}
    missing: dict[str, int] = {}
    basis: dict[str, str] = {}
    billed: dict[str, float] = {}
    fastest_slowest: dict[str, tuple[float, float] | None] = {}
    owed = 0
    for candidate, plan in zip(config.candidates, prepared.plans, strict=True):
        name = candidate.name
        outcomes, basis[name] = _priced(candidate, plan, folder.read_predictions(name), manifest)
        repeats = Counter(outcome.index for outcome in outcomes)
        whole = {index for index, count in repeats.items() if count == candidate.samples}
        missing[name] = len(data.test) - len(whole)
        owed += missing[name] + sum(not (outcome.tries or outcome.cached) for outcome in outcomes)
        scored[name] = scoring.score(
            [data.test[index] for index in sorted(whole)],
            [outcome for outcome in outcomes if outcome.index in whole],
            config.task,
            extra_metrics=[threshold.metric for threshold in config.parsed_thresholds],
        )
        latencies = [o.latency_s for o in outcomes if isinstance(o, Prediction) and o.latency_s is not None]
        billed[name] = sum(outcome.cost_usd for outcome in outcomes)
        fastest_slowest[name] = (min(latencies), max(latencies)) if latencies else None
        folder.write_scores(name, scored[name].scores)
    partial = why_partial or ("interrupted" if any(missing.values()) else None)
    decision = None if partial else decide(*_evidence(prepared, scored))
    result = summary.build(
        config,
        data,
        scored,
        decision,
        manifest=manifest,
        missing={name: count for name, count in missing.items() if count},
        why_partial=partial,
        spent=_spent(prepared, scored, manifest),
        prices={plan.name: _price_data(plan, manifest) for plan in prepared.plans},
        basis=basis,
        billed=billed,
        fastest_slowest=fastest_slowest,
        notes=data.assumed,
        warnings=[
            *data.warnings,
            *scoring.check_gold(data.test, config.task),
            *(
                f"{name}: {reason}"
                for name, found in scored.items()
                if (reason := found.intervals["cost_per_query"].reason)
            ),
        ],
    )
    folder.write_json("summary", result)
    render(folder.path)
    folder.update_manifest(stages={"assess": "incomplete" if owed else "done"}, finished=result["created"])
    status = _status(result, partial, config.limits.min_coverage)
    return Assessment(folder.path, result, status, status or _verdict_status(result["verdict"]))


def _priced(
    candidate: CandidateConfig, plan: planning.CandidatePlan, outcomes: Sequence[Outcome], manifest: Mapping[str, Any]
) -> tuple[list[Outcome], str]:
    """The outcomes at this config's price, and the basis of their cost: stored costs are at the price of the day they
    were asked (also for cached answers); another price in the config since then prices tokens or hours anew."""
    latest = {(outcome.index, outcome.repeat): outcome for outcome in outcomes}
    outcomes = [latest[key] for key in sorted(latest)]
    device = manifest.get("runs_on", {}).get(candidate.name, "cpu")
    basis = "usage" if candidate.provider not in ("hf", "fake") else "cpu_time" if device == "cpu" else "gpu_time"
    then, now = _price_then(candidate.name, manifest), plan.price
    if isinstance(now, TokenPrice) and isinstance(then, TokenPrice) and replace(now, source=then.source) != then:
        again = [replace(o, cost_usd=now.cost_usd(o.usage) if o.usage else 0.0) for o in outcomes]
        return again, "override"
    if isinstance(now, HourPrice) and isinstance(then, HourPrice) and now.per_hour(device) != then.per_hour(device):
        if not then.per_hour(device):
            raise UserError(
                f"candidate {candidate.name}: it ran at 0 USD per hour, so its hours are not known; use --fresh"
            )
        factor = now.per_hour(device) / then.per_hour(device)
        return [replace(o, cost_usd=o.cost_usd * factor) for o in outcomes], "override"
    return outcomes, basis


def _price_then(name: str, manifest: Mapping[str, Any]) -> TokenPrice | HourPrice | None:
    """The price this run folder's answers were asked at."""
    data = manifest.get("prices", {}).get(name)
    if not data:
        return None
    return HourPrice(**data) if "gpu" in data else TokenPrice(**data)


def _price_data(plan: planning.CandidatePlan, manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {} if plan.price is None else plan.price.as_data() | {"date": str(manifest.get("created", ""))[:10]}


def _evidence(prepared: Prepared, scored: Mapping[str, Scored]) -> tuple[list[Evidence], Setting]:
    config, data = prepared.config, prepared.data
    primary = scoring.primary(config.task)
    evidence = []
    for candidate in config.candidates:
        found = scored[candidate.name]
        provider = config.providers.get(candidate.provider)
        evidence.append(
            Evidence(
                candidate.name,
                shown_spec(candidate.model),
                "candidate",
                found.intervals,
                n=len(data.test),
                resample=found.resample,
                cannot_pass=found.cannot_pass,
                smallest_class=found.smallest_class,
                trainable=planning.trainable(candidate),
                stand_in=bool(provider and provider.stand_in),
                scores=found.row_scores,
            )
        )
    base = shown_spec(config.tune.base) if config.tune.base else None
    plan = _training(prepared, scored, trainable_base(evidence, primary, base))
    lone = config.task.train is None
    wanted = config.expand.target_rows or planning.DEFAULT_TARGET_ROWS
    generated = max(0, wanted - len(data.train)) if config.expand.teacher and data.train else 0
    return evidence, Setting(
        thresholds=config.parsed_thresholds,
        decide=config.decide,
        primary=primary,
        groups=scoring.group_numbers(data.test),
        training=plan,
        train_rows=len(data.train),
        train_rows_possible=data.train_possible if lone else generated,
        lone_file=lone,
    )


def _training(prepared: Prepared, scored: Mapping[str, Scored], base: str | None) -> TrainingPlan:
    """What tuning `base` would take; a tuned model is taken to cost per query what its base does."""
    config, data = prepared.config, prepared.data
    same = next((candidate for candidate in config.candidates if shown_spec(candidate.model) == base), None)
    cost_after = scored[same.name].intervals["cost_per_query"].value if same else None
    teacher = next((c for c in config.candidates if c.model == config.expand.teacher), None)
    cost_teacher = scored[teacher.name].intervals["cost_per_query"].value if teacher else None
    estimate = planning.training_estimate(config, config.task, base, data.train or data.test, cost_teacher)
    assumptions = list(estimate.assumptions)
    if config.expand.teacher and cost_teacher is None:
        assumptions.append(f"the cost of the teacher {config.expand.teacher} is not measured here and counted as 0")
    return TrainingPlan(
        base=estimate.base,
        hours=estimate.hours,
        usd=estimate.usd,
        data_usd=estimate.data_usd,
        evaluation_usd=(cost_after or 0.0) * (len(data.test) + 3 * len(data.dev)),
        memory_gb=estimate.memory_gb,
        fits=not estimate.why_not,
        why_not=estimate.why_not,
        assumptions=tuple(assumptions),
        cost_per_query_after_usd=cost_after,
    )


def _spent(prepared: Prepared, scored: Mapping[str, Scored], manifest: Mapping[str, Any]) -> dict[str, float]:
    """New money and machine time of this run folder; cached answers cost nothing again."""
    ledger = Ledger(prepared.folder.file("spending"), prepared.config.limits.max_cost_usd)
    ledger.close()
    gpu_hours = 0.0
    for plan in prepared.plans:
        then = _price_then(plan.name, manifest)
        if isinstance(then, HourPrice) and manifest.get("runs_on", {}).get(plan.name, "cpu") != "cpu" and then.gpu:
            new = (o for o in prepared.folder.read_predictions(plan.name) if not o.cached)
            gpu_hours += sum(o.cost_usd for o in new) / then.gpu
    return {
        "usd": ledger.settled_usd,
        "gpu_hours": gpu_hours,
        "api_requests": ledger.requests,
        "cached_requests": ledger.cached_requests,
        "unresolved_usd": ledger.lost_usd,
    }


def _status(result: Mapping[str, Any], partial: str | None, min_coverage: float) -> int:
    if partial:
        return errors.BUDGET if partial == "budget" else errors.INTERRUPTED
    shares = [entry["coverage"]["scored"] / entry["coverage"]["total"] for entry in result["candidates"]]
    return errors.COVERAGE if min(shares) < min_coverage else errors.DONE


def _verdict_status(verdict: Mapping[str, Any] | None) -> int:
    if verdict is None or verdict["action"] == "ship":
        return errors.DONE
    return errors.UNDECIDED if verdict["action"] == "more_test_data" else errors.FAILED
