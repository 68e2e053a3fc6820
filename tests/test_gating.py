"""A run held against a baseline: what is written for git, what is a regression, and what is no answer at all."""

from __future__ import annotations

import json
import random
import shutil
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console
from sklearn.metrics import f1_score

from answered_rows import LABELS, Row, assess, rows_of
from evalft import baselines, cli, config, gate_words, gating, pipeline
from evalft.errors import UserError
from evalft.gating import Gate

ACCURACY = {"metrics": ["accuracy"]}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`good` is right more often than `bad`; `same` answers as `good` does."""
    return assess(
        tmp_path_factory.mktemp("both") / "one",
        rows_of(300),
        names={"good": "good", "bad": "bad", "same": "good"},
        task=ACCURACY,
    )


def written(run: str, folder: Path) -> Path:
    file = folder / "baseline.jsonl"
    baselines.write(run, file)
    return file


def shown(found: Gate) -> str:
    stream = StringIO()
    gate_words.show(found, Console(file=stream, width=80))
    return stream.getvalue()


def again(run: Path, **settings: Any) -> Path:
    """The run's own config file with other gate settings."""
    data = config.as_data(config.load(run / "config.yaml")) | settings
    file = run.parent / "present.yaml"
    file.write_text(config.dump(data), encoding="utf-8")
    return file


# ---------------------------------------------------------------- the file


def test_a_baseline_is_small_holds_no_text_and_does_not_depend_on_the_order_of_rows(tmp_path: Path, both: Path) -> None:
    first = written(f"{both}:good", tmp_path).read_text().splitlines()
    assert sum(len(line) + 1 for line in first[1:]) < 100 * 300
    assert "Message" not in "".join(first[1:])
    rows = rows_of(300)
    random.Random(1).shuffle(rows)
    renamed = [row | {"id": f"x{place}"} for place, row in enumerate(rows)]
    other = assess(tmp_path / "shuffled", renamed, names={"good": "good"}, task=ACCURACY)
    (tmp_path / "other").mkdir()
    assert written(str(other), tmp_path / "other").read_text().splitlines()[1:] == first[1:]


def test_a_torn_baseline_is_one_line_with_its_place(tmp_path: Path, both: Path) -> None:
    file = written(f"{both}:good", tmp_path)
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:4], "<<<<<<< HEAD", *lines[4:]]))
    with pytest.raises(UserError, match=r"baseline.jsonl:5: is not JSON"):
        gating.gate(file, str(both))
    file.write_text(json.dumps({"schema": "another"}))
    with pytest.raises(UserError, match=r"baseline.jsonl:1: is no baseline.*evalft baseline RUN"):
        gating.gate(file, str(both))
    with pytest.raises(UserError, match="no such file"):
        gating.gate(tmp_path / "missing.jsonl", str(both))


# ---------------------------------------------------------------- verdicts


def test_the_same_answers_pass_whoever_gives_them(tmp_path: Path, both: Path) -> None:
    file = written(f"{both}:good", tmp_path)
    for name in ("good", "same"):
        found = gating.gate(file, f"{both}:{name}")
        assert (found.verdict, found.status, found.matched) == ("pass", 0, 300)
    assert "name: good -> same" in found.changed
    assert gating.gate(file, str(both)).run.endswith(":good"), "the baseline's candidate is meant where none is named"


def test_worse_answers_are_a_regression_and_better_ones_pass(tmp_path: Path, both: Path) -> None:
    file = written(f"{both}:good", tmp_path)
    found = gating.gate(file, f"{both}:bad")
    assert (found.verdict, found.status) == ("regression", 3)
    assert found.metrics[0].name == "accuracy" and (found.metrics[0].high or 0) < 0
    assert "Regression: accuracy" in shown(found)
    (tmp_path / "bad").mkdir()
    assert gating.gate(written(f"{both}:bad", tmp_path / "bad"), f"{both}:good").verdict == "pass"


def test_a_regression_within_the_margin_is_none(tmp_path: Path, both: Path) -> None:
    file = written(f"{both}:good", tmp_path)
    change = gating.gate(file, f"{both}:bad").metrics[0].change
    assert change is not None
    wide = again(both, gate={"margin": round(2 * -change, 3), "tolerance": round(3 * -change, 3)})
    assert gating.gate(file, f"{both}:bad", wide).verdict == "pass"


def test_what_cannot_be_told_is_a_warning_or_status_4_as_the_config_says(tmp_path: Path) -> None:
    rows = rows_of(60, better=0.9, worse=0.9)
    for row in rows:
        row["bad"] = row["good"] if int(row["id"][1:]) % 20 else next(one for one in LABELS if one != row["label"])
    run = assess(tmp_path / "one", rows, task=ACCURACY)
    file = written(f"{run}:good", tmp_path)
    for undecided, status in (("pass", 0), ("fail", 4)):
        found = gating.gate(file, f"{run}:bad", again(run, gate={"undecided": undecided, "tolerance": 0.001}))
        assert (found.verdict, found.status) == ("undecided", status)
        assert "Undecided" in shown(found)


