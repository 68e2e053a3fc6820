"""Two candidates of real run folders, compared: which are meant, which rows belong together, what is shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import f1_score

from answered_rows import LABELS, assess, rows_of
from evalft import config, diffing, pipeline, scored_run
from evalft.errors import UserError
from evalft.store import RunFolder


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return assess(tmp_path_factory.mktemp("both") / "one", rows_of())


def edit(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Of summary.json: what a training run or a verdict would have written."""
    summary = RunFolder(run).read_json("summary")
    change(summary)
    RunFolder(run).write_json("summary", summary)


def shown(found: diffing.Diff, width: int = 80, encoding: str = "utf-8") -> str:
    class Written(StringIO):
        @property
        def encoding(self) -> str:  # type: ignore[override]
            return encoding

    console = Console(file=Written(), width=width)
    diffing.show(found, console)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def said(error: pytest.ExceptionInfo[UserError]) -> str:
    return str(error.value)


# ---------------------------------------------------------------- numbers


def test_every_metric_is_compared_and_equals_scikit_learns_difference(both: Path) -> None:
    rows = rows_of()
    found = diffing.diff(f"{both}:bad", f"{both}:good")
    truth = [row["label"] for row in rows]
    f1 = [f1_score(truth, [row[name] for row in rows], average="macro") for name in ("bad", "good")]
    estimate = found.comparison.metrics["f1"]
    assert (estimate.before, estimate.after) == pytest.approx(tuple(f1))
    assert estimate.delta == pytest.approx(f1[1] - f1[0])
    assert list(found.comparison.metrics) == ["f1", "roc_auc", "accuracy", "strict_accuracy"]
    right = {name: [row[name] == row["label"] for row in rows] for name in ("bad", "good")}
    fixed = [row["id"] for row, old, new in zip(rows, right["bad"], right["good"], strict=True) if new > old]
    assert list(found.comparison.ids("fixed")) == fixed
    assert found.comparison.metrics["accuracy"].delta == pytest.approx(np.mean(right["good"]) - np.mean(right["bad"]))
    assert found.comparison.metrics["accuracy"].test == "mcnemar_exact"


def test_the_verdict_is_what_the_primary_metrics_interval_says(both: Path) -> None:
    assert diffing.diff(f"{both}:bad", f"{both}:good").verdict == "better"
    assert diffing.diff(f"{both}:good", f"{both}:bad").verdict == "worse"
    same = diffing.diff(f"{both}:bad", f"{both}:bad")
    assert same.verdict == "undecided"
    assert same.comparison.metrics["f1"].delta == 0 and same.comparison.metrics["f1"].p_value == 1
    assert "no difference shown" in shown(same)


def test_lower_is_better_for_a_loss(tmp_path: Path) -> None:
    run = assess(tmp_path / "loss", rows_of(), task={"metrics": ["brier", "accuracy"]})
    found = diffing.diff(f"{run}:bad", f"{run}:good")
    delta = found.comparison.metrics["brier"].delta
    assert delta is not None and delta < 0
    assert found.verdict == "better"
    assert found.comparison.row_metric == "accuracy"


def test_with_a_margin_candidates_can_be_shown_to_be_equivalent(tmp_path: Path) -> None:
    rows = rows_of(600, better=0.9, worse=0.9)
    for row in rows[::60]:
        row["bad"] = row["good"]  # most answers are the same ones
    for row in rows:
        row["near"] = row["good"] if int(row["id"][1:]) % 60 else row["label"]
    run = assess(tmp_path / "one", rows, names={"good": "good", "near": "near"}, task={"metrics": ["accuracy"]})
    assert diffing.diff(f"{run}:good", f"{run}:near", margin=0.05).verdict == "equivalent"
    assert diffing.diff(f"{run}:good", f"{run}:near").verdict != "equivalent"
    narrow = diffing.diff(f"{run}:good", f"{run}:near", margin=0.0001)
    assert narrow.verdict != "equivalent"
    assert "Equivalent, the whole interval is within 0.05" in shown(
        diffing.diff(f"{run}:good", f"{run}:near", margin=0.05)
    )


