"""A gate over what rows have no score of: metrics of probabilities, cost and latency."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from evalft import baselines, config, gate_words, gating, pipeline
from evalft.errors import UserError
from evalft.gate_judgement import Judgement
from evalft.scored_rows import content_of
from evalft.store import RunFolder

Line = dict[str, Any]


def lines_of(n: int, skill: float, labels: Sequence[str], seed: int = 0, **more: Any) -> list[Line]:
    """Answers with probabilities that lean to the target as far as `skill` says; many are close to 0 and 1."""
    draw, lines = random.Random(seed), []
    for i in range(n):
        odds = [10.0 ** draw.gauss(0, 3) for _ in labels]
        odds[i % len(labels)] *= 10.0 ** (6 * skill)
        probs = {label: one / sum(odds) for label, one in zip(labels, odds, strict=True)}
        lines.append({"id": f"r{i}", "probs": probs} | {key: value(i) for key, value in more.items()})
    return lines


def assess(folder: Path, answers: Mapping[str, Sequence[Line]], labels: Sequence[str], **sections: Any) -> Path:
    """A run of files of answers. Row i has the target labels[i % len(labels)]."""
    folder.mkdir(parents=True)
    ids = [line["id"] for line in next(iter(answers.values()))]
    rows = [{"id": one, "text": f"Message {one}", "label": labels[int(one[1:]) % len(labels)]} for one in ids]
    for name, lines in {"test": rows, **answers}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    task = {
        "name": "mail", "type": "classification", "test": "test.jsonl", "input": "text", "target": "label", "id": "id",
        "labels": list(labels), "metrics": sections.pop("metrics", ["accuracy"]),
    }  # fmt: skip
    candidates = [{"name": name, "model": f"file:{name}.jsonl"} for name in answers]
    data = {"task": task, "candidates": candidates} | sections
    pipeline.assess(config.build(data, source="test", folder=folder), out=folder / "run")
    return folder / "run"


def judged(run: Path, folder: Path, before: str = "good", after: str = "bad") -> dict[str, Judgement]:
    file = folder / "baseline.jsonl"
    baselines.write(f"{run}:{before}", file)
    found = gating.gate(file, f"{run}:{after}")
    return {one.name: one for one in (*found.metrics, *found.beside)}


@pytest.mark.parametrize("metric", ["roc_auc", "pr_auc", "brier", "ece"])
def test_metrics_of_probabilities_are_those_of_the_runs_and_a_regression_is_seen(tmp_path: Path, metric: str) -> None:
    answers = {name: lines_of(300, skill, "ab") for name, skill in (("good", 1.0), ("bad", 0.1))}
    run = assess(tmp_path / "one", answers, "ab", metrics=[metric])
    reported = {
        entry["name"]: entry["metrics"] for entry in json.loads((run / "summary.json").read_text())["candidates"]
    }
    found = judged(run, tmp_path)[metric]
    for value, name in ((found.before, "good"), (found.after, "bad")):
        assert value == pytest.approx(reported[name][metric]["value"], abs=2e-5)
    assert found.verdict == "regression" and (found.change or 0) < 0
    assert judged(run, tmp_path, after="good")[metric].verdict == "pass"


def test_a_ranking_near_0_and_1_keeps_its_order(tmp_path: Path) -> None:
    """Four decimals would make ties of what a language model says."""
    lines = lines_of(200, 0.0, "ab")
    for i, line in enumerate(lines):
        p = 10.0 ** -(5 + (i * 37 % 200) / 20)
        line["probs"] = {"a": 1 - p, "b": p}
    found = judged(assess(tmp_path / "one", {"good": lines, "bad": lines}, "ab", metrics=["roc_auc"]), tmp_path)
    target = [i % 2 for i in range(200)]
    assert found["roc_auc"].before == pytest.approx(roc_auc_score(target, [line["probs"]["b"] for line in lines]))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_what_is_kept_of_a_probability_is_close_and_in_order(values: list[float]) -> None:
    labels = [str(place) for place in range(len(values))]
    code = baselines.encoded(dict(zip(labels, values, strict=True)), labels)
    kept = baselines.decoded(code, labels)
    assert len(code) == 4 * len(values)
    assert list(kept.values()) == pytest.approx(values, abs=1.3e-5)
    in_order = sorted(labels, key=lambda label: values[int(label)])
    assert [kept[label] for label in in_order] == sorted(kept.values())


def test_six_labels_are_under_100_bytes_a_row_whatever_their_order_and_seven_are_refused(tmp_path: Path) -> None:
    lines = lines_of(120, 1.0, "abcdef", cost_usd=lambda i: 0.000123456 + i * 1e-6)
    run = assess(tmp_path / "six", {"good": lines}, "abcdef", metrics=["roc_auc", "accuracy", "jaccard"])
    baselines.write(str(run), tmp_path / "one.jsonl")
    rows = (tmp_path / "one.jsonl").read_text().splitlines()[1:]
    assert max(len(row) + 1 for row in rows) < 100
    shuffled = random.Random(0).sample(lines, len(lines))
    other = assess(tmp_path / "shuffled", {"good": shuffled}, "abcdef", metrics=["roc_auc", "accuracy", "jaccard"])
    baselines.write(str(other), tmp_path / "other.jsonl")
    assert (tmp_path / "other.jsonl").read_text().splitlines()[1:] == rows
    seven = assess(tmp_path / "seven", {"good": lines_of(140, 1.0, "abcdefg")}, "abcdefg", metrics=["roc_auc"])
    with pytest.raises(UserError, match=r"thresholds.roc_auc: .* at most 6 labels, and this task has 7"):
        judged(seven, tmp_path, after="good")


def test_a_baseline_without_probabilities_is_refused_and_labels_alone_are_enough_for_hard_ones(tmp_path: Path) -> None:
    answers = {"good": lines_of(100, 1.0, "ab")}
    run = assess(tmp_path / "one", answers, "ab", metrics=["roc_auc"])
    baselines.write(str(run), tmp_path / "old.jsonl")
    head, *rows = [json.loads(line) for line in (tmp_path / "old.jsonl").read_text().splitlines()]
    lines = [head | {"probabilities": None}, *(row[:3] for row in rows)]
    (tmp_path / "old.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(UserError, match="keeps no probabilities; write it again with `evalft baseline`"):
        gating.gate(tmp_path / "old.jsonl", str(run))
    said = [{"id": f"r{i}", "labels": "abcdefgh"[i * i % 8]} for i in range(160)]
    hard = assess(tmp_path / "hard", {"good": said, "bad": said[::-1]}, "abcdefgh", metrics=["roc_auc"])
    assert judged(hard, tmp_path)["roc_auc"].before is not None


def test_another_kind_of_probabilities_is_said(tmp_path: Path) -> None:
    answers = {"good": lines_of(100, 1.0, "ab"), "bad": [{"id": f"r{i}", "labels": "ab"[i % 2]} for i in range(100)]}
    run = assess(tmp_path / "one", answers, "ab", metrics=["roc_auc"])
    baselines.write(f"{run}:good", tmp_path / "baseline.jsonl")
    found = gating.gate(tmp_path / "baseline.jsonl", f"{run}:bad")
    assert "probabilities are from stated in the baseline and from hard in the run" in found.notes


def test_sklearn_agrees_on_what_the_file_holds(tmp_path: Path) -> None:
    run = assess(tmp_path / "one", {"good": lines_of(150, 0.2, "ab")}, "ab", metrics=["roc_auc", "pr_auc", "brier"])
    baselines.write(str(run), tmp_path / "baseline.jsonl")
    examples = RunFolder(run).read_examples("test")
    target = {f"{content_of(one)[0]:016x}": one.target == "b" for one in examples}
    rows = baselines.read_file(tmp_path / "baseline.jsonl").rows
    kept = [row.probs["b"] for row in rows if row.probs]
    is_b = [target[row.content] for row in rows]
    metrics = json.loads((run / "summary.json").read_text())["candidates"][0]["metrics"]
    for name, value in (
        ("roc_auc", roc_auc_score(is_b, kept)),
        ("pr_auc", average_precision_score(is_b, kept)),
        ("brier", brier_score_loss(is_b, kept)),
    ):
        assert metrics[name]["value"] == pytest.approx(value, abs=2e-5)


# ---------------------------------------------------------------- cost and latency


def of_money(tmp_path: Path, factor: float, **sections: Any) -> dict[str, Judgement]:
    """`bad` costs `factor` times what `good` does, and takes as many times as long."""
    answers = {
        name: lines_of(
            150, 1.0, "ab",
            cost_usd=lambda i, by=by: by * (0.0001 + 0.00001 * (i % 7)),
            latency_s=lambda i, by=by: by * (1 + i / 100),
        )
        for name, by in (("good", 1.0), ("bad", factor))
    }  # fmt: skip
    return judged(assess(tmp_path / "one", answers, "ab", **sections), tmp_path)


def test_cost_and_latency_are_shown_beside_and_judge_nothing_where_nothing_is_required(tmp_path: Path) -> None:
    found = of_money(tmp_path, 3.0)
    baselines.write(f"{tmp_path / 'one' / 'run'}:good", tmp_path / "baseline.jsonl")
    gate = gating.gate(tmp_path / "baseline.jsonl", f"{tmp_path / 'one' / 'run'}:bad")
    assert gate.verdict == "pass" and {one.name for one in gate.beside} == {
        "cost_per_query",
        "latency_p50",
        "latency_p95",
    }
    cost = found["cost_per_query"]
    assert cost.after == pytest.approx(3 * (cost.before or 0), rel=0.01), "costs are kept to three digits"
    assert cost.change is not None and cost.low is not None and cost.low > 0, "paired by rows, dearer"
    assert found["latency_p50"].after == pytest.approx(3 * (found["latency_p50"].before or 0))
    assert gate_words.markdown(gate).count("not judged") == 3
    assert {one.verdict for one in gate.beside} == {None}


@pytest.mark.parametrize(("factor", "verdict"), [(1.05, "pass"), (1.5, "regression"), (1.0, "pass")])
def test_a_cost_margin_is_a_share_of_the_baselines_cost(tmp_path: Path, factor: float, verdict: str) -> None:
    found = of_money(tmp_path, factor, gate={"cost_margin": 0.2})["cost_per_query"]
    assert found.verdict == verdict and "gate.cost_margin" in (found.reason or "")


@pytest.mark.parametrize(("factor", "verdict"), [(3.0, "regression"), (1.0, "pass"), (0.1, "pass"), (1.3, "undecided")])
def test_a_latency_margin_holds_intervals_against_each_other(tmp_path: Path, factor: float, verdict: str) -> None:
    found = of_money(tmp_path, factor, gate={"latency_margin": 0.2})
    assert found["latency_p50"].verdict == verdict


def test_a_threshold_and_a_margin_are_both_kept(tmp_path: Path) -> None:
    limits = {"gate": {"cost_margin": 1.0}, "thresholds": {"accuracy": ">= 0.1", "cost_per_query": "<= 0.00001"}}
    found = of_money(tmp_path, 1.0, **limits)["cost_per_query"]
    assert found.verdict == "regression" and "threshold (<= 1e-05)" in (found.reason or "")
    assert "which the baseline does not meet either" in (found.reason or "")


def test_answers_in_a_file_are_named_by_their_content_wherever_the_file_lies(tmp_path: Path) -> None:
    lines = lines_of(40, 0.5, "ab")
    run, moved, other = (
        assess(tmp_path / name, {"it": given}, "ab")
        for name, given in (("here", lines), ("there", lines), ("other", lines_of(40, 0.4, "ab")))
    )
    file = tmp_path / "baseline.jsonl"
    baselines.write(str(run), file)
    assert str(tmp_path) not in file.read_text()
    assert not gating.gate(file, str(moved)).changed
    (changed,) = gating.gate(file, str(other)).changed
    assert changed.startswith("model: it.jsonl (") and changed.count("it.jsonl") == 2


def test_latency_that_was_never_measured_is_no_crash(tmp_path: Path) -> None:
    answers = {"good": lines_of(60, 1.0, "ab")}
    thresholds = {"accuracy": ">= 0.1", "latency_p95": "<= 1"}
    found = judged(assess(tmp_path / "one", answers, "ab", thresholds=thresholds), tmp_path, after="good")
    assert found["latency_p95"].verdict == "undecided"
