"""`evalft run` as a whole: assess, expand, train, choose on dev, assess again, compare; and where it ends before that."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest

import tiny_models
import whole_runs
from api_server import serving
from evalft import config, diffing, pipeline, planning, preparing, training, tuning
from evalft.concluding import Assessment
from evalft.errors import UserError
from whole_runs import PRICE_USD, SYSTEM, Heard, asked, configured, is_writing, knows, read, rows, training_here

pytest.importorskip("trl")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.causal(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(autouse=True)
def _trained_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_run", training_here)


def entry(summary: dict[str, Any], name: str) -> dict[str, Any]:
    [found] = [one for one in summary["candidates"] if one["name"] == name]
    return dict(found)


def scores(run: Path, name: str, folder: str = "scores") -> dict[str, float]:
    """exact_match of each row."""
    return {line["id"]: line["values"]["exact_match"] for line in read(run, f"{folder}/{name}.jsonl")}


def mean(values: Any) -> float:
    return sum(values) / len(values)


# ---------------------------------------------------------------- the whole loop, once


@dataclass(frozen=True)
class Whole:
    run: Path
    configured: config.Config
    assessed: Assessment
    """By `assess`, into the same folder, before."""
    result: Assessment
    bodies: list[dict[str, Any]]
    said: list[str]

    @property
    def summary(self) -> dict[str, Any]:
        return dict(self.result.summary)


@pytest.fixture(scope="module")
def whole(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch, serving(knows) as server:
        patch.setenv("EVALFT_CACHE", str(folder / "cache"))
        patch.setattr(training, "_run", training_here)
        data, heard = configured(folder, base, server.base_url), Heard()
        assessed = pipeline.assess(data, out=folder / "run")
        result = pipeline.run(data, out=folder / "run", progress=heard)
        bodies = list(server.bodies)
    yield Whole(folder / "run", data, assessed, result, bodies, heard.lines)


def test_a_run_ends_with_the_tuned_candidate_beside_its_baseline(whole: Whole) -> None:
    assert whole.result.status == 0
    assert {one["name"]: one["role"] for one in whole.summary["candidates"]} == {
        "endpoint": "candidate",
        "tiny": "baseline",
        "tiny-tuned": "tuned",
    }
    chosen = entry(whole.summary, "tiny-tuned")["stage"]
    adapter = whole.run / "adapters" / chosen
    assert (adapter / "adapter_model.safetensors").is_file()
    assert len(read(whole.run, "predictions/tiny-tuned.jsonl")) == 24
    for name in ("report.html", "report.md", "stages.json", "data/README.md", "data/sft.jsonl", "data/pairs.jsonl"):
        assert (whole.run / name).is_file(), name
    assert "tiny-tuned" in (whole.run / "report.md").read_text()
    manifest = read(whole.run, "manifest.json")
    assert manifest["stages"] == {"assess": "done", "expand": "done", "tune": "done"}
    assert manifest["trained"] == {"base": "tiny", "stage": chosen} and manifest["complete"] is True


def test_the_summary_keeps_to_its_schema_and_names_no_place_of_this_machine(whole: Whole) -> None:
    written = read(whole.run, "summary.json")
    whole_runs.keeps_to_the_schema(written)
    for name in ("summary.json", "stages.json"):
        assert str(whole.run) not in (whole.run / name).read_text()


def test_the_verdict_before_training_is_what_assess_said(whole: Whole) -> None:
    assert whole.assessed.summary["verdict"]["action"] == "tune"
    assert whole.summary["verdict_before"] == whole.assessed.summary["verdict"]
    assert whole.summary["verdict"] != whole.summary["verdict_before"]
    assert whole.assessed.summary["stages"] is whole.assessed.summary["diff"] is None


def test_the_base_and_each_training_are_scored_on_dev_and_the_best_is_chosen(whole: Whole) -> None:
    stages = whole.summary["stages"]
    assert [(one["name"], one["method"], one["round"]) for one in stages] == [
        ("base", "none", 0),
        ("sft", "sft", 1),
        ("dpo", "dpo", 1),
    ]
    worth = []
    for one in stages:
        on_dev = scores(whole.run / "parts" / "dev", one["name"])
        assert [*on_dev] == [row["id"] for row in rows(100, 10)]
        assert one["dev"]["exact_match"]["value"] == pytest.approx(mean(on_dev.values()))
        worth.append(mean(on_dev.values()))
    assert worth[0] < max(worth)  # something was learned
    assert [one["chosen"] for one in stages] == [i == worth.index(max(worth)) for i in range(3)]
    assert entry(whole.summary, "tiny-tuned")["stage"] == next(one["name"] for one in stages if one["chosen"])
    assert {file.stem for file in (whole.run / "predictions").iterdir()} == {"endpoint", "tiny", "tiny-tuned"}
    said = f"exact_match on dev: base {worth[0]:.3f}, sft {worth[1]:.3f}, dpo {worth[2]:.3f}; chosen: "
    assert any(line.startswith(said) for line in whole.said)


def test_the_base_on_dev_is_asked_like_the_candidate(whole: Whole) -> None:
    prepared = preparing.prepare(whole.configured, out=whole.run)
    tuned = next(one for one in prepared.config.candidates if one.name == "tiny-tuned")
    plain = next(one for one in prepared.config.candidates if one.name == "tiny")
    assert tuned.model_copy(update={"name": "tiny", "adapter": None}) == plain
    assert list(prepared.requests["tiny-tuned"]) == list(prepared.requests["tiny"])


@pytest.mark.parametrize(("key", "before"), [("diff", "tiny"), ("diff_best", "endpoint")])
def test_what_changed_is_counted_from_the_rows(whole: Whole, key: str, before: str) -> None:
    found = whole.summary[key]
    old, new = scores(whole.run, before), scores(whole.run, "tiny-tuned")
    fixed = [name for name in old if new[name] > old[name]]
    broken = [name for name in old if new[name] < old[name]]
    assert (found["baseline"], found["tuned"], found["primary"]) == (before, "tiny-tuned", "exact_match")
    assert (found["fixed_ids"], found["broken_ids"]) == (fixed, broken)
    assert (found["fixed"], found["broken"], found["same"]) == (len(fixed), len(broken), 24 - len(fixed) - len(broken))
    change = found["metrics"]["exact_match"]
    assert change["delta"] == pytest.approx(mean(new.values()) - mean(old.values()))
    assert change["test"] == "mcnemar_exact"
    assert change["p_value"] == pytest.approx(binomtest(len(fixed), len(fixed) + len(broken)).pvalue, abs=1e-9)
    assert change["low"] <= change["delta"] <= change["high"]


def test_evalft_diff_finds_the_same_change(whole: Whole) -> None:
    data = diffing.as_data(diffing.diff(f"{whole.run}:tiny", f"{whole.run}:tiny-tuned"))
    found = whole.summary["diff"]
    assert {key: data[key] for key in ("fixed_ids", "broken_ids", "same")} == {
        key: found[key] for key in ("fixed_ids", "broken_ids", "same")
    }
    for name, change in found["metrics"].items():
        assert {key: data["metrics"][name][key] for key in change} == change


def test_the_teachers_money_is_in_the_ledger_and_under_the_same_cap(whole: Whole) -> None:
    spent = whole.summary["spent"]
    assert spent["usd"] == pytest.approx(PRICE_USD * len(whole.bodies))
    assert spent["api_requests"] == len(whole.bodies)
    of_teacher = len(whole.bodies) - 24  # what assess asked
    assert whole.summary["expansion"]["cost_usd"] == pytest.approx(PRICE_USD * of_teacher)
    assert spent["training_hours"] > 0 and spent["gpu_hours"] == 0


def test_the_teacher_is_asked_with_the_prompt_that_is_scored_and_never_for_a_held_row(whole: Whole) -> None:
    scored = {body["messages"][-1]["content"]: body for body in whole.bodies[:24]}
    assert {*scored} == {row["text"] for row in rows(400, 24)}
    fields = {key: value for key, value in whole.bodies[0].items() if key != "messages"}
    for body in whole.bodies[24:]:
        if not is_writing(body):
            assert {key: value for key, value in body.items() if key != "messages"} == fields
            assert [turn["content"] for turn in body["messages"][:-1]] == [SYSTEM]
            assert asked(body) not in scored and asked(body) not in {row["text"] for row in rows(100, 10)}


def test_train_rows_and_generated_ones_are_taught_with_the_prompt_that_is_scored(whole: Whole) -> None:
    taught = read(whole.run, "data/sft.jsonl")
    assert len(taught) == 28
    held = {row["text"] for row in rows(400, 24) + rows(100, 10)}
    for row in taught:
        system, user = row["messages"]
        assert system == {"role": "system", "content": SYSTEM}
        assert row["completion"] == user["content"].rpartition(" ")[2]
        assert user["content"] not in held
    for pair in read(whole.run, "data/pairs.jsonl"):
        assert pair["messages"] in [row["messages"] for row in taught]
        assert pair["chosen_score"] > pair["rejected_score"]


def test_a_finished_run_asks_and_trains_nothing_again(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = whole.run.with_name("finished")
    shutil.copytree(whole.run, copy)
    monkeypatch.setattr(training, "_run", None)  # and the endpoint is down
    again = pipeline.run(whole.configured, out=copy)
    assert again.status == 0
    told = {key: value for key, value in again.summary.items() if key != "created"}
    assert told == {key: value for key, value in whole.summary.items() if key != "created"}


def test_deciding_again_is_over_the_tuned_candidate_too(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = whole.run.with_name("decided")
    shutil.copytree(whole.run, copy)
    words = ("--threshold", "exact_match >= 0.05", "--threshold", "cost_per_query <= 0.000015")
    assert whole_runs.evalft(monkeypatch, "decide", copy, *words) == 0
    summary = read(copy, "summary.json")
    assert (summary["verdict"]["action"], summary["verdict"]["candidate"]) == ("ship", "tiny-tuned")
    assert summary["verdict_before"] not in (None, whole.summary["verdict_before"])  # under these thresholds
    assert summary["stages"] == whole.summary["stages"] and summary["diff"] == whole.summary["diff"]


def test_a_change_of_training_settings_is_another_run(whole: Whole) -> None:
    longer = config.load(whole.run / "config.yaml", ["tune.epochs=13"])
    with pytest.raises(UserError, match="holds a run of other data"):
        pipeline.run(longer, out=whole.run)


# ---------------------------------------------------------------- where a run ends earlier


def test_without_thresholds_a_run_ends_before_anything_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole_runs.write(tmp_path / "test.jsonl", rows(0, 24))
    words = ("run", tmp_path / "test.jsonl", "--model", "fake:echo", "--out", tmp_path / "run")
    assert whole_runs.evalft(monkeypatch, *words) == 2
    assert "thresholds: none are set" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("thresholds", "action"),
    [({"exact_match": ">= 0.5"}, "ship"), ({"exact_match": ">= 0.5", "cost_per_query": "<= 0.00001"}, "stop")],
)
def test_a_verdict_other_than_to_tune_ends_the_run(tmp_path: Path, thresholds: dict[str, str], action: str) -> None:
    with serving(knows) as server:
        data = configured(tmp_path, base_url=server.base_url)
        result = pipeline.run(data.model_copy(update={"thresholds": thresholds}), out=tmp_path / "run")
        assert len(server.bodies) == 24
    assert (result.status, result.summary["verdict"]["action"]) == (0, action)
    assert result.summary["stages"] is result.summary["verdict_before"] is result.summary["expansion"] is None
    assert not (tmp_path / "run" / "adapters").exists() and not (tmp_path / "run" / "parts").exists()
    manifest = read(tmp_path / "run", "manifest.json")
    assert manifest["stages"] == {"assess": "done"} and manifest["complete"] is True


def test_a_base_that_cannot_be_scored_enough_is_trained_all_the_same(base: Path, tmp_path: Path) -> None:
    one_step = {"methods": ["sft"], "epochs": 1}
    data = configured(tmp_path, base, limits={"min_coverage": 0.95}, tune=one_step, expand={"target_rows": 1})
    result = pipeline.run(data, out=tmp_path / "run")
    assert entry(dict(result.summary), "tiny")["coverage"]["scored"] < 23
    assert result.status == 6 and result.summary["stages"] is not None


def test_a_training_that_makes_it_no_better_leaves_the_base_and_says_so(base: Path, tmp_path: Path) -> None:
    destroying = {"methods": ["sft"], "epochs": 2, "learning_rate": 1.0}
    heard = Heard()
    data = configured(tmp_path, base, tune=destroying, expand={"target_rows": 1})
    result = pipeline.run(data, out=tmp_path / "run", progress=heard)
    assert [(one["name"], one["chosen"]) for one in result.summary["stages"]] == [("base", True), ("sft", False)]
    assert [(one["name"], one["role"]) for one in result.summary["candidates"]] == [("tiny", "baseline")]
    assert result.summary["diff"] is result.summary["diff_best"] is None
    assert result.summary["verdict_before"]["action"] == "tune" and result.summary["verdict"]["action"] == "stop"
    assert "fine-tuning was tried in this run" in result.summary["verdict"]["reasons"][0]
    assert any(line.endswith("chosen: the untuned base") for line in heard.lines)
    whole_runs.keeps_to_the_schema(read(tmp_path / "run", "summary.json"))
    again = pipeline.run(data, out=tmp_path / "run", progress=heard)  # the verdict does not lead to training again
    assert again.summary["verdict"] == result.summary["verdict"]


# ---------------------------------------------------------------- a lone test file


def lone(folder: Path, base_url: str, name: str = "alone") -> config.Config:
    """60 rows in 12 groups of one file."""
    made = [row | {"group": f"g{i // 5}"} for i, row in enumerate(rows(0, 60))]
    task = {"test": "alone.jsonl", "train": None, "dev": None, "group": "group", "name": name}
    data = configured(folder, base_url=base_url, task=task)
    whole_runs.write(folder / "alone.jsonl", made)
    return data


def test_a_lone_test_file_is_split_by_group_and_only_test_rows_are_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with serving(knows) as server:
        data = lone(tmp_path, server.base_url)
        result = pipeline.run(data)
        bodies = list(server.bodies)
        assessed = pipeline.assess(data)
    run = result.path
    parts = {name: read(run, f"data/{name}.jsonl") for name in ("test", "dev", "train")}
    assert sum(map(len, parts.values())) == 60 and all(parts.values())
    for one, other in (("test", "dev"), ("test", "train"), ("dev", "train")):
        for column in ("id", "input", "group"):
            assert not {row[column] for row in parts[one]} & {row[column] for row in parts[other]}
    assert sorted(map(asked, bodies)) == sorted(row["input"] for row in parts["test"])
    assert [line["id"] for line in read(run, "scores/endpoint.jsonl")] == [row["id"] for row in parts["test"]]
    kept, taken = len(parts["test"]), len(parts["dev"]) + len(parts["train"])
    said = [note for note in result.summary["notes"] if note.startswith("split: ")]
    assert [f"{kept} of the 60 rows" in note and f"{taken} became train rows" in note for note in said] == [True]
    assert "split: " in (run / "report.md").read_text()
    # assess scores every row, so it is another run, elsewhere
    assert assessed.path != run and assessed.summary["task"]["examples"] == 60
    assert read(run, "manifest.json")["digest"] != read(assessed.path, "manifest.json")["digest"]


def test_the_folder_of_a_split_run_is_run_again_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with serving(knows) as server:
        run = pipeline.run(lone(tmp_path, server.base_url)).path
        before = read(run, "manifest.json"), read(run, "summary.json")
        rows_before = {name: (run / "data" / f"{name}.jsonl").read_bytes() for name in ("test", "dev", "train")}
        server.bodies.clear()
        assert whole_runs.evalft(monkeypatch, "run", run) == 0
        assert not server.bodies
    task = config.load(run / "config.yaml").task
    assert {name: getattr(task, name) for name in rows_before} == {
        name: str((run / "data" / f"{name}.jsonl").absolute()) for name in rows_before
    }
    assert read(run, "manifest.json")["digest"] == before[0]["digest"]
    assert read(run, "summary.json")["candidates"] == before[1]["candidates"]
    assert rows_before == {name: (run / "data" / f"{name}.jsonl").read_bytes() for name in rows_before}


# ---------------------------------------------------------------- stopping


def test_the_cap_reached_by_the_teacher_keeps_the_verdict_and_a_higher_one_goes_on(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "has_gpu", lambda: False)
    monkeypatch.setattr(tuning, "LONG_HOURS", -1.0)  # what follows the expansion is not of interest here
    with serving(knows) as server:

        def capped(usd: float) -> Assessment:
            limits = {"max_cost_usd": usd, "concurrency": 4}
            tune = {"base": f"hf:{base}"}
            data = configured(tmp_path, base_url=server.base_url, tune=tune, limits=limits)
            return pipeline.run(data, out=tmp_path / "run")

        first = capped(40 * PRICE_USD)
        assert 24 < len(server.bodies) <= 40
        assert (first.status, first.summary["partial"]["why"]) == (5, "budget")
        assert first.summary["verdict"]["action"] == "tune"
        assert first.summary["spent"]["usd"] == pytest.approx(PRICE_USD * len(server.bodies))
        manifest = read(tmp_path / "run", "manifest.json")
        assert manifest["complete"] is False and manifest["stages"] == {"assess": "done", "expand": "running"}
        assert "budget" in (tmp_path / "run" / "report.md").read_text()
        second = capped(1.0)
        everything = list(map(asked, server.bodies))
    assert second.status == 0 and second.summary["partial"] is None
    assert second.summary["expansion"]["generated"] == 8
    assert len({*everything}) == len(everything)


def test_a_doubtful_threshold_is_warned_of_once(base: Path, tmp_path: Path) -> None:
    one_step = {"methods": ["sft"], "epochs": 1}
    thresholds = {"token_f1": "<= 0.9999"}  # the wrong way round
    data = configured(tmp_path, base, tune=one_step, expand={"target_rows": 1}, thresholds=thresholds)
    result = pipeline.run(data, out=tmp_path / "run")
    assert result.summary["stages"]
    warnings = list(result.summary["warnings"])
    assert len(warnings) == len({*warnings}) and any("is the side right?" in line for line in warnings)


# ---------------------------------------------------------------- other bases, other tasks


def test_a_base_with_shots_is_trained_and_compared_without_them(base: Path, tmp_path: Path) -> None:
    with serving(knows) as server:
        shots = [{"name": "tiny", "model": f"hf:{base}", "shots": 2, "max_tokens": 6}]
        data = configured(tmp_path, base_url=server.base_url, kind="classification", candidates=shots)
        data = data.model_copy(update={"expand": data.expand.model_copy(update={"teacher": None})})
        thresholds = {"accuracy": ">= 0.99"}
        result = pipeline.run(data.model_copy(update={"thresholds": thresholds}), out=tmp_path / "run")
    roles = {one["name"]: one["role"] for one in result.summary["candidates"]}
    assert {"tiny": "candidate", "tiny-untuned": "baseline"}.items() <= roles.items()
    assert [one["name"] for one in result.summary["stages"]] == ["base", "sft", "dpo"]
    grown = preparing.prepare(data.model_copy(update={"thresholds": thresholds}), out=tmp_path / "run")
    assert len(grown.requests["tiny"][0].messages) == len(grown.requests["tiny-untuned"][0].messages) + 4
    asked_alike = [list(grown.requests[name]) for name, role in roles.items() if role != "candidate"]
    assert asked_alike == [list(grown.requests["tiny-untuned"])] * len(asked_alike)
    first = read(tmp_path / "run", "data/sft.jsonl")[0]["messages"]
    assert [turn["role"] for turn in first] == ["system", "user"]
    pairs = read(tmp_path / "run", "data/pairs.jsonl")
    assert {pair[side] for pair in pairs for side in ("chosen", "rejected")} <= {"card", "refund"}
    whole_runs.keeps_to_the_schema(read(tmp_path / "run", "summary.json"))


def test_a_multilabel_task_goes_through(base: Path, tmp_path: Path) -> None:
    result = pipeline.run(configured(tmp_path, base, kind="multilabel"), out=tmp_path / "run")
    assert [one["name"] for one in result.summary["stages"]][:2] == ["base", "sft"]
    assert all("jaccard" in one["dev"] for one in result.summary["stages"])
    primary = {one["name"]: one["dev"]["jaccard"]["value"] for one in result.summary["stages"]}
    assert max(primary.values()) > primary["base"]
    assert result.summary["diff"]["metrics"]["jaccard"]["delta"] is not None
    whole_runs.keeps_to_the_schema(read(tmp_path / "run", "summary.json"))


def test_rows_of_chat_messages_go_through_without_new_rows(base: Path, tmp_path: Path) -> None:
    tune = {"methods": ["sft"]}
    data = configured(tmp_path, base, task={"input": "messages", "system": None}, tune=tune)
    for name, start, count in (("test", 400, 24), ("dev", 100, 10), ("train", 200, 20)):
        chats = [
            {"id": row["id"], "messages": [{"role": "user", "content": row["text"]}], "word": row["word"]}
            for row in rows(start, count)
        ]
        whole_runs.write(tmp_path / f"{name}.jsonl", chats)
    result = pipeline.run(data, out=tmp_path / "run")
    assert "chat messages" in result.summary["expansion"]["notes"][0]
    assert len(read(tmp_path / "run", "data/sft.jsonl")) == 20
    assert [one["role"] for one in result.summary["candidates"]] == ["baseline", "tuned"]


# ---------------------------------------------------------------- waiting for a GPU


def test_long_training_without_a_gpu_waits_and_goes_on_here_or_elsewhere(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "has_gpu", lambda: False)
    monkeypatch.setattr(tuning, "LONG_HOURS", -1.0)
    here = tmp_path / "here"
    model = Path(shutil.copytree(base, here / "model"))
    with serving(knows) as server:
        tune = {"base": f"hf:{model}", "methods": ["sft"]}
        data, heard = configured(here, base_url=server.base_url, tune=tune), Heard()
        result = pipeline.run(data, out=here / "run", progress=heard)
        so_far = len(server.bodies)
        assert pipeline.run(data, out=here / "run", progress=heard).summary["waiting"] == result.summary["waiting"]
        assert len(server.bodies) == so_far
    run = here / "run"
    assert result.status == 0 and result.summary["verdict"]["action"] == "tune"
    commands = result.summary["waiting"]["commands"]
    assert [command.split()[0] for command in commands] == ["rsync", "ssh"]
    assert {*commands} <= {line.strip() for line in heard.lines}
    assert commands[0] in (run / "report.md").read_text()
    manifest = read(run, "manifest.json")
    assert manifest["stages"] == {"assess": "done", "expand": "done", "tune": "waiting"}
    assert manifest["complete"] is False and not (run / "adapters").exists()
    whole_runs.keeps_to_the_schema(read(run, "summary.json"))

    there = Path(shutil.copytree(here, tmp_path / "far" / "away"))
    result = pipeline.run(data, out=run, train_here=True)  # the endpoint is down
    names = [(one["name"], one["role"]) for one in result.summary["candidates"]]
    assert names == [("endpoint", "candidate"), (f"hf:{model}", "baseline"), (f"hf:{model}-tuned", "tuned")]
    assert result.status == 0 and result.summary["waiting"] is None
    assert read(run, "manifest.json")["stages"]["tune"] == "done"

    shutil.rmtree(here)
    monkeypatch.setattr(tuning, "LONG_HOURS", 0.5)
    assert whole_runs.evalft(monkeypatch, "run", there / "run") == 0
    moved = read(there / "run", "summary.json")
    assert [one["role"] for one in moved["candidates"]] == ["candidate", "baseline", "tuned"]
    assert [one["dev"] for one in moved["stages"]] == [one["dev"] for one in result.summary["stages"]]
    assert moved["spent"]["api_requests"] == so_far


@pytest.mark.slow
def test_a_judge_scores_the_tuned_candidate_too_and_is_asked_nothing_twice(base: Path, tmp_path: Path) -> None:
    with serving(knows) as server:
        made = configured(
            tmp_path,
            base,
            server.base_url,
            task={"metrics": ["exact_match", "judge"]},
            judge={"model": "fake:constant=score: 7"},
        )
        first = pipeline.assess(made, out=tmp_path / "run")
        before = next((tmp_path / "run/parts/judge/predictions").iterdir()).read_text().splitlines()
        result = pipeline.run(made, out=tmp_path / "run")
    assert [one["role"] for one in result.summary["candidates"]][-1] == "tuned"
    words = [one["metrics"]["judge"] for one in result.summary["candidates"]]
    assert all(0 < word["value"] <= 2 / 3 + 1e-9 for word in words if word["value"])
    assert words[0] == first.summary["candidates"][0]["metrics"]["judge"]
    after = next((tmp_path / "run/parts/judge/predictions").iterdir()).read_text().splitlines()
    assert after[: len(before)] == before, "what the endpoint has answered alike is not asked about again"
    assert words[-1]["value"] > 0
    assert "judge" in result.summary["diff"]["metrics"] or "judge" in result.summary["diff"]["unmeasured"]
