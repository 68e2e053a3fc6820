"""Intervals and tests: equal to SciPy and scikit-learn where those have them, and right as often as they say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from evalft.stats import bootstrap, holm, ranking
from evalft.stats.auc import auc, newcombe
from evalft.stats.bootstrap import mean, weighted
from evalft.stats.interval import Interval
from evalft.stats.level import level_reached
from evalft.stats.order import quantile, rows_needed_to_bound
from evalft.stats.paired import mcnemar_exact, paired_difference, paired_statistic
from evalft.stats.proportion import clopper_pearson, proportion, rows_needed_to_pass

ALPHAS = (0.0005, 0.005, 0.0125, 0.025, 0.05, 0.1, 0.3, 0.49)
SIZES = (20, 50, 100, 300)
SHARES = (0.5, 0.8, 0.95, 0.99)

alphas = st.floats(1e-6, 0.49)
quick = settings(max_examples=40, deadline=None)


def rows(k: int, n: int) -> NDArray[np.bool_]:
    return np.arange(n) < k


def assert_ends_move_inwards(interval: Interval) -> None:
    """As alpha grows; the value always lies between them."""
    ends = [interval.ends(alpha) for alpha in ALPHAS]
    lows, highs = [low for low, _ in ends], [high for _, high in ends]
    assert lows == sorted(lows)
    assert highs == sorted(highs, reverse=True)
    assert interval.value is not None
    assert lows[-1] <= interval.value + 1e-12 and interval.value <= highs[-1] + 1e-12


# ---------------------------------------------------------------- proportions


@quick
@given(st.integers(1, 400), st.data(), alphas)
def test_a_proportion_has_scipys_exact_interval(n: int, data: st.DataObject, alpha: float) -> None:
    k = data.draw(st.integers(0, n))
    low, high = proportion(rows(k, n)).ends(alpha)
    exact = scipy.stats.binomtest(k, n).proportion_ci(confidence_level=1 - 2 * alpha, method="exact")
    assert (low, high) == pytest.approx((exact.low, exact.high), abs=1e-9)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("p", SHARES)
def test_an_exact_interval_misses_on_each_side_at_most_as_often_as_it_says(n: int, p: float) -> None:
    chance = scipy.stats.binom.pmf(np.arange(n + 1), n, p)
    ends = np.array([proportion(rows(k, n)).ends(0.025) for k in range(n + 1)])
    assert chance[ends[:, 0] > p].sum() <= 0.025
    assert chance[ends[:, 1] < p].sum() <= 0.025


@quick
@given(st.floats(0.01, 0.999), alphas)
def test_rows_needed_are_the_fewest_that_can_pass(bound: float, alpha: float) -> None:
    n = rows_needed_to_pass(bound, alpha)
    assert n is not None
    assert proportion(rows(n, n)).ends(alpha)[0] >= bound
    assert n == 1 or proportion(rows(n - 1, n - 1)).ends(alpha)[0] < bound


def test_no_number_of_rows_shows_that_every_row_is_right_and_one_row_shows_nothing_is_needed() -> None:
    assert rows_needed_to_pass(1.0, 0.025) is None
    assert rows_needed_to_pass(0.0, 0.025) == 1


@quick
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 11)), min_size=1, max_size=80))
def test_ends_of_proportions_move_inwards(pairs: list[tuple[bool, int]]) -> None:
    right = np.array([right for right, _ in pairs])
    groups = np.array([group for _, group in pairs])
    assert_ends_move_inwards(proportion(right))
    grouped = proportion(right, groups)
    if len(set(groups)) >= 8:
        assert_ends_move_inwards(grouped)
    else:
        assert grouped.value == right.mean()
        assert grouped.ends(0.1) == (-math.inf, math.inf)
        assert grouped.reason is not None and "group" in grouped.reason


def test_grouped_proportions_follow_korn_and_graubard() -> None:
    """The effective number of rows, written down a second time from the paper."""
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 200, 1000)
    right = rng.random(1000) < np.repeat([0.7, 0.9], 100)[groups]
    p, n = right.mean(), right.size
    totals = np.array([(right[groups == g] - p).sum() / n for g in np.unique(groups)])
    count = totals.size
    variance = count / (count - 1) * (totals**2).sum()
    assert p * (1 - p) / variance < n
    for alpha in ALPHAS[:-1]:
        shrink = scipy.stats.norm.ppf(alpha) / scipy.stats.t.ppf(alpha, count - 1)
        effective = min(n, p * (1 - p) / variance) * shrink**2
        k = p * effective
        low = scipy.stats.beta.ppf(alpha, k, effective - k + 1)
        high = scipy.stats.beta.isf(alpha, k + 1, effective - k)
        assert proportion(right, groups).ends(alpha) == pytest.approx((low, high), abs=1e-9)


@pytest.mark.parametrize("all_right", [True, False])
def test_all_right_or_all_wrong_says_nothing_of_the_spread_so_a_group_counts_as_one_row(all_right: bool) -> None:
    groups = np.repeat(np.arange(10), 6)
    expected = clopper_pearson(10 * all_right, 10, 0.025)
    assert proportion(np.full(60, all_right), groups).ends(0.025) == pytest.approx(expected)


grouped_results = st.lists(st.lists(st.booleans(), min_size=1, max_size=6), min_size=8, max_size=16)


@given(grouped_results, st.data(), st.sampled_from([0.005, 0.025, 0.2]))
@settings(deadline=None)
def test_a_better_grouped_result_never_has_a_lower_lower_end(
    by_group: list[list[bool]], data: Any, alpha: float
) -> None:
    groups = np.repeat(np.arange(len(by_group)), [len(one) for one in by_group])
    right = np.concatenate([np.array(one) for one in by_group])
    mended = data.draw(st.lists(st.booleans(), min_size=right.size, max_size=right.size))
    before, after = (proportion(each, groups).ends(alpha)[0] for each in (right, right | np.array(mended)))
    assert after >= before - 1e-9


def test_all_right_in_groups_does_not_end_below_a_few_errors_spread_over_them() -> None:
    groups = np.arange(120) % 30
    wrong = np.arange(120) < 4
    few_wrong, none_wrong = proportion(~wrong, groups).ends(0.025), proportion(~(wrong & False), groups).ends(0.025)
    assert few_wrong[0] <= none_wrong[0]
    few_right, none_right = proportion(wrong, groups).ends(0.025), proportion(wrong & False, groups).ends(0.025)
    assert few_right[1] >= none_right[1]


def test_copies_of_a_row_add_no_certainty() -> None:
    rng = np.random.default_rng(1)
    misses = {"grouped": 0, "ignored": 0}
    for _ in range(400):
        one = rng.random(25) < 0.8
        right, groups = np.repeat(one, 8), np.repeat(np.arange(25), 8)
        for name, interval in (("grouped", proportion(right, groups)), ("ignored", proportion(right))):
            low, high = interval.ends(0.025)
            misses[name] += not low <= 0.8 <= high
    assert misses["grouped"] <= 0.06 * 400
    assert misses["ignored"] >= 0.3 * 400


# ---------------------------------------------------------------- bootstrap


def test_the_mean_has_scipys_bca_interval() -> None:
    values = np.random.default_rng(2).exponential(size=60)
    ours = mean(values)
    theirs = scipy.stats.bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(3))
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert ours.method == "bca"
    assert ours.ends(0.025) == pytest.approx(tuple(theirs.confidence_interval), abs=0.05 * width)


def f1_of_cells(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cells: true positive, false positive, false negative, true negative."""
    hits, false_alarms, misses = weights[:, 0], weights[:, 1], weights[:, 2]
    return 2 * hits / (2 * hits + false_alarms + misses)