def test_rows_too_few_to_show_any_difference_rule_none_out(tmp_path: Path) -> None:
    rows = rows_of(2)
    for row, ours, theirs in zip(rows, (True, False), (False, True), strict=True):
        wrong = next(one for one in LABELS if one != row["label"])
        row["good"], row["bad"] = (row["label"] if right else wrong for right in (ours, theirs))
    run = assess(tmp_path / "one", rows, task=ACCURACY)
    found = gating.gate(written(f"{run}:good", tmp_path), f"{run}:bad")
    (accuracy,) = found.metrics
    assert (accuracy.change, accuracy.tolerance, found.verdict) == (0.0, 1.0, "undecided")


def test_a_slice_that_got_worse_is_seen_where_the_whole_hides_it(tmp_path: Path) -> None:
    rows = [row | {"channel": "phone" if i % 6 == 0 else "mail"} for i, row in enumerate(rows_of(600))]
    for row in rows:
        row["bad"] = row["good"]
        if row["channel"] == "phone":
            row["good"], row["bad"] = row["label"], next(one for one in LABELS if one != row["label"])
        elif row["good"] != row["label"]:
            row["bad"] = row["label"]
    run = assess(tmp_path / "one", rows, task=ACCURACY | {"slices": ["channel"]})
    found = gating.gate(written(f"{run}:good", tmp_path), f"{run}:bad")
    assert {one.name: one.verdict for one in found.slices} == {"channel=mail": "pass", "channel=phone": "regression"}
    assert found.status == 3


def test_a_metric_of_labels_is_compared_by_the_labels_that_the_baseline_keeps(tmp_path: Path) -> None:
    rows = rows_of(200)
    run = assess(tmp_path / "one", rows, task={"metrics": ["f1", "accuracy"]})
    found = gating.gate(written(f"{run}:good", tmp_path), f"{run}:bad").metrics[0]
    target = [row["label"] for row in rows]
    worth = {name: f1_score(target, [row[name] for row in rows], average="macro") for name in ("good", "bad")}
    assert found.name == "f1"
    assert (found.before, found.after) == (pytest.approx(worth["good"]), pytest.approx(worth["bad"]))
    assert found.change == pytest.approx(worth["bad"] - worth["good"])


def test_metrics_with_a_threshold_are_judged_and_costs_by_theirs(tmp_path: Path) -> None:
    data = {"thresholds": {"accuracy": ">= 0.1", "cost_per_query": "<= 0.1"}}
    run = assess(tmp_path / "one", rows_of(90), task={"metrics": ["f1", "accuracy"]})
    again_with = pipeline.decide_again(run, config.load(run / "config.yaml", [], {f"thresholds.{k}": v for k, v in data["thresholds"].items()}))  # fmt: skip
    assert again_with.summary["thresholds"]
    found = gating.gate(written(f"{run}:good", tmp_path), f"{run}:good")
    assert [one.name for one in found.metrics] == ["accuracy", "cost_per_query"]
    assert found.verdict == "pass"


def test_the_thresholds_are_those_of_the_present_config_whatever_was_tried_with_decide(tmp_path: Path) -> None:
    run = assess(tmp_path / "one", rows_of(90), task=ACCURACY)
    file, present = written(f"{run}:good", tmp_path), run / "config.yaml"
    tight = config.load(present, [], {"thresholds.cost_per_query": "<= 0.000000001", "thresholds.accuracy": ">= 0.1"})
    pipeline.decide_again(run, tight)
    assert [one.name for one in gating.gate(file, f"{run}:good").metrics] == ["accuracy", "cost_per_query"]
    assert [one.name for one in gating.gate(file, f"{run}:good", present).metrics] == ["accuracy"]


# ---------------------------------------------------------------- what is no answer


def test_a_result_that_is_not_there_or_not_of_this_version_is_said_in_one_line(tmp_path: Path, both: Path) -> None:
    file = written(f"{both}:good", tmp_path)
    for left, said in ((None, "has no result yet; `evalft assess"), ("{}", "its summary is None, this version reads")):
        run = tmp_path / f"run{left}"
        shutil.copytree(both, run)
        (run / "summary.json").unlink()
        if left:
            (run / "summary.json").write_text(left)
        with pytest.raises(UserError, match=said):
            gating.gate(file, f"{run}:good")
    with pytest.raises(UserError, match="no such file; `evalft baseline RUN"):
        gating.gate(tmp_path / "nowhere.jsonl", f"{both}:good")