def test_an_undecided_difference_says_how_many_rows_would_settle_it(tmp_path: Path) -> None:
    few = assess(tmp_path / "few", rows_of(60, better=0.8, worse=0.72), task={"metrics": ["accuracy"]})
    found = diffing.diff(f"{few}:bad", f"{few}:good")
    assert found.verdict == "undecided" and found.rows_needed is not None
    assert f"about {found.rows_needed:,} rows would settle it" in " ".join(shown(found).split())
    again = rows_of(60, better=0.8, worse=0.72)
    times = -(-found.rows_needed // 60)
    many = [
        row | {"id": f"{row['id']}-{time}", "text": f"{row['text']} {time}"} for time in range(times) for row in again
    ]
    settled = assess(tmp_path / "many", many, task={"metrics": ["accuracy"]})
    assert diffing.diff(f"{settled}:bad", f"{settled}:good").verdict == "better", "the same difference, on as many rows"


def test_slices_are_compared_and_looked_at_together_with_the_metrics(tmp_path: Path) -> None:
    rows = [row | {"channel": ("mail", "phone", "fax")[i % 3]} for i, row in enumerate(rows_of(300))]
    for row in rows:
        if row["channel"] == "mail":
            row["bad"] = row["good"]
    rows += [row | {"id": f"few{i}", "text": f"few {i}", "channel": "telex"} for i, row in enumerate(rows[:4])]
    run = assess(tmp_path / "one", rows, task={"slices": ["channel"], "metrics": ["accuracy"]})
    found = diffing.diff(f"{run}:bad", f"{run}:good")
    assert list(found.slices) == ["channel=fax", "channel=mail", "channel=phone"]
    assert found.slices["channel=mail"].delta == 0 and found.adjusted["channel=mail"] == 1
    assert found.slices["channel=phone"].n == 100 and found.adjusted["channel=phone"] < 0.05
    both = {**found.comparison.metrics, **found.slices}
    assert all(found.adjusted[name] >= (one.p_value or 0) for name, one in both.items())
    assert "1 slices have under 10 rows and are not compared: channel=telex" in found.notes
    assert "channel=phone" in shown(found)
    assert diffing.as_data(found)["slices"]["channel=phone"]["p_adjusted"] == found.adjusted["channel=phone"]


def test_the_confidence_is_the_runs_own_unless_asked_for(both: Path) -> None:
    own, wide = (diffing.diff(f"{both}:bad", f"{both}:good", confidence=c) for c in (None, 0.999))
    assert any("95 %" in note for note in own.notes) and not any("confidence" in note for note in wide.notes)
    for name in ("f1", "accuracy"):
        narrow, broad = own.comparison.metrics[name], wide.comparison.metrics[name]
        assert narrow.low is not None and broad.low is not None and broad.low < narrow.low


def test_rows_of_a_group_count_together(tmp_path: Path) -> None:
    rows = [row | {"page": f"p{i // 10}"} for i, row in enumerate(rows_of())]
    run = assess(tmp_path / "grouped", rows, task={"group": "page"})
    found = diffing.diff(f"{run}:bad", f"{run}:good").comparison.metrics
    assert {found[name].test for name in ("f1", "roc_auc", "accuracy")} == {"jackknife_t"}


def test_generated_text_is_compared_by_its_row_scores(tmp_path: Path) -> None:
    run = assess(tmp_path / "text", rows_of(), task={"type": "generation", "labels": None, "metrics": None})
    found = diffing.diff(f"{run}:bad", f"{run}:good")
    assert list(found.comparison.metrics) == ["exact_match", "token_f1"]
    assert found.verdict == "better"


def test_several_answers_per_row_vote(tmp_path: Path, both: Path) -> None:
    """One side sampled three times: rows are matched one to one all the same."""
    run = assess(tmp_path / "votes", rows_of(30), {"good": "good"})
    voted = tmp_path / "votes" / "again"
    loaded = config.load(run / "config.yaml", ["candidates.0.samples=3", "candidates.0.temperature=1.0"])
    pipeline.assess(loaded, out=voted)
    found = diffing.diff(str(run), str(voted))
    assert [found.comparison.metrics[name].delta for name in ("f1", "accuracy")] == [0, 0]


# ---------------------------------------------------------------- which rows


def test_rows_are_matched_by_what_they_ask_and_expect_whatever_their_ids(tmp_path: Path, both: Path) -> None:
    rows = rows_of()
    moved = [row | {"id": f"x{i}", "text": f"  {row['text'].upper()} "} for i, row in enumerate(rows[::-1])]
    there = assess(tmp_path / "moved", moved)
    apart = diffing.diff(f"{both}:bad", f"{there}:good")
    together = diffing.diff(f"{both}:bad", f"{both}:good")
    assert apart.comparison.changes == together.comparison.changes
    assert apart.comparison.metrics == together.comparison.metrics
    assert apart.comparison.only_before == apart.comparison.only_after == ()


def test_rows_without_a_partner_are_left_out_and_named(tmp_path: Path, both: Path) -> None:
    rows = rows_of()
    relabelled = rows[3] | {"label": next(label for label in LABELS if label != rows[3]["label"])}
    fewer = [*rows[:3], relabelled, *rows[4:80], {**rows[0], "id": "new", "text": "another message"}]
    there = assess(tmp_path / "fewer", fewer)
    found = diffing.diff(f"{both}:bad", f"{there}:good").comparison
    assert found.only_before == ("r3", *(f"r{i}" for i in range(80, 90)))
    assert found.only_after == ("r3", "new")
    assert len(found.changes) == 79
    assert found.metrics["f1"].n == found.metrics["accuracy"].n == 79
    whole = diffing.diff(f"{both}:bad", f"{there}:good")
    assert "11 rows only in base" in shown(whole) and "2 rows only in new, left out: r3, new" in shown(whole)
    assert "1 id on both sides with another input or target: r3" in whole.notes


def test_rows_that_repeat_are_matched_once_each(tmp_path: Path) -> None:
    rows = [{"text": "same", "label": "ham", "good": "ham", "bad": answer} for answer in ("ham", "spam", "spam")]
    two = assess(tmp_path / "two", [row | {"id": f"a{i}"} for i, row in enumerate(rows[:2])])
    three = assess(tmp_path / "three", [row | {"id": f"b{i}"} for i, row in enumerate(rows)])
    found = diffing.diff(f"{two}:good", f"{three}:bad").comparison
    assert [(change.before, change.after) for change in found.changes] == [(1, 1), (1, 0)]
    assert found.only_after == ("b2",)
    turned = assess(tmp_path / "turned", [row | {"id": f"a{i}"} for i, row in enumerate(rows[:2])][::-1])
    found = diffing.diff(f"{two}:good", f"{turned}:bad").comparison  # by their ids, where those are known
    assert [(change.id, change.after) for change in found.changes] == [("a0", 1), ("a1", 0)]


def test_rows_that_a_run_has_not_scored_yet_are_said(tmp_path: Path, both: Path) -> None:
    there = assess(tmp_path / "cut", rows_of())
    file = RunFolder(there).scores_file("good")
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:50]))
    found = diffing.diff(f"{both}:bad", f"{there}:good")
    assert any("40 rows have no score yet" in note for note in found.notes)
    assert len(found.comparison.changes) == found.comparison.metrics["f1"].n == 50


