"""`evalft check`: what assess would ask and take, and what the test set can show, before anything is spent."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evalft import judging, planning, preparing, scoring, tuning
from evalft.candidates.model_files import find_adapter, find_model
from evalft.config import Config, shown_spec
from evalft.decision.reach import out_of_reach
from evalft.decision.wording import duration
from evalft.errors import CannotStart, UserError
from evalft.preparing import Prepared
from evalft.stats.proportion import clopper_pearson

if TYPE_CHECKING:
    from rich.console import Console

SHARES = frozenset({"accuracy", "exact_match", "contains", "regex", "json_schema", "numeric"})


@dataclass(frozen=True)
class Checked:
    prepared: Prepared
    can_show: tuple[str, ...]
    """What this number of rows can and cannot tell."""
    warnings: tuple[str, ...]


def check(config: Config, *, out: Path | None = None, limit: int | None = None) -> Checked:
    """Everything `assess` checks before its first request, models' files included. Raises UserError."""
    prepared = preparing.prepare(config, out=out, limit=limit)
    config, data = prepared.config, prepared.data
    faults: list[str] = []
    for candidate in (*config.candidates, *(config.judge.model if config.judge else ())):
        where = f"candidate {candidate.name}" if candidate in config.candidates else f"judge {candidate.name}"
        local_folder = candidate.provider == "hf" and Path(candidate.model_id).is_dir()
        try:
            if candidate.provider == "file" and not Path(candidate.model_id).is_file():
                raise CannotStart(f"{where}: {shown_spec(candidate.model)}: no such file of answers")
            if local_folder:
                find_model(candidate.model_id, candidate.revision, where)
            if local_folder and candidate.adapter and Path(candidate.adapter).is_dir():
                find_adapter(candidate.adapter, where)
        except CannotStart as error:
            faults += error.faults
    if faults:
        raise UserError(*faults)
    groups = scoring.group_numbers(data.test)
    unreachable = out_of_reach(
        config.parsed_thresholds,
        n=len(data.test),
        candidates=len(config.candidates),
        confidence=config.decide.confidence,
        groups=None if groups is None else int(groups.max()) + 1,
    )
    tuning.check_base(config)
    can_show = [*(_needed_right(config, len(data.test))), *(one.sentence() for one in unreachable)]
    if not config.thresholds:
        can_show.append("no thresholds are set: there will be no verdict, and `evalft run` needs one")
    warnings = (*data.warnings, *scoring.check_gold(data.test, config.task), *_missing_keys(config))
    return Checked(prepared, tuple(can_show), warnings)


def _missing_keys(config: Config) -> list[str]:
    lines = []
    for candidate in (*config.candidates, *(config.judge.model if config.judge else ())):
        provider = config.providers.get(candidate.provider)
        key = "OPENAI_API_KEY" if candidate.provider == "openai" else provider.api_key_env if provider else None
        if key and not os.environ.get(key):
            lines.append(f"{candidate.name}: the environment variable {key} is not set; it is needed to assess")
    return lines


def _needed_right(config: Config, n: int) -> list[str]:
    """How many rows must be right before a share is shown to reach its threshold."""
    level = (1 - config.decide.confidence) / 2 / len(config.candidates)
    lines = []
    for threshold in config.parsed_thresholds:
        if threshold.metric not in SHARES or threshold.op != ">=":
            continue
        needed = next((k for k in range(n + 1) if clopper_pearson(k, n, level)[0] >= threshold.bound), None)
        if needed is not None:
            lines.append(
                f"{threshold.metric} {threshold.require} is shown once {needed:,} of {n:,} rows are right "
                f"({needed / n:.1%})"
            )
    return lines


def _training(prepared: Prepared) -> list[str]:
    """What `run` would take after a verdict to tune, where it is known which model that would train."""
    config, data = prepared.config, prepared.data
    bases = [one.model for one in config.candidates if planning.trainable(one)]
    base = config.tune.base or (bases[0] if len(set(bases)) == 1 else None)
    if base is None or not config.thresholds:
        return []
    found = planning.training_estimate(config, config.task, base, data.train or data.test, None)
    teacher = config.expand.teacher
    rows = (config.expand.target_rows or planning.DEFAULT_TARGET_ROWS) - len(data.train)
    asked = (
        f"; before that, {teacher} is asked for about {rows:,} rows, not counted above" if teacher and rows > 0 else ""
    )
    takes = f"{duration(found.hours)} of computing, {found.memory_gb:.1f} GB"
    return [
        f"`evalft run`, should the verdict be tune, trains {shown_spec(base)}: {takes} ({'; '.join(found.assumptions)}){asked}"
    ]


def show(checked: Checked, console: Console) -> None:
    """As plain lines and one table, readable at 80 columns."""
    from rich.table import Table

    from evalft.reporting.text import printable

    prepared = checked.prepared
    config, data = prepared.config, prepared.data
    say = console.print

    def line(words: str) -> None:
        say(printable(words), markup=False, highlight=False)

    line(
        f"{config.task.name}: {config.task.type}, {len(data.test):,} test rows, {len(data.train):,} train, {len(data.dev):,} dev"
    )
    for words in data.assumed:
        line(f"- {words}")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column, justify in (("candidate", "left"), ("requests", "right"), ("tokens in", "right"), ("out", "right")):
        table.add_column(column, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for column in ("about USD", "at most", "min", "GB"):
        table.add_column(column, justify="right")
    plans = [*prepared.plans, *judging.plans(config, data.test)]
    for plan in plans:
        table.add_row(
            printable(plan.name),
            f"{plan.requests:,}",
            f"{plan.input_tokens:,}",
            f"{plan.output_tokens:,}",
            f"{plan.usd:.4f}",
            f"{plan.worst_usd:.4f}",
            "" if plan.minutes is None else f"{plan.minutes:.1f}",
            "" if plan.memory_gb is None else f"{plan.memory_gb:.2f}",
        )
    say(table)
    for plan in plans:
        line(f"- {plan.name}: {plan.assumes}; max_tokens {plan.max_tokens}")
    total = sum(plan.usd for plan in plans)
    line(f"about ${total:.4f} in all, before retries; the cap is ${config.limits.max_cost_usd:g} (limits.max_cost_usd)")
    for words in (*_training(prepared), *checked.can_show):
        line(f"- {words}")
    for words in checked.warnings:
        line(f"warning: {words}")
    line(f"run folder: {prepared.folder.path}; start with `evalft assess`")
