"""config x rows -> Prepared: everything resolved and checked, nothing spent. `check` shows it, `assess` asks it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from evalft import candidates, planning, prompts, scoring, testset
from evalft.candidates.model_files import reads_raw_input, share_that_fits
from evalft.config import CandidateConfig, Config, digest
from evalft.decision.reach import thresholds_in_doubt
from evalft.errors import UserError
from evalft.prompts import Request
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


def dev_requests(config: Config, candidate: CandidateConfig, data: TestSet) -> list[tuple[Request, Sequence[str]]]:
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
