"""The rules in order: evidence and setting -> a Decision. The first rule that applies gives the verdict.

0. No thresholds: nothing to decide.
1. A candidate passes: ship the cheapest that does.
2. None passes, some are undecided: more_test_data, where enough new rows would settle it.
3. Probes of what the gap is made of are not part of this version.
4. tune, where every condition of tuning.py holds.
5. Otherwise stop, naming the condition that failed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from evalft.decision.break_even import break_even
from evalft.decision.evidence import COST, Evidence, Obstacle, Setting
from evalft.decision.flips import all_fail_flips, choice_flips
from evalft.decision.more_data import CHANCE, MoreData, rows_to_settle
from evalft.decision.reach import OutOfReach, out_of_reach
from evalft.decision.statuses import (
    CandidateStatus,
    by_cost,
    candidate_statuses,
    cheapest_passing,
    meets,
    pessimistic,
)
from evalft.decision.tuning import TRAIN_ROWS, Condition, cost_warning, tune_conditions, volume_flip
from evalft.decision.wording import (
    end_text,
    interval_text,
    listed,
    metric_name,
    number,
    percent,
    quantity,
    undecided_text,
)
from evalft.numbers import counted
from evalft.records import Verdict
from evalft.stats.paired import paired_difference

SECOND_LOOK = (
    "deciding again once rows are added is a second look: it can add up to about 2 points to the chance of error"
)


@dataclass(frozen=True)
class Decision:
    verdict: Verdict | None
    """None: there is nothing to decide."""
    statuses: tuple[CandidateStatus, ...]
    """In the order of the evidence; empty without thresholds."""
    break_even: Mapping[str, object] | None
    """As in summary.json."""
    steps: tuple[str, ...]
    """The rules one after another in plain words, for `evalft explain`."""
    notes: tuple[str, ...]


def decide(evidence: Sequence[Evidence], setting: Setting) -> Decision:
    """The verdict over all candidates; never raises for what could not be measured: that is undecided."""
    if not setting.thresholds:
        note = "nothing to decide; set one with --threshold 'accuracy >= 0.9'"
        return Decision(None, (), None, (f"Rule 0: no thresholds are set: {note}",), (note,))
    evidence = [_remembering_ends(one) for one in evidence]
    statuses = candidate_statuses(evidence, setting.thresholds, setting.decide.confidence)
    return _Rules(evidence, setting, statuses).decision()


@dataclass(frozen=True)
class _Rules:
    """The candidates with their statuses, and one method per rule."""

    evidence: Sequence[Evidence]
    setting: Setting
    statuses: tuple[CandidateStatus, ...]

    def decision(self) -> Decision:
        rule_0 = f"Rule 0: {counted(len(self.setting.thresholds), 'threshold')} to decide on"
        looks = tuple(f"{one.name}: {status.status}; {self._findings(one)}" for one, status in self._pairs())
        shipped = cheapest_passing(self.evidence, self.setting.thresholds, self.setting.alpha)
        if shipped is not None:
            return self._ship(shipped, (rule_0, *looks))
        before = (rule_0, *looks, "Rule 1: no candidate is shown to pass every threshold")
        undecided = [one for one, status in self._pairs() if status.status == "undecided"]
        if not undecided:
            step = "Rule 2: no candidate is undecided, so more test rows are not asked for"
            return self._tune_or_stop((*before, step), None)
        found = rows_to_settle(self.evidence, self.setting)
        if found.rows is not None and self.setting.decide.undecided == "stop":
            return self._more_test_data(found, found.rows, undecided, before)
        return self._tune_or_stop((*before, f"Rule 2: {_neither(undecided, found, self._obstacles())}"), found)

    # ------------------------------------------------------------ rule 1

    def _ship(self, shipped: Evidence, steps: tuple[str, ...]) -> Decision:
        passed = [one for one, status in self._pairs() if status.status == "pass"]
        reasons = [f"{shipped.label} passes every threshold: {self._findings(shipped)}", *self._correction(shipped)]
        if len(passed) > 1:
            others = [f"{one.label} at {_cost(one)}" for one in sorted(passed, key=by_cost) if one is not shipped]
            reasons.append(
                f"of the {len(passed)} that pass it is the cheapest, {_cost(shipped)} (beside {listed(others)})"
            )
        reasons += [self._near_miss(one, shipped) for one in self._cheaper_misses(shipped)]
        step = f"Rule 1: {shipped.label} is the cheapest that passes every threshold: ship"
        verdict = Verdict("ship", shipped.name, self._sentences(reasons), choice_flips(self.evidence, self.setting))
        return Decision(verdict, self.statuses, None, self._sentences((*steps, step)), self._notes())

    def _cheaper_misses(self, shipped: Evidence) -> list[Evidence]:
        cost = shipped.cost_usd
        misses = [one for one, status in self._pairs() if status.status != "pass" and one.cost_usd is not None]
        return sorted((one for one in misses if cost is None or (one.cost_usd or 0.0) < cost), key=by_cost)

    def _near_miss(self, one: Evidence, shipped: Evidence) -> str:
        """What keeps a cheaper candidate from being shipped, and whether it really is worse or better."""
        status = self._status(one)
        missed = self._findings(one, only_missed=True)
        held = "fails" if status.status == "fail" else "is undecided on"
        return f"{one.label} is cheaper ({_cost(one)}) but {held} {missed}; {self._difference(one, shipped)}"

    def _difference(self, one: Evidence, shipped: Evidence) -> str:
        metric = shipped.scores_of or self.setting.primary
        if one.scores is None or shipped.scores is None or len(one.scores) != len(shipped.scores):
            return f"its difference from {shipped.name} in {metric} could not be tested (no row scores)"
        interval = paired_difference(one.scores, shipped.scores, groups=self.setting.groups, seed=self.setting.seed)
        low, high = interval.ends(self.setting.alpha)
        if interval.value is None or not np.isfinite([low, high]).all():
            return f"its difference from {shipped.name} in {metric} has no interval ({interval.reason})"
        said = f"{number(low, 0.0)} to {number(high, 0.0)}, {percent(self.setting.decide.confidence)} interval"
        real = "is real" if low > 0 or high < 0 else "is not shown to be real"
        gap = number(interval.value, 0.0)
        return f"the difference in {metric}, {shipped.name} minus {one.name}, {real}: {gap} ({said})"

    def _obstacles(self) -> tuple[Obstacle, ...]:
        """Those of the candidates that are undecided, each once."""
        found = [
            one.obstacles[threshold.metric]
            for one, status in self._pairs()
            if status.status == "undecided"
            for threshold in self.setting.thresholds
            if threshold.metric in one.obstacles
        ]
        return tuple(dict.fromkeys(found))

    def _correction(self, one: Evidence) -> list[str]:
        if len(self.evidence) == 1:
            return []
        level = next(iter(self._status(one).thresholds.values())).pass_level
        ends = [
            f"{metric_name(threshold.metric)} {'lower' if threshold.op == '>=' else 'upper'} end "
            f"{end_text(one, threshold, pessimistic(one, threshold, level))}"
            for threshold in self.setting.thresholds
        ]
        return [f"they also hold at level {level:.3g}, corrected for {len(self.evidence)} candidates: {listed(ends)}"]

    # ------------------------------------------------------------ rule 2

    def _more_test_data(
        self, found: MoreData, rows: int, undecided: Sequence[Evidence], steps: tuple[str, ...]
    ) -> Decision:
        more = (
            f"about {counted(rows, 'more test row')} would settle it with a chance of {found.chance_text}, "
            "simulated from the rows there are: an estimate, not a promise"
        )
        names = listed([one.label for one in undecided])
        reasons = [
            f"no candidate is shown to pass every threshold, and {names} {_are(undecided)} not shown to fail",
            *self._all_findings(),
            *(each.sentence() for each in self._out_of_reach()),
            more,
            SECOND_LOOK,
        ]
        flips = (more, *choice_flips(self.evidence, self.setting), *all_fail_flips(self.evidence, self.setting))
        verdict = Verdict("more_test_data", None, self._sentences(reasons), tuple(flips), rows)
        step = f"Rule 2: {more}: more_test_data"
        return Decision(verdict, self.statuses, None, self._sentences((*steps, step)), self._notes())

    # ------------------------------------------------------------ rules 4 and 5

    def _tune_or_stop(self, steps: tuple[str, ...], found: MoreData | None) -> Decision:
        setting = self.setting
        paid = break_even(self.evidence, self.statuses, setting.thresholds, setting.training, setting.decide)
        obstacles = self._obstacles()
        conditions = tune_conditions(setting, paid, obstacles)
        unmet = [condition for condition in conditions if not condition.met]
        warning = cost_warning(self.evidence, setting) if setting.training is not None else None
        undecided = [one for one, status in self._pairs() if status.status == "undecided"]
        why = [
            "no candidate is shown to pass every threshold" if self.evidence else "no candidate was measured",
            *self._all_findings(),
            *(each.sentence() for each in self._out_of_reach()),
            *([_neither(undecided, found, obstacles)] if found is not None else []),
            *(condition.sentence for condition in (unmet or conditions)),
            *([f"beware: {warning}"] if warning and not unmet else []),
        ]
        flips = list(choice_flips(self.evidence, setting))
        if found is not None:
            flips += self._more_rows_flip(found)
        checked = tuple(f"Rule 4: {'met' if each.met else 'not met'}: {each.sentence}" for each in conditions)
        rule_3 = "Rule 3: no probes were run, so fix_labels is not considered"
        if unmet:
            flips += _stop_flips(unmet)
            reasons = [f"stop, for {unmet[0].sentence}", *(each for each in why if each != unmet[0].sentence)]
            verdict = Verdict("stop", None, self._sentences(reasons), tuple(flips))
            last = f"Rule 5: stop, for {unmet[0].sentence}"
        else:
            volume = volume_flip(paid) if paid is not None else None
            flips += [volume] if volume is not None else []
            flips += [f"with fewer than {TRAIN_ROWS} train rows the verdict would be stop"]
            verdict = Verdict("tune", self._base_name(), self._sentences(why), tuple(flips))
            last = "Rule 4: every condition is met: tune"
        data = paid.data() if paid is not None else None
        return Decision(verdict, self.statuses, data, self._sentences((*steps, rule_3, *checked, last)), self._notes())

    def _more_rows_flip(self, found: MoreData) -> list[str]:
        if found.rows is None:
            return []
        rows = counted(found.rows, "more test row")
        return [f"with decide.undecided: stop the verdict would be more_test_data, of about {rows}"]

    def _base_name(self) -> str | None:
        """The candidate that is the base, where the base was measured."""
        base = self.setting.training.base if self.setting.training is not None else None
        return next((one.name for one in self.evidence if one.model == base and one.trainable), None)

    # ------------------------------------------------------------ wording of findings

    def _pairs(self) -> list[tuple[Evidence, CandidateStatus]]:
        return list(zip(self.evidence, self.statuses, strict=True))

    def _status(self, one: Evidence) -> CandidateStatus:
        return next(status for each, status in self._pairs() if each is one)

    def _sentences(self, texts: Sequence[str]) -> tuple[str, ...]:
        """With a capital letter and a full stop; a candidate's name is left as it is."""
        names = tuple(one.name for one in self.evidence)
        return tuple(f"{text if text.startswith(names) else text[:1].upper() + text[1:]}." for text in texts)

    def _findings(self, one: Evidence, *, only_missed: bool = False) -> str:
        """Each threshold with its interval; `only_missed`: what a candidate fails, or is undecided on."""
        status = self._status(one)
        said = []
        for threshold in self.setting.thresholds:
            result = status.thresholds[threshold.metric]
            held = result.status == "pass" and meets(pessimistic(one, threshold, result.pass_level), threshold)
            failed = result.status == "fail"
            if only_missed and (held or (status.status == "fail" and not failed)):
                continue
            if status.status == "undecided" and not held:
                said.append(undecided_text(one, threshold, result, self.setting.decide.confidence))
            else:
                said.append(interval_text(one, threshold, self.setting.decide.confidence))
        return "; ".join(said)

    def _all_findings(self) -> list[str]:
        words = {"pass": "passes", "fail": "fails", "undecided": "is undecided on"}
        return [
            f"{one.label} {words[status.status]} {self._findings(one, only_missed=True)}"
            for one, status in self._pairs()
        ]

    def _out_of_reach(self) -> tuple[OutOfReach, ...]:
        groups = None if self.setting.groups is None else len(np.unique(self.setting.groups))
        n, confidence = max((one.n for one in self.evidence), default=0), self.setting.decide.confidence
        candidates = len(self.evidence)
        return out_of_reach(self.setting.thresholds, n=n, candidates=candidates, confidence=confidence, groups=groups)

    def _notes(self) -> tuple[str, ...]:
        plan = self.setting.training
        assumptions = plan.assumptions if plan is not None and not self.setting.tried else ()
        return (*(f"{each.sentence()}." for each in self._out_of_reach()), *assumptions)


