"""assess() and run(): the stages in order. Data flows one way: rows -> requests -> outcomes -> scores -> verdict -> report,
and, where the verdict is to tune: train rows -> more rows -> adapters -> one more candidate, scored like the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from evalft import errors, expanding, judging, planning, summary, tuning
from evalft.asking import Job, Unfinished, ask
from evalft.concluding import Assessment, conclude, price_then
from evalft.config import Config, is_given, load, shown_spec
from evalft.errors import UserError
from evalft.preparing import Prepared, dev_requests, model_digests, prepare
from evalft.progress import Progress
from evalft.tuning import Waiting

SHOWN = tuple("name model role metrics cost_per_query_usd latency_s coverage thresholds status".split())
"""Of a candidate's entry in summary.json, what an event holds."""
SPLIT_SHARE = 0.5
"""Of a lone test file that stays test, where `run` splits it."""


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
    progress = progress or _silent()
    prepared = prepare(config, out=out, limit=limit)
    with prepared.folder.locked():
        prepared = _open_folder(prepared, fresh)
        announce("assess", prepared, progress)
        result = _assess(prepared, progress)
        prepared.folder.update_manifest(complete=result.status in (errors.DONE, errors.COVERAGE))
        return result


def run(
    config: Config,
    *,
    out: Path | None = None,
    limit: int | None = None,
    fresh: bool = False,
    train_here: bool = False,
    progress: Progress | None = None,
) -> Assessment:
    """assess(); where the verdict is to tune: expand the train rows, train, choose the best stage on dev, score it on
    test like any candidate, decide again and compare. A lone test file is split first. The same call goes on where an
    earlier one stopped. Training that would take long without a GPU waits, unless `train_here`.
    """
    if not config.thresholds:
        raise UserError(
            "thresholds: none are set, so there is nothing to decide; set one with --threshold 'accuracy >= 0.9'"
        )
    progress = progress or _silent()
    _check_training(config)
    prepared = prepare(config, out=out, limit=limit, split=None if config.task.train else SPLIT_SHARE)
    progress.say(line for line in prepared.data.assumed if line.startswith("split:"))
    with prepared.folder.locked():
        prepared = _open_folder(prepared, fresh)
        announce("run", prepared, progress)
        result = _assess(prepared, progress)
        if result.wants_training and prepared.folder.manifest()["stages"]["assess"] == "done":
            result = _train(prepared, train_here, progress)
        waits = bool(result.summary.get("waiting"))
        done = result.status in (errors.DONE, errors.COVERAGE) and not waits
        prepared.folder.update_manifest(complete=done)
        return result


def expand(config: Config, *, out: Path | None = None, progress: Progress | None = None) -> Path:
    """The training rows of a run, without assessing anything first. Returns the run folder."""
    progress = progress or _silent()
    prepared = _prepare_to_train(config, out)
    with prepared.folder.locked():
        prepared = _open_folder(prepared, fresh=False)
        expanding.expand(prepared, progress)
    return prepared.folder.path


def tune(config: Config, *, out: Path | None = None, train_here: bool = True, progress: Progress | None = None) -> Path:
    """expand() where that is not done, then train and choose the best stage on dev. Returns the run folder."""
    progress = progress or _silent()
    prepared = _prepare_to_train(config, out)
    with prepared.folder.locked():
        prepared = _open_folder(prepared, fresh=False)
        base = tuning.base_of(prepared)
        rows = expanding.expand(prepared, progress)
        tuning.tune(prepared, rows, base, train_here=train_here, progress=progress)
    return prepared.folder.path


