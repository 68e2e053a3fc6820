"""Row scores by slice column and group: whose rows, with which intervals, and what is left out."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import answered_rows
from evalft.records import Example
from evalft.reporting import view
from evalft.slices import LEAST_ROWS, MOST, by_slice
from evalft.stats.proportion import clopper_pearson, proportion


def _example(i: int, tag: str, group: str | None = None) -> Example:
    return Example(id=str(i), input="", target="x", row={}, group=group, slices={"language": tag})


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.booleans()), min_size=1, max_size=120))
def test_each_slice_is_the_exact_share_of_its_own_rows_and_no_row_is_lost(rows: list[tuple[str, bool]]) -> None:
    examples = [_example(i, tag) for i, (tag, _) in enumerate(rows)]
    found = by_slice(examples, np.array([float(right) for _, right in rows]), (0.0, 1.0), None)
    assert sum(one.score.n for one in found.found) + found.small_rows == len(rows)
    for one in found.found:
        inside = [right for tag, right in rows if tag == one.value]
        assert one.score.n == len(inside) >= LEAST_ROWS and one.column == "language"
        assert one.score.ends(0.025) == clopper_pearson(sum(inside), len(inside), 0.025)
    assert len(found.found) + found.small == len({tag for tag, _ in rows})


def test_groups_make_rows_of_a_tag_count_for_less_and_are_no_slices() -> None:
    examples = [_example(i, "en", group=f"g{i % 10}") for i in range(200)]
    scores = np.array([float(i % 10 < 7) for i in range(200)])
    found = by_slice(examples, scores, (0.0, 1.0), np.arange(200) % 10)
    by_value = {one.value: one.score for one in found.found}
    assert by_value["en"].method == "korn_graubard" and len(by_value) == 1
    low, high = by_value["en"].ends(0.025)
    ungrouped = proportion(scores == 1).ends(0.025)
    assert low < ungrouped[0] and high > ungrouped[1]


def test_of_many_slices_the_largest_are_kept_and_the_others_counted() -> None:
    rows = [(f"t{i}", i + LEAST_ROWS) for i in range(MOST + 3)] + [("tiny", LEAST_ROWS - 1)]
    examples = [_example(0, tag) for tag, n in rows for _ in range(n)]
    found = by_slice(examples, np.ones(len(examples)), (0.0, 1.0), None)
    assert {one.value for one in found.found} == {f"t{i}" for i in range(3, MOST + 3)}
    assert (found.more, found.small, found.small_rows) == (3, 1, LEAST_ROWS - 1)


def test_graded_scores_have_the_interval_of_a_mean() -> None:
    examples = [_example(i, "en") for i in range(30)]
    found = by_slice(examples, np.linspace(0, 1, 30), (0.0, 1.0), None)
    (one,) = found.found
    assert one.score.method == "bca" and one.score.value == 0.5


def test_a_run_writes_its_slices_beside_each_candidate_and_keeps_to_the_schema(tmp_path: Path) -> None:
    rows = [
        row | {"language": ("en", "ko")[i % 3 == 0], "user": f"u{i % 9}"}
        for i, row in enumerate(answered_rows.rows_of())
    ]
    task = {"slices": ["language"], "group": "user"}
    run = answered_rows.assess(tmp_path / "one", rows, task=task)
    summary = json.loads((run / "summary.json").read_text())
    jsonschema.validate(summary, json.loads((Path(view.__file__).parent / "summary.schema.json").read_text()))
    for entry in summary["candidates"]:
        right = {row["id"]: row[entry["name"]] == row["label"] for row in rows}
        slices = {row["value"]: row["score"] for row in entry["slices"]["rows"]}
        korean = [right[row["id"]] for row in rows if row["language"] == "ko"]
        assert slices["ko"]["value"] == sum(korean) / len(korean) and slices["ko"]["n"] == len(korean)
        assert entry["slices"]["metric"] == "accuracy" and entry["slices"]["small"] == 0
    assert (
        "slices"
        not in json.loads((answered_rows.assess(tmp_path / "two", rows) / "summary.json").read_text())["candidates"][0]
    )
