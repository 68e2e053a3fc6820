"""Two sets of scores -> what changed: matched by id, tested with the pairing."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from evalft.comparison import compare
from evalft.records import Score


def scored(name: str, values: list[float], prefix: str = "row") -> list[Score]:
    return [Score(f"{prefix}-{i}", i, {name: value}) for i, value in enumerate(values)]


def test_each_example_is_fixed_broken_or_same() -> None:
    found = compare(scored("accuracy", [0, 1, 1, 0]), scored("accuracy", [1, 0, 1, 0]), primary="accuracy")
    assert [change.kind for change in found.changes] == ["fixed", "broken", "same", "same"]
    assert (found.count("fixed"), found.count("broken"), found.count("same")) == (1, 1, 2)


def test_examples_are_matched_by_id_and_the_rest_is_named() -> None:
    before = scored("accuracy", [0, 1, 1])
    after = [Score("new", 0, {"accuracy": 0}), before[2], Score("row-0", 2, {"accuracy": 1})]
    found = compare(before, after, primary="accuracy")
    assert [(change.id, change.before, change.after) for change in found.changes] == [("row-0", 0, 1), ("row-2", 1, 1)]
    assert found.only_before == ("row-1",)
    assert found.only_after == ("new",)
    assert found.metrics["accuracy"].n == 2


@pytest.mark.parametrize(("fixed", "broken"), [(6, 0), (20, 8), (8, 20), (3, 3), (0, 0)])
def test_right_or_wrong_rows_take_the_exact_test_and_the_interval_agrees(fixed: int, broken: int) -> None:
    before = [0.0] * fixed + [1.0] * broken + [1.0] * 40 + [0.0] * 10
    after = [1.0] * fixed + [0.0] * broken + [1.0] * 40 + [0.0] * 10
    found = compare(scored("accuracy", before), scored("accuracy", after), primary="accuracy").metrics["accuracy"]
    p_value = scipy.stats.binomtest(fixed, fixed + broken).pvalue if fixed + broken else 1.0
    assert found.test == "mcnemar_exact"
    assert found.delta == pytest.approx((fixed - broken) / len(before))
    assert found.p_value == pytest.approx(p_value, abs=1e-6)
    assert found.low is not None and found.high is not None
    assert (found.low <= 0 <= found.high) == (p_value > 0.05)


def test_other_scores_take_a_bootstrap_whose_p_value_agrees_with_the_interval() -> None:
    rng = np.random.default_rng(0)
    for shift in (0.0, 0.03, 0.06, 0.2):
        before = rng.random(80)
        after = before + shift + rng.normal(0, 0.2, 80)
        found = compare(scored("token_f1", list(before)), scored("token_f1", list(after)), primary="token_f1")
        change = found.metrics["token_f1"]
        assert change.test == "bca"
        assert change.delta == pytest.approx((after - before).mean())
        assert change.low is not None and change.high is not None and change.p_value is not None
        assert (change.low <= 0 <= change.high) == (change.p_value > 0.05)


def test_wide_confidence_is_wider() -> None:
    before, after = scored("accuracy", [0.0, 1.0] * 20), scored("accuracy", [1.0, 1.0] * 20)
    narrow = compare(before, after, primary="accuracy", confidence=0.8).metrics["accuracy"]
    wide = compare(before, after, primary="accuracy", confidence=0.99).metrics["accuracy"]
    assert narrow.low is not None and wide.low is not None and wide.low < narrow.low


def test_rows_of_one_group_count_together() -> None:
    before, after = scored("accuracy", [0.0] * 200), scored("accuracy", [1.0] * 20 + [0.0] * 180)
    one_by_one = compare(before, after, primary="accuracy").metrics["accuracy"]
    by_group = compare(
        before, after, primary="accuracy", groups={score.id: f"g{score.index // 20}" for score in before}
    ).metrics["accuracy"]
    assert one_by_one.low is not None and one_by_one.low > 0
    assert by_group.test == "jackknife_t"
    assert by_group.low is not None and by_group.low < 0


def test_few_groups_have_a_delta_and_nothing_else() -> None:
    before, after = scored("accuracy", [0.0] * 20), scored("accuracy", [1.0] * 20)
    groups = {score.id: f"g{score.index % 4}" for score in before}
    found = compare(before, after, primary="accuracy", groups=groups).metrics["accuracy"]
    assert (found.delta, found.low, found.high, found.p_value) == (1.0, None, None, None)
    assert found.reason is not None and "4 groups" in found.reason


def test_only_metrics_with_a_row_score_on_both_sides_are_compared() -> None:
    before = [Score(str(i), i, {"accuracy": 1.0, "jaccard": 0.5}) for i in range(12)]
    after = [Score(str(i), i, {"jaccard": 0.75, "accuracy": 1.0, "f1": 1.0}) for i in range(12)]
    assert list(compare(before, after, primary="jaccard").metrics) == ["accuracy", "jaccard"]


def test_nothing_in_common_is_no_comparison() -> None:
    found = compare(scored("accuracy", [1.0]), scored("accuracy", [1.0], "other"), primary="accuracy")
    assert found.changes == () and dict(found.metrics) == {}
