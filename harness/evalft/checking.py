"""`evalft check`: what assess would ask and take, and what the test set can show, before anything is spent."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from evalft import expanding, judging, owed, pipeline, planning, preparing, scoring, tuning
from evalft.candidates.model_files import find_adapter, find_model, is_path, reads_raw_input
from evalft.config import CandidateConfig, Config, TaskConfig, Threshold, shown_spec
from evalft.decision.reach import SHARES, out_of_reach
from evalft.decision.statuses import meets
from evalft.decision.wording import duration
from evalft.errors import DONE, CannotStart, UserError
from evalft.preparing import Prepared
from evalft.prompts import Request, target_text
from evalft.stats import power
from evalft.stats.proportion import proportion, rows_needed_to_pass

if TYPE_CHECKING:
    from rich.console import Console

    from evalft.progress import Progress

TOKENIZED = 200
"""Rows that a tokenizer reads for a count."""
TYPICAL_SHARE, DIFFER = 0.8, 0.2
"""For what a number of rows can show: the share of right rows, and of rows on which two candidates differ."""


@dataclass(frozen=True)
class Checked:
    prepared: Prepared
    can_show: tuple[str, ...]
    """What is answered already, and what this number of rows can and cannot tell."""
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
            if local_folder or (candidate.provider == "hf" and is_path(candidate.model_id)):
                find_model(candidate.model_id, candidate.revision, where)
            if local_folder and candidate.adapter and Path(candidate.adapter).is_dir():
                find_adapter(candidate.adapter, where)
        except CannotStart as error:
            faults += error.faults
    if faults:
        raise UserError(*faults)
    left, there_already = owed.plans(prepared)
    prepared = replace(prepared, plans=[_counted(plan, prepared) for plan in left])
    too_long = _rows_over_max_length(prepared)
    groups = scoring.group_numbers(data.test)
    unreachable = out_of_reach(
        config.parsed_thresholds,
        n=len(data.test),
        candidates=len(config.candidates),
        confidence=config.decide.confidence,
        groups=None if groups is None else int(groups.max()) + 1,
    )
    tuning.check_base(config)
    can_show = [
        *there_already,
        *_resolution(config, len(data.test), None if groups is None else int(groups.max()) + 1),
        *_needed_right(config, len(data.test), groups),
        *(one.sentence() for one in unreachable),
    ]
    if not config.thresholds:
        can_show.append("no thresholds are set: there will be no verdict, and `evalft run` needs one")
    warnings = (
        *data.warnings,
        *scoring.check_gold(data.test, config.task),
        *judging.uncalibrated_so_far(config, data.test),
        *_missing_keys(config),
        *_hub_ids(config),
        *too_long,
    )
    return Checked(prepared, tuple(can_show), warnings)


def _missing_keys(config: Config) -> list[str]:
    lines = []
    for candidate in (*config.candidates, *(config.judge.model if config.judge else ())):
        provider = config.providers.get(candidate.provider)
        key = "OPENAI_API_KEY" if candidate.provider == "openai" else provider.api_key_env if provider else None
        if key and not os.environ.get(key):
            lines.append(f"{candidate.name}: the environment variable {key} is not set; it is needed to assess")
    return lines


def _hub_ids(config: Config) -> list[str]:
    return [
        f"{one.name}: {one.model} is no folder here: whether the hub has it is known when `evalft assess` fetches it"
        for one in config.candidates
        if one.provider == "hf" and not Path(one.model_id).is_dir()
    ]


def _counted(plan: planning.CandidatePlan, prepared: Prepared) -> planning.CandidatePlan:
    """The plan of a local model with its own tokenizer's count of a sample of the requests, chat template included."""
    config = prepared.config
    candidate = next(one for one in config.candidates if one.name == plan.name)
    requests = prepared.requests[plan.name]
    counts = _own_tokens(candidate, config.task, requests[:: max(1, len(requests) // TOKENIZED)])
    if not counts:
        return plan
    tokens_in = round(sum(counts) / len(counts) * plan.requests)
    return replace(
        plan,
        input_tokens=tokens_in,
        minutes=planning.local_minutes(candidate, config.task, plan.requests, tokens_in, plan.output_tokens),
        assumes=f"{plan.assumes}; input tokens as its tokenizer counts {len(counts):,} of the requests",
    )


def _own_tokens(candidate: CandidateConfig, task: TaskConfig, requests: Sequence[Request]) -> list[int]:
    """Tokens of each request as a local model reads it; empty where it is not a folder."""
    if candidate.provider != "hf" or not Path(candidate.model_id).is_dir():
        return []
    from evalft.candidates.model_loading import load_tokenizer
    from evalft.candidates.model_prompts import ModelPrompts

    where = f"candidate {candidate.name}"
    adapter = find_adapter(candidate.adapter, where) if candidate.adapter and Path(candidate.adapter).is_dir() else None
    tokenizer = load_tokenizer(find_model(candidate.model_id, candidate.revision, where), adapter, where)
    options = {"enable_thinking": False, **((candidate.extra_body or {}).get("chat_template_kwargs") or {})}
    prompts = ModelPrompts(tokenizer, task.labels or (), options)
    rows = prompts.raw_rows(requests) if reads_raw_input(candidate.model_id) else prompts.rows(requests)
    return [len(row.tokens) for row in rows]


def _rows_over_max_length(prepared: Prepared) -> list[str]:
    """A warning where some train rows do not fit `tune.max_length`. Raises UserError where none does: training would end
    there."""
    config, most = prepared.config, prepared.config.tune.max_length
    bases = [one.name for one in config.candidates if planning.trainable(one)]
    if most is None or not (config.tune.base or len(bases) == 1):
        return []
    base = preparing.untuned(config, None if config.tune.base else bases[0])
    rows = (prepared.data.train or prepared.data.test)[:TOKENIZED]
    asked = preparing.requests_for(config, base, rows, train=prepared.data.train)
    taught = [
        Request(one.id, one.index, 0, ({"role": "user", "content": target_text(config.task, row.target)},))
        for one, row in zip(asked, rows, strict=True)
    ]
    counts = [
        sum(pair) for pair in zip(*(_own_tokens(base, config.task, each) for each in (asked, taught)), strict=True)
    ]
    over = sum(count > most for count in counts)
    if counts and over == len(counts):
        raise UserError(
            f"tune.max_length: {most}: none of the first {len(counts):,} rows fits; the shortest takes about {min(counts):,} "
            f"tokens, the longest {max(counts):,}"
        )
    share = f"{over:,} of the first {len(counts):,} rows"
    return (
        [f"tune.max_length: {most}: {share} take about more tokens and would be left out of training"] if over else []
    )


def _resolution(config: Config, n: int, groups: int | None) -> list[str]:
    """How fine a difference n rows show, and how many rows the thresholds on shares of rows take."""
    level = (1 - config.decide.confidence) / 2
    lines = [f"with {n:,} rows, {_shown_by(n, level)}"]
    if groups is not None:
        lines = [
            f"with {n:,} rows in {groups:,} groups: where rows of a group are independent, {_shown_by(n, level)}",
            f"where rows of a group are right or wrong together, they count as {groups:,} rows: {_shown_by(groups, level)}",
        ]
    level /= len(config.candidates)
    for threshold in config.parsed_thresholds:
        if threshold.metric in SHARES and threshold.op == ">=" and 0 < threshold.bound < 1:
            true = (1 + threshold.bound) / 2
            needed = power.rows_to_show(threshold.bound, true, level)
            takes = f"about {needed:,} rows" if needed else "more than 100,000 rows"
            if groups is not None and needed:
                least = rows_needed_to_pass(threshold.bound, level)
                takes += f" in at least {least:,} groups (as many groups as rows, where the rows of a group are alike)"
            lines.append(
                f"{threshold.metric} {threshold.require}: a candidate truly right on {true:.1%} takes {takes} to be shown to "
                f"pass with {power.CHANCE:.0%} chance"
            )
    return lines


def _shown_by(n: int, level: float) -> str:
    width = power.half_width(TYPICAL_SHARE, n, level)
    smallest = power.detectable_difference(n, DIFFER, level)
    told = f"a true difference of {smallest:.1%}" if smallest is not None else "no true difference that small"
    return (
        f"a share near {TYPICAL_SHARE:.0%} is known to about {width:.1%} either way; of two candidates that "
        f"differ on {DIFFER:.0%} of the rows, {told} is shown with {power.CHANCE:.0%} chance"
    )


def _needed_right(config: Config, n: int, groups: NDArray[np.int_] | None) -> list[str]:
    """How many rows must be right before a share is shown to reach its threshold, by the verdict's own interval."""
    level = (1 - config.decide.confidence) / 2 / len(config.candidates)
    lines = []
    for threshold in config.parsed_thresholds:
        if threshold.metric not in SHARES or threshold.op != ">=":
            continue
        if groups is None:
            needed = _right_to_meet(threshold, np.arange(n), None, level)
            if needed is not None:
                lines.append(f"{threshold.metric} {threshold.require} is shown once {_of(needed, n)} are right")
            continue
        together = np.argsort(groups, kind="stable")
        place = np.empty(n, dtype=int)  # of each row within its group
        place[together] = np.arange(n) - np.searchsorted(groups[together], groups[together])
        apart, alike = (
            _right_to_meet(threshold, order, groups, level) for order in (np.lexsort((groups, place)), together)
        )
        if apart is not None and alike is not None:
            lines.append(
                f"{threshold.metric} {threshold.require} is shown once {_of(apart, n)} are right where the wrong ones are "
                f"spread over the groups, {_of(alike, n)} where they are whole groups"
            )
    return lines


def _right_to_meet(
    threshold: Threshold, order: NDArray[np.int_], groups: NDArray[np.int_] | None, level: float
) -> int | None:
    """The fewest right rows that meet the threshold, where the rows that come first in `order` (n,) are the wrong ones."""

    def met(right: int) -> bool:
        rows = np.ones(order.size, dtype=bool)
        rows[order[: order.size - right]] = False
        return meets(proportion(rows, groups).ends(level)[0], threshold)

    if not met(order.size):
        return None
    return bisect_left(range(order.size), True, key=met)


def _of(right: int, n: int) -> str:
    return f"{right:,} of {n:,} rows ({right / n:.1%})"


def _training(prepared: Prepared) -> list[str]:
    """What `run` would take after a verdict to tune, where it is known which model that would train."""
    config, data = prepared.config, prepared.data
    bases = [one.model for one in config.candidates if planning.trainable(one)]
    base = config.tune.base or (bases[0] if len(set(bases)) == 1 else None)
    if base is None or not config.thresholds:
        return []
    found = planning.training_estimate(config, config.task, base, data.train or data.test, None)
    teacher = expanding.teacher_plan(config, data)
    asked = ""
    if teacher:
        cost = "which runs here" if teacher.usd is None else f"about ${teacher.usd:.4f}"
        asked = (
            f"; before that, {teacher.teacher} is asked {teacher.requests:,} times, about {teacher.input_tokens:,} tokens in "
            f"and {teacher.output_tokens:,} out, {cost}, not counted above"
        )
    takes = f"{duration(found.hours)} of computing, {found.memory_gb:.1f} GB"
    return [
        f"`evalft run`, should the verdict be tune, trains {shown_spec(base)}: {takes} ({'; '.join(found.assumptions)}){asked}"
    ]


def tell(checked: Checked, progress: Progress) -> None:
    """As events, to a program that watches."""
    prepared = checked.prepared
    pipeline.announce("check", prepared, progress)
    for plan in prepared.plans:
        fields = ("requests", "input_tokens", "output_tokens", "usd", "worst_usd", "minutes", "memory_gb", "assumes")
        progress.emit("plan", candidate=plan.name, **{name: getattr(plan, name) for name in fields})
    progress.say((*_training(prepared), *checked.can_show, *(f"warning: {words}" for words in checked.warnings)))
    progress.emit("finished", status=DONE, path=str(prepared.folder.path.absolute()), summary=None, report=None)


def show(checked: Checked, console: Console, command: str = "evalft assess") -> None:
    """As plain lines and one table, readable at 80 columns; `command` is what starts the run."""
    from rich.table import Table

    from evalft.reporting.text import cut_in_the_middle, printable

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
    plans = [*prepared.plans, *judging.plans(config, data.test)]
    heads = ("candidate", "requests", "tokens in", "out", "about USD", "at most", "min", "GB")
    rows = [
        (
            f"{plan.requests:,}",
            f"{plan.input_tokens:,}",
            f"{plan.output_tokens:,}",
            f"{plan.usd:.4f}",
            f"{plan.worst_usd:.4f}",
            "" if plan.minutes is None else "< 0.1" if plan.minutes < 0.05 else f"{plan.minutes:.1f}",
            "" if plan.memory_gb is None else f"{plan.memory_gb:.2f}",
        )
        for plan in plans
    ]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(heads[0], no_wrap=True)
    for head in heads[1:]:
        table.add_column(head, justify="right", no_wrap=True)
    widths = [max(map(len, column)) for column in zip(heads[1:], *rows, strict=True)]
    room = console.width - sum(widths) - 2 * len(widths)
    for plan, cells in zip(plans, rows, strict=True):
        table.add_row(cut_in_the_middle(printable(plan.name), room), *cells)
    say(table)
    for plan in plans:
        line(f"- {plan.name}: {plan.assumes}; max_tokens {plan.max_tokens}")
    line(planning.dollars(plans, config.limits.max_cost_usd))
    for words in (*_training(prepared), *checked.can_show):
        line(f"- {words}")
    for words in checked.warnings:
        line(f"warning: {words}")
    line(f"run folder: {prepared.folder.path}; start with `{command}`")
