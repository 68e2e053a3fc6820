"""Train rows -> adapters, each stage scored on dev, the best one chosen: what `run` does once the verdict is to tune.

SFT teaches the rows; DPO goes on from it with preferences of its own making: answers sampled from the SFT model, best
against worst by the user's primary metric. The untuned base competes. The test set is not looked at.
"""

from __future__ import annotations

import json
import os
import random
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from evalft import hyperparameters, planning, scoring, training
from evalft.asking import Job, ask
from evalft.candidates.model_files import find_model
from evalft.config import CandidateConfig, Config, TaskConfig, TuneConfig
from evalft.decision.evidence import LOWER_IS_BETTER
from evalft.errors import EvalftError, UserError
from evalft.numbers import counted
from evalft.preparing import Prepared, requests_for, untuned
from evalft.prices import hour_price
from evalft.progress import Progress
from evalft.prompts import Request, target_text
from evalft.recipes import command
from evalft.records import Example, Failure, Outcome, Pair, Prediction
from evalft.scoring import Scored
from evalft.store import read_lines

SAMPLES = planning.SAMPLES_PER_PAIR
"""At temperature 1. Llama 3 takes 10 to 30, RLHFlow 8."""
LONG_HOURS = 0.5
"""Training that takes longer than this without a GPU waits for one, or for --train-here."""
METHODS: tuple[Literal["sft", "dpo"], ...] = ("sft", "dpo")


class Waiting(EvalftError):
    """Training would take long here: it waits for a machine with a GPU."""

    status = 0

    def __init__(self, why: str, commands: Sequence[str]) -> None:
        super().__init__(why)
        self.why, self.commands = why, tuple(commands)

    @property
    def lines(self) -> list[str]:
        return [
            f"training waits: {self.why}; on a machine with a GPU:",
            *(f"    {command}" for command in self.commands),
        ]


@dataclass(frozen=True)
class Stage:
    """One thing that may become the tuned candidate: the base, or an adapter on it."""

    name: str
    method: str
    round: int
    scored: Scored
    """On dev."""
    training: Mapping[str, Any] | None = None
    log: Sequence[Mapping[str, Any]] = ()
    """The recipe's progress: step, loss ..."""


def check_base(config: Config) -> None:
    """Raises CannotStart where `tune.base` is a folder that is not there, or no model: said before anything is spent."""
    if config.tune.base and Path(config.tune.base[3:]).is_absolute():
        find_model(config.tune.base[3:], None, "tune.base")


def base_of(prepared: Prepared) -> str | None:
    """Whose model is trained: the name of a candidate, or None where `tune.base` is none of them."""
    config = prepared.own_config
    if config.tune.base:
        return next((one.name for one in config.candidates if one.model == config.tune.base), None)
    folder = prepared.folder
    summary = folder.read_summary() if folder.file("summary").is_file() else {}
    verdict = summary.get("verdict_before") or summary.get("verdict") or {}
    if verdict.get("action") != "tune":
        raise UserError(
            "tune.base: which model to train is not known; name it (--set tune.base=hf:FOLDER), or let `evalft run` "
            "assess the candidates first"
        )
    return str(verdict["candidate"])


def tune(
    prepared: Prepared, rows: Sequence[Example], base: str | None, *, train_here: bool, progress: Progress
) -> None:
    """Train each stage, score it on dev, choose. What is done stands in the run folder and is not done again. `rows`
    are what to train on. Raises Waiting, Unfinished, UserError."""
    folder, config = prepared.folder, prepared.own_config
    if folder.manifest().get("trained"):
        return
    if not prepared.data.dev:
        raise UserError(
            "task.dev: there are no dev rows, which the stages of training are chosen on; name a file, or add train rows"
        )
    candidate = untuned(config, base)
    if not train_here:
        _wait_for_a_gpu(prepared, candidate, rows)
    folder.stage("tune", "running")
    stages = [Stage("base", "none", 0, _on_dev(prepared, candidate, "base", None, progress))]
    notes: list[str] = []
    adapter: Path | None = None
    methods = config.tune.methods or list(METHODS)
    if "sft" in methods:
        stages.append(_sft(prepared, candidate, rows, progress))
        adapter = folder.adapter("sft")
    for number in range(1, config.tune.rounds + 1 if "dpo" in methods else 1):
        name = "dpo" if number == 1 else f"dpo-{number}"
        pairs, said = _sampled_pairs(prepared, candidate, rows, name, adapter, progress)
        notes.append(f"{name}: {said}")
        progress.say(notes[-1:])
        if not pairs:
            break
        stages.append(_dpo(prepared, candidate, pairs, name, number, adapter, progress))
        adapter = folder.adapter(name)
    primary = scoring.primary(config.task)
    best = _best(stages, primary)
    if sum(_worth(stage, primary) == _worth(best, primary) for stage in stages) > 1:
        notes.append(f"equal on dev by {primary}: the earlier stage is chosen, {best.name}")
    shown = [_as_data(stage, config.decide.confidence, stage is best) for stage in stages]
    shown = json.loads(json.dumps(shown).replace(f"{folder.path.absolute()}/", ""))  # the folder can be moved
    folder.write_json("stages", {"stages": shown, "notes": notes})
    folder.stage("tune", "done")  # before the next line, behind which nothing comes back here after a kill
    folder.update_manifest(trained={"base": base, "stage": best.name if best.method != "none" else None})
    progress.say([_chosen(stages, best, primary)])


