"""What would flip the verdict: other thresholds and other prices, found by deciding again, never guessed.

The choice of rule 1 (which candidate is shipped, or none) changes with a threshold only where it crosses an end of an
interval at one of Holm's levels, and with a price only where the cost crosses its threshold or another one's cost. So
these are tried, the nearest first, and the first that changes the choice is said, rounded to 3 digits away from where
it changes, so that the sentence holds as printed. Passing is monotone in both, so "or lower", "or less" hold too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from evalft.config import Threshold
from evalft.decision.evidence import COST, Evidence, Setting
from evalft.decision.reach import in_unit_interval
from evalft.decision.statuses import by_cost, cheapest_passing, fails_at, meets, optimistic, passing, pessimistic
from evalft.decision.wording import (
    end_text,
    listed,
    metric_name,
    next_above,
    next_below,
    quantity,
    required,
    rounded_down,
    rounded_up,
)
from evalft.stats.interval import Interval


def choice_flips(evidence: Sequence[Evidence], setting: Setting) -> tuple[str, ...]:
    """Sentences: which one threshold or price would change what rule 1 chooses; thresholds together, if none alone."""
    now = cheapest_passing(evidence, setting.thresholds, setting.alpha)
    found = [
        sentence
        for threshold in setting.thresholds
        for sentence in (_looser(evidence, setting, threshold, now), _tighter(evidence, setting, threshold, now))
        if sentence is not None
    ]
    if now is None and evidence and not found:
        found = list(_together(evidence, setting))
    prices = [sentence for one in evidence for sentence in _prices(evidence, setting, one, now)]
    return (*found, *prices)


def all_fail_flips(evidence: Sequence[Evidence], setting: Setting) -> tuple[str, ...]:
    """Where some are undecided: the tighter threshold at which every candidate would be shown to fail."""
    level = setting.alpha / len(setting.thresholds)
    undecided = [one for one in evidence if not fails_at(one, setting.thresholds, setting.alpha)]
    sentences = []
    for threshold in setting.thresholds:
        ends = [optimistic(one, threshold, level) for one in undecided]
        end = max(ends, default=math.inf) if threshold.op == ">=" else min(ends, default=-math.inf)
        tight = _tightened(threshold, end)
        if tight is None:
            continue
        others = _with(setting.thresholds, tight)
        if all(fails_at(one, others, setting.alpha) for one in evidence):
            sentences.append(f"{_said(tight, tighter=True)}: every candidate would be shown to fail")
    return tuple(sentences)


# ---------------------------------------------------------------- thresholds


def _looser(evidence: Sequence[Evidence], setting: Setting, threshold: Threshold, now: Evidence | None) -> str | None:
    for crossed in _pass_ends(evidence, setting, threshold, met=False):
        loose = _loosened(threshold, crossed.end)
        if loose is None:
            continue
        thresholds = _with(setting.thresholds, loose)
        then = cheapest_passing(evidence, thresholds, setting.alpha)
        if then is not None and then is not now:
            instead = f" instead of {now.label}" if now is not None else ""
            own = _last_end(evidence, then, thresholds, loose, setting.alpha)
            decides = crossed if meets(own.end, threshold) else own
            return f"{_said(loose, tighter=False)}: {then.label} would be shipped{instead}; {decides.said(threshold, loose)}"
    return None


def _tighter(evidence: Sequence[Evidence], setting: Setting, threshold: Threshold, now: Evidence | None) -> str | None:
    if now is None:
        return None
    for crossed in _pass_ends(evidence, setting, threshold, met=True):
        tight = _tightened(threshold, crossed.end)
        if tight is None:
            continue
        thresholds = _with(setting.thresholds, tight)
        then = cheapest_passing(evidence, thresholds, setting.alpha)
        if then is not now:
            others = ", nor would any other" if len(evidence) > 1 else ""
            instead = others if then is None else f", {then.label} would be shipped instead"
            own = _last_end(evidence, now, thresholds, tight, setting.alpha)
            decides = own if meets(own.end, threshold) else crossed
            said = f"{now.label} would no longer be shown to pass{instead}"
            return f"{_said(tight, tighter=True)}: {said}; {decides.said(threshold, tight)}"
    return None


def _together(evidence: Sequence[Evidence], setting: Setting) -> Iterator[str]:
    """No threshold alone lets anyone pass: per candidate, the thresholds that would have to move together."""
    level = setting.alpha / len(evidence)
    for one in sorted(evidence, key=by_cost):
        missed = [each for each in setting.thresholds if not meets(pessimistic(one, each, level), each)]
        loose = [_loosened(each, pessimistic(one, each, level)) for each in missed]
        moved = [each for each in loose if each is not None]
        if len(moved) < len(loose):
            continue
        thresholds = _with(setting.thresholds, *moved)
        if cheapest_passing(evidence, thresholds, setting.alpha) is one:
            yield f"{listed([_said(each, tighter=False) for each in moved])}, together: {one.label} would be shipped"


@dataclass(frozen=True)
class _End:
    """The pessimistic end of `one` at one of Holm's levels."""

    end: float
    one: Evidence
    level: float

    def said(self, *bounds: Threshold) -> str:
        """With as many digits as keep it on its side of each bound."""
        end = max((end_text(self.one, bound, self.end) for bound in bounds), key=len)
        side = "lower" if bounds[0].op == ">=" else "upper"
        return f"the {side} end of {self.one.name} is {end} at level {self.level:.3g}"