def test_a_changed_target_is_an_error_that_names_the_row(tmp_path: Path, both: Path) -> None:
    rows: list[Row] = rows_of(300)
    rows[7]["label"] = next(one for one in LABELS if one != rows[7]["label"])
    other = assess(tmp_path / "other", rows, names={"good": "good"}, task=ACCURACY)
    with pytest.raises(UserError, match=r"1 rows have another target.*:8\)"):
        gating.gate(written(f"{both}:good", tmp_path), str(other))


def test_fewer_than_nine_rows_in_ten_are_no_comparison(tmp_path: Path, both: Path) -> None:
    file = written(f"{both}:good", tmp_path)
    enough = assess(tmp_path / "enough", rows_of(300)[:270], names={"good": "good"}, task=ACCURACY)
    found = gating.gate(file, str(enough))
    assert (found.matched, found.only_baseline) == (270, 30)
    few = assess(tmp_path / "few", rows_of(300)[:269], names={"good": "good"}, task=ACCURACY)
    with pytest.raises(UserError, match="only 269 of its 300 rows"):
        gating.gate(file, str(few))


def test_rows_that_repeat_are_matched_once_each(tmp_path: Path) -> None:
    rows = rows_of(40)
    twice = [*rows, *(row | {"id": f"again-{row['id']}"} for row in rows)]
    run = assess(tmp_path / "one", twice, names={"good": "good"}, task=ACCURACY)
    assert gating.gate(written(str(run), tmp_path), str(run)).matched == 80


def test_scores_of_another_task_are_refused_with_the_key(tmp_path: Path, both: Path) -> None:
    other = assess(tmp_path / "other", rows_of(300), names={"good": "good"}, task={"metrics": ["f1"]})
    with pytest.raises(UserError, match=r"task.metrics: accuracy in .* but f1 in .*evalft baseline"):
        gating.gate(written(f"{both}:good", tmp_path), str(other))


def test_a_run_of_another_config_than_the_present_one_is_refused(tmp_path: Path, both: Path) -> None:
    file = written(f"{both}:good", tmp_path)
    data = config.as_data(config.load(both / "config.yaml"))
    assert gating.gate(file, f"{both}:good", again(both)).status == 0
    data["candidates"][0]["temperature"] = 0.5
    (both.parent / "hotter.yaml").write_text(config.dump(data), encoding="utf-8")
    with pytest.raises(UserError, match=r"is not a run of .*hotter.yaml as it is now"):
        gating.gate(file, f"{both}:good", both.parent / "hotter.yaml")


def test_a_run_that_is_not_whole_is_neither_a_baseline_nor_a_pass(tmp_path: Path, both: Path) -> None:
    file = written(f"{both}:good", tmp_path)
    run = assess(tmp_path / "cut", rows_of(300), names={"good": "good"}, task=ACCURACY)
    scores = run / "scores" / "good.jsonl"
    scores.write_text("".join(scores.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(UserError, match="is not complete"):
        gating.gate(file, str(run))
    with pytest.raises(UserError, match="is not complete"):
        baselines.write(str(run), tmp_path / "cut.jsonl")


def test_coverage_under_its_floor_is_status_6_whatever_the_scores(tmp_path: Path) -> None:
    rows = rows_of(60)
    for row in rows[:20]:
        row["good"] = "no label of the task"
    run = assess(tmp_path / "one", rows, names={"good": "good"}, task=ACCURACY)
    found = gating.gate(written(str(run), tmp_path), str(run))
    assert found.status == 6
    assert "20 of 60 rows failed and count as misses" in found.notes


# ---------------------------------------------------------------- the commands


def test_the_commands_answer_with_their_status_and_write_for_people(
    tmp_path: Path, both: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "step.md"))

    def called(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(cli.group, arguments, standalone_mode=False)
        return result.return_value or 0, result.output

    assert called("baseline", f"{both}:good")[0] == 0
    assert called("gate", f"{both}:good")[0] == 0
    status, output = called("gate", f"{both}:bad", "--markdown", "comment.md")
    assert status == 3 and "Regression: accuracy" in output
    comment = (tmp_path / "comment.md").read_text()
    assert comment.startswith("### ✗ evalft gate") and "✗ regression" in comment
    assert comment in (tmp_path / "step.md").read_text()
    status, output = called("gate", f"{both}:bad", "--json")
    assert status == 3 and json.loads(output)["verdict"] == "regression"


def test_hostile_names_do_nothing_in_a_comment_or_on_the_terminal(tmp_path: Path) -> None:
    rows = [row | {"channel": "<img src=x>|\x1b[31m"} for row in rows_of(60)]
    run = assess(tmp_path / "one", rows, task=ACCURACY | {"slices": ["channel"]})
    found = gating.gate(written(f"{run}:good", tmp_path), f"{run}:bad")
    assert "\x1b" not in shown(found) and "\x1b" not in gate_words.markdown(found)
    assert r"\<img src=x\>\|" in gate_words.markdown(found)