def decide_again(path: Path, config: Config) -> Assessment:
    """The verdict from the answers that a run folder holds, under this config's thresholds, prices and volumes.

    Compared with the folder's own config rather than its stored digest: a folder that was moved to where its models are
    not can still be decided on."""
    prepared = prepare(config, out=path)
    own = prepare(load(prepared.folder.file("config")), out=path)
    if prepared.digest != own.digest:
        if prepared.asked == own.asked:
            raise UserError(
                f"{path}: what --set changes here changes the scores; use `evalft rescore`, which asks nothing"
            )
        raise UserError(f"{path}: what --set changes here needs new answers; use `evalft assess` with it")
    said = _decided_otherwise(prepared.own_config, own.own_config)
    prepared = replace(prepared, data=replace(prepared.data, warnings=(*prepared.data.warnings, *said)))
    with prepared.folder.locked():
        return conclude(prepared, None)


def _decided_otherwise(config: Config, own: Config) -> list[str]:
    """What a reader of the report has to know, who may take config.yaml for what was decided under."""
    changed = [key for key in ("thresholds", "decide", "prices") if getattr(config, key) != getattr(own, key)]
    if [one.price for one in config.candidates] != [one.price for one in own.candidates]:
        changed.append("prices of candidates")
    if not changed:
        return []
    held = ", ".join(f"{metric} {require}" for metric, require in config.thresholds.items()) or "no thresholds"
    return [f"decided again (`evalft decide`) under other {' and '.join(changed)} than config.yaml has: {held}"]


# ---------------------------------------------------------------- stages


def announce(command: str, prepared: Prepared, progress: Progress) -> None:
    """What begins, and what was chosen of the data: to whoever watches, and to log.txt where there is a run folder."""
    task, folder = prepared.config.task, prepared.folder
    progress.emit(
        "started",
        command=command,
        task=task.name,
        type=task.type,
        examples=len(prepared.data.test),
        folder=str(folder.path),
        candidates=[
            {"name": one.name, "model": shown_spec(one.model), "requests": plan.requests}
            for one, plan in zip(prepared.config.candidates, prepared.plans, strict=True)
        ],
    )
    progress.choices(None, prepared.data.assumed)
    if folder.exists():
        for line in prepared.data.assumed:
            folder.log(f"{command}: {line}")


def _assess(prepared: Prepared, progress: Progress) -> Assessment:
    """Every candidate on every test row, whatever is not answered yet."""
    config, folder = prepared.config, prepared.folder
    manifest = folder.manifest()
    plans = [*prepared.plans, *judging.plans(config, prepared.data.test)]
    if manifest.get("stages", {}).get("assess") != "done" and any(plan.usd for plan in plans):
        uncalibrated = judging.uncalibrated_so_far(config, prepared.data.test)
        progress.say(
            [planning.dollars(plans, config.limits.max_cost_usd), *(f"warning: {line}" for line in uncalibrated)]
        )
    folder.stage("assess", "running")
    jobs = [
        Job(
            candidate,
            prepared.requests[candidate.name],
            prepared.data.test,
            price_then(candidate.name, manifest) or plan.price,
            plan.max_tokens,
            folder,
            config.task,
            dev=dev_requests(config, candidate, prepared.data),
        )
        for candidate, plan in zip(config.candidates, prepared.plans, strict=True)
    ]
    why_partial = None
    try:
        trials = judging.trials(config, prepared.data.test, folder)
        ask([*trials, *jobs], config, folder, fresh=manifest["fresh"], progress=progress)
        judging.ask(config, prepared.data.test, folder, fresh=manifest["fresh"], progress=progress)
    except Unfinished as unfinished:
        why_partial = unfinished.why
    result = conclude(prepared, why_partial)
    for entry in result.summary["candidates"]:
        progress.emit("candidate", **{key: entry[key] for key in SHOWN})
    progress.emit("verdict", **(result.summary["verdict"] or {"action": None}))
    return result