def test_without_the_answers_row_scores_are_compared_and_the_rest_is_said(tmp_path: Path, both: Path) -> None:
    there = assess(tmp_path / "bare", rows_of())
    RunFolder(there).predictions_file("good").unlink()
    found = diffing.diff(f"{both}:bad", f"{there}:good")
    assert list(found.comparison.metrics) == ["accuracy", "strict_accuracy"]
    assert any("not compared" in note and "good" in note for note in found.notes)
    assert found.verdict == "undecided" and "f1 could not be compared" in shown(found)


def test_a_torn_last_answer_is_left_as_it_is(tmp_path: Path, both: Path) -> None:
    """The run may be writing it."""
    there = assess(tmp_path / "torn", rows_of())
    file = RunFolder(there).predictions_file("good")
    file.write_text(file.read_text() + '{"id": "r0", "ind')
    before = file.read_bytes()
    assert diffing.diff(f"{both}:bad", f"{there}:good").verdict == "better"
    assert file.read_bytes() == before


def test_nothing_in_common_is_one_line(tmp_path: Path, both: Path) -> None:
    there = assess(tmp_path / "strange", [row | {"text": f"other {row['text']}"} for row in rows_of()])
    with pytest.raises(UserError) as error:
        diffing.diff(f"{both}:bad", f"{there}:good")
    assert "same test set" in said(error) and "\n" not in said(error)


@pytest.mark.parametrize(
    ("task", "key"),
    [
        ({"metrics": ["accuracy"]}, "task.metrics"),
        ({"positive": "spam"}, "task.positive"),
        ({"labels": [*LABELS, "more"]}, "task.labels"),
        ({"type": "generation", "labels": None, "metrics": ["exact_match"]}, "task.type"),
    ],
)
def test_runs_of_different_tasks_are_refused_with_the_key(
    tmp_path: Path, both: Path, task: dict[str, Any], key: str
) -> None:
    there = assess(tmp_path / "other", rows_of(), task=task)
    with pytest.raises(UserError) as error:
        diffing.diff(f"{both}:bad", f"{there}:good")
    assert key in said(error) and str(both) in said(error) and str(there) in said(error)


def test_a_metric_that_one_run_lacks_is_said(tmp_path: Path, both: Path) -> None:
    there = assess(tmp_path / "more", rows_of())
    pipeline.decide_again(there, config.load(there / "config.yaml", ["thresholds.mcc='>= 0.1'"]))
    found = diffing.diff(f"{both}:bad", f"{there}:good")
    assert "mcc" not in found.comparison.metrics
    assert any("mcc" in note for note in found.notes)
    again = diffing.diff(f"{there}:bad", f"{there}:good")
    assert again.comparison.metrics["mcc"].delta is not None


