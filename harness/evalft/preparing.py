"""config x rows -> Prepared: everything resolved and checked, nothing spent. `check` shows it, `assess` asks it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

from evalft import candidates, judging, planning, plugins, prompts, scoring, shots, testset, usage_seen
from evalft.candidates import recorded, structured
from evalft.candidates.model_files import ModelFiles, reads_raw_input, share_that_fits
from evalft.config import CandidateConfig, Config, ShotsConfig, digest, is_given, shown_spec
from evalft.decision.reach import thresholds_in_doubt
from evalft.errors import UserError
from evalft.prompts import Request
from evalft.records import Example, Role
from evalft.store import RunFolder, slug
from evalft.testset import TestSet


@dataclass(frozen=True)
class Prepared:
    """What `check` shows and `assess` asks: everything resolved, nothing spent."""

    config: Config
    """With the candidates that a training of this run folder adds."""
    own_config: Config
    """Without them: what config.yaml holds."""
    data: TestSet
    requests: Mapping[str, Sequence[Request]]
    plans: Sequence[planning.CandidatePlan]
    folder: RunFolder
    digest: str
    asked: str
    """Digest of what the answers depend on alone: the same where only the scoring differs."""
    roles: Mapping[str, Role]
    """Of each candidate by name; `baseline` and `tuned` where the run folder holds a training."""


def prepare(
    config: Config,
    *,
    out: Path | None = None,
    limit: int | None = None,
    split: float | None = None,
    data: TestSet | None = None,
) -> Prepared:
    """Read and check all there is to check without spending anything. Raises UserError with every fault. `split` cuts
    a lone test file in two; `data` are rows that were read before."""
    if not config.candidates:
        raise UserError(
            "no candidates: name one with --model openai:gpt-5-mini or --model hf:FOLDER, or under `candidates:`"
        )
    _check_plugins(config)
    data = data or testset.load(config.task, limit=limit, split=split)
    config = config.model_copy(update={"task": scoring.with_metrics(data.task, config.thresholds)})
    scoring.check_columns(chain(data.test, data.dev, data.train), config.task)
    judged_by = judging.check(config)
    faults, doubts = thresholds_in_doubt(config.parsed_thresholds)
    if faults:
        raise UserError(*faults)
    data = replace(data, warnings=tuple(dict.fromkeys((*data.warnings, *doubts))))
    config, said = _with_prompts(config, data)
    said += _check_recorded(config, data)
    said += [f"{one.name}: {shots.said(one.shots)}" for one in config.candidates if one.shots.count]
    data = replace(data, assumed=(*data.assumed, *said, *judged_by))
    requests = {candidate.name: _requests(config, candidate, data) for candidate in config.candidates}
    whole, asked = _digests(config, data, requests)
    folder = RunFolder(out or Path("reports") / f"{slug(config.task.name or 'task')}-{whole[:8]}")
    grown, roles = _with_trained(config, folder)
    for candidate in grown.candidates:
        if candidate.name not in requests:
            requests[candidate.name] = _requests(config, candidate, data)
    plans = planning.plan(grown, config.task, data.test, requests, usage_seen.read(grown), schema_bytes(grown))
    return Prepared(grown, config, data, requests, plans, folder, whole, asked, roles)


# ---------------------------------------------------------------- what a training adds


def _with_trained(config: Config, folder: RunFolder) -> tuple[Config, dict[str, Role]]:
    """The config with the candidates that the run folder's training adds, and every candidate's role. They are results
    of the run, so they are in the manifest and not in the digest."""
    roles: dict[str, Role] = {candidate.name: "candidate" for candidate in config.candidates}
    trained = folder.manifest().get("trained")
    if not trained:
        return config, roles
    base = untuned(config, trained["base"])
    added = [] if base.name in roles else [base]
    roles[base.name] = "baseline"
    if trained.get("stage"):
        adapter = str(folder.adapter(trained["stage"]).absolute())
        tuned = base.model_copy(update={"name": _free(f"{base.name}-tuned", config), "adapter": adapter})
        roles[tuned.name] = "tuned"
        added.append(tuned)
    return config.model_copy(update={"candidates": [*config.candidates, *added]}), roles


def untuned(config: Config, base: str | None) -> CandidateConfig:
    """The base as the tuned candidate will be asked: without shots and adapter. `base` is the name of the candidate
    whose model is trained (a name holds when the folder is moved, a path does not); None: `tune.base`."""
    model = next((one.model for one in config.candidates if one.name == base), config.tune.base)
    assert model is not None, "no base: neither a candidate nor tune.base"
    same = [candidate for candidate in config.candidates if candidate.model == model and not candidate.adapter]
    for candidate in same:
        if not candidate.shots.count and candidate.samples == 1:
            return candidate
    made = same[0] if same else CandidateConfig(model=model, name=shown_spec(model))
    name = f"{made.name}-untuned" if same else made.name
    return made.model_copy(
        update={"name": _free(name, config), "shots": ShotsConfig(), "samples": 1, "temperature": 0.0}
    )


def _free(name: str, config: Config) -> str:
    taken = {candidate.name for candidate in config.candidates}
    return name if name not in taken else _free(f"{name}-2", config)


# ---------------------------------------------------------------- what is asked


def _check_plugins(config: Config) -> None:
    """Not while a config is read: a finished run is compared and shown where what it was made with is not installed."""
    asked = [one for one in config.candidates if one.provider == "plugin"]
    faults = [(f"candidate {one.name}", plugins.fault("candidates", one.model_id)) for one in asked]
    faults += [("report.also", plugins.fault("reporters", name)) for name in config.report.also]
    if found := [f"{where}: {fault}" for where, fault in faults if fault]:
        raise UserError(*found)


def _check_recorded(config: Config, data: TestSet) -> list[str]:
    """Answers made elsewhere against the test rows; a finished run can be decided on where their file is no more."""
    said, faults = list[str](), list[str]()
    named = dict.fromkeys([*(spec.name for spec in config.task.metrics or ()), *config.thresholds])
    given = [name for name in named if is_given(name)]
    for candidate in config.candidates:
        if given and candidate.provider != "file":
            faults.append(
                f"{given[0]}: is a score that came with answers made elsewhere, and candidate {candidate.name} is asked here; "
                "list a metric that evalft computes, such as exact_match"
            )
        if candidate.provider == "file" and Path(candidate.model_id).is_file():
            try:
                said += recorded.check(candidate, config.task, data.test, sampled_from=data.sampled_from, given=given)
            except UserError as error:
                faults += error.faults
    if faults:
        raise UserError(*faults)
    return said


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


def schema_bytes(config: Config) -> dict[str, int]:
    """The candidates of endpoints that are asked for JSON of the labels, and the bytes of the schema sent along."""
    task = config.task
    return {
        one.name: len(json.dumps(structured.response_format(task.type or "classification", task.labels or ())))
        for one in config.candidates
        if one.provider not in ("hf", "file", "fake", "plugin") and structured.is_asked_for(one, task)
    }


def _requests(config: Config, candidate: CandidateConfig, data: TestSet) -> Sequence[Request]:
    held_out = len(data.dev) if config.task.dev is None else 0
    return requests_for(config, candidate, data.test, train=data.train, held_out=held_out)


def requests_for(
    config: Config, candidate: CandidateConfig, rows: Sequence[Example], *, train: Sequence[Example], held_out: int = 0
) -> Sequence[Request]:
    """`rows` as this candidate is asked them, `samples` times each; its shots are from `train`."""
    raw = candidate.provider == "hf" and reads_raw_input(candidate.model_id)
    messages = prompts.prompter(config.task, candidate, train, raw=raw, held_out=held_out)
    return prompts.kept(
        Request(example.id, index, repeat, asked)
        for index, example in enumerate(rows)
        for asked in [messages(example)]
        for repeat in range(candidate.samples)
    )


def dev_requests(config: Config, candidate: CandidateConfig, data: TestSet) -> list[tuple[Request, Sequence[str]]]:
    """Dev rows with their labels, for cut-offs of sequence classifiers."""
    if not (config.task.type == "multilabel" and candidate.provider == "hf" and reads_raw_input(candidate.model_id)):
        return []
    messages = prompts.prompter(config.task, candidate, data.train, raw=True)
    return [(Request(row.id, i, 0, messages(row)), tuple(row.target)) for i, row in enumerate(data.dev)]


SCORING = ("metrics", "normalize", "positive")
"""Keys of `task` that only scores depend on: `evalft rescore` may change them in a run folder."""


def _digests(config: Config, data: TestSet, requests: Mapping[str, Sequence[Request]]) -> tuple[str, str]:
    """(of all that the answers and their scores depend on, of what the answers alone do); prices, thresholds, limits,
    decide, gate and report are in neither."""
    task = config.task
    parts: dict[str, Any] = {
        "rows": [data.sha256, *map(testset.content_digest, (data.dev, data.train))],
        "task": task.model_dump(mode="json", exclude={"test", "dev", "train", "name"}),
        "candidates": [candidates.digest_parts(candidate, config) for candidate in config.candidates],
        "asked": [_asked_digest(requests[candidate.name]) for candidate in config.candidates],
        "expand": config.expand.model_dump(mode="json")
        | {name: _by_content(getattr(config.expand, name)) for name in ("teacher", "embedder")},
        "tune": config.tune.model_dump(mode="json", exclude={"processes", "strategy", "tracking"})
        | {"base": _by_content(config.tune.base)},
        **_judge_parts(config),
    }
    accepted = [
        [row.row.get(column) for row in chain(data.test, data.dev, data.train)]
        for column in scoring.answer_columns(task)
    ]
    if versions := scoring.plugin_versions(task):
        accepted.append([versions])
    unscored = {key: value for key, value in parts["task"].items() if key not in SCORING}
    return digest(parts | {"accepted": accepted}), digest(parts | {"task": unscored})


def _judge_parts(config: Config) -> dict[str, object]:
    """Not people's scores, which say how good a judge is and may grow."""
    if config.judge is None:
        return {}
    judges = [candidates.digest_parts(judge, config) for judge in config.judge.model]
    asked = config.judge.model_dump(mode="json", exclude={"model", "human"})
    return {"judge": asked | {"models": judges, "pairwise": judging.is_pairwise(config)}}