def _train(prepared: Prepared, train_here: bool, progress: Progress) -> Assessment:
    """What follows the verdict to tune. What ends it early leaves the verdict as it was, and says so."""
    progress.say([f"verdict: tune ({prepared.folder.file('markdown')} says why); making training rows, then training"])
    try:
        rows = expanding.expand(prepared, progress)
        tuning.tune(prepared, rows, tuning.base_of(prepared), train_here=train_here, progress=progress)
    except Unfinished as unfinished:
        return conclude(prepared, None, unfinished=unfinished.why)
    except Waiting as waiting:
        progress.say(waiting.lines)
        return conclude(prepared, None, waiting={"why": waiting.why, "commands": list(waiting.commands)})
    grown = prepare(prepared.own_config, out=prepared.folder.path, data=prepared.data)
    prices = {plan.name: plan.price.as_data() for plan in grown.plans if plan.price}
    grown.folder.update_manifest(prices=prices | grown.folder.manifest().get("prices", {}))
    return _assess(grown, progress)


def _check_training(config: Config) -> None:
    """What is wrong with the teacher, the base or the metric to train by is said before anything is asked."""
    if config.task.metrics and is_given(config.task.metrics[0].name):
        raise UserError(
            f"task.metrics: {config.task.metrics[0].name} came with answers made elsewhere, so new answers have none to be "
            "chosen by; list a metric that evalft computes first, such as token_f1"
        )
    if config.task.metrics and config.task.metrics[0].name == "judge":
        raise UserError(
            "task.metrics: the first metric chooses pairs and stages, on answers that no judge has seen; list another "
            "one before judge, such as token_f1"
        )
    expanding.teacher_of(config)
    tuning.check_base(config)


def _prepare_to_train(config: Config, out: Path | None) -> Prepared:
    """Without an assessment no lone test file is split: which rows are scored is `run`'s to say, or `init`'s."""
    _check_training(config)
    prepared = prepare(config, out=out)
    if not prepared.data.train:
        raise UserError(
            "task.train: there are no train rows to train on or to make more of; name a file, or split the test file "
            "with `evalft init --split 0.5`"
        )
    return prepared


def _open_folder(prepared: Prepared, fresh: bool) -> Prepared:
    """The run folder, new or to go on in; what is prepared for it, which may hold a training to go on from."""
    folder = prepared.folder
    manifest = folder.manifest()
    known = manifest.get("digest")
    if known and known != prepared.digest and not _moved(prepared):
        if prepared.digest in [again.get("digest_before") for again in manifest.get("rescored", ())]:
            raise UserError(
                f"{folder.path}: was scored again with other settings than this config's (evalft rescore); go on in it with "
                f"`evalft assess {folder.path}`, or name another folder with --out"
            )
        raise UserError(
            f"{folder.path}: holds a run of other data, candidates or prompts (digest {known[:8]}, this one is "
            f"{prepared.digest[:8]}); name another folder with --out, or leave --out away"
        )
    if fresh and known and (manifest.get("complete") or not manifest["fresh"]):
        folder.set_aside()
        known = None
        prepared = prepare(prepared.own_config, out=folder.path, data=prepared.data)
    if not known:
        for name in ("test", "train", "dev"):
            if rows := getattr(prepared.data, name):
                folder.write_examples(name, rows)
        used = {plan.name: plan.price.as_data() for plan in prepared.plans if plan.price}
        made = summary.manifest(prepared.config, prepared.data, prepared.digest, fresh)
        folder.update_manifest(**made, prices=used, models=model_digests(prepared.own_config))
    judging.keep_given(prepared.own_config, folder)
    folder.write_text("config", summary.resolved_config(prepared.own_config, prepared.data, folder.path))
    folder.update_manifest(complete=False)
    return prepared


def _moved(prepared: Prepared) -> bool:
    """Whether this is the folder's own config, on a machine that lacks models it was begun with: the digest is of their
    contents. A model that is there must be the one it was."""
    path = prepared.folder.file("config")
    if not path.is_file() or prepare(load(path), out=prepared.folder.path).digest != prepared.digest:
        return False
    then = prepared.folder.manifest().get("models", {})
    return all(then.get(name) == digest for name, digest in model_digests(prepared.own_config).items())


def _silent() -> Progress:
    return Progress(Console(stderr=True), quiet=True)