def _stop_flips(unmet: Sequence[Condition]) -> list[str]:
    remedies = listed([condition.remedy for condition in unmet])
    if unmet[0].name == "obstacle":
        return [f"with {remedies} it is decided again, which may change the verdict"]
    if len(unmet) > 1:
        return [f"tune would need all of these: {remedies}"]
    also = ", if the training it makes possible fits the limits" if unmet[0].name == "base" else ""
    return [f"with {remedies} the verdict would be tune{also}"]


def _neither(undecided: Sequence[Evidence], found: MoreData, obstacles: Sequence[Obstacle]) -> str:
    said = f"{listed([one.label for one in undecided])} {_are(undecided)} neither shown to pass nor to fail"
    if found.rows is None and obstacles:
        remedies = listed([each.remedy for each in obstacles])
        return f"{said}, and more test rows would not change that, but {remedies} may"
    if found.rows is None:
        chance = f"a chance of only {found.chance_text} ({percent(CHANCE)} asked)"
        return f"{said}, and even {counted(found.most, 'new row')} would settle it with {chance}"
    return f"{said}; about {counted(found.rows, 'new row')} would likely settle it, but decide.undecided is tune"


def _are(several: Sequence[Evidence]) -> str:
    return "is" if len(several) == 1 else "are"


def _cost(one: Evidence) -> str:
    return f"{quantity(COST, one.cost_usd)} per query" if one.cost_usd is not None else "an unknown cost per query"


def _remembering_ends(one: Evidence) -> Evidence:
    """The same, with each interval's ends computed once per level: the rules ask for the same few again and again."""
    intervals = {name: replace(interval, ends=lru_cache(interval.ends)) for name, interval in one.intervals.items()}
    return replace(one, intervals=intervals)