def f1_of_rows(target: NDArray[np.bool_], prediction: NDArray[np.bool_], axis: int) -> NDArray[np.float64]:
    return 2 * (target & prediction).sum(axis) / (target.sum(axis) + prediction.sum(axis))


def test_a_metric_over_cells_has_scipys_bca_interval_over_rows() -> None:
    rng = np.random.default_rng(4)
    target = rng.random(120) < 0.4
    prediction = np.where(rng.random(120) < 0.8, target, ~target)
    cells = np.select([target & prediction, prediction, target], [0, 1, 2], 3)
    ours = weighted(f1_of_cells, cells)
    theirs = scipy.stats.bootstrap(
        (target, prediction), f1_of_rows, paired=True, n_resamples=20_000, rng=np.random.default_rng(5)
    )
    assert ours.value == pytest.approx(f1_score(target, prediction))
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert ours.ends(0.025) == pytest.approx(tuple(theirs.confidence_interval), abs=0.05 * width)


def test_a_biased_metric_has_scipys_bca_interval() -> None:
    """The variance over n rows comes out too small, in resamples again."""
    values = np.random.default_rng(26).exponential(size=25)

    def variance(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return weights @ values**2 / 25 - (weights @ values / 25) ** 2

    ours = weighted(variance, np.arange(25))
    theirs = scipy.stats.bootstrap((values,), np.var, n_resamples=20_000, rng=np.random.default_rng(27))
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert ours.ends(0.025) == pytest.approx(tuple(theirs.confidence_interval), abs=0.06 * width)


def test_cells_stand_for_their_rows() -> None:
    """One cell per row and one per distinct score are the same bootstrap, up to its own noise."""
    values = np.random.default_rng(6).choice([0.0, 0.25, 0.5, 1.0], size=400)
    few = mean(values)
    many = weighted(lambda weights: weights @ values / weights.sum(axis=1), np.arange(400))
    assert few.value == pytest.approx(many.value)
    width = few.ends(0.025)[1] - few.ends(0.025)[0]
    assert few.ends(0.025) == pytest.approx(many.ends(0.025), abs=0.08 * width)


def test_a_jackknife_in_closed_form_changes_nothing() -> None:
    values = np.random.default_rng(7).exponential(size=50)
    distinct, cells = np.unique(values, return_inverse=True)
    evaluated = weighted(lambda weights: weights @ distinct / weights.sum(axis=1), cells, seed=3)
    assert mean(values, seed=3).ends(0.025) == pytest.approx(evaluated.ends(0.025), abs=1e-12)


def test_a_seed_fixes_every_end() -> None:
    values = np.random.default_rng(8).random(30)
    assert mean(values, seed=1).ends(0.025) == mean(values, seed=1).ends(0.025)
    assert mean(values, seed=1).ends(0.025) != mean(values, seed=2).ends(0.025)


@quick
@given(st.lists(st.sampled_from([0.0, 0.2, 0.5, 1.0]), min_size=1, max_size=40), st.sampled_from([None, (0.0, 1.0)]))
def test_ends_of_means_move_inwards_and_stay_in_bounds(values: list[float], bounds: tuple[float, float] | None) -> None:
    interval = mean(np.array(values), bounds=bounds)
    assert_ends_move_inwards(interval)
    if bounds:
        low, high = interval.ends(1e-9)
        assert low >= 0 and high <= 1


def test_a_level_rarer_than_any_resample_is_not_bounded_by_them() -> None:
    values = np.random.default_rng(9).random(30)
    assert mean(values).ends(1e-5) == (-math.inf, math.inf)
    assert mean(values, bounds=(0.0, 1.0)).ends(1e-5) == (0.0, 1.0)


@pytest.mark.parametrize("below", range(13))
def test_few_rows_below_the_maximum_leave_the_low_end_to_the_exact_interval(below: int) -> None:
    values = np.where(np.arange(200) < below, 0.9, 1.0)  # scores so near the maximum that a bootstrap sees no risk
    low = mean(values, bounds=(0.0, 1.0)).ends(0.025)[0]
    exact = proportion(values == 1).ends(0.025)[0]
    assert (low <= exact + 1e-12) == (below < 10)
    mirrored = mean(1 - values, bounds=(0.0, 1.0)).ends(0.025)[1]
    assert (mirrored >= 1 - exact - 1e-12) == (below < 10)


def test_exact_ends_are_mapped_to_the_scale_of_the_score() -> None:
    values = np.full(50, 100.0)
    assert mean(values, bounds=(-20.0, 100.0)).ends(0.025)[0] == pytest.approx(-20 + 120 * 0.025 ** (1 / 50))


def test_few_rows_below_the_maximum_count_groups_where_there_are_groups() -> None:
    groups = np.repeat(np.arange(40), 5)
    values = np.ones(200)
    grouped = mean(values, bounds=(0.0, 1.0), groups=groups)
    assert grouped.ends(0.025)[0] == proportion(values == 1, groups).ends(0.025)[0]
    assert grouped.ends(0.025)[0] < mean(values, bounds=(0.0, 1.0)).ends(0.025)[0]


def test_an_amount_without_a_scale_has_no_exact_ends() -> None:
    assert mean(np.full(50, 0.002)).ends(0.025) == (0.002, 0.002)


def test_degenerate_rows() -> None:
    nothing = mean(np.array([]))
    assert nothing.value is None and nothing.reason == "no rows"
    one_cost = mean(np.array([0.002]))
    assert one_cost.value == 0.002 and one_cost.reason is not None
    assert one_cost.ends(0.025) == (-math.inf, math.inf)
    assert mean(np.array([0.5]), bounds=(0.0, 1.0)).ends(0.025) == (0.0, 1.0)
    assert proportion(np.array([], dtype=bool)).value is None
    never = weighted(lambda weights: np.full(len(weights), np.nan), np.arange(5))
    assert never.value is None and never.reason is not None


def share_of_first(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Defined only where the last cell occurs."""
    return np.where(weights[:, -1] > 0, weights[:, 0] / weights.sum(axis=1), np.nan)


def test_resamples_without_the_metric_are_left_out_and_said() -> None:
    cells = np.array([0] * 30 + [1] * 29 + [2])
    interval = weighted(share_of_first, cells)
    assert interval.reason is not None
    told = float(interval.reason.split("%")[0].split()[-1]) / 100
    assert told == pytest.approx((1 - 1 / 60) ** 60, abs=0.03)
    assert_ends_move_inwards(interval)


def test_a_metric_lost_in_most_resamples_has_no_interval() -> None:
    def both(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where((weights[:, 1:] > 0).all(axis=1), weights[:, 0], np.nan)

    interval = weighted(both, np.array([0] * 30 + [1, 2, 3]))
    assert interval.value == 30 and interval.ends(0.025) == (-math.inf, math.inf)
    assert interval.reason is not None and "not defined" in interval.reason


def test_a_value_that_no_resample_reaches_takes_mirrored_resamples() -> None:
    """No row is missing from the data; of 50 rows about a third is missing from each resample."""

    def missing(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return (weights == 0).mean(axis=1)

    interval = weighted(missing, np.arange(50))
    assert (interval.value, interval.method) == (0.0, "basic")
    low, high = interval.ends(0.025)
    assert high == 0
    assert low == pytest.approx(-0.46, abs=0.04)  # 0.98 ** 50 = 0.364 of the rows and two standard errors
    assert_ends_move_inwards(interval)


def test_many_rows_take_the_normal_interval() -> None:
    n = 20_000
    values = np.arange(n) % 7 / 7
    interval = mean(values, bounds=(0.0, 1.0))
    half = scipy.stats.norm.isf(0.025) * values.std(ddof=1) / math.sqrt(n)
    assert interval.method == "normal"
    assert interval.ends(0.025) == pytest.approx((values.mean() - half, values.mean() + half))
    assert mean(values[:-1], bounds=(0.0, 1.0)).ends(0.025) == pytest.approx(interval.ends(0.025), abs=0.1 * half)


def test_rows_that_nearly_all_score_the_same_are_no_certainty() -> None:
    """What none of 60 rows scored, up to that share of rows may score (exact), at the worst or the best."""
    for groups in (None, np.arange(60) % 20):
        others = proportion(np.zeros(60, dtype=bool), groups).ends(0.025)[1]
        low, high = mean(np.full(60, 0.5), bounds=(0.0, 1.0), groups=groups).ends(0.025)
        assert (low, high) == pytest.approx((0.5 - 0.5 * others, 0.5 + 0.5 * others))


@pytest.mark.parametrize("groups", [None, np.arange(60) % 20])
def test_an_auc_over_labels_of_equal_scores_for_all_is_no_certainty(groups: NDArray[np.int_] | None) -> None:
    member = np.eye(3, dtype=bool)[np.arange(60) % 3]
    found = ranking.averaged(np.full((60, 3), 1 / 3), member, "roc_auc", "macro", groups=groups)
    assert found.value == 0.5
    assert found.ends(0.025) == (-math.inf, math.inf)


# ---------------------------------------------------------------- groups


def test_under_8_groups_there_is_a_value_and_no_interval() -> None:
    interval = mean(np.arange(70) / 70, bounds=(0.0, 1.0), groups=np.arange(70) % 7)
    assert interval.value == pytest.approx(np.mean(np.arange(70) / 70))
    assert interval.ends(0.025) == (-math.inf, math.inf)
    assert interval.reason is not None and "7 groups" in interval.reason


@pytest.mark.parametrize("count", [8, 15, 29])
def test_under_30_groups_of_one_size_the_interval_is_the_t_interval_of_group_means(count: int) -> None:
    values = np.random.default_rng(11).normal(size=(count, 4))
    groups = np.repeat(np.arange(count), 4)
    interval = mean(values.ravel(), groups=groups)
    group_means = values.mean(axis=1)
    expected = scipy.stats.t.interval(0.95, count - 1, group_means.mean(), scipy.stats.sem(group_means))
    assert interval.method == "jackknife_t"
    assert interval.ends(0.025) == pytest.approx(expected)


def test_from_30_groups_of_one_size_the_interval_is_the_bca_interval_of_group_means() -> None:
    values = np.random.default_rng(12).exponential(size=(40, 4))
    interval = mean(values.ravel(), groups=np.repeat(np.arange(40) * 3 + 1, 4))
    theirs = scipy.stats.bootstrap((values.mean(axis=1),), np.mean, n_resamples=20_000, rng=np.random.default_rng(13))
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert interval.method == "bca"
    assert interval.ends(0.025) == pytest.approx(tuple(theirs.confidence_interval), abs=0.05 * width)


def test_a_metric_that_hangs_on_one_group_has_no_interval_under_30_groups() -> None:
    interval = weighted(share_of_first, np.array([0, 1] * 10 + [2]), groups=np.arange(21) // 2)
    assert interval.value is not None and interval.reason is not None
    assert interval.ends(0.025) == (-math.inf, math.inf)


# ---------------------------------------------------------------- ranking


@st.composite
def ranked_columns(draw: st.DrawFn) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """Scores with many ties, membership with both kinds in every column, row weights."""
    n, labels = draw(st.integers(4, 25)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scores = rng.integers(0, draw(st.integers(1, 12)), (n, labels)) / 7
    member = rng.random((n, labels)) < 0.4
    member[0], member[1] = True, False
    return scores, member, rng.integers(1, 4, n).astype(float)


@quick
@given(ranked_columns(), st.sampled_from(["macro", "weighted", "micro"]))
def test_ranking_metrics_equal_scikit_learn(columns: tuple, average: ranking.Average) -> None:
    scores, member, weights = columns
    for metric, reference in (("roc_auc", roc_auc_score), ("average_precision", average_precision_score)):
        ours = ranking.Columns(scores, member, metric, average).value(np.stack([np.ones(len(scores)), weights]))
        for value, sample_weight in zip(ours, (None, weights), strict=True):
            theirs = reference(member, scores, average=average, sample_weight=sample_weight)
            assert value == pytest.approx(theirs, abs=1e-12)


@quick
@given(ranked_columns(), st.sampled_from(["roc_auc", "average_precision"]), st.sampled_from(["macro", "weighted"]))
def test_leaving_each_row_out_in_closed_form_equals_leaving_it_out(
    columns: tuple, metric: ranking.Metric, average: ranking.Average
) -> None:
    ranked = ranking.Columns(columns[0], columns[1], metric, average)
    left_out = ranked.value(np.ones((ranked.n, ranked.n)) - np.eye(ranked.n))
    assert ranked.leave_one_out() == pytest.approx(left_out, abs=1e-10, nan_ok=True)


@pytest.mark.parametrize("metric", ["roc_auc", "average_precision"])
def test_leaving_each_row_out_of_pooled_pairs_is_right_to_first_order(metric: ranking.Metric) -> None:
    rng = np.random.default_rng(14)
    member = rng.random((200, 3)) < 0.3
    ranked = ranking.Columns(rng.random((200, 3)) + 0.3 * member, member, metric, "micro")
    exact = ranked.value(np.ones((200, 200)) - np.eye(200))
    whole = ranked.value(np.ones((1, 200)))[0]
    error = np.abs(ranked.leave_one_out() - exact).max()
    assert np.abs(exact - whole).max() > 0
    assert error < 0.03 * np.abs(exact - whole).max()


def test_a_column_without_both_kinds_of_rows_is_left_out_of_the_average() -> None:
    rng = np.random.default_rng(15)
    scores, member = rng.random((30, 3)), rng.random((30, 3)) < 0.5
    member[:, 1] = False
    value = ranking.Columns(scores, member, "roc_auc", "macro").value(np.ones((1, 30)))[0]
    assert value == pytest.approx(roc_auc_score(member[:, [0, 2]], scores[:, [0, 2]]))
    member[:, :] = False
    assert ranking.averaged(scores, member, "roc_auc", "macro").value is None


def test_a_perfect_ranking_of_labels_is_not_certain() -> None:
    target = np.arange(60) % 3
    member = target[:, None] == np.arange(3)
    interval = ranking.averaged(member.astype(float), member, "roc_auc", "macro")
    assert interval.value == 1
    assert interval.ends(0.025)[0] == pytest.approx(0.025 ** (1 / 60))


def test_placement_is_lost_by_the_row_that_is_ranked_wrong() -> None:
    target = np.arange(60) % 3
    member = target[:, None] == np.arange(3)
    scores = member.astype(float)
    scores[0] = [-1, 0, 0]
    placed = ranking.Columns(scores, member, "roc_auc", "macro").placement()
    assert placed[0] == 0
    assert (placed[1:] == 1).all()


@quick
@given(ranked_columns())
def test_binary_auc_equals_scikit_learn(columns: tuple) -> None:
    scores, positive = columns[0][:, 0], columns[1][:, 0]
    interval = auc(scores, positive)
    if min(positive.sum(), (~positive).sum()) < 2:
        assert interval.value is None and interval.reason is not None
    else:
        assert interval.value == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)
        assert_ends_move_inwards(interval)


@pytest.mark.parametrize(("positives", "negatives", "truth"), [(20, 200, 0.92), (100, 100, 0.98), (50, 50, 0.8)])
def test_an_auc_is_not_claimed_above_what_it_is(positives: int, negatives: int, truth: float) -> None:
    rng = np.random.default_rng(18)
    shift = math.sqrt(2) * scipy.stats.norm.ppf(truth)
    positive = np.arange(positives + negatives) < positives
    draws = [auc(rng.normal(shift * positive, 1), positive).ends(0.025) for _ in range(400)]
    too_high, too_low = sum(low > truth for low, _ in draws), sum(high < truth for _, high in draws)
    most = scipy.stats.binom.ppf(0.999, len(draws), 0.025)
    assert too_high <= most and too_low <= most


def test_delong_variance_is_that_of_its_definition() -> None:
    rng = np.random.default_rng(16)
    positive = np.arange(60) < 25
    scores = np.round(rng.random(60) + 0.4 * positive, 1)
    pos, neg = scores[positive], scores[~positive]
    wins = (pos[:, None] > neg) + 0.5 * (pos[:, None] == neg)
    error = math.sqrt(wins.mean(axis=1).var(ddof=1) / 25 + wins.mean(axis=0).var(ddof=1) / 35)
    half = scipy.stats.norm.isf(0.025) * error
    interval = auc(scores, positive)
    theirs = newcombe(float(wins.mean()), 25, 35)(0.025)
    assert interval.method == "delong_newcombe"
    low, high = interval.ends(0.025)
    assert low == pytest.approx(min(wins.mean() - half, theirs[0]))
    assert high == pytest.approx(max(wins.mean() + half, theirs[1]))


@pytest.mark.parametrize("value", [1.0, 1 - 1e-9, 0.5, 1e-9, 0.0])
def test_newcombes_ends_close_in_on_the_value_at_levels_near_one_half(value: float) -> None:
    low, high = newcombe(value, 48, 352)(0.5 - 1e-9)
    assert 0 <= low <= high <= 1
    assert low == pytest.approx(value, abs=1e-6) and high == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("positives", [5, 30])
def test_where_delong_says_nothing_newcombes_ends_are_those_whose_own_variance_fits(positives: int) -> None:
    positive = np.arange(70) < positives
    scores = positive.astype(float) if positives == 30 else np.random.default_rng(17).random(70) + 0.3 * positive
    interval = auc(scores, positive)
    assert interval.method == "newcombe" and interval.value is not None
    negatives = 70 - positives
    for alpha in ALPHAS:
        for end in interval.ends(alpha):
            mean_rows = (positives + negatives) / 2 - 1
            spread = 1 + mean_rows * ((1 - end) / (2 - end) + end / (1 + end))
            error = math.sqrt(end * (1 - end) * spread / (positives * negatives))
            assert abs(interval.value - end) == pytest.approx(scipy.stats.norm.isf(alpha) * error, abs=1e-6)
    if positives == 30:
        assert interval.value == 1 and interval.ends(0.025)[0] < 0.98


def test_auc_of_grouped_rows_is_as_wide_as_its_groups_allow() -> None:
    rng = np.random.default_rng(18)
    one, positive = rng.random(40), np.arange(40) % 2 == 0
    one = one + 0.3 * positive
    copies = [np.repeat(one, 6), np.repeat(positive, 6)]
    grouped = auc(*copies, groups=np.repeat(np.arange(40), 6))
    ignored = auc(*copies)
    assert grouped.value == pytest.approx(ignored.value)
    low, high = grouped.ends(0.025)
    low_ignored, high_ignored = ignored.ends(0.025)
    assert high - low > 1.8 * (high_ignored - low_ignored)


@pytest.mark.parametrize(
    ("metric", "average"), [("roc_auc", "macro"), ("roc_auc", "micro"), ("average_precision", "weighted")]
)
def test_of_many_rows_a_ranking_takes_the_normal_interval_which_the_bootstrap_agrees_with(
    metric: str, average: str
) -> None:
    rng = np.random.default_rng(5)
    n = bootstrap.NORMAL_FROM
    target = rng.choice(3, size=n, p=[0.6, 0.3, 0.1])
    member = np.eye(3, dtype=bool)[target]
    scores = rng.normal(size=(n, 3)) + 1.2 * member
    found = ranking.averaged(scores, member, metric, average)
    columns = ranking.Columns(scores, member, metric, average)
    resampled = np.array(
        [columns.value(rng.multinomial(n, np.full(n, 1 / n))[None, :].astype(float))[0] for _ in range(200)]
    )
    assert found.method == "normal" and found.value == pytest.approx(columns.value(np.ones((1, n)))[0])
    low, high = found.ends(scipy.stats.norm.cdf(-1))  # one standard error out
    assert high - found.value == pytest.approx(found.value - low) == pytest.approx(resampled.std(ddof=1), rel=0.2)


# ---------------------------------------------------------------- several tests at once


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), min_size=1, max_size=8), st.floats(0.001, 0.2))
def test_an_adjusted_p_value_is_under_alpha_exactly_where_holms_procedure_rejects(
    p_values: dict[str, float], alpha: float
) -> None:
    rejected = set()
    for rank, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        if p_values[name] * (len(p_values) - rank) > alpha:
            break
        rejected.add(name)
    found = holm.adjusted(p_values)
    assert list(found) == list(p_values)
    assert {name for name, p in found.items() if p <= alpha} == rejected
    assert all(p_values[name] <= p <= 1 for name, p in found.items())


# ---------------------------------------------------------------- quantiles


@quick
@given(st.integers(1, 400), st.floats(0.05, 0.99), alphas)
def test_quantile_ends_miss_on_each_side_at_most_as_often_as_they_say(n: int, q: float, alpha: float) -> None:
    """Of uniform values 1/n ... n/n, an end is its rank; that rank misses with a binomial chance, and the next would too often."""
    interval = quantile(np.arange(1, n + 1), q)
    low, high = interval.ends(alpha)
    below, rounding = scipy.stats.binom(n, q), 1 + 1e-9
    if low > -math.inf:
        assert below.cdf(low - 1) <= alpha * rounding
    assert below.cdf(max(low, 0)) > alpha / rounding
    if high < math.inf:
        assert below.sf(high - 1) <= alpha * rounding
    assert below.sf(min(high, n + 1) - 2) > alpha / rounding
    assert interval.value is not None and low <= interval.value <= high


@quick
@example(q=0.3, alpha=0.49)  # 0.7 ** 2 is 0.49 but for rounding
@given(st.floats(0.01, 0.99), alphas)
def test_rows_needed_to_bound_a_quantile_are_the_fewest(q: float, alpha: float) -> None:
    n = rows_needed_to_bound(q, alpha)
    assert np.isfinite(quantile(np.arange(n), q).ends(alpha)).all()
    assert n == 1 or not np.isfinite(quantile(np.arange(n - 1), q).ends(alpha)).all()


def test_a_rank_that_misses_exactly_as_often_as_allowed_is_taken() -> None:
    """The smallest of 5 values lies above the median once in 2 ** 5 times."""
    assert quantile(np.arange(1, 6), 0.5).ends(2**-5) == (1.0, 5.0)


def test_a_quantile_is_an_observed_value() -> None:
    values = np.random.default_rng(19).exponential(size=101)
    assert quantile(values, 0.5).value == np.median(values)
    assert quantile(values, 0.95).value in values
    assert quantile(np.array([]), 0.5).value is None


# ---------------------------------------------------------------- pairs


@quick
@example(fixed=9, broken=0, both=0, neither=91, alpha=0.002)  # method 10 alone would not show this one
@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 60), st.integers(0, 60), alphas)
def test_the_interval_of_a_change_and_the_exact_test_never_disagree(
    fixed: int, broken: int, both: int, neither: int, alpha: float
) -> None:
    before = np.repeat([0, 1, 1, 0], [fixed, broken, both, neither])
    after = np.repeat([1, 0, 1, 0], [fixed, broken, both, neither])
    interval = paired_difference(before, after)
    if not before.size:
        assert interval.value is None
        return
    low, high = interval.ends(alpha)
    assert interval.value == pytest.approx((after - before).mean())
    assert low <= interval.value <= high
    assert (low <= 0 <= high) == (mcnemar_exact(fixed, broken) > 2 * alpha)
    assert_ends_move_inwards(interval)
    back = paired_difference(after, before)
    assert back.ends(alpha) == pytest.approx((-high, -low))


def test_the_exact_test_is_the_binomial_test() -> None:
    for fixed, broken in ((9, 2), (2, 9), (5, 5), (1, 0), (700, 640)):
        expected = scipy.stats.binomtest(fixed, fixed + broken).pvalue
        assert mcnemar_exact(fixed, broken) == pytest.approx(expected, rel=1e-9)
    assert mcnemar_exact(0, 0) == 1.0


def test_no_row_that_differs_does_not_prove_that_none_would() -> None:
    for score in (1.0, 0.5):
        low, high = paired_difference(np.full(100, score), np.full(100, score)).ends(0.025)
        assert low < 0 < high


def test_three_rows_that_rose_are_no_evidence_and_ten_are() -> None:
    before = np.full(200, 0.5)
    for rose, real in ((3, False), (5, False), (10, True)):
        after = before + 0.2 * (np.arange(200) < rose)
        assert (paired_difference(before, after).ends(0.025)[0] > 0) == real


def test_a_change_of_grouped_rows_is_judged_by_group() -> None:
    before, after = np.zeros(200), (np.arange(200) < 20).astype(float)
    scattered = paired_difference(before, after, groups=np.arange(200) % 20)
    one_group = paired_difference(before, after, groups=np.arange(200) // 20)
    assert scattered.ends(0.025)[0] > 0
    assert one_group.ends(0.025)[0] < 0


@pytest.mark.parametrize(("fixed", "broken"), [(0.05, 0.02), (0.3, 0.1), (0.1, 0.1)])
def test_intervals_of_a_change_cover(fixed: float, broken: float) -> None:
    rng = np.random.default_rng(20)
    misses = 0
    for _ in range(400):
        kind = rng.choice(4, size=100, p=[fixed, broken, 0.5, 0.5 - fixed - broken])
        low, high = paired_difference(np.isin(kind, [1, 2]), np.isin(kind, [0, 2])).ends(0.025)
        misses += not low <= fixed - broken <= high
    assert misses <= 0.075 * 400


# ---------------------------------------------------------------- pairs, of all rows together

Side = tuple[bootstrap.Statistic, NDArray[np.int_]]


def macro_f1(target: NDArray[np.int_], said: NDArray[np.int_], classes: int) -> Side:
    """Macro F1 over the cells (target, said)."""
    truth, claim = np.divmod(np.arange(classes**2), classes)
    is_truth = (truth[:, None] == np.arange(classes)).astype(float)
    is_claim = (claim[:, None] == np.arange(classes)).astype(float)

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        weights = np.pad(weights, ((0, 0), (0, classes**2 - weights.shape[1])))
        support = weights @ is_truth
        scores = 2 * (weights @ (is_truth * is_claim)) / np.maximum(support + weights @ is_claim, 1)
        return np.asarray(scores.sum(axis=1) / (support > 0).sum(axis=1))

    return statistic, target * classes + said


def roc_auc(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> Side:
    return ranking.Columns(scores[:, None], positive[:, None], "roc_auc", "macro").value, np.arange(positive.size)


def two_guesses(
    rng: np.random.Generator, target: NDArray[np.int_], classes: int, skill: float, shared: float
) -> list[NDArray[np.int_]]:
    """Two candidates of one skill, alike on a share of the rows."""
    n = target.size
    guesses = [np.where(rng.random(n) < skill, target, rng.integers(0, classes, n)) for _ in range(3)]
    alike = rng.random(n) < shared
    return [np.where(alike, guesses[0], guess) for guess in guesses[1:]]


def two_rankings(
    rng: np.random.Generator, positive: NDArray[np.bool_], noise: NDArray[np.float64] | None = None
) -> list[NDArray[np.float64]]:
    """Two candidates that rank equally well; noise (2, n): each one's own part."""
    both = rng.normal(size=positive.size)
    own = rng.normal(size=(2, positive.size)) if noise is None else noise
    return [1.2 * positive + math.sqrt(0.5) * (both + part) for part in own]


@pytest.fixture
def fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that thousands of test sets take a minute or two."""
    monkeypatch.setattr(bootstrap, "REPLICATES", 1_000)


def false_alarms(intervals: list[Interval]) -> float:
    ends = [interval.ends(0.025) for interval in intervals]
    return float(np.mean([low > 0 or high < 0 for low, high in ends]))


@pytest.mark.slow
def test_a_paired_metric_agrees_with_a_plain_bootstrap_of_scikit_learns() -> None:
    rng = np.random.default_rng(30)
    n = 240
    target = rng.integers(0, 3, n)
    weak, strong = (np.where(rng.random(n) < skill, target, rng.integers(0, 3, n)) for skill in (0.6, 0.75))
    positive = rng.random(n) < 0.4
    blurred, sharp = (positive + noise * rng.normal(size=n) for noise in (1.3, 0.9))
    for ours, reference in (
        (
            paired_statistic(macro_f1(target, weak, 3), macro_f1(target, strong, 3)),
            lambda rows: (
                f1_score(target[rows], strong[rows], average="macro")
                - f1_score(target[rows], weak[rows], average="macro")
            ),
        ),
        (
            paired_statistic(roc_auc(blurred, positive), roc_auc(sharp, positive)),
            lambda rows: roc_auc_score(positive[rows], sharp[rows]) - roc_auc_score(positive[rows], blurred[rows]),
        ),
    ):
        assert ours.value == pytest.approx(reference(np.arange(n)))
        replicates = [reference(rng.integers(0, n, n)) for _ in range(1_000)]
        low, high = np.quantile(replicates, [0.025, 0.975])
        assert ours.ends(0.025) == pytest.approx((low, high), abs=0.12 * (high - low))


@quick
@given(st.integers(0, 2**32 - 1), st.integers(12, 60), st.sampled_from(["f1", "auc"]), st.booleans(), alphas)
def test_swapped_sides_give_the_negative(seed: int, n: int, metric: str, grouped: bool, alpha: float) -> None:
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 2, n)
    sides = [
        macro_f1(target, rng.integers(0, 2, n), 2)
        if metric == "f1"
        else roc_auc(rng.integers(0, 9, n) / 9, target == 1)
        for _ in range(2)
    ]
    groups = np.arange(n) % 10 if grouped else None
    forth, back = (paired_statistic(*pair, groups=groups) for pair in (sides, sides[::-1]))
    if forth.value is None:
        assert back.value is None
        return
    assert back.value == -forth.value
    low, high = forth.ends(alpha)
    assert back.ends(alpha) == pytest.approx((-high, -low), abs=1e-9)
    if math.isfinite(low):
        assert_ends_move_inwards(forth)


@pytest.mark.parametrize("groups", [None, np.arange(100) % 20])
def test_the_same_answers_twice_are_no_evidence_and_no_proof_of_sameness(groups: NDArray[np.int_] | None) -> None:
    rng = np.random.default_rng(31)
    target = rng.integers(0, 3, 100)
    said = np.where(rng.random(100) < 0.7, target, 0)
    scores = rng.random(100)
    for side in (macro_f1(target, said, 3), roc_auc(scores, target == 1)):
        interval = paired_statistic(side, side, groups=groups)
        low, high = interval.ends(0.025)
        assert interval.value == 0 and low < 0 < high
        assert level_reached(interval.ends, 0.0, "low", strict=True) == 1.0


def test_a_difference_in_every_resample_is_still_of_so_many_rows_only() -> None:
    """All wrong before, all right after."""
    target = np.arange(60) % 3
    low, high = paired_statistic(macro_f1(target, (target + 1) % 3, 3), macro_f1(target, target, 3)).ends(0.025)
    assert 0.8 < low < high == 1


def test_a_few_rows_that_rose_are_no_evidence_for_a_metric_of_all_rows() -> None:
    target = np.arange(200) % 4
    wrong = (target + 1) % 4
    for rose, real in ((1, False), (3, False), (4, False), (12, True)):
        before = np.where(np.arange(200) < 40, wrong, target)
        after = np.where((np.arange(200) >= rose) & (np.arange(200) < 40), wrong, target)
        interval = paired_statistic(macro_f1(target, before, 4), macro_f1(target, after, 4))
        assert (interval.ends(0.025)[0] > 0) == real


def test_a_metric_that_hangs_on_one_row_has_no_interval() -> None:
    rng = np.random.default_rng(32)
    positive = np.arange(50) == 7
    interval = paired_statistic(roc_auc(rng.random(50), positive), roc_auc(rng.random(50), positive))
    assert interval.value is not None and interval.ends(0.025) == (-math.inf, math.inf)
    assert interval.reason is not None and "one row" in interval.reason


def test_left_out_blocks_of_many_rows_change_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every row is a cell of its own, as in an AUC, blocks of rows are left out instead of single rows."""
    rng = np.random.default_rng(33)
    positive = rng.random(1_500) < 0.3
    sides = [roc_auc(scores, positive) for scores in two_rankings(rng, positive)]
    blocks = paired_statistic(*sides).ends(0.025)
    monkeypatch.setattr("evalft.stats.paired.BLOCKS", 750)
    single = paired_statistic(*sides).ends(0.025)
    assert blocks != single
    assert blocks == pytest.approx(single, abs=0.03 * (single[1] - single[0]))


def test_the_difference_in_auc_of_many_rows_is_bounded_as_resampling_bounds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """From 20,000 rows on leaving each row out says how far it may be off, in a moment instead of minutes."""
    rng = np.random.default_rng(37)
    positive = rng.random(1_500) < 0.3
    rankings = two_rankings(rng, positive)
    sides = [roc_auc(scores, positive) for scores in rankings]
    resampled = paired_statistic(*sides)
    each = [
        (lambda s=scores: ranking.Columns(s[:, None], positive[:, None], "roc_auc", "macro").leave_one_out())
        for scores in rankings
    ]
    monkeypatch.setattr("evalft.stats.paired.NORMAL_FROM", 1_500)
    normal = paired_statistic(*sides, furthest=1.0, without_each=(each[0], each[1]))
    assert (resampled.method, normal.method, normal.value) == ("bca", "normal", resampled.value)
    low, high = resampled.ends(0.025)
    assert normal.ends(0.025) == pytest.approx((low, high), abs=0.1 * (high - low))


def test_the_same_answers_of_many_rows_are_bounded_without_a_resample(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(38)
    positive, scores = rng.random(1_500) < 0.3, rng.random(1_500)
    side = roc_auc(scores, positive)
    resampled = paired_statistic(side, side, furthest=1.0)

    def each() -> NDArray[np.float64]:
        return ranking.Columns(scores[:, None], positive[:, None], "roc_auc", "macro").leave_one_out()

    monkeypatch.setattr("evalft.stats.paired.NORMAL_FROM", 1_500)
    monkeypatch.setattr("evalft.stats.paired.weighted", None)
    found = paired_statistic(side, side, furthest=1.0, without_each=(each, each))
    assert (found.value, found.method, found.n) == (resampled.value, resampled.method, resampled.n)
    for alpha in (0.001, 0.025, 0.4):
        assert found.ends(alpha) == resampled.ends(alpha)


def test_pairs_of_unlike_length_are_refused_and_no_rows_are_no_estimate() -> None:
    nothing = np.array([], dtype=int)
    with pytest.raises(ValueError, match="3 before, 2 after"):
        paired_statistic(roc_auc(np.zeros(3), np.arange(3) > 0), roc_auc(np.zeros(2), np.arange(2) > 0))
    assert paired_statistic((f1_of_cells, nothing), (f1_of_cells, nothing)).value is None


@pytest.mark.slow
@pytest.mark.usefixtures("fewer_resamples")
@pytest.mark.parametrize(
    ("classes", "skill", "shared"),
    [
        ((0.25, 0.25, 0.25, 0.25), 0.8, 0.0),
        ((0.25, 0.25, 0.25, 0.25), 0.8, 0.9),
        ((0.88, 0.12), 0.9, 0.5),
        ((0.6, 0.25, 0.1, 0.05), 0.8, 0.5),
    ],
)
def test_two_candidates_alike_seldom_differ_in_macro_f1(
    classes: tuple[float, ...], skill: float, shared: float
) -> None:
    """In at most 5.5 % of 4,000 test sets of 200 rows at 95 %, also where few rows differ or a class is rare."""
    rng = np.random.default_rng(34)
    found = []
    for _ in range(4_000):
        target = rng.choice(len(classes), size=200, p=classes)
        sides = [macro_f1(target, said, len(classes)) for said in two_guesses(rng, target, len(classes), skill, shared)]
        found.append(paired_statistic(*sides))
    assert false_alarms(found) <= 0.055


@pytest.mark.slow
@pytest.mark.usefixtures("fewer_resamples")
@pytest.mark.parametrize("positives", [100, 24, 8])
def test_two_candidates_alike_seldom_differ_in_auc(positives: int) -> None:
    rng = np.random.default_rng(35)
    positive = np.arange(200) < positives
    found = [paired_statistic(*(roc_auc(s, positive) for s in two_rankings(rng, positive))) for _ in range(1_000)]
    assert false_alarms(found) <= 0.055


def guesses_in_groups(rng: np.random.Generator, target: NDArray[np.int_], groups: NDArray[np.int_]) -> NDArray[np.int_]:
    """70 % right; rows of a group share half of what makes them so."""
    together = (rng.random(groups.max() + 1) < 0.7)[groups]
    right = np.where(rng.random(target.size) < 0.5, together, rng.random(target.size) < 0.7)
    return np.where(right, target, (target + 1) % 4)


@pytest.mark.slow
@pytest.mark.parametrize(("count", "sets"), [(10, 2_000), (20, 6_000), (40, 2_000)])
def test_two_candidates_alike_seldom_differ_in_macro_f1_on_grouped_rows(count: int, sets: int) -> None:
    """In at most 5.5 % at 95 %, most often with 20 groups; ignoring groups would show a difference much more often."""
    rng = np.random.default_rng(36)
    groups = np.arange(200) % count
    found, ignored = [], []
    for _ in range(sets):
        target = rng.integers(0, 4, 200)
        pair = [macro_f1(target, guesses_in_groups(rng, target, groups), 4) for _ in range(2)]
        found.append(paired_statistic(*pair, groups=groups))
        if len(ignored) < 300:
            ignored.append(paired_statistic(*pair))
    assert false_alarms(found) <= 0.055
    assert false_alarms(ignored) >= 0.08


@pytest.mark.slow
@pytest.mark.usefixtures("fewer_resamples")
@pytest.mark.parametrize("count", [10, 20, 40])
def test_two_candidates_alike_seldom_differ_in_auc_on_grouped_rows(count: int) -> None:
    rng = np.random.default_rng(40)
    groups = np.arange(200) % count
    found = []
    for _ in range(2_000):
        noise = math.sqrt(0.5) * (rng.normal(size=(2, count))[:, groups] + rng.normal(size=(2, 200)))
        ranked = [roc_auc(scores, np.arange(200) < 50) for scores in two_rankings(rng, np.arange(200) < 50, noise)]
        found.append(paired_statistic(*ranked, groups=groups))
    assert false_alarms(found) <= 0.055


@pytest.mark.slow
@pytest.mark.usefixtures("fewer_resamples")
@pytest.mark.parametrize("count", [20, 40])
def test_two_candidates_alike_seldom_differ_where_groups_are_of_unlike_size(count: int) -> None:
    rng = np.random.default_rng(39)
    found = []
    for _ in range(2_000):
        groups = rng.choice(count, size=200, p=rng.dirichlet(np.ones(count)))
        sides = []
        for _ in range(2):
            together = (rng.random(count) < 0.7)[groups]
            sides.append(np.where(rng.random(200) < 0.5, together, rng.random(200) < 0.7))
        found.append(paired_difference(sides[0], sides[1], groups=groups))
    assert false_alarms(found) <= 0.055


# ---------------------------------------------------------------- levels


@quick
@given(st.integers(1, 200), st.data(), st.floats(0.05, 0.95))
def test_the_level_at_which_an_exact_end_reaches_a_bound_is_the_exact_p_value(
    n: int, data: st.DataObject, bound: float
) -> None:
    k = data.draw(st.integers(0, n))
    ends = proportion(rows(k, n)).ends
    for side, alternative in (("low", "greater"), ("high", "less")):
        level = level_reached(ends, bound, side)
        p_value = scipy.stats.binomtest(k, n, bound, alternative=alternative).pvalue
        if 1e-11 < p_value < 0.499:
            assert level == pytest.approx(p_value, rel=1e-6)
        if level < 1:
            low, high = ends(level)
            assert low >= bound if side == "low" else high <= bound


def test_a_bound_out_of_reach_has_level_one() -> None:
    assert level_reached(proportion(rows(3, 10)).ends, 0.9, "low") == 1.0
    assert level_reached(Interval(0.5, 3, "bca").ends, 0.4, "low") == 1.0


def test_meeting_a_bound_exactly_counts_unless_asked_for_more() -> None:
    ends = mean(np.full(50, 0.002)).ends
    assert level_reached(ends, 0.002, "high") < 0.001
    assert level_reached(ends, 0.002, "high", strict=True) == 1.0


def test_a_bootstrap_level_is_never_finer_than_its_resamples() -> None:
    ends = mean(np.random.default_rng(21).random(100)).ends
    assert level_reached(ends, -5.0, "low") == pytest.approx(1 / (bootstrap.REPLICATES + 1), rel=1e-6)


# ---------------------------------------------------------------- coverage


def scores_like_token_f1(rng: np.random.Generator, n: int, p: float) -> NDArray[np.float64]:
    """Right with chance p, else somewhere between: mean p + (1 - p) / 2."""
    return np.where(rng.random(n) < p, 1.0, np.round(rng.beta(2, 2, n), 2))


@pytest.mark.slow
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("p", SHARES)
def test_intervals_of_bounded_means_cover(n: int, p: float) -> None:
    rng = np.random.default_rng(24)
    truth, sims = p + (1 - p) / 2, 200
    ends = [mean(scores_like_token_f1(rng, n, p), bounds=(0.0, 1.0)).ends(0.025) for _ in range(sims)]
    covered = np.mean([low <= truth <= high for low, high in ends])
    assert covered >= 0.95 - 2.5 * math.sqrt(0.95 * 0.05 / sims)


@pytest.mark.slow
@pytest.mark.parametrize("count", [12, 25, 40])
@pytest.mark.parametrize("shared", [0.0, 0.5])
def test_intervals_of_grouped_rows_cover(count: int, shared: float) -> None:
    """Rows of a group share part of what makes them right; 10 rows a group, 70 % right."""
    rng = np.random.default_rng(25)
    edge, sims, hits = scipy.stats.norm.ppf(0.7), 200, {"proportion": 0, "mean": 0}
    groups = np.repeat(np.arange(count), 10)
    for _ in range(sims):
        noise = rng.normal(size=count * 10) * math.sqrt(1 - shared) + rng.normal(size=count)[groups] * math.sqrt(shared)
        right = noise < edge
        for name, interval, truth in (
            ("proportion", proportion(right, groups), 0.7),
            ("mean", mean(0.2 + 0.6 * right, bounds=(0.0, 1.0), groups=groups), 0.62),
        ):
            low, high = interval.ends(0.025)
            hits[name] += low <= truth <= high
    assert hits["proportion"] >= 0.92 * sims
    assert hits["mean"] >= 0.91 * sims
