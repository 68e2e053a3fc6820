"""Choosing pairs and stages; `evalft tune` on a config and on a run folder; what it refuses."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import tiny_models
import whole_runs
from evalft import config, pipeline, preparing, scoring, training, tuning
from evalft.config import MetricSpec, TaskConfig
from evalft.errors import UserError
from evalft.numbers import counted
from evalft.prompts import Request, target_text
from evalft.recipes import command
from evalft.records import Example, Failure, Outcome, Pair, Prediction
from evalft.store import RunFolder
from whole_runs import Heard, configured, read, rows, training_here

pytest.importorskip("trl")

GRADED = TaskConfig(type="generation", metrics=[MetricSpec(name="token_f1")])
"""A metric with degrees: a sample may be worse than another without being wrong."""
LABELS = TaskConfig(type="multilabel", labels=["a", "b", "c"])
EXACT = TaskConfig(type="generation", metrics=[MetricSpec(name="exact_match")])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.causal(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(autouse=True)
def _trained_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_run", training_here)


# ---------------------------------------------------------------- pairs

WORDS = st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1, max_size=3).map(" ".join)


@st.composite
def sampled(draw: st.DrawFn) -> tuple[TaskConfig, list[Example], list[Outcome]]:
    """A task, rows, and up to six samples of each row, in any order; some were cut off, some could not be read."""
    task = draw(st.sampled_from([GRADED, EXACT, LABELS]))
    labels = st.sets(st.sampled_from(["a", "b", "c"])).map(lambda found: tuple(sorted(found)))
    targets = draw(st.lists(labels if task is LABELS else WORDS, min_size=1, max_size=4))
    made: list[Outcome] = []
    for index in range(len(targets)):
        for repeat in range(draw(st.integers(0, 6))):
            where = (f"r{index}", index, repeat)
            end = draw(st.sampled_from(["stop", "stop", "stop", "length"]))
            if draw(st.integers(0, 5)) == 0:
                made.append(Failure(*where, "unparsable", "no", text="? " + draw(WORDS), finish_reason=end))
            elif task is LABELS:
                found = draw(labels)
                made.append(Prediction(*where, ", ".join(found) or "none", found, finish_reason=end))
            else:
                made.append(Prediction(*where, draw(WORDS), None, finish_reason=end))
    examples = [Example(f"r{i}", f"input {i}", target, {}) for i, target in enumerate(targets)]
    return task, examples, draw(st.permutations(made))


def requests(examples: list[Example]) -> list[Request]:
    return [
        Request(row.id, i, 0, ({"role": "user", "content": f"{row.input}, please"},)) for i, row in enumerate(examples)
    ]


@hypothesis_settings(max_examples=60, deadline=None)
@given(sampled())
def test_a_pair_is_the_best_against_the_worst_and_the_reference_only_where_it_is_better(
    given: tuple[TaskConfig, list[Example], list[Outcome]],
) -> None:
    task, examples, outcomes = given
    scorer = scoring.row_scorer(task)
    usable: dict[str, dict[str, float]] = defaultdict(dict)
    for outcome in outcomes:
        if outcome.finish_reason != "length":
            score = 0.0 if isinstance(outcome, Failure) else float(scorer(examples[outcome.index], outcome))
            usable[outcome.id][str(outcome.text)] = score
    pairs, said = tuning.choose_pairs(task, examples, requests(examples), outcomes)
    assert Counter(pair.id for pair in pairs).most_common(1)[:1] in ([], [(pairs[0].id, 1)] if pairs else [])
    found = {pair.id: pair for pair in pairs}
    for row, request in zip(examples, requests(examples), strict=True):
        seen, pair = usable[row.id], found.get(row.id)
        reference = 1.0  # by every metric here a target is right
        if not seen or min(seen.values()) == reference:
            assert pair is None
            continue
        assert pair is not None
        assert pair.messages == request.messages
        assert pair.chosen_score > pair.rejected_score and pair.chosen != pair.rejected
        assert pair.rejected_score == min(seen.values()) == seen[pair.rejected]
        if max(seen.values()) >= reference:
            assert (pair.chosen_from, seen[pair.chosen]) == ("sampled", pair.chosen_score)
        else:
            assert (pair.chosen_from, pair.chosen) == ("reference", target_text(task, row.target))
    begins = f"{len(pairs)} pairs of {counted(len(examples), 'row')}, {sum(p.chosen_from == 'reference' for p in pairs)} of them"
    assert said.startswith(begins)
    assert f"{sum(not usable[row.id] for row in examples)} without a usable sample" in said


def one_row(texts: list[str], target: str = "a b") -> list[Pair]:
    row = Example("r", "input", target, {})
    outcomes = [Prediction("r", 0, i, text, None, finish_reason="stop") for i, text in enumerate(texts)]
    return tuning.choose_pairs(GRADED, [row], requests([row]), outcomes)[0]


def test_of_equally_good_samples_the_commonest_is_taken() -> None:
    [pair] = one_row(["a c", "c", "d", "a b", "d", "a b c"])
    assert (pair.chosen, pair.rejected) == ("a b", "d")


def test_white_space_around_a_sample_is_not_taught() -> None:
    [pair] = one_row([" a b \n", " d "])
    assert (pair.chosen, pair.rejected) == ("a b", "d")


def test_rows_whose_samples_are_equally_good_teach_nothing() -> None:
    assert one_row(["a b", "a b"]) == []
    assert [pair.chosen_from for pair in one_row(["c", "d"])] == ["reference"]


def test_labels_are_drawn_by_their_probabilities_the_same_ones_each_time() -> None:
    outcome = Prediction("r7", 7, 0, "a", ("a",), probs={"a": 0.7, "b": 0.3, "c": 0.0})
    drawn = tuning._drawn(outcome, seed=0)
    assert drawn == tuning._drawn(outcome, seed=0)
    assert len(drawn) == tuning.SAMPLES and [one.repeat for one in drawn] == [*range(tuning.SAMPLES)]
    assert all(one.labels == (one.text,) and one.text in ("a", "b") for one in drawn)
    assert len({tuple(one.text for one in tuning._drawn(outcome, seed)) for seed in range(20)}) > 10
    all_of_them = Counter(one.text for seed in range(300) for one in tuning._drawn(outcome, seed))
    assert all_of_them["a"] / all_of_them.total() == pytest.approx(0.7, abs=0.05)
    unlike = Prediction("r8", 8, 0, "a", ("a",), probs=outcome.probs)
    assert [[one.text for one in tuning._drawn(unlike, seed)] for seed in range(9)] != [
        [one.text for one in tuning._drawn(outcome, seed)] for seed in range(9)
    ]
    failure = Failure("r9", 9, 0, "truncated", "no")
    assert tuning._drawn(failure, seed=0) == [failure]


# ---------------------------------------------------------------- which base, which stage


def test_what_is_trained_is_the_candidates_model_without_shots_samples_and_temperature(tmp_path: Path) -> None:
    data = configured(tmp_path, base_url="http://127.0.0.1:9/v1")
    model = f"hf:{tmp_path}/m"
    sampling = config.CandidateConfig(
        name="s", model=model, shots=3, samples=5, temperature=1.0, system="Be brief.", max_tokens=7
    )
    data = data.model_copy(update={"candidates": [sampling]})
    made = preparing.untuned(data, "s")
    assert (made.name, made.shots.count, made.samples, made.temperature) == ("s-untuned", 0, 1, 0.0)
    assert (made.model, made.system, made.max_tokens) == (model, "Be brief.", 7)
    plain = config.CandidateConfig(name="plain", model=model)
    both = data.model_copy(update={"candidates": [sampling, plain]})
    assert preparing.untuned(both, "s") == plain
    adapted = config.CandidateConfig(name="adapted", model=model, adapter="a")
    tune = data.tune.model_copy(update={"base": model})
    alone = data.model_copy(update={"candidates": [adapted], "tune": tune})
    made = preparing.untuned(alone, None)
    assert (made.name, made.adapter) == (model, None)


@pytest.mark.parametrize(
    ("on_dev", "chosen"),
    [([0.5, 0.5, 0.5], "base"), ([0.1, 0.5, 0.5], "sft"), ([0.1, 0.2, 0.3], "dpo"), ([0.3, 0.2, 0.1], "base")],
)
def test_the_best_on_dev_is_chosen_and_the_earlier_where_two_are_equal(on_dev: list[float], chosen: str) -> None:
    stages = []
    for name, share in zip(("base", "sft", "dpo"), on_dev, strict=True):
        examples = [Example(f"r{i}", "in", "yes", {}) for i in range(10)]
        outcomes = [Prediction(f"r{i}", i, 0, "yes" if i < 10 * share else "no", None) for i in range(10)]
        stages.append(tuning.Stage(name, name, 1, scoring.score(examples, outcomes, EXACT)))
    assert tuning._best(stages, "exact_match").name == chosen


def test_a_lower_brier_score_is_better() -> None:
    task = TaskConfig(type="classification", labels=["a", "b"], metrics=[MetricSpec(name="brier")])
    stages = []
    for name, right in (("base", 0.5), ("sft", 0.9), ("dpo", 0.6)):
        examples = [Example(f"r{i}", "in", "ab"[i % 2], {}) for i in range(10)]
        outcomes = []
        for i in range(10):
            probs = {"a": right, "b": 1 - right} if i % 2 == 0 else {"a": 1 - right, "b": right}
            outcomes.append(Prediction(f"r{i}", i, 0, "ab"[i % 2], ("ab"[i % 2],), probs=probs))
        stages.append(tuning.Stage(name, name, 1, scoring.score(examples, outcomes, task)))
    assert tuning._best(stages, "brier").name == "sft"


def test_as_many_processes_as_gpus_are_visible_and_share_a_batch_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    tune = config.TuneConfig()
    for visible, count in (("0,1,2,3", 4), ("0,1,2", 2), ("3", 1), ("", 1)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert tuning.processes(tune, batch_size=16) == count
    assert tuning.processes(config.TuneConfig(processes=5), batch_size=16) == 5


# ---------------------------------------------------------------- the command


def commanded(folder: Path, model: Path, **tune: Any) -> Path:
    """An evalft.yaml for the commands, without an endpoint."""
    data = configured(folder, model, expand={"target_rows": 1}, tune={"epochs": 1, **tune})
    return whole_runs.as_file(data, folder / "evalft.yaml")


def test_tune_trains_without_an_assessment_and_run_then_scores_the_chosen_stage(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, run = commanded(tmp_path, base, base=f"hf:{base}", methods=["sft"], epochs=12), tmp_path / "run"
    assert whole_runs.evalft(monkeypatch, "tune", file, "--out", run) == 0
    assert capsys.readouterr().out.splitlines() == [
        str(run / "stages.json"),
        f"score the chosen stage on test with: evalft run {run}",
    ]
    assert read(run, "manifest.json")["stages"] == {"expand": "done", "tune": "done"}
    assert not (run / "predictions" / "tiny.jsonl").exists()
    stages = read(run, "stages.json")["stages"]
    assert [one["name"] for one in stages] == ["base", "sft"] and stages[1]["chosen"]
    monkeypatch.setattr(training, "_run", None)  # nothing is trained again
    assert whole_runs.evalft(monkeypatch, "tune", run) == 0
    assert whole_runs.evalft(monkeypatch, "run", run) == 0
    summary = read(run, "summary.json")
    assert [(one["name"], one["role"]) for one in summary["candidates"]] == [
        ("tiny", "baseline"),
        ("tiny-tuned", "tuned"),
    ]
    assert summary["stages"] == stages and summary["diff"]
    assert summary["verdict_before"]["action"] == "tune"


def test_tune_after_assess_trains_what_the_verdict_names(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, run = commanded(tmp_path, base, methods=["sft"]), tmp_path / "run"
    assert whole_runs.evalft(monkeypatch, "assess", file, "--out", run) == 0
    real = RunFolder.write_json

    def killed_behind(self: RunFolder, name: str, data: Any) -> None:
        real(self, name, data)
        if name == "manifest" and "trained" in data:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_json", killed_behind)
        assert whole_runs.evalft(monkeypatch, "tune", run) == 130
    assert whole_runs.evalft(monkeypatch, "run", run) == 0
    manifest = read(run, "manifest.json")
    assert manifest["trained"]["base"] == "tiny"
    assert manifest["stages"] == {"assess": "done", "expand": "done", "tune": "done"}
    assert len(read(run, "predictions/tiny.jsonl")) == 24


def test_tune_without_a_base_or_an_assessment_says_what_to_name_and_makes_no_rows(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert whole_runs.evalft(monkeypatch, "tune", commanded(tmp_path, base), "--out", tmp_path / "run") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: tune.base: which model to train is not known") and "evalft run" in line
    assert not (tmp_path / "run" / "data" / "expansion.json").exists()


@pytest.mark.parametrize("name", ["tune", "expand"])
def test_a_lone_test_file_is_not_split_for_it_and_the_next_command_is_named(
    name: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = configured(tmp_path, base, tune={"base": f"hf:{base}"})
    task = data.task.model_copy(update={"train": None, "dev": None})
    file = whole_runs.as_file(data.model_copy(update={"task": task}), tmp_path / "evalft.yaml")
    assert whole_runs.evalft(monkeypatch, name, file, "--out", tmp_path / "run") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: task.train: there are no train rows") and "evalft init --split 0.5" in line
    assert not (tmp_path / "run").exists()


def test_without_the_extra_the_command_that_installs_it_is_named(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = commanded(tmp_path, base, base=f"hf:{base}")
    monkeypatch.setattr(command, "missing_extra", lambda: True)
    assert whole_runs.evalft(monkeypatch, "tune", file, "--out", tmp_path / "run") == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert errors == ["error: training needs trl and peft; pip install 'evalft[train]'"]
    monkeypatch.setattr(command, "missing_extra", lambda: False)
    assert whole_runs.evalft(monkeypatch, "tune", file, "--out", tmp_path / "run", "--set", "tune.methods=[sft]") == 2
    assert "holds a run of other data" in capsys.readouterr().err


def test_what_a_recipe_refuses_is_one_line(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = commanded(tmp_path, base, base=f"hf:{base}", max_length=5)
    assert whole_runs.evalft(monkeypatch, "tune", file, "--out", tmp_path / "run") == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "set tune.max_length to" in errors[0]
    assert read(tmp_path / "run", "manifest.json")["stages"]["tune"] == "running"


def test_dev_rows_are_needed_to_choose_on(base: Path, tmp_path: Path) -> None:
    data = configured(tmp_path, base, tune={"base": f"hf:{base}"}, expand={"target_rows": 1})
    whole_runs.write(tmp_path / "train.jsonl", rows(200, 4))  # too few to hold some out
    task = data.task.model_copy(update={"dev": None})
    with pytest.raises(UserError, match="task.dev: there are no dev rows"):
        pipeline.tune(data.model_copy(update={"task": task}), out=tmp_path / "run")


def test_rounds_of_dpo_go_on_from_each_other_with_pairs_of_their_own(base: Path, tmp_path: Path) -> None:
    tune = {"base": f"hf:{base}", "methods": ["dpo"], "rounds": 2}
    data, heard = configured(tmp_path, base, tune=tune, expand={"target_rows": 1}), Heard()
    run = pipeline.tune(data, out=tmp_path / "run", progress=heard)
    found = read(run, "stages.json")
    assert [(one["name"], one["round"]) for one in found["stages"]] == [("base", 0), ("dpo", 1), ("dpo-2", 2)]
    second = [str(line) for line in found["stages"][2]["training"]["choices"]]
    assert any("adapters/dpo" in line for line in second), second
    samples = [read(run, f"parts/samples/predictions/{name}.jsonl") for name in ("for-dpo", "for-dpo-2")]
    assert all(len(made) == 20 * tuning.SAMPLES for made in samples)
    assert [line["text"] for line in samples[0]] != [line["text"] for line in samples[1]]
    assert (run / "data" / "pairs-2.jsonl").is_file()
    assert [note.partition(":")[0] for note in found["notes"][:2]] == ["dpo", "dpo-2"]


def test_where_no_pair_is_found_dpo_is_left_out_and_that_is_said(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "choose_pairs", lambda *given: ([], "0 pairs of 20 rows"))
    data, heard = configured(tmp_path, base, tune={"base": f"hf:{base}"}, expand={"target_rows": 1}), Heard()
    run = pipeline.tune(data, out=tmp_path / "run", progress=heard)
    assert [one["name"] for one in read(run, "stages.json")["stages"]] == ["base", "sft"]
    assert "dpo: 0 pairs of 20 rows" in read(run, "stages.json")["notes"]
    assert "dpo: 0 pairs of 20 rows" in heard.lines