# ---------------------------------------------------------------- stages


def _sft(prepared: Prepared, candidate: CandidateConfig, rows: Sequence[Example], progress: Progress) -> Stage:
    folder, config = prepared.folder, prepared.own_config
    requests = requests_for(config, candidate, rows, train=())
    answers = (target_text(config.task, row.target) for row in rows)
    data = folder.data_file("sft")
    training.write_sft_rows(
        data, ((request.messages, answer) for request, answer in zip(requests, answers, strict=True))
    )
    settings = hyperparameters.sft(config.tune, rows=len(rows), hidden_size=_hidden_size(candidate))
    report, log = _train(prepared, candidate, settings, data, folder.adapter("sft"), None, progress)
    return Stage("sft", "sft", 1, _on_dev(prepared, candidate, "sft", folder.adapter("sft"), progress), report, log)


def _dpo(
    prepared: Prepared,
    candidate: CandidateConfig,
    pairs: Sequence[Pair],
    name: str,
    number: int,
    start: Path | None,
    progress: Progress,
) -> Stage:
    """`start`: the adapter that training goes on from, and the reference it is held to."""
    folder = prepared.folder
    data = folder.data_file("pairs" if number == 1 else f"pairs-{number}")
    training.write_pairs(data, pairs)
    settings = hyperparameters.dpo(prepared.own_config.tune, pairs=len(pairs), hidden_size=_hidden_size(candidate))
    report, log = _train(prepared, candidate, settings, data, folder.adapter(name), start, progress)
    return Stage(name, "dpo", number, _on_dev(prepared, candidate, name, folder.adapter(name), progress), report, log)


def _train(
    prepared: Prepared,
    candidate: CandidateConfig,
    settings: hyperparameters.Settings,
    data: Path,
    out: Path,
    start: Path | None,
    progress: Progress,
) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    """(what the recipe reports, what it logged on the way)."""
    for line in settings.said:
        prepared.folder.log(f"{out.name}: {line}")
    report = training.train(
        settings,
        base=candidate.model_id,
        revision=candidate.revision,
        data=data,
        out=out,
        adapter=start,
        processes=processes(prepared.own_config.tune, settings.batch_size),
        template_options={"enable_thinking": False, **((candidate.extra_body or {}).get("chat_template_kwargs") or {})},
        notify=partial(progress.training, out.name),
    )
    return report, list(read_lines(out / command.PROGRESS))


def _on_dev(
    prepared: Prepared, candidate: CandidateConfig, name: str, adapter: Path | None, progress: Progress
) -> Scored:
    """A stage's scores on the dev rows, asked as the tuned candidate will be on test."""
    config, dev, part = prepared.own_config, prepared.data.dev, prepared.folder.part("dev")
    asked = candidate.model_copy(update={"name": name, "adapter": str(adapter) if adapter else None})
    _ask(prepared, asked, dev, part, f"{name} on dev", progress)
    scored = scoring.score(
        dev,
        part.read_predictions(name),
        config.task,
        extra_metrics=[threshold.metric for threshold in config.parsed_thresholds],
    )
    part.write_scores(name, scored.scores)
    return scored


