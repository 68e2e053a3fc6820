"""A run's scores -> the evidence that the rules of `decision` take, and what they decide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from evalft import planning, scoring
from evalft.config import Config, shown_spec
from evalft.decision.evidence import Evidence, Obstacle, Setting, TrainingPlan
from evalft.decision.tuning import trainable_base
from evalft.decision.verdict import Decision, decide
from evalft.decision.wording import metric_name
from evalft.metrics.names import COSTS
from evalft.preparing import Prepared
from evalft.scoring import Scored

Obstacles = Mapping[str, Mapping[str, Obstacle]]
"""By candidate and metric."""


def decisions(
    prepared: Prepared, scored: Mapping[str, Scored], obstacles: Obstacles
) -> tuple[Decision, Decision | None]:
    """(the decision, what it was before training where there was one)."""
    trained = prepared.folder.manifest().get("trained")
    if not trained:
        return decide(*_evidence(prepared, scored, obstacles)), None
    tuned = next((name for name, role in prepared.roles.items() if role == "tuned"), None)
    if tuned:
        tried = f"fine-tuning was done in this run, and {tuned} is what came of it"
    else:
        tried = "fine-tuning was tried in this run, and no stage was better than the untuned base on dev"
    evidence, setting = _evidence(prepared, scored, obstacles)
    own = {candidate.name for candidate in prepared.own_config.candidates}
    before = decide([one for one in evidence if one.name in own], setting)
    return decide(evidence, replace(setting, tried=tried)), before


def _evidence(prepared: Prepared, scored: Mapping[str, Scored], obstacles: Obstacles) -> tuple[list[Evidence], Setting]:
    config, data = prepared.config, prepared.data
    primary = scoring.primary(config.task)
    same_rows = len({found.row_metric for found in scored.values()}) == 1
    evidence = []
    for candidate in config.candidates:
        found = scored[candidate.name]
        provider = config.providers.get(candidate.provider)
        evidence.append(
            Evidence(
                candidate.name,
                shown_spec(candidate.model),
                prepared.roles[candidate.name],
                found.intervals,
                n=len(data.test),
                resample=found.resample,
                cannot_pass=found.cannot_pass,
                smallest_class=found.smallest_class,
                obstacles=obstacles[candidate.name],
                trainable=planning.trainable(candidate) and not candidate.adapter,
                stand_in=bool(provider and provider.stand_in),
                scores=found.row_scores if same_rows else None,
                scores_of=found.row_metric,
            )
        )
    base = shown_spec(config.tune.base) if config.tune.base else None
    plan = _training(prepared, scored, trainable_base(evidence, primary, base))
    lone = config.task.train is None and not data.train
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


def obstacles_of(config: Config, name: str, found: Scored, not_asked: int, why_not: str) -> dict[str, Obstacle]:
    """By metric of a threshold: what no number of test rows decides."""
    obstacles = {}
    for threshold in config.parsed_thresholds:
        metric, measured = threshold.metric, found.intervals.get(threshold.metric)
        if not_asked:
            why = measured.reason if measured and measured.reason else ""
            sentence = f"{name} stopped before all of its answers were asked for"
            remedy = (
                f"the rest of the answers of {name} (the same command asks for them, once what stopped it is mended)"
            )
            obstacles[metric] = Obstacle(why, sentence, remedy)
        elif metric == "judge" and why_not:
            sentence = f"no candidate can pass the threshold on judge: {why_not}"
            remedy = "people's scores of enough answers, which agree with the judge's (`evalft review RUN`)"
            obstacles[metric] = Obstacle(why_not, sentence, remedy)
        elif metric in COSTS and (measured is None or measured.value is None):
            why = (measured.reason if measured else None) or "not measured"
            sentence = f"{metric_name(metric)} of {name} is not known: {why}"
            obstacles[metric] = Obstacle(why, sentence, f"the {metric_name(metric)} of {name}")
    return obstacles


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
