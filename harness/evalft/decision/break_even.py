"""After how many queries training has paid for itself, as a point (no interval in this version).

q* = C / (c_now - c_tuned): the one-off cost of training, data and evaluation over what each query saves. Infinite where
the tuned model saves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from evalft.config import DecideConfig, Threshold
from evalft.decision.evidence import COST, Evidence, TrainingPlan
from evalft.decision.statuses import CandidateStatus
from evalft.decision.wording import number

DAYS_PER_MONTH = 30.4


@dataclass(frozen=True)
class BreakEven:
    """All in USD. `against` is the candidate that fails on cost only: what would be used if money were no object."""

    against: str
    against_label: str
    one_off_usd: float
    cost_per_query_now_usd: float
    cost_per_query_after_usd: float
    queries_per_month: float | None
    horizon_months: float

    @property
    def saving_usd(self) -> float:
        """Per query; negative where the tuned model is dearer."""
        return self.cost_per_query_now_usd - self.cost_per_query_after_usd

    @property
    def queries(self) -> float:
        return queries_to_break_even(self.one_off_usd, self.cost_per_query_now_usd, self.cost_per_query_after_usd)

    @property
    def months(self) -> float | None:
        return None if self.queries_per_month is None else self.queries / self.queries_per_month

    @property
    def in_time(self) -> bool:
        """Without a volume there is no time to check."""
        return self.months is None or self.months <= self.horizon_months * (1 + 1e-12)

    @property
    def least_queries_per_month(self) -> float:
        """The volume from which on it pays back within the horizon."""
        return self.queries / self.horizon_months

    def _time(self, months: float) -> str:
        if months * DAYS_PER_MONTH < 1:
            return "less than a day"
        if months < 1:
            return f"{months * DAYS_PER_MONTH:.0f} days"
        return f"{number(months, self.horizon_months)} months"

    def data(self) -> dict[str, object]:
        """As in summary.json: plain JSON, null for never and for no volume."""
        finite = math.isfinite(self.queries)
        return {
            "against": self.against,
            "one_off_usd": self.one_off_usd,
            "cost_per_query_now_usd": self.cost_per_query_now_usd,
            "cost_per_query_after_usd": self.cost_per_query_after_usd,
            "saving_per_1000_queries_usd": 1000 * self.saving_usd,
            "pays_back": finite,
            "queries": self.queries if finite else None,
            "queries_per_month": self.queries_per_month,
            "months": self.months if finite else None,
            "horizon_months": self.horizon_months,
            "within_horizon": self.in_time if self.queries_per_month is not None else None,
        }

    def sentence(self) -> str:
        each = f"${number(1000 * abs(self.saving_usd))} per 1,000 queries"
        if not math.isfinite(self.queries):
            dearer = f"would cost {each} more than" if self.saving_usd < 0 else "would cost as much per query as"
            return f"training never pays back: the tuned model {dearer} {self.against_label}"
        once = f"training, data and evaluation cost ${number(self.one_off_usd)} once"
        paid = (
            f"{once} and save {each} against {self.against_label}: paid back after {math.ceil(self.queries):,} queries"
        )
        if self.months is None or self.queries_per_month is None:
            return f"{paid} (no queries_per_month is given, so no time is checked)"
        within = "within" if self.in_time else "not within"
        months = f"{self._time(self.months)} at {self.queries_per_month:,.15g} queries a month"
        return f"{paid}, {months}, {within} the horizon of {self.horizon_months:.12g} months"


def queries_to_break_even(one_off_usd: float, now_usd: float, after_usd: float) -> float:
    saving = now_usd - after_usd
    return one_off_usd / saving if saving > 0 else math.inf


def break_even(
    evidence: Sequence[Evidence],
    statuses: Sequence[CandidateStatus],
    thresholds: Sequence[Threshold],
    plan: TrainingPlan | None,
    decide: DecideConfig,
) -> BreakEven | None:
    """Against the cheapest candidate that fails on cost only; None where there is none, no base, or no cost of it."""
    dear = [one for one, status in zip(evidence, statuses, strict=True) if _fails_on_cost_only(status, thresholds)]
    known = [(one.cost_usd, one.name, one) for one in dear if one.cost_usd is not None]
    after = cost_after(evidence, plan)
    if not known or plan is None or plan.base is None or after is None:
        return None
    cost, _, cheapest = min(known, key=lambda item: item[:2])
    return BreakEven(
        against=cheapest.name,
        against_label=cheapest.label,
        one_off_usd=plan.one_off_usd,
        cost_per_query_now_usd=cost,
        cost_per_query_after_usd=after,
        queries_per_month=decide.queries_per_month,
        horizon_months=decide.horizon_months,
    )


def cost_after(evidence: Sequence[Evidence], plan: TrainingPlan | None) -> float | None:
    """USD per query of the tuned model: as planned, else that of its base as measured."""
    if plan is None:
        return None
    if plan.cost_per_query_after_usd is not None:
        return plan.cost_per_query_after_usd
    measured = [one.cost_usd for one in evidence if one.model == plan.base and one.cost_usd is not None]
    return min(measured, default=None)


def _fails_on_cost_only(status: CandidateStatus, thresholds: Sequence[Threshold]) -> bool:
    others = [status.thresholds[threshold.metric] for threshold in thresholds if threshold.metric != COST]
    cost = status.thresholds.get(COST)
    failed_on_cost = status.status == "fail" and cost is not None and cost.status == "fail"
    return failed_on_cost and all(result.status == "pass" for result in others)