def model_digests(config: Config) -> dict[str, str]:
    """What each model and adapter folder holds, by the name of its candidate (tune.base and the like by their key)."""
    specs = {f"{one.name} model": one.model for one in config.candidates}
    specs |= {f"{one.name} adapter": f"hf:{one.adapter}" for one in config.candidates if one.adapter}
    specs |= {f"judge {one.name}": one.model for one in (config.judge.model if config.judge else ())}
    specs |= {"tune.base": config.tune.base or "", "expand.teacher": config.expand.teacher or ""}
    return {name: str(_by_content(spec)) for name, spec in specs.items() if _by_content(spec) != spec}


def _by_content(spec: str | None) -> str | None:
    """A folder's digest, so that the same model elsewhere is the same one; any other spec as it is."""
    if spec and spec.startswith("file:"):
        return recorded.content_digest(spec) or spec
    if not spec or not spec.startswith("hf:") or not Path(spec[3:]).is_dir():
        return spec
    return ModelFiles(Path(spec[3:]), {}).digest


def _asked_digest(requests: Sequence[Request]) -> str:
    """Of the messages as sent: a prompt may read any column of a row."""
    whole = sha256()
    for request in requests:
        whole.update(json.dumps([dict(turn) for turn in request.messages], sort_keys=True).encode())
    return whole.hexdigest()