def _pass_ends(evidence: Sequence[Evidence], setting: Setting, threshold: Threshold, *, met: bool) -> list[_End]:
    """Every pessimistic end at one of Holm's levels that does (not) meet the threshold, nearest to it first."""
    levels = [setting.alpha / m for m in range(1, len(evidence) + 1)]
    ends = [_End(pessimistic(one, threshold, level), one, level) for one in evidence for level in levels]
    sided = [each for each in ends if math.isfinite(each.end) and meets(each.end, threshold) == met]
    return sorted(sided, key=lambda each: abs(each.end - threshold.bound))


def _last_end(
    evidence: Sequence[Evidence], one: Evidence, thresholds: Sequence[Threshold], threshold: Threshold, alpha: float
) -> _End:
    """The end at the level at which `one` was accepted or last tried under `thresholds`."""
    _, levels = passing(evidence, thresholds, alpha)
    level = next(level for each, level in zip(evidence, levels, strict=True) if each is one)
    return _End(pessimistic(one, threshold, level), one, level)


def _loosened(threshold: Threshold, end: float) -> Threshold | None:
    """The threshold moved just far enough that `end` meets it; None where it would then ask for nothing."""
    if not math.isfinite(end):
        return None
    bound = rounded_down(end) if threshold.op == ">=" else rounded_up(end)
    if in_unit_interval(threshold.metric) and (bound <= 0 if threshold.op == ">=" else bound >= 1):
        return None
    return replace(threshold, bound=bound)


def _tightened(threshold: Threshold, end: float) -> Threshold | None:
    """The threshold moved just far enough that `end` misses it; None where nothing could meet that."""
    if not math.isfinite(end) or end == 0:
        return None
    bound = next_above(end) if threshold.op == ">=" else next_below(end)
    if in_unit_interval(threshold.metric) and not 0 <= bound <= 1:
        return None
    return replace(threshold, bound=bound)


def _with(thresholds: Sequence[Threshold], *changed: Threshold) -> tuple[Threshold, ...]:
    by_metric = {threshold.metric: threshold for threshold in changed}
    return tuple(by_metric.get(threshold.metric, threshold) for threshold in thresholds)


def _said(threshold: Threshold, *, tighter: bool) -> str:
    higher = (threshold.op == ">=") == tighter
    return f"{metric_name(threshold.metric)} {required(threshold)} (or {'higher' if higher else 'lower'}) instead"


# ---------------------------------------------------------------- prices


def _prices(evidence: Sequence[Evidence], setting: Setting, one: Evidence, now: Evidence | None) -> Iterator[str]:
    """A cheaper `one`; and a dearer one, where it is what would be shipped."""
    usd = one.cost_usd
    if usd is None or not math.isfinite(usd) or usd <= 0:
        return
    crossings = sorted(_cost_crossings(evidence, setting, one, usd))
    cheaper = [rounded for v in reversed(crossings) if v <= usd for rounded in (rounded_down(v), next_below(v))]
    dearer = (
        [rounded for v in crossings if v >= usd for rounded in (rounded_up(v), next_above(v))] if one is now else []
    )
    for words, prices in (("less", cheaper), ("more", dearer)):
        for price in prices:
            if price <= 0 or (price < usd) != (words == "less"):
                continue
            priced = _at_cost(one, price)
            changed = [priced if each is one else each for each in evidence]
            then = cheapest_passing(changed, setting.thresholds, setting.alpha)
            if _name(then) == _name(now):
                continue
            at = f"{quantity(COST, price)} per query or {words} (now {quantity(COST, usd, price)})"
            outcome = "no candidate would be shown to pass" if then is None else f"{then.label} would be shipped"
            instead = f" instead of {now.label}" if now is not None and then is not None else ""
            yield f"{one.label} at {at}: {outcome}{instead}"
            break


def _cost_crossings(evidence: Sequence[Evidence], setting: Setting, one: Evidence, usd: float) -> set[float]:
    """Costs per query of `one` at which its cost threshold, or the order of the candidates by cost, changes."""
    crossings = {each.cost_usd for each in evidence if each is not one and each.cost_usd is not None}
    for threshold in setting.thresholds:
        if threshold.metric == COST:
            ends = [pessimistic(one, threshold, setting.alpha / m) for m in range(1, len(evidence) + 1)]
            crossings |= {usd * threshold.bound / end for end in ends if math.isfinite(end) and end > 0}
    return {value for value in crossings if math.isfinite(value) and value > 0}


def _at_cost(one: Evidence, usd: float) -> Evidence:
    """The same candidate with every cost in proportion."""
    interval = one.intervals[COST]
    assert interval.value, "only known costs above 0 are scaled"
    factor = usd / interval.value

    def ends(level: float) -> tuple[float, float]:
        low, high = interval.ends(level)
        return low * factor, high * factor

    scaled = Interval(usd, interval.n, interval.method, ends, reason=interval.reason)
    return replace(one, intervals={**one.intervals, COST: scaled})


def _name(one: Evidence | None) -> str | None:
    return None if one is None else one.name