def _ask(
    prepared: Prepared,
    asked: CandidateConfig,
    rows: Sequence[Example],
    part: Any,
    title: str,
    progress: Progress,
) -> None:
    config = prepared.own_config
    job = Job(
        asked,
        requests_for(config, asked, rows, train=()),
        rows,
        hour_price(asked, config),
        planning.max_tokens(asked, config.task, prepared.data.test),
        part,
        config.task,
        title,
    )
    ask([job], config, prepared.folder, fresh=prepared.folder.manifest()["fresh"], progress=progress)


def _best(stages: Sequence[Stage], primary: str) -> Stage:
    """By the primary metric on dev; the earlier one where two are equal."""
    return max(stages, key=lambda stage: _worth(stage, primary))


def _worth(stage: Stage, primary: str) -> float:
    value = stage.scored.intervals[primary].value
    if value is None:  # an AUC without both classes in dev: the row score that stands for it
        return float(stage.scored.row_scores.mean())
    return -value if primary in LOWER_IS_BETTER else value


def _chosen(stages: Sequence[Stage], best: Stage, primary: str) -> str:
    said = ", ".join(f"{stage.name} {abs(_worth(stage, primary)):.3f}" for stage in stages)
    return f"{primary} on dev: {said}; chosen: {best.name if best.method != 'none' else 'the untuned base'}"


def _as_data(stage: Stage, confidence: float, chosen: bool) -> dict[str, Any]:
    """A stage as summary.json shows it, the primary metric first."""
    dev = {}
    for name, interval in stage.scored.intervals.items():
        found = interval.estimate(confidence)
        if None not in (found.value, found.low, found.high) and not name.startswith(("cost", "latency")):
            dev[name] = {
                "value": found.value, "low": found.low, "high": found.high, "method": found.method, "n": found.n
            }  # fmt: skip
    first = {stage.scored.primary: dev.pop(stage.scored.primary)} if stage.scored.primary in dev else {}
    return {
        "name": stage.name,
        "method": stage.method,
        "round": stage.round,
        "dev": first | dev,
        "chosen": chosen,
        "training": dict(stage.training) if stage.training else None,
        "loss": [[line["step"], line["loss"]] for line in stage.log],
    }


# ---------------------------------------------------------------- pairs


def _sampled_pairs(
    prepared: Prepared,
    candidate: CandidateConfig,
    rows: Sequence[Example],
    name: str,
    adapter: Path | None,
    progress: Progress,
) -> tuple[list[Pair], str]:
    """On-policy pairs from the model that DPO starts from. Where labels are scored nothing is generated: the samples are
    drawn from the label probabilities. A generated row without the accepted answers that the metric reads makes none."""
    config, part = prepared.own_config, prepared.folder.part("samples")
    answers = scoring.answer_columns(config.task)
    rows = [row for row in rows if all(column in row.row for column in answers)]
    labels_scored = config.task.type == "classification"
    asked = candidate.model_copy(
        update={
            "name": f"for-{name}",
            "adapter": str(adapter) if adapter else None,
            "seed": config.tune.seed,
            **({} if labels_scored else {"temperature": 1.0, "samples": SAMPLES}),
        }
    )
    _ask(prepared, asked, rows, part, f"samples for {name}", progress)
    outcomes: Iterable[Outcome] = part.read_predictions(asked.name)
    if labels_scored:
        outcomes = [drawn for outcome in outcomes for drawn in _drawn(outcome, config.tune.seed)]
    requests = requests_for(config, candidate, rows, train=())
    return choose_pairs(config.task, rows, requests, outcomes)


def _drawn(outcome: Outcome, seed: int) -> list[Outcome]:
    """SAMPLES labels by their probabilities."""
    if not isinstance(outcome, Prediction) or not outcome.probs:
        return [outcome]
    labels, weights = list(outcome.probs), list(outcome.probs.values())
    drawn = random.Random(f"{seed}:{outcome.id}").choices(labels, weights, k=SAMPLES)
    return [replace(outcome, repeat=i, labels=(label,), text=label) for i, label in enumerate(drawn)]