# ---------------------------------------------------------------- which candidate


def test_a_candidate_is_named_after_the_folder_and_colons_may_stand_in_both(tmp_path: Path) -> None:
    run = assess(tmp_path / "a:b", rows_of(20), {"hf:owner/name": "good", "fake:echo": "bad"})
    folder, candidate = scored_run.parse(f"{run}:hf:owner/name")
    assert (folder.path, candidate) == (run, "hf:owner/name")
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "manifest.json").write_text("{}")  # the longest name that is a run folder is meant
    whole = run.rename(tmp_path / "x:hf:owner-name")
    folder, candidate = scored_run.parse(f"{whole}:fake:echo")
    assert (folder.path, candidate) == (whole, "fake:echo")


def test_without_a_candidate_the_tuned_one_is_meant_else_the_verdicts(tmp_path: Path, both: Path) -> None:
    run = assess(tmp_path / "chosen", rows_of(20))
    with pytest.raises(UserError) as error:
        scored_run.parse(str(run))
    assert "good, bad" in said(error) and f"{run}:CANDIDATE" in said(error)
    edit(run, lambda summary: summary.update(verdict={"action": "ship", "candidate": "bad"}))
    assert scored_run.parse(str(run))[1] == "bad"
    edit(run, lambda summary: summary["candidates"][0].update(role="tuned"))
    assert scored_run.parse(str(run))[1] == "good"
    only = assess(tmp_path / "only", rows_of(20), {"alone": "bad"})
    assert scored_run.parse(str(only))[1] == "alone"


def test_a_wrong_name_is_one_line_with_the_right_ones(tmp_path: Path, both: Path) -> None:
    for name, words in (
        (f"{both}:goud", "did you mean 'good'"),
        (f"{both}:xyz", "it has good, bad"),
        (str(tmp_path / "nowhere"), "neither RUN nor RUN:CANDIDATE"),
        (str(tmp_path), "neither RUN nor RUN:CANDIDATE"),
        ("", "neither RUN nor RUN:CANDIDATE"),
    ):
        with pytest.raises(UserError) as error:
            scored_run.parse(name)
        assert words in said(error) and "\n" not in said(error)


def test_a_run_without_its_scores_names_the_command(tmp_path: Path) -> None:
    run = assess(tmp_path / "gone", rows_of(20))
    RunFolder(run).scores_file("good").unlink()
    with pytest.raises(UserError, match="evalft assess"):
        diffing.diff(f"{run}:bad", f"{run}:good")


# ---------------------------------------------------------------- shown


def test_it_reads_in_80_columns(both: Path) -> None:
    out = shown(diffing.diff(f"{both}:bad", f"{both}:good"))
    table = out[out.index("metric") : out.index("rows by")]
    assert all(len(line) <= 80 for line in table.splitlines())
    row = next(line for line in out.splitlines() if line.startswith("f1 "))
    estimate = diffing.diff(f"{both}:bad", f"{both}:good").comparison.metrics["f1"]
    assert estimate.delta is not None
    assert f"+{estimate.delta:.3f}" in row and "BCa" in row and " to " in row
    assert "McNemar" in out and "fixed" in out and "cost per query" in out


def test_it_reads_where_the_terminal_knows_ascii_only(both: Path) -> None:
    assert shown(diffing.diff(f"{both}:bad", f"{both}:good"), encoding="ascii").isascii()


def test_hostile_names_and_ids_do_nothing(tmp_path: Path) -> None:
    rows = [row | {"id": f"\x1b[31m[bold]{row['id']}"} for row in rows_of(40)]
    run = assess(tmp_path / "hostile", rows, {"[red]a\x1b]0;title\x07": "good", "b": "bad"})
    out = shown(diffing.diff(f"{run}:b", f"{run}:[red]a\x1b]0;title\x07"))
    unwrapped = out.replace("\n", "")  # a long path moves where lines break
    assert "\x1b" not in out and "[red]a" in unwrapped and "[bold]r" in unwrapped


def test_as_data_is_json_and_says_the_same(both: Path) -> None:
    found = diffing.diff(f"{both}:bad", f"{both}:good")
    data = json.loads(json.dumps(diffing.as_data(found), allow_nan=False))
    assert data["verdict"] == "better" and data["primary"] == "f1" and data["row_metric"] == "accuracy"
    assert data["matched"] == 90 == data["fixed"] + data["broken"] + data["same"]
    assert len(data["fixed_ids"]) == data["fixed"] and len(data["broken_ids"]) == data["broken"]
    estimate = found.comparison.metrics["roc_auc"]
    assert data["metrics"]["roc_auc"]["delta"] == estimate.delta and data["metrics"]["roc_auc"]["low"] == estimate.low
