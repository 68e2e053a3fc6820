"""The rules of the decision: statuses from interval ends, which verdict they give, and what would flip it."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import ndtri
from scipy.stats import binom

from evalft.config import DecideConfig, Threshold, parse_threshold
from evalft.decision import Decision, Evidence, Setting, TrainingPlan, decide
from evalft.decision.break_even import queries_to_break_even
from evalft.decision.more_data import chance_of_settling, rows_to_settle
from evalft.decision.reach import out_of_reach
from evalft.decision.statuses import candidate_statuses, cheapest_passing, fails_at, meets, passing
from evalft.decision.tuning import trainable_base
from evalft.decision.wording import next_above, next_below, number, rounded_down, rounded_up
from evalft.stats.bootstrap import mean
from evalft.stats.interval import Interval
from evalft.stats.order import quantile
from evalft.stats.proportion import proportion

ALPHA = (1 - 0.95) / 2
PLAN = TrainingPlan("hf:base", 0.5, 1.0, 0.5, 0.5, 3.0, fits=True, cost_per_query_after_usd=0.00002)


def normal(value: float | None, half: float, reason: str | None = None) -> Interval:
    """An interval of `half` on each side at 95 %, wider or narrower at other levels as a normal one."""
    if value is None:
        return Interval(None, 100, "bca", reason=reason or "not measurable")
    return Interval(value, 100, "bca", lambda alpha: (value - reach(half, alpha), value + reach(half, alpha)))


def reach(half: float, alpha: float) -> float:
    return half * float(ndtri(alpha) / ndtri(ALPHA))


def candidate(name: str, *, trainable: bool = False, **intervals: Interval) -> Evidence:
    model = "hf:base" if trainable else f"openai:{name}"
    return Evidence(name, model, "candidate", intervals, 100, lambda rows: {}, trainable=trainable)


def measured(
    name: str, right: np.ndarray, usd: np.ndarray | None = None, *, groups: np.ndarray | None = None, **more: object
) -> Evidence:
    """A candidate with exact intervals of accuracy, and of cost where there is one."""
    intervals = {"accuracy": proportion(right, groups)}
    if usd is not None:
        intervals["cost_per_query"] = mean(usd)

    def resample(rows: np.ndarray) -> dict[str, float]:
        values = {"accuracy": float(right[rows].mean())}
        return values if usd is None else {**values, "cost_per_query": float(usd[rows].mean())}

    keywords = {"model": f"openai:{name}", "scores": right.astype(float), **more}
    return Evidence(name=name, role="candidate", intervals=intervals, n=len(right), resample=resample, **keywords)


def required(**texts: str) -> tuple[Threshold, ...]:
    return tuple(parse_threshold(metric, text) for metric, text in texts.items())


def setting(thresholds: tuple[Threshold, ...], **more: object) -> Setting:
    config = {key: more.pop(key) for key in list(more) if key in DecideConfig.model_fields}
    given_rows = {"training": PLAN, "train_rows": 50, "primary": "accuracy", **more}
    return Setting(thresholds=thresholds, decide=DecideConfig(**config), **given_rows)


def action(decision: Decision) -> tuple[str, str | None]:
    assert decision.verdict is not None
    return decision.verdict.action, decision.verdict.candidate


def rows(right: int, n: int) -> np.ndarray:
    return np.arange(n) < right


# ---------------------------------------------------------------- thresholds


def test_a_threshold_passes_fails_or_is_undecided_by_its_shown_interval():
    one = candidate("a", accuracy=normal(0.8, 0.1))
    shown = {
        bound: candidate_statuses([one], required(accuracy=f">= {bound}"), 0.95)[0].thresholds["accuracy"].status
        for bound in (0.69, 0.71, 0.89, 0.91)
    }
    assert shown == {0.69: "pass", 0.71: "undecided", 0.89: "undecided", 0.91: "fail"}
    cost = candidate("a", cost_per_query=normal(0.8, 0.1))
    shown = {
        bound: candidate_statuses([cost], required(cost_per_query=f"<= {bound}"), 0.95)[0].status
        for bound in (0.69, 0.71, 0.89, 0.91)
    }
    assert shown == {0.69: "fail", 0.71: "undecided", 0.89: "undecided", 0.91: "pass"}


def test_meeting_a_threshold_exactly_is_a_pass_also_when_a_mean_is_off_in_its_last_digit():
    costs = np.full(3, 0.1)
    total = float(costs.sum() / 3)
    assert total != 0.1, "this sum shows the rounding"
    for value in (0.1, total):
        one = candidate("a", cost_per_query=normal(value, 0.0))
        (status,) = candidate_statuses([one], required(cost_per_query="<= 0.1"), 0.95)
        assert status.status == status.thresholds["cost_per_query"].status == "pass"
        assert status.thresholds["cost_per_query"].p_value is not None


@given(
    value=st.floats(0, 1),
    half=st.floats(0, 0.5),
    bounds=st.lists(st.floats(0, 1), min_size=2, max_size=2),
    m=st.integers(1, 4),
)
@settings(deadline=None)
def test_statuses_are_monotone_in_the_threshold(value, half, bounds, m):
    order = {"pass": 0, "undecided": 1, "fail": 2}
    others = [candidate(f"other{i}", accuracy=normal(0.5, 0.1)) for i in range(m - 1)]
    easier, harder = sorted(bounds)
    one = candidate("a", accuracy=normal(value, half))
    seen = [
        candidate_statuses([one, *others], [Threshold("accuracy", ">=", bound)], 0.95)[0] for bound in (easier, harder)
    ]
    assert order[seen[0].status] <= order[seen[1].status]
    assert order[seen[0].thresholds["accuracy"].status] <= order[seen[1].thresholds["accuracy"].status]


def test_what_is_unmeasured_or_unbounded_is_undecided_and_says_why():
    one = Evidence(
        "a",
        "openai:a",
        "candidate",
        {"roc_auc": normal(None, 0, "1 row of a class"), "latency_p95": quantile(np.arange(20.0), 0.95)},
        20,
        lambda rows: {},
    )
    (status,) = candidate_statuses([one], required(roc_auc=">= 0.5", f1=">= 0.5", latency_p95="<= 30"), 0.95)
    reasons = {metric: (result.status, result.reason) for metric, result in status.thresholds.items()}
    assert reasons["roc_auc"] == ("undecided", "1 row of a class")
    assert reasons["f1"] == ("undecided", "not measured")
    assert reasons["latency_p95"] == ("undecided", "not bounded by this many rows")
    assert status.thresholds["latency_p95"].pass_end is None
    assert status.status == "undecided"


def test_a_macro_metric_with_a_rare_class_cannot_pass_but_can_fail():
    good = replace(candidate("a", f1=normal(0.9, 0.01)), cannot_pass={"f1": "class 'rare' has 3 rows"})
    bad = replace(candidate("b", f1=normal(0.2, 0.01)), cannot_pass={"f1": "class 'rare' has 3 rows"})
    first, second = candidate_statuses([good, bad], required(f1=">= 0.5"), 0.95)
    assert (first.status, first.thresholds["f1"].status) == ("undecided", "undecided")
    assert first.thresholds["f1"].reason == "class 'rare' has 3 rows"
    assert (second.status, second.thresholds["f1"].status) == ("fail", "fail")


# ---------------------------------------------------------------- candidates


def at_level(p_value: float) -> Interval:
    """Reaches 0.9 from above exactly at one-sided level p_value."""
    half = 0.05
    return normal(0.9 + reach(half, p_value) + 1e-9, half)


def test_holm_accepts_the_best_first_and_is_easier_on_the_rest():
    bound = required(accuracy=">= 0.9")
    both = [candidate("a", accuracy=at_level(0.012)), candidate("b", accuracy=at_level(0.02))]
    assert [one.status for one in candidate_statuses(both, bound, 0.95)] == ["pass", "pass"]
    assert [one.thresholds["accuracy"].pass_level for one in candidate_statuses(both, bound, 0.95)] == [
        ALPHA / 2,
        ALPHA,
    ]
    held_back = [candidate("a", accuracy=at_level(0.013)), candidate("b", accuracy=at_level(0.02))]
    assert [one.status for one in candidate_statuses(held_back, bound, 0.95)] == ["undecided", "undecided"]


def test_failing_is_corrected_for_the_number_of_thresholds():
    missed_at = 0.02  # between alpha / 2 and alpha
    miss = normal(0.9 - reach(0.05, missed_at) - 1e-9, 0.05)
    alone = candidate_statuses([candidate("a", accuracy=miss)], required(accuracy=">= 0.9"), 0.95)[0]
    beside = candidate("a", accuracy=miss, f1=normal(0.95, 0.01))
    (two,) = candidate_statuses([beside], required(accuracy=">= 0.9", f1=">= 0.9"), 0.95)
    assert alone.status == "fail"
    assert (two.status, two.thresholds["accuracy"].status) == ("undecided", "fail")


def evidence_sets(most: int = 4) -> st.SearchStrategy[list[Evidence]]:
    value = st.one_of(st.none(), st.floats(0, 1))
    cost = st.one_of(st.none(), st.sampled_from([0.0, 1e-4, 1e-3]), st.floats(1e-6, 1e-2))
    half = st.sampled_from([0.0, 0.01, 0.05, 0.2])

    def build(parts: list[tuple[float | None, float, float | None, float, bool]]) -> list[Evidence]:
        return [
            candidate(
                f"c{i}",
                accuracy=normal(accuracy, spread),
                cost_per_query=normal(usd, share * (usd or 0.0)),
                trainable=trainable,
            )
            for i, (accuracy, spread, usd, share, trainable) in enumerate(parts)
        ]

    return st.lists(st.tuples(value, half, cost, half, st.booleans()), min_size=1, max_size=most).map(build)


def threshold_sets() -> st.SearchStrategy[tuple[Threshold, ...]]:
    accuracy = st.floats(0.05, 0.99).map(lambda bound: Threshold("accuracy", ">=", bound))
    cost = st.floats(1e-6, 1e-2).map(lambda bound: Threshold("cost_per_query", "<=", bound))
    return st.one_of(st.tuples(accuracy), st.tuples(accuracy, cost))


@given(evidence=evidence_sets(), thresholds=threshold_sets())
@settings(deadline=None)
def test_a_candidate_passes_exactly_where_its_p_values_reach_its_level(evidence, thresholds):
    for status in candidate_statuses(evidence, thresholds, 0.95):
        results = status.thresholds.values()
        reached = all(
            result.p_value is not None and result.p_value <= result.pass_level * (1 - 1e-6) for result in results
        )
        missed = any(result.p_value is None or result.p_value > result.pass_level * (1 + 1e-6) for result in results)
        assume(reached or missed)  # not within rounding of the level itself
        assert (status.status == "pass") == reached


def test_looking_at_several_candidates_at_the_bound_passes_one_no_more_often_than_alpha():
    random, tries, n, bound = np.random.default_rng(0), 4000, 200, 0.9
    k = random.binomial(n, bound, size=(tries, 4))
    exact = {int(right): proportion(rows(right, n)) for right in np.unique(k)}
    by_count = {right: candidate("x", accuracy=interval) for right, interval in exact.items()}
    once = [replace(by_count[right], name=str(right)) for right in by_count]
    alone = {int(one.name) for one in once if passing([one], required(accuracy=f">= {bound}"), ALPHA)[0]}
    wrong = 0
    for counts in k:
        field = [replace(by_count[int(right)], name=str(i)) for i, right in enumerate(counts)]
        wrong += bool(passing(field, required(accuracy=f">= {bound}"), ALPHA)[0])
    error = 3 * math.sqrt(ALPHA * (1 - ALPHA) / tries)
    assert wrong / tries <= ALPHA + error
    uncorrected = np.mean([any(int(right) in alone for right in counts) for counts in k])
    assert uncorrected > ALPHA + error, "four looks without a correction would be wrong too often"


def test_a_candidate_at_the_bound_of_three_thresholds_fails_no_more_often_than_alpha():
    random, tries, n, bound = np.random.default_rng(1), 3000, 200, 0.9
    thresholds = required(m0=">= 0.9", m1=">= 0.9", m2=">= 0.9")
    exact = {right: proportion(rows(right, n)) for right in range(n + 1)}
    failed = 0
    for counts in random.binomial(n, bound, size=(tries, 3)):
        one = candidate("x", **{f"m{i}": exact[int(right)] for i, right in enumerate(counts)})
        failed += fails_at(one, thresholds, ALPHA)
    assert failed / tries <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / tries)


# ---------------------------------------------------------------- the rules in order


def test_without_thresholds_there_is_nothing_to_decide():
    decision = decide([candidate("a", accuracy=normal(0.9, 0.01))], setting(()))
    assert decision.verdict is None and decision.statuses == ()
    assert "--threshold 'accuracy >= 0.9'" in decision.notes[0]


def three(accuracies: Sequence[float], costs: Sequence[float], half: float = 0.01) -> list[Evidence]:
    return [
        candidate(f"c{i}", accuracy=normal(accuracy, half), cost_per_query=normal(usd, usd / 100))
        for i, (accuracy, usd) in enumerate(zip(accuracies, costs, strict=True))
    ]


def test_the_cheapest_that_passes_is_shipped_and_equal_costs_go_by_name():
    thresholds = required(accuracy=">= 0.8")
    assert action(decide(three([0.9, 0.95, 0.5], [0.003, 0.002, 0.001]), setting(thresholds))) == ("ship", "c1")
    assert action(decide(three([0.9, 0.95, 0.9], [0.002, 0.002, 0.003]), setting(thresholds))) == ("ship", "c0")


def test_shipping_names_cheaper_near_misses_and_whether_the_difference_is_real():
    n = 400
    usd = np.full(n, 0.001)
    best = measured("best", rows(380, n), 3 * usd)
    close = measured("close", np.roll(rows(372, n), 200), 2 * usd)
    far = measured("far", rows(100, n), usd)
    decision = decide([best, close, far], setting(required(accuracy=">= 0.91")))
    assert action(decision) == ("ship", "best")
    told = {name: next(text for text in decision.verdict.reasons if text.startswith(name)) for name in ("close", "far")}
    assert "is undecided on accuracy" in told["close"] and "is not shown to be real" in told["close"]
    assert "fails accuracy" in told["far"] and "the difference in accuracy" in told["far"] and "is real" in told["far"]
    as_f1 = [
        replace(one, scores_of="exact_match") for one in (best, close, far)
    ]  # rows have none of the primary metric
    assert "the difference in exact_match" in str(decide(as_f1, setting(required(accuracy=">= 0.91"))).verdict.reasons)


def test_a_stand_in_is_named_as_one():
    one = replace(candidate("rules", accuracy=normal(0.95, 0.01)), stand_in=True)
    decision = decide([one], setting(required(accuracy=">= 0.9")))
    assert "rules (stand-in for a closed API)" in decision.verdict.reasons[0]


def test_undecided_asks_for_more_rows_where_enough_of_them_would_settle_it():
    decision = decide([measured("a", rows(280, 300))], setting(required(accuracy=">= 0.9"), max_new_rows=3000))
    assert action(decision) == ("more_test_data", None)
    assert decision.verdict.rows_needed is not None and 0 < decision.verdict.rows_needed <= 3000
    assert any("an estimate, not a promise" in text for text in decision.verdict.reasons)
    assert any("second look" in text for text in decision.verdict.reasons)


def test_undecided_goes_on_where_no_allowed_number_of_rows_settles_it_or_the_user_says_so():
    at_the_bound = [measured("a", rows(270, 300))]
    hopeless = decide(at_the_bound, setting(required(accuracy=">= 0.9"), max_new_rows=300))
    assert action(hopeless)[0] == "tune"
    assert any("neither shown to pass nor to fail" in text for text in hopeless.verdict.reasons)
    likely = [measured("a", rows(280, 300))]
    assert action(decide(likely, setting(required(accuracy=">= 0.9"))))[0] == "more_test_data"
    told = decide(likely, setting(required(accuracy=">= 0.9"), undecided="tune"))
    assert action(told)[0] == "tune"
    assert any("neither shown to pass nor to fail" in text for text in told.verdict.reasons)
    assert any("undecided: stop" in text for text in told.verdict.flips_if)


FAILING = [candidate("small", accuracy=normal(0.3, 0.02), cost_per_query=normal(0.00002, 0.0), trainable=True)]
WANTED = required(accuracy=">= 0.8", cost_per_query="<= 0.0005")


def test_tune_where_every_condition_holds_and_the_assumed_chance_is_said():
    decision = decide(FAILING, setting(WANTED))
    assert action(decision) == ("tune", "small")
    assert any(
        "no forecast: the chance of passing after tuning is assumed, not measured" in text.lower()
        for text in decision.verdict.reasons
    )


@pytest.mark.parametrize(
    ("change", "condition"),
    [
        ({"training": None}, "no trainable base"),
        ({"training": replace(PLAN, base=None)}, "no trainable base"),
        ({"train_rows": 12, "train_rows_possible": 7}, "20 are needed"),
        (
            {"training": replace(PLAN, fits=False, why_not=("30 h is over max_gpu_hours 2",))},
            "30 h is over max_gpu_hours 2",
        ),
    ],
)
def test_stop_names_the_condition_that_failed(change, condition):
    decision = decide(FAILING, setting(WANTED, **change))
    assert action(decision) == ("stop", None)
    assert condition in decision.verdict.reasons[0]
    assert decision.verdict.flips_if


def test_a_lone_file_gives_train_rows_that_can_be_made_and_that_is_said():
    decision = decide(FAILING, setting(WANTED, train_rows=0, train_rows_possible=200, lone_file=True))
    assert action(decision)[0] == "tune"
    assert any("half of the test file" in text for text in decision.verdict.reasons)


def dear_and_small(usd: float = 0.001) -> list[Evidence]:
    return [candidate("api", accuracy=normal(0.95, 0.01), cost_per_query=normal(usd, usd / 100)), *FAILING]


def test_training_that_pays_back_too_late_is_a_stop_and_the_volume_that_flips_it_does():
    late = decide(dear_and_small(), setting(WANTED, queries_per_month=100))
    assert action(late)[0] == "stop" and late.break_even["within_horizon"] is False
    queries = 2.0 / (0.001 - 0.00002)
    assert late.break_even["queries"] == pytest.approx(queries)
    assert late.break_even["months"] == pytest.approx(queries / 100)
    enough = float(
        next(re.search(r"volume of ([\d.]+) queries", text)[1] for text in late.verdict.flips_if if "volume" in text)
    )
    assert action(decide(dear_and_small(), setting(WANTED, queries_per_month=enough)))[0] == "tune"
    assert action(decide(dear_and_small(), setting(WANTED, queries_per_month=next_below(enough))))[0] == "stop"


@given(queries=st.floats(1, 1e7), horizon=st.sampled_from([1.0, 12.0, 36.0]))
@settings(max_examples=30, deadline=None)
def test_the_volume_below_which_training_does_not_pay_back_is_true_as_printed(queries, horizon):
    given_volume = {"queries_per_month": queries, "horizon_months": horizon}
    decision = decide(dear_and_small(), setting(WANTED, **given_volume))
    if action(decision)[0] == "tune":
        (text,) = [text for text in decision.verdict.flips_if if "not pay back" in text]
        too_few = float(re.search(r"at ([\d.]+) queries", text)[1])
        assert too_few < queries
        again = decide(dear_and_small(), setting(WANTED, queries_per_month=too_few, horizon_months=horizon))
        assert action(again)[0] == "stop"


def test_without_a_volume_break_even_is_printed_per_1000_queries_and_is_no_condition():
    decision = decide(dear_and_small(), setting(WANTED))
    assert action(decision)[0] == "tune"
    assert any("per 1,000 queries" in text for text in decision.verdict.reasons)
    assert decision.break_even["within_horizon"] is None and decision.break_even["months"] is None


def test_a_tuned_model_that_is_no_cheaper_never_pays_back():
    plan = replace(PLAN, cost_per_query_after_usd=0.002)
    decision = decide(dear_and_small(), setting(WANTED, training=plan, queries_per_month=1e9))
    assert action(decision)[0] == "stop" and "never pays back" in decision.verdict.reasons[0]
    assert decision.break_even["queries"] is None and decision.break_even["pays_back"] is False
    json.dumps(decision.break_even, allow_nan=False)


def test_break_even_counts_only_for_a_candidate_that_fails_on_cost_only():
    worse = [candidate("api", accuracy=normal(0.5, 0.01), cost_per_query=normal(0.001, 0.00001)), *FAILING]
    assert decide(worse, setting(WANTED, queries_per_month=1)).break_even is None


@given(now=st.floats(0, 1), after=st.floats(0, 1), one_off=st.floats(0, 1e4), dearer=st.floats(0, 1))
@settings(deadline=None)
def test_break_even_is_monotone_in_price_and_infinite_where_nothing_is_saved(now, after, one_off, dearer):
    queries = queries_to_break_even(one_off, now, after)
    assert queries_to_break_even(one_off, now + dearer, after) <= queries
    assert queries_to_break_even(one_off, now, after + dearer) >= queries
    assert queries_to_break_even(one_off + dearer, now, after) >= queries
    assert math.isinf(queries) == (now <= after) or queries > 1e300


def test_the_base_is_the_configured_one_else_the_best_trainable_candidate():
    weak = replace(candidate("weak", accuracy=normal(0.2, 0.1), trainable=True), model="hf:weak")
    strong = replace(candidate("strong", accuracy=normal(0.6, 0.1), trainable=True), model="hf:strong")
    api = candidate("api", accuracy=normal(0.9, 0.1))
    assert trainable_base([weak, api, strong], "accuracy") == "hf:strong"
    assert trainable_base([weak, api, strong], "accuracy", "hf:mine") == "hf:mine"
    assert trainable_base([api], "accuracy") is None
    lossy = [replace(one, intervals={"brier": one.intervals["accuracy"]}) for one in (weak, strong)]
    assert trainable_base(lossy, "brier") == "hf:weak"


# ---------------------------------------------------------------- properties of every verdict


@given(
    evidence=evidence_sets(),
    thresholds=threshold_sets(),
    volume=st.sampled_from([None, 10.0, 1e6]),
    plan=st.sampled_from([None, PLAN]),
)
@settings(max_examples=60, deadline=None)
def test_every_verdict_has_reasons_and_ships_only_what_passes(evidence, thresholds, volume, plan):
    given_setting = setting(thresholds, queries_per_month=volume, training=plan, max_new_rows=1)
    decision = decide(evidence, given_setting)
    assert decision.verdict is not None and decision.verdict.reasons and decision.steps
    passed = [one for one, status in zip(evidence, decision.statuses, strict=True) if status.status == "pass"]
    assert (decision.verdict.action == "ship") == bool(passed)
    if passed:
        cheapest = min(passed, key=lambda one: (math.inf if one.cost_usd is None else one.cost_usd, one.name))
        assert decision.verdict.candidate == cheapest.name
    if all(status.status == "fail" for status in decision.statuses):
        assert decision.verdict.action in ("tune", "stop")
    json.dumps(decision.break_even, allow_nan=False)


def test_nothing_measured_one_row_and_free_candidates_are_no_crash():
    one_row = measured("one", np.array([True]), np.array([0.0]))
    unmeasured = candidate("none", accuracy=normal(None, 0))
    bare = Evidence("bare", "openai:bare", "candidate", {}, 0, lambda rows: {})
    for evidence in ([], [one_row], [unmeasured], [bare], [one_row, unmeasured, bare]):
        for thresholds in (
            required(accuracy=">= 0.9"),
            required(accuracy=">= 1", cost_per_query="<= 0", latency_p95="<= 1"),
        ):
            for plan in (None, PLAN, replace(PLAN, cost_per_query_after_usd=None)):
                decision = decide(evidence, setting(thresholds, training=plan, queries_per_month=1, max_new_rows=1))
                assert decision.verdict is not None and decision.verdict.action != "ship"


# ---------------------------------------------------------------- flips

METRICS = {"accuracy": "accuracy", "cost per query": "cost_per_query"}


def said_threshold(text: str) -> tuple[Threshold, str] | None:
    found = re.match(r"(accuracy|cost per query) (>=|<=) \$?([\d.]+) \(or (lower|higher)\) instead: ", text)
    return (Threshold(METRICS[found[1]], found[2], float(found[3])), found[4]) if found else None  # type: ignore[arg-type]


def moved(thresholds: Sequence[Threshold], *new: Threshold) -> tuple[Threshold, ...]:
    by_metric = {one.metric: one for one in new}
    return tuple(by_metric.get(one.metric, one) for one in thresholds)


def shipped(evidence: Sequence[Evidence], thresholds: Sequence[Threshold]) -> str | None:
    chosen = cheapest_passing(evidence, thresholds, ALPHA)
    return None if chosen is None else chosen.name


def at_cost(one: Evidence, usd: float) -> Evidence:
    interval = one.intervals["cost_per_query"]
    share = usd / interval.value
    scaled = replace(interval, value=usd, ends=lambda alpha: tuple(share * end for end in interval.ends(alpha)))
    return replace(one, intervals={**one.intervals, "cost_per_query": scaled})


@given(evidence=evidence_sets(), thresholds=threshold_sets())
@settings(max_examples=150, deadline=None)
def test_what_is_said_to_flip_the_verdict_flips_it_as_printed(evidence, thresholds):
    decision = decide(evidence, setting(thresholds, max_new_rows=0))
    before = shipped(evidence, thresholds)
    for text in decision.verdict.flips_if:
        if (said := said_threshold(text)) is not None:
            threshold, direction = said
            further = 1.5 if direction == "higher" else 0.5
            if (quoted := re.search(r"end of (c\d) is \$?([\d.]+) at level", text)) is not None:
                end, old = float(quoted[2]), next(one for one in thresholds if one.metric == threshold.metric)
                assert meets(end, old) != meets(end, threshold), "the quoted end is the one that decides"
            for factor in (1.0, further):
                there = moved(thresholds, replace(threshold, bound=threshold.bound * factor))
                after = shipped(evidence, there)
                if "every candidate would be shown to fail" in text:
                    assert {one.status for one in candidate_statuses(evidence, there, 0.95)} == {"fail"}
                    continue
                assert after != before
                if factor == 1.0 and "would be shipped" not in text:
                    assert after is None
                elif factor == 1.0:
                    assert f"{after} would be shipped" in text
        elif found := re.match(r"(c\d) at \$([\d.]+) per query or (less|more)", text):
            for factor in (1.0, 0.5 if found[3] == "less" else 2.0):
                usd = float(found[2]) * factor
                priced = [at_cost(one, usd) if one.name == found[1] else one for one in evidence]
                assert shipped(priced, thresholds) != before
        elif "together: " in text:
            said_bounds = [
                Threshold(METRICS[metric], op, float(bound))  # type: ignore[arg-type]
                for metric, op, bound in re.findall(r"(accuracy|cost per query) (>=|<=) \$?([\d.]+) \(or", text)
            ]
            assert len(said_bounds) > 1
            assert f"{shipped(evidence, moved(thresholds, *said_bounds))} would be shipped" in text
        else:
            assert re.match(r"with |tune would need|at .* queries a month|about ", text), text


def test_flips_name_the_nearest_threshold_and_price():
    evidence = dear_and_small()
    flips = decide(evidence, setting(WANTED)).verdict.flips_if
    upper = evidence[0].intervals["cost_per_query"].ends(ALPHA / 2)[1]
    assert any(
        text.startswith(f"cost per query <= ${number(rounded_up(upper))} (or higher) instead: api") for text in flips
    )
    cheap_enough = rounded_down(0.001 * 0.0005 / upper)
    assert any(text.startswith(f"api at ${number(cheap_enough)} per query or less") for text in flips)

    missing = candidate("a", accuracy=normal(0.8512, 0.02))
    flips = decide([missing], setting(required(accuracy=">= 0.9"))).verdict.flips_if
    lower = rounded_down(missing.intervals["accuracy"].ends(ALPHA)[0])
    assert any(text.startswith(f"accuracy >= {number(lower)} (or lower) instead: a would be shipped") for text in flips)


def test_an_undecided_verdict_says_where_every_candidate_would_fail():
    decision = decide([measured("a", rows(280, 300))], setting(required(accuracy=">= 0.9")))
    (text,) = [text for text in decision.verdict.flips_if if "every candidate would be shown to fail" in text]
    threshold, _ = said_threshold(text)
    again = decide([measured("a", rows(280, 300))], setting((threshold,)))
    assert [one.status for one in again.statuses] == ["fail"]


# ---------------------------------------------------------------- more rows


def field(n: int = 400, shares: Sequence[float] = (0.93, 0.85, 0.2), seed: int = 0) -> list[Evidence]:
    random = np.random.default_rng(seed)
    usd = random.uniform(0.5, 1.5, size=(len(shares), n)) / 1000
    return [measured(f"c{i}", np.arange(n) < round(share * n), usd[i]) for i, share in enumerate(shares)]


def test_the_rows_asked_for_settle_the_verdict_with_the_stated_chance_under_another_seed():
    evidence, asked = field(), setting(required(accuracy=">= 0.9"))
    found = rows_to_settle(evidence, asked)
    assert found.rows is not None and found.chance >= 0.8
    again = chance_of_settling(evidence, asked, found.rows, simulations=1000, seed=99)
    error = 3 * math.sqrt(0.8 * 0.2 * (1 / 200 + 1 / 1000))
    assert again >= 0.8 - error
    assert chance_of_settling(evidence, asked, found.rows // 2, simulations=1000, seed=99) < 0.8


def test_the_chance_is_that_of_the_same_rules_on_enlarged_sets():
    n, new, tries = 100, 500, 400
    right = [rows(94, n), np.roll(rows(92, n), 3)]
    evidence = [measured(f"c{i}", one) for i, one in enumerate(right)]
    asked = setting(required(accuracy=">= 0.9"))
    random, settled = np.random.default_rng(5), 0
    for _ in range(tries):
        world = random.integers(n, size=n)
        chosen = np.concatenate([np.arange(n), world[random.integers(n, size=new)]])
        again = candidate_statuses(
            [measured(f"c{i}", one[chosen]) for i, one in enumerate(right)], asked.thresholds, 0.95
        )
        statuses = {one.status for one in again}
        settled += "pass" in statuses or statuses == {"fail"}
    chance = chance_of_settling(evidence, asked, new, simulations=tries)
    assert chance == pytest.approx(settled / tries, abs=3 * math.sqrt(0.25 * 2 / tries))


def test_no_number_of_rows_is_asked_for_where_even_the_most_allowed_would_not_settle_it():
    found = rows_to_settle(field(shares=(0.9,)), setting(required(accuracy=">= 0.9"), max_new_rows=500))
    assert found.rows is None and found.most == 500 and found.chance < 0.8


def test_showing_that_every_candidate_fails_settles_it_too():
    likely_to_fail = [measured("a", rows(260, 300))]
    asked = setting(required(accuracy=">= 0.9"))
    assert candidate_statuses(likely_to_fail, asked.thresholds, 0.95)[0].status == "undecided"
    assert rows_to_settle(likely_to_fail, asked).rows is not None


def test_a_stricter_limit_of_new_rows_is_kept():
    evidence = field()
    free = rows_to_settle(evidence, setting(required(accuracy=">= 0.9")))
    assert free.rows is not None and free.most == 5 * 400
    tight = rows_to_settle(evidence, setting(required(accuracy=">= 0.9"), max_new_rows=free.rows // 2))
    assert tight.rows is None


def test_new_rows_come_in_whole_groups():
    groups = np.repeat(np.arange(20), 10)
    right = rows(186, 200)
    seen: list[np.ndarray] = []

    def resample(chosen: np.ndarray) -> dict[str, float]:
        seen.append(chosen)
        return {"accuracy": float(right[chosen].mean())}

    one = replace(measured("a", right, groups=groups), resample=resample)
    asked = setting(required(accuracy=">= 0.9"), groups=groups)
    chance_of_settling([one], asked, 55, simulations=20)
    for chosen in seen:
        times = np.bincount(chosen, minlength=200).reshape(20, 10)
        assert np.all(times == times[:, :1]) and np.all(times >= 1)
        assert len(chosen) == 200 + 60


def test_a_rare_class_can_pass_once_it_has_grown():
    interval = Interval(0.9, 100, "bca", lambda alpha: (0.88, 0.92))
    one = Evidence(
        "a", "openai:a", "candidate", {"f1": interval}, 100, lambda rows: {"f1": 0.9}, {"f1": "class has 5 rows"}, 5
    )
    asked = setting(required(f1=">= 0.8"))
    assert chance_of_settling([one], asked, 99) == 0.0
    assert chance_of_settling([one], asked, 100) == 1.0
    assert rows_to_settle([one], asked).rows == pytest.approx(100, abs=5)


def test_a_latency_that_few_rows_do_not_bound_is_bounded_by_more():
    seconds = np.random.default_rng(0).lognormal(0, 0.2, 40)
    one = Evidence("a", "openai:a", "candidate", {"latency_p95": quantile(seconds, 0.95)}, 40, lambda rows: {})
    asked = setting(required(latency_p95="<= 5"))
    found = rows_to_settle([one], asked)
    needed = math.ceil(math.log(ALPHA) / math.log(0.95))
    assert found.rows is not None and 40 + found.rows >= needed
    assert found.rows <= 1.1 * (needed - 40) + 1


def test_the_search_for_rows_is_quick():
    evidence = [
        replace(
            one,
            intervals={**one.intervals, "latency_p95": quantile(np.random.default_rng(3).lognormal(0, 0.3, 400), 0.95)},
        )
        for one in field(shares=(0.92, 0.9, 0.88))
    ]
    asked = setting(required(accuracy=">= 0.9", cost_per_query="<= 0.002", latency_p95="<= 3"))
    rows_to_settle(evidence, replace(asked, decide=DecideConfig(max_new_rows=1)))  # imports
    start = time.process_time()
    rows_to_settle(evidence, asked)
    assert time.process_time() - start < 5


# ---------------------------------------------------------------- what rows can ever show


@given(bound=st.floats(0.01, 0.999), n=st.integers(1, 3000), m=st.integers(1, 5))
@settings(deadline=None)
def test_a_threshold_is_out_of_reach_exactly_where_all_right_would_not_pass(bound, n, m):
    thresholds = [Threshold("accuracy", ">=", bound)]
    found = out_of_reach(thresholds, n=n, candidates=m, confidence=0.95)

    def passes(count: int) -> bool:
        perfect = [
            replace(candidate(f"c{i}"), intervals={"accuracy": proportion(rows(count, count))}) for i in range(m)
        ]
        return bool(passing(perfect, thresholds, ALPHA)[0])

    assert (not found) == passes(n)
    if found:
        assert found[0].rows is not None
        assert passes(found[0].rows) and not passes(found[0].rows - 1)


def test_groups_count_as_rows_do():
    (found,) = out_of_reach(required(accuracy=">= 0.9"), n=500, candidates=1, confidence=0.95, groups=20)
    assert found.unit == "group" and f"{found.rows} groups" in found.sentence()
    (few,) = out_of_reach(required(accuracy=">= 0.1"), n=500, candidates=1, confidence=0.95, groups=5)
    assert few.rows == 8


@pytest.mark.parametrize("metric", ["latency_p50", "latency_p95"])
def test_a_latency_is_out_of_reach_exactly_where_its_upper_end_is_unbounded(metric):
    q = {"latency_p50": 0.5, "latency_p95": 0.95}[metric]
    for n in range(2, 120):
        found = out_of_reach([Threshold(metric, "<=", 9.0)], n=n, candidates=1, confidence=0.95)
        assert bool(found) == math.isinf(quantile(np.arange(float(n)), q).ends(ALPHA)[1])


def test_no_number_of_rows_shows_perfection_and_a_percentage_is_explained():
    certain, percentage, free, easy = (
        out_of_reach([threshold], n=10**6, candidates=1, confidence=0.95)
        for threshold in required(accuracy=">= 1", f1=">= 90", cost_per_query="<= -1", jaccard=">= 0")
    )
    assert certain[0].rows is None and "no number of rows" in certain[0].sentence()
    assert percentage[0].rows is None and "0.9" in percentage[0].reason
    assert free[0].rows is None
    assert easy == ()


def test_the_verdict_names_a_threshold_that_its_rows_cannot_show():
    decision = decide(
        [measured("a", rows(20, 20))], setting(required(accuracy=">= 0.9"), training=None, max_new_rows=0)
    )
    needed = math.ceil(math.log(ALPHA) / math.log(0.9))
    assert any(f"at least {needed} rows are needed" in text for text in decision.verdict.reasons)
    assert any(f"at least {needed} rows are needed" in text for text in decision.notes)


# ---------------------------------------------------------------- wording


@given(value=st.floats(1e-9, 1e9), bound=st.floats(1e-9, 1e9), near=st.floats(-1e-6, 1e-6))
@settings(deadline=None)
def test_a_shown_number_stays_on_its_side_of_the_threshold(value, bound, near):
    for shown in (value, bound * (1 + near)):
        text = number(shown, bound)
        assert "e" not in text
        if not math.isclose(shown, bound, rel_tol=1e-14):
            assert (float(text) > bound, float(text) < bound) == (shown > bound, shown < bound)


@given(value=st.floats(1e-9, 1e9))
@settings(deadline=None)
def test_rounding_is_in_the_stated_direction_and_small(value):
    steps: list[tuple[Callable[[float], float], int]] = [
        (rounded_down, -1),
        (next_below, -1),
        (rounded_up, 1),
        (next_above, 1),
    ]
    for rounding, sign in steps:
        there = rounding(value)
        assert (there - value) * sign >= 0
        assert there == pytest.approx(value, rel=0.011)
        assert rounding in (rounded_down, rounded_up) or there != value


def test_a_pass_at_95_percent_that_the_correction_takes_back_is_explained():
    evidence = [candidate("a", accuracy=at_level(0.02)), candidate("b", accuracy=normal(0.2, 0.01))]
    decision = decide(evidence, setting(required(accuracy=">= 0.9"), max_new_rows=0))
    status = decision.statuses[0]
    assert (status.status, status.thresholds["accuracy"].status) == ("undecided", "pass")
    assert any("corrected for several candidates" in text for text in decision.verdict.reasons)


def test_clopper_pearson_ends_agree_with_the_binomial_tail():
    """The p-value of a threshold is the exact binomial test's: no second test that could disagree."""
    n, right, bound = 300, 285, 0.9
    (status,) = candidate_statuses([measured("a", rows(right, n))], required(accuracy=f">= {bound}"), 0.95)
    assert status.thresholds["accuracy"].p_value == pytest.approx(binom.sf(right - 1, n, bound), rel=1e-5)