def choose_pairs(
    task: TaskConfig, rows: Sequence[Example], requests: Sequence[Request], outcomes: Iterable[Outcome]
) -> tuple[list[Pair], str]:
    """(at most one pair per row, what became of the rows). The best sample against the worst by the primary metric's row
    score; the reference is chosen where no sample is as good as it; rows whose samples are all alike are dropped.
    Samples cut off at max_tokens have no end and are not used."""
    scorer = scoring.row_scorer(task)
    sampled: dict[int, list[tuple[float, str]]] = defaultdict(list)
    for outcome in outcomes:
        text = (outcome.text or "").strip()
        if text and outcome.finish_reason != "length":
            score = 0.0 if isinstance(outcome, Failure) else float(scorer(rows[outcome.index], outcome))
            sampled[outcome.index].append((score, text))
    pairs: list[Pair] = []
    counts: Counter[str] = Counter()
    for index, (row, request) in enumerate(zip(rows, requests, strict=True)):
        pair = _pair(row, request, sampled[index], _reference(row, scorer, task), counts)
        pairs += [pair] if pair else []
    from_reference = sum(pair.chosen_from == "reference" for pair in pairs)
    said = (
        f"{len(pairs):,} pairs of {counted(len(rows), 'row')}, {from_reference:,} of them with the reference as chosen; dropped: "
        f"{counts['tie']:,} whose samples are equally good, {counts['none']:,} without a usable sample"
    )
    return pairs, said


def _reference(row: Example, scorer: Any, task: TaskConfig) -> tuple[float, str]:
    text = target_text(task, row.target)
    labels = None if task.type == "generation" else (row.target,) if isinstance(row.target, str) else row.target
    return float(scorer(row, Prediction(row.id, 0, 0, text, labels))), text


def _pair(
    row: Example,
    request: Request,
    sampled: Sequence[tuple[float, str]],
    reference: tuple[float, str],
    counts: Counter[str],
) -> Pair | None:
    if not sampled:
        counts["none"] += 1
        return None
    best = max(score for score, _ in sampled)
    worst = min(score for score, _ in sampled)
    rejected = _most_common(text for score, text in sampled if score == worst)
    if best >= reference[0]:
        chosen, score, chosen_from = _most_common(text for s, text in sampled if s == best), best, "sampled"
    else:
        chosen, score, chosen_from = reference[1], reference[0], "reference"
    if score <= worst or chosen == rejected:
        counts["tie"] += 1
        return None
    return Pair(row.id, request.messages, chosen, rejected, score, worst, chosen_from)  # type: ignore[arg-type]


def _most_common(texts: Iterable[str]) -> str:
    """What the model says most often is what it most needs to be taught, or is surest of; ties: the first seen."""
    return Counter(texts).most_common(1)[0][0]


# ---------------------------------------------------------------- the machine


def _wait_for_a_gpu(prepared: Prepared, candidate: CandidateConfig, rows: Sequence[Example]) -> None:
    config, folder = prepared.own_config, prepared.folder
    estimate = planning.training_estimate(config, config.task, candidate.model, rows, None)
    if planning.has_gpu() or estimate.hours <= LONG_HOURS:
        return
    folder.stage("tune", "waiting")
    raise Waiting(
        f"there is no GPU here and training would take about {estimate.hours:.1f} hours "
        "(--train-here trains all the same)",
        _hand_off(folder.path.absolute(), [*(one.model for one in config.candidates), candidate.model]),
    )


def _hand_off(run: Path, models: Iterable[str]) -> list[str]:
    """The two commands. Model folders go along, to where the run folder's config finds them: -R keeps what stands behind
    /./ of a path."""
    local = {Path(model[3:]) for model in models if model.startswith("hf:") and Path(model[3:]).is_dir()}
    places = [run, *sorted(local)]
    above = Path(os.path.commonpath([run.parent, *(place.parent for place in places)]))
    sent = " ".join(shlex.quote(f"{above}/./{place.relative_to(above)}") for place in places)
    goes_on = f"cd evalft-run && evalft run {shlex.quote(str(run.relative_to(above)))}"
    return [f"rsync -aR {sent} GPU-MACHINE:evalft-run/", f"ssh GPU-MACHINE {shlex.quote(goes_on)}"]


def processes(tune: TuneConfig, batch_size: int) -> int:
    """`tune.processes`, else one per visible GPU, as many as a batch can be shared by; else one."""
    if tune.processes:
        return tune.processes
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        gpus = len(list(Path("/proc/driver/nvidia/gpus").glob("*")))
    else:
        gpus = len([device for device in visible.split(",") if device.strip()])
    return max(count for count in range(1, max(1, gpus) + 1) if batch_size % count == 0)


def _hidden_size(candidate: CandidateConfig) -> int | None:
    config = find_model(candidate.model_id, candidate.revision, f"tune.base {candidate.model}").config
    found = config.get("hidden_size") or config.get("n_embd") or (config.get("text_config") or {}).get("hidden_size")
    return int(found) if found else None
