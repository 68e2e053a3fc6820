"""Rule 4: what must hold for training to be worth trying, each condition checked and said.

No forecast is made in this version: the chance of passing after tuning is assumed, not measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from evalft.decision.break_even import BreakEven, cost_after
from evalft.decision.evidence import COST, LOWER_IS_BETTER, Evidence, Obstacle, Setting, TrainingPlan
from evalft.decision.statuses import meets
from evalft.decision.wording import duration, next_below, number, quantity, required, rounded_up
from evalft.numbers import counted

TRAIN_ROWS = 20


@dataclass(frozen=True)
class Condition:
    name: str
    met: bool
    sentence: str
    remedy: str = ""
    """What would make it met, where it is not."""


def trainable_base(evidence: Sequence[Evidence], primary: str, tune_base: str | None = None) -> str | None:
    """Model spec to train: `tune.base`, else the best `hf:` candidate by the primary metric; None: there is none."""
    if tune_base is not None:
        return tune_base
    sign = -1.0 if primary in LOWER_IS_BETTER else 1.0

    def worth(one: Evidence) -> float:
        interval = one.intervals.get(primary)
        return -math.inf if interval is None or interval.value is None else sign * interval.value

    best_first = sorted((one for one in evidence if one.trainable), key=lambda one: (-worth(one), one.name))
    return best_first[0].model if best_first else None


def tune_conditions(
    setting: Setting, break_even: BreakEven | None, obstacles: Sequence[Obstacle]
) -> tuple[Condition, ...]:
    """In the order of the rule; the first that is not met is what `stop` names. Before `obstacles` are out of the way, no
    model, tuned or not, can be shown to pass, or it is not known whether one is needed."""
    plan = setting.training
    if setting.tried:
        remedy = (
            "other training rows (task.train, expand), another base (tune.base) or other settings (tune), in a new run"
        )
        return (Condition("tried", False, setting.tried, remedy),)
    if obstacles:
        return tuple(Condition("obstacle", False, each.sentence, each.remedy) for each in obstacles)
    conditions = [_base(plan), _rows(setting)]
    if plan is not None and plan.base is not None:
        conditions += [_limits(plan)]
    conditions += [_chance(setting)]
    if break_even is not None:
        conditions += [_pays_back(break_even)]
    return tuple(conditions)


def cost_warning(evidence: Sequence[Evidence], setting: Setting) -> str | None:
    """Training does not change the price of a query much: said where that price misses its threshold already."""
    after = cost_after(evidence, setting.training)
    for threshold in setting.thresholds:
        if threshold.metric == COST and after is not None and not meets(after, threshold):
            return (
                f"the tuned model is estimated at {quantity(COST, after, threshold.bound)} per query, "
                f"which does not meet {required(threshold)}: training alone would not make it pass"
            )
    return None


def volume_flip(break_even: BreakEven) -> str | None:
    """Of one that pays back in time: the volume at which it no longer does."""
    below = next_below(break_even.least_queries_per_month) if break_even.least_queries_per_month > 0 else 0.0
    if break_even.queries_per_month is None or below <= 0:
        return None
    months = f"{break_even.horizon_months:.12g} months"
    return f"at {number(below)} queries a month or fewer training would not pay back within {months}"


def _base(plan: TrainingPlan | None) -> Condition:
    if plan is None or plan.base is None:
        return Condition(
            "base",
            False,
            "there is no trainable base: no hf: causal model among the candidates and no tune.base",
            "a trainable base (`tune.base`, or an hf: candidate)",
        )
    return Condition("base", True, f"the base {plan.base} can be trained")


def _rows(setting: Setting) -> Condition:
    there, possible = setting.train_rows, setting.train_rows_possible
    said = counted(there, "train row")
    if possible:
        said += f" and {possible:,} more that can be made"
    if setting.lone_file:
        said += " (there is no train file: half of the test file counts; `evalft init --split 0.5` splits it)"
    missing = TRAIN_ROWS - there - possible
    if missing > 0:
        return Condition(
            "train rows",
            False,
            f"there are {said}; {TRAIN_ROWS} are needed",
            f"{counted(missing, 'more train row')} (task.train)",
        )
    return Condition("train rows", True, f"there are {said} ({TRAIN_ROWS} are needed)")


def _limits(plan: TrainingPlan) -> Condition:
    usd = f"${number(plan.one_off_usd)} (data and evaluation included)"
    takes = f"{duration(plan.hours)}, {plan.memory_gb:.1f} GB and {usd}"
    if plan.fits:
        return Condition("limits", True, f"training takes about {takes}, within the limits")
    why = "; ".join(plan.why_not) or f"it takes about {takes}"
    return Condition("limits", False, f"training does not fit the limits: {why}", f"limits that allow it ({why})")


def _chance(setting: Setting) -> Condition:
    return Condition(
        "chance",
        True,
        "no forecast: the chance of passing after tuning is assumed, not measured "
        f"(taken to be at least {setting.decide.min_chance:g})",
    )


def _pays_back(break_even: BreakEven) -> Condition:
    if math.isfinite(break_even.queries):
        least = number(rounded_up(break_even.least_queries_per_month))
        remedy = f"a volume of {least} queries a month or more"
    else:
        remedy = f"a tuned model that costs less per query than {break_even.against_label}"
    return Condition("break-even", break_even.in_time, break_even.sentence(), remedy)
