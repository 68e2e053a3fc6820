"""What n rows can be expected to show: against simulations and the exact intervals themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalft.stats import power
from evalft.stats.proportion import clopper_pearson


@settings(deadline=None, max_examples=30)
@given(st.floats(0.5, 0.95), st.floats(0.1, 0.9))
def test_so_many_rows_show_the_threshold_with_the_chance_that_is_said(bound: float, far: float) -> None:
    true = bound + far * (1 - bound)
    rows = power.rows_to_show(bound, true, 0.025, most=5000)
    if rows is None:
        return
    right = np.random.default_rng(0).binomial(rows, true, size=4000)
    passes = {int(k): clopper_pearson(int(k), rows, 0.025)[0] >= bound for k in np.unique(right)}
    share = np.mean([passes[int(k)] for k in right])
    assert share >= power.CHANCE - 0.03


def test_a_candidate_no_better_than_the_threshold_never_shows_it() -> None:
    assert power.rows_to_show(0.9, 0.9, 0.025, most=5000) is None


@pytest.mark.parametrize(("n", "differ"), [(200, 0.2), (400, 0.1), (1000, 0.3)])
def test_the_detectable_difference_is_detected_with_the_chance_that_is_said(n: int, differ: float) -> None:
    difference = power.detectable_difference(n, differ, 0.025)
    assert difference is not None
    rng = np.random.default_rng(1)
    better = (differ + difference) / 2
    counts = rng.multinomial(n, [better, differ - better, 1 - differ], size=20_000)
    won, lost = counts[:, 0], counts[:, 1]
    z = (won - lost) / np.sqrt(np.maximum(1, won + lost))  # McNemar's, as Connor's formula has it
    assert np.mean(z > 1.96) == pytest.approx(power.CHANCE, abs=0.03)


def test_more_rows_see_finer_differences_and_few_rows_none() -> None:
    seen = [power.detectable_difference(n, 0.2, 0.025) for n in (50, 100, 400, 1600)]
    assert all(
        one is not None and other is not None and one > other for one, other in zip(seen, seen[1:], strict=False)
    )
    assert power.detectable_difference(5, 0.2, 0.025) is None


def test_half_of_the_exact_interval() -> None:
    low, high = clopper_pearson(160, 200, 0.025)
    assert power.half_width(0.8, 200, 0.025) == pytest.approx((high - low) / 2)
