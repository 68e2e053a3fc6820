"""assess as a whole: what a run folder holds, what is reused, what is priced, what is marked."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import tiny_models
from api_server import completion, error, serving
from evalft import concluding, config, pipeline, preparing
from evalft.concluding import Assessment
from evalft.errors import UserError
from evalft.reporting import view

LABELS = ["ham", "spam"]


def right(body: dict[str, Any], number: int) -> str:
    return LABELS[int(body["messages"][-1]["content"].split("message ")[1].split()[0]) % 2]


def build(tmp_path: Path, data: dict[str, Any], n: int = 20, **row: Any) -> config.Config:
    rows = [{"text": f"message {i}", "label": LABELS[i % 2]} | {k: v(i) for k, v in row.items()} for i in range(n)]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {"test": "test.jsonl", "input": "text", "target": "label", "type": "classification"}
    return config.build({"task": task | data.pop("task", {})} | data, source="test", folder=tmp_path)


def mock(base_url: str, **more: Any) -> dict[str, Any]:
    return {
        "providers": {"mock": {"base_url": base_url}},
        "candidates": [{"name": "mock", "model": "mock:m", "price": {"input": 1.0, "output": 2.0}} | more],
    }


def entry(result: Assessment, position: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = result.summary["candidates"][position]
    return found


def test_summary_json_keeps_to_its_schema(tmp_path: Path) -> None:
    with serving(right) as server:
        result = pipeline.assess(build(tmp_path, mock(server.base_url)), out=tmp_path / "run")
    written = json.loads((tmp_path / "run" / "summary.json").read_text())
    jsonschema.validate(written, json.loads((Path(view.__file__).parent / "summary.schema.json").read_text()))
    assert written == json.loads(json.dumps(result.summary))


def test_a_report_rendered_again_is_the_one_that_the_run_wrote(tmp_path: Path) -> None:
    with serving(right) as server:
        pipeline.assess(build(tmp_path, mock(server.base_url)), out=tmp_path / "run")
    pages = [tmp_path / "run" / name for name in ("report.html", "report.md")]
    before = [page.read_text() for page in pages]
    concluding.render(tmp_path / "run")
    assert [page.read_text() for page in pages] == before


def test_answers_in_the_cache_are_not_paid_for_again_and_keep_their_cost(tmp_path: Path) -> None:
    with serving(right) as server:
        first = pipeline.assess(build(tmp_path, mock(server.base_url)), out=tmp_path / "one")
        asked = len(server.bodies)
        second = pipeline.assess(build(tmp_path, mock(server.base_url), n=30), out=tmp_path / "two")
        assert len(server.bodies) == asked + 10
    assert second.summary["spent"]["cached_requests"] == 20
    assert second.summary["spent"]["usd"] == pytest.approx(first.summary["spent"]["usd"] / 2)
    costs = [entry(result)["cost_per_query_usd"]["value"] for result in (first, second)]
    assert costs[0] == pytest.approx(costs[1])


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0.5},
        {"max_tokens": 99},
        {"top_p": 0.5},
        {"seed": 3},
        {"stop": ["x"]},
        {"model": "mock:other"},
        {"system": "Be brief."},
        {"extra_body": {"k": 1}},
        {"reasoning_effort": "low"},
    ],
)
def test_no_answer_is_shared_between_candidates_that_differ_in_anything(tmp_path: Path, change: dict[str, Any]) -> None:
    with serving(right) as server:
        pipeline.assess(build(tmp_path, mock(server.base_url), n=6), out=tmp_path / "one")
        pipeline.assess(build(tmp_path, mock(server.base_url, **change), n=6), out=tmp_path / "two")
        assert len(server.bodies) == 12


def test_two_servers_never_share_an_answer(tmp_path: Path) -> None:
    with serving(right) as one, serving(lambda body, number: "ham") as other:
        pipeline.assess(build(tmp_path, mock(one.base_url)), out=tmp_path / "one")
        result = pipeline.assess(build(tmp_path, mock(other.base_url)), out=tmp_path / "two")
    assert entry(result)["metrics"]["accuracy"]["value"] == 0.5


def test_repeats_of_a_sampled_answer_never_collapse(tmp_path: Path) -> None:
    answers = random.Random(3)
    with serving(lambda body, number: answers.choice(LABELS)) as server:
        sampled = mock(server.base_url, samples=5, temperature=1.0)
        result = pipeline.assess(build(tmp_path, sampled, n=10), out=tmp_path / "run")
        assert len(server.bodies) == 50
    assert entry(result)["metrics"]["roc_auc"]["probs_method"] == "vote"
    assert entry(result)["cost_per_query_usd"]["value"] == pytest.approx(5 * 20e-6)


def test_another_price_prices_the_stored_tokens_and_asks_nothing(tmp_path: Path) -> None:
    with serving(right) as server:
        pipeline.assess(build(tmp_path, mock(server.base_url)), out=tmp_path / "run")
        asked = len(server.bodies)
        dearer = config.load(tmp_path / "run" / "config.yaml", ["candidates.0.price.output=20"])
        result = pipeline.decide_again(tmp_path / "run", dearer)
        assert len(server.bodies) == asked
    cost = entry(result)["cost_per_query_usd"]
    assert (cost["value"], cost["basis"]) == (pytest.approx((10 * 1 + 5 * 20) / 1e6), "override")


def test_a_report_says_that_its_verdict_was_tried_under_other_settings_than_the_runs(tmp_path: Path) -> None:
    with serving(right) as server:
        data = mock(server.base_url) | {"thresholds": {"accuracy": ">= 0.9"}}
        pipeline.assess(build(tmp_path, data), out=tmp_path / "run")
    own = tmp_path / "run" / "config.yaml"
    for overrides, said in ((["thresholds.accuracy='>= 0.4'"], True), ([], False)):
        result = pipeline.decide_again(tmp_path / "run", config.load(own, overrides))
        (warned,) = [[one for one in result.summary["warnings"] if "decided again" in one]]
        assert bool(warned) == said == ("decided again" in (tmp_path / "run" / "report.md").read_text())
        assert all("other thresholds than" in one and "accuracy >= 0.4" in one for one in warned)


def test_deciding_again_refuses_what_needs_new_answers(tmp_path: Path) -> None:
    with serving(right) as server:
        pipeline.assess(build(tmp_path, mock(server.base_url)), out=tmp_path / "run")
    hotter = config.load(tmp_path / "run" / "config.yaml", ["candidates.0.temperature=1"])
    with pytest.raises(UserError, match="evalft assess"):
        pipeline.decide_again(tmp_path / "run", hotter)


def test_a_stand_in_is_marked_wherever_it_is_shown(tmp_path: Path) -> None:
    with serving(right) as server:
        data = mock(server.base_url) | {"thresholds": {"accuracy": ">= 0.5"}}
        data["providers"]["mock"]["stand_in"] = True
        result = pipeline.assess(build(tmp_path, data), out=tmp_path / "run")
    assert entry(result)["stand_in"] is True
    for name in ("report.html", "report.md"):
        assert "stand-in for a closed API" in (tmp_path / "run" / name).read_text()
    assert any("stand-in" in reason for reason in result.summary["verdict"]["reasons"])


def test_a_local_model_goes_through_the_same_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_models.causal(tmp_path / "model")
    data = {
        "candidates": [{"name": "tiny", "model": f"hf:{tmp_path / 'model'}"}],
        "thresholds": {"accuracy": ">= 0.99"},
    }
    configured = build(tmp_path, data, n=24)
    result = pipeline.assess(configured, out=tmp_path / "run")
    found = entry(result)
    assert found["cost_per_query_usd"]["basis"] == "cpu_time" and found["cost_per_query_usd"]["value"] > 0
    assert found["metrics"]["roc_auc"]["probs_method"] == "log_likelihood"
    assert found["coverage"]["failures"] == {}
    assert result.summary["spent"]["usd"] == 0
    # a finished run decides again without the weights
    (tmp_path / "model" / "model.safetensors").rename(tmp_path / "model" / "model.safetensors.away")
    with pytest.raises(UserError, match="digest"):
        pipeline.assess(configured, out=tmp_path / "run")
    (tmp_path / "model" / "model.safetensors.away").rename(tmp_path / "model" / "model.safetensors")
    again = pipeline.assess(configured, out=tmp_path / "run")
    assert entry(again)["metrics"] == found["metrics"]


def test_answers_that_rounding_could_change_are_counted(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    tiny_models.causal(tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    weights["lm_head.weight"] = torch.zeros_like(weights["lm_head.weight"])  # every token is as likely as any other
    save_file(weights, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    data = {
        "candidates": [{"name": "tiny", "model": f"hf:{tmp_path / 'model'}", "max_tokens": 2}],
        "task": {"type": "generation"},
    }
    result = pipeline.assess(build(tmp_path, data, n=5), out=tmp_path / "run")
    assert any("tiny: 5 answers hold a token whose logit another equals" in note for note in result.summary["notes"])
    lines = (tmp_path / "run" / "predictions" / "tiny.jsonl").read_text().splitlines()
    assert [json.loads(line)["near_tie"] for line in lines] == [True] * 5
    assert "whose logit another equals" in (tmp_path / "run" / "report.md").read_text()


def test_shots_are_taken_from_train_and_sent(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(
        "".join(json.dumps({"text": f"train {i}", "label": LABELS[i % 2]}) + "\n" for i in range(12))
    )
    with serving(lambda body, number: "ham") as server:
        data = mock(server.base_url, shots=3) | {"task": {"train": "train.jsonl"}}
        pipeline.assess(build(tmp_path, data, n=4), out=tmp_path / "run")
        turns = server.bodies[0]["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant"] * 3 + ["user"]
    assert all("train" in turn["content"] for turn in turns[0:-1:2])


def test_a_column_that_only_the_prompt_reads_is_part_of_the_digest(tmp_path: Path) -> None:
    with serving(right) as server:
        data = mock(server.base_url) | {"task": {"prompt": "{{ hint }} {{ text }}"}}
        one = preparing.prepare(build(tmp_path, dict(data), hint=lambda i: "a"))
        other = preparing.prepare(build(tmp_path, dict(data), hint=lambda i: "b"))
    assert one.data.sha256 == other.data.sha256 and one.digest != other.digest


def test_prices_thresholds_and_limits_are_no_part_of_the_digest(tmp_path: Path) -> None:
    data = mock("http://127.0.0.1:9/v1")
    one = preparing.prepare(build(tmp_path, json.loads(json.dumps(data))))
    data["candidates"][0]["price"]["input"] = 7
    more = {"thresholds": {"accuracy": ">= 0.7"}, "limits": {"max_cost_usd": 1}, "decide": {"queries_per_month": 5}}
    other = preparing.prepare(build(tmp_path, data | more))
    assert one.digest == other.digest


@pytest.mark.parametrize("shown", ["none", "all"])
def test_examples_none_leaves_no_text_of_a_row_in_the_reports(tmp_path: Path, shown: str) -> None:
    """Canaries in everything that a row has or that comes back for it; `all` is the control, where they are seen."""
    columns = {"text": "Input", "label": "Target", "key": "Identity", "user": "Group", "team": "Slice", "note": "Other"}

    def rows(name: str) -> list[dict[str, str]]:
        return [{column: f"canary{words}{i % 9} " for column, words in columns.items()} | {"key": f"canaryIdentity {name} {i}"}
                for i in range(60)]  # fmt: skip

    def script(body: dict[str, Any], number: int) -> Any:
        asked = body["messages"][-1]["content"]
        return error(400, f"canaryRefusal of {asked}") if number % 5 == 4 else f"canaryAnswer to {asked}"

    for name in ("test", "train"):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(name)))
    task = {"type": "generation", "test": "test.jsonl", "train": "train.jsonl", "input": "text", "target": "label", "id": "key",
            "group": "user", "slices": ["team"], "prompt": "{{ text }} {{ note }}",
            "metrics": [{"regex": {"pattern": "nothing like it"}}, "exact_match"]}  # fmt: skip
    with serving(script) as server:
        data = {"task": task, "report": {"examples": shown}} | mock(server.base_url)
        pipeline.assess(config.build(data, source="test", folder=tmp_path), out=tmp_path / "run")
    for name in ("report.html", "report.md"):
        seen = set(re.findall("canary[A-Z][a-z]+", (tmp_path / "run" / name).read_text()))
        if shown == "none":
            assert seen == set() and "report.examples is none" in (tmp_path / "run" / name).read_text()
        else:
            assert seen >= {"canaryInput", "canaryTarget", "canaryIdentity", "canaryAnswer", "canaryRefusal"}


@pytest.mark.slow
def test_the_cap_holds_over_random_runs_with_faults_and_retries(tmp_path: Path) -> None:
    for seed in range(25):
        rng = random.Random(seed)
        billed = 0.0

        def script(body: dict[str, Any], number: int, rng: random.Random = rng) -> Any:
            nonlocal billed
            lot = rng.random()
            if lot < 0.1:
                return error(rng.choice([429, 500, 503]), "no")
            tokens = rng.randint(1, body["max_tokens"])
            billed += (10 * 1.0 + tokens * 2.0) / 1e6
            answer = completion(rng.choice(LABELS))
            answer["usage"] = {"prompt_tokens": 10, "completion_tokens": tokens}
            if lot < 0.15:
                return b'{"choices": '  # billed, and the body is lost
            return answer

        cap = rng.uniform(0, 0.004)
        folder = tmp_path / str(seed)
        folder.mkdir()
        with serving(script) as server:
            data = mock(server.base_url) | {"limits": {"max_cost_usd": cap, "max_tries": 3, "concurrency": 16}}
            try:
                result = pipeline.assess(build(folder, data, n=30), out=folder / "run")
                assert result.summary["spent"]["usd"] <= cap + 1e-12
                complete = all(
                    one["coverage"]["scored"] + sum(one["coverage"]["failures"].values()) == 30
                    for one in result.summary["candidates"]
                )
                assert complete or result.status == 5
            except UserError:
                pass  # did not start: the first row met only faults
        assert billed <= cap + 1e-12


def test_labels_that_do_not_fit_a_short_context_are_left_out_of_the_default_prompt_and_that_is_said(
    tmp_path: Path,
) -> None:
    tiny_models.causal(tmp_path / "model")  # a context of 256 tokens
    names = [f"label number {i} of very many" for i in range(40)]
    (tmp_path / "many.jsonl").write_text(
        "".join(json.dumps({"text": f"message {i}", "label": names[i % 40]}) + "\n" for i in range(80))
    )
    data = {"candidates": [{"name": "tiny", "model": f"hf:{tmp_path / 'model'}"}], "task": {"test": "many.jsonl"}}
    result = pipeline.assess(build(tmp_path, data), out=tmp_path / "run")
    assert entry(result)["coverage"]["scored"] == 80
    assert any("without the list" in note for note in result.summary["notes"])
    written = config.load(tmp_path / "run" / "config.yaml")
    assert "labels" not in str(written.candidates[0].prompt) and "labels" in str(written.task.prompt)
    few = preparing.prepare(build(tmp_path, {"candidates": [{"name": "tiny", "model": f"hf:{tmp_path / 'model'}"}]}))
    assert few.config.candidates[0].prompt is None


def test_a_moved_run_folder_is_decided_on_without_its_model(tmp_path: Path) -> None:
    tiny_models.causal(tmp_path / "model")
    data = {
        "candidates": [{"name": "tiny", "model": f"hf:{tmp_path / 'model'}"}],
        "thresholds": {"accuracy": ">= 0.99"},
    }
    pipeline.assess(build(tmp_path, data, n=24), out=tmp_path / "run")
    moved = tmp_path / "far" / "away" / "run"
    moved.parent.mkdir(parents=True)
    (tmp_path / "run").rename(moved)
    lenient = config.load(moved / "config.yaml", ["thresholds.accuracy='>= 0.01'"])
    assert pipeline.decide_again(moved, lenient).summary["verdict"]["action"] == "ship"


def test_fresh_goes_on_where_a_run_was_killed_before_its_first_stage(tmp_path: Path) -> None:
    with serving(right) as server:
        configured = build(tmp_path, mock(server.base_url))
        pipeline.assess(configured, out=tmp_path / "run", fresh=True)
        manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
        del manifest["stages"]
        (tmp_path / "run" / "manifest.json").write_text(json.dumps(manifest))
        assert pipeline.assess(configured, out=tmp_path / "run", fresh=True).status == 0
