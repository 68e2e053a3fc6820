"""`evalft import`: other tools' files as run folders whose scores are the tools' own. The files are written here as the tools
write them (inspect-ai 0.3, lm-eval 0.4, promptfoo 0.121, openai/evals 3.0)."""

from __future__ import annotations

import csv
import json
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner

from evalft import baselines, cli, config, diffing, gating, importing, pipeline, rescoring
from evalft.concluding import render
from evalft.errors import UserError

N = 60
Skill = Callable[[int], bool]


def good(i: int) -> bool:
    return i % 10 != 0


def bad(i: int) -> bool:
    return i % 3 != 0


def write_lines(path: Path, lines: Sequence[object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


# ---------------------------------------------------------------- files as the tools write them


def inspect_log(right: Skill, epochs: int = 1) -> dict[str, Any]:
    samples = [
        {
            "id": i,
            "epoch": epoch,
            "input": [{"role": "user", "content": [{"type": "text", "text": f"Question {i}"}]}],
            "target": ["yes"],
            "messages": [],
            "output": {
                "model": "mockllm/model",
                "choices": [{"message": {"role": "assistant", "content": f"said {i}"}, "stop_reason": "stop"}],
                "completion": f"said {i}",
            },
            "scores": {
                "match": {"value": "C" if right(i) else "I", "answer": "x"},
                "rubric": {"value": {"tone": 0.5, "length": 120}},
            },
            "model_usage": {"mockllm/model": {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}},
            "working_time": 0.25,
        }
        for i in range(N)
        for epoch in range(1, epochs + 1)
    ]
    return {"version": 2, "status": "success", "eval": {"model": "mockllm/model", "task": "toy"}, "samples": samples}


def write_inspect(folder: Path, right: Skill, epochs: int = 1) -> Path:
    path = folder / "log.json"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(inspect_log(right, epochs)))
    return path


def write_archive(folder: Path, right: Skill) -> Path:
    log = inspect_log(right)
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / "log.eval", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", json.dumps({key: value for key, value in log.items() if key != "samples"}))
        archive.writestr("summaries.json", "[]")
        for sample in log["samples"]:
            archive.writestr(f"samples/{sample['id']}_epoch_1.json", json.dumps(sample))
    return folder / "log.eval"


def write_lm_eval(folder: Path, right: Skill) -> Path:
    lines = [
        {
            "doc_id": i,
            "doc": {"q": f"Question {i}"},
            "target": "yes",
            "arguments": {"gen_args_0": {"arg_0": f"Q: Question {i}\nA:", "arg_1": {"until": ["\n"]}}},
            "resps": [["yes" if right(i) else "no"]],
            "filtered_resps": ["yes" if right(i) else "no"],
            "filter": "none",
            "metrics": ["exact_match"],
            "doc_hash": "0", "prompt_hash": "0", "target_hash": "0",
            "exact_match": 1.0 if right(i) else 0.0,
        }
        for i in range(N)
    ]  # fmt: skip
    return write_lines(folder / "some__model" / "samples_toy_2026-01-02T03-04-05.678901.jsonl", lines)


def write_promptfoo(folder: Path, right: Skill, providers: Sequence[str] = ("echo",)) -> Path:
    results = [
        {
            "promptIdx": 0,
            "testIdx": i,
            "testCase": {"vars": {"q": f"Question {i}"}, "assert": [{"type": "equals", "value": "yes"}]},
            "promptId": "p",
            "provider": {"id": provider, "label": ""},
            "prompt": {"raw": f"Question {i}", "label": "x"},
            "vars": {"q": f"Question {i}"},
            "response": {"output": "yes" if right(i) else "no", "tokenUsage": {}},
            "failureReason": 0 if right(i) else 1,
            "success": right(i),
            "score": 1 if right(i) else 0,
            "latencyMs": 120,
            "namedScores": {"tone": 0.5},
            "cost": 0.001,
            "tokenUsage": {"prompt": 5, "completion": 1},
        }
        for provider in providers
        for i in range(N)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(
        json.dumps({"evalId": "e", "results": {"version": 3, "results": results}, "config": {"description": "toy"}})
    )
    return folder / "results.json"


def write_evals(folder: Path, right: Skill) -> Path:
    events: list[object] = [{"spec": {"eval_name": "toy.dev.v0", "completion_fns": ["gpt-4"], "run_id": "r"}}]
    for i in range(N):
        same = {"run_id": "r", "event_id": 2 * i, "sample_id": f"toy.dev.{i}", "created_by": "", "created_at": ""}
        prompt = [{"role": "user", "content": f"Question {i}"}]
        events.append(same | {"type": "sampling", "data": {"prompt": prompt, "sampled": ["yes" if right(i) else "no"]}})
        match = {"correct": right(i), "expected": "yes", "picked": "yes", "sampled": "yes", "options": ["yes"]}
        events.append(same | {"type": "match", "data": match})
    events.append({"final_report": {"accuracy": 0.9}, "run_id": "r"})
    return write_lines(folder / "evals.jsonl", events)


def write_table(folder: Path, right: Skill) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "input", "target", "answer", "score_quality"])
        writer.writerows(
            [f"r{i}", f"Question {i}", "yes", "yes" if right(i) else "no", int(right(i))] for i in range(N)
        )
    return folder / "rows.csv"


TOOLS: dict[str, tuple[Callable[[Path, Skill], Path], str]] = {
    "inspect": (write_inspect, "inspect/match"),
    "inspect archive": (write_archive, "inspect/match"),
    "lm-eval": (write_lm_eval, "lm-eval/exact_match"),
    "promptfoo": (write_promptfoo, "promptfoo/pass"),
    "evals": (write_evals, "evals/match"),
    "table": (write_table, "table/quality"),
}


def imported(source: Path, out: Path, **options: Any) -> dict[str, Any]:
    result, _ = importing.import_run(source, out=out, **options)
    return dict(result.summary)


# ---------------------------------------------------------------- every tool


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tools_file_becomes_a_run_that_everything_takes(tmp_path: Path, tool: str) -> None:
    write, metric = TOOLS[tool]
    for name, right in (("good", good), ("bad", bad)):
        run = tmp_path / name
        summary = imported(write(tmp_path / f"{name}-source", right), run, thresholds={metric: ">= 0.5"})
        (entry,) = summary["candidates"]
        assert entry["metrics"][metric]["value"] == pytest.approx(sum(map(right, range(N))) / N)
        assert entry["metrics"][metric]["method"] == "clopper_pearson", "right or wrong rows are a share"
        assert summary["verdict"] is not None and summary["spent"]["api_requests"] == 0
    render(tmp_path / "good")
    assert metric.replace("_", "\\_") in (tmp_path / "good" / "report.md").read_text()
    settings = config.load(tmp_path / "good" / "config.yaml", [], {f"thresholds.{metric}": ">= 0.99"})
    assert pipeline.decide_again(tmp_path / "good", settings).summary["candidates"][0]["thresholds"][metric]
    found = diffing.diff(str(tmp_path / "good"), str(tmp_path / "bad"))
    assert len(found.comparison.changes) == N and found.verdict == "worse"
    broken = {i for i in range(N) if good(i) and not bad(i)}
    assert found.comparison.count("broken") == len(broken)
    baselines.write(str(tmp_path / "good"), tmp_path / "baseline.jsonl")
    assert gating.gate(tmp_path / "baseline.jsonl", str(tmp_path / "bad")).status == 3


def test_the_command_says_what_it_read_and_goes_on_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = write_table(tmp_path / "source", good)
    arguments = ["import", str(source), "--name", "ours", "--threshold", "table/quality >= 0.5"]
    found = CliRunner().invoke(cli.group, arguments, standalone_mode=False)
    assert found.exception is None and "metrics are the scores that table gave: table/quality" in found.stderr
    (run,) = (tmp_path / "reports").iterdir()
    assert run.name.startswith("rows-") and "ours" in found.stdout
    assert CliRunner().invoke(cli.group, arguments, standalone_mode=False).exception is None
    assert len(list((tmp_path / "reports").iterdir())) == 1


def test_evalfts_own_metrics_score_the_same_answers(tmp_path: Path) -> None:
    imported(write_lm_eval(tmp_path / "source", good), tmp_path / "run")
    result, _, _ = rescoring.rescore(tmp_path / "run", ["task.metrics=[exact_match]"])
    (entry,) = result.summary["candidates"]
    assert entry["metrics"]["exact_match"]["value"] == pytest.approx(sum(map(good, range(N))) / N)


# ---------------------------------------------------------------- one tool


def test_inspects_epochs_are_rows_of_one_group_and_what_is_no_row_score_is_left_out(tmp_path: Path) -> None:
    result, said = importing.import_run(write_inspect(tmp_path / "source", good, epochs=2), out=tmp_path / "run")
    assert result.summary["task"]["examples"] == 2 * N
    (entry,) = result.summary["candidates"]
    assert entry["metrics"].keys() == {"inspect/match", "inspect/rubric/tone"}
    assert any("inspect/rubric/length is left out: it is not from 0 to 1 (120 to 120)" in line for line in said)
    assert any("grouped by sample" in line for line in said)
    rows = [json.loads(line) for line in (tmp_path / "run" / "data" / "test.jsonl").read_text().splitlines()]
    assert rows[0]["input"] == "Question 0" and rows[0]["target"] == "yes"
    assert [row["group"] for row in rows[:2]] == ["0", "0"]


def test_a_failed_sample_is_a_failure_and_a_long_text_is_found(tmp_path: Path) -> None:
    log = inspect_log(good)
    log["samples"][3] |= {"error": {"message": "boom"}, "scores": None}
    log["samples"][4] |= {"input": "attachment://abc", "attachments": {"abc": "the long text"}}
    path = tmp_path / "log.json"
    path.write_text(json.dumps(log))
    summary = imported(path, tmp_path / "run")
    assert summary["candidates"][0]["coverage"]["failures"] == {"api_error": 1}
    rows = [json.loads(line) for line in (tmp_path / "run" / "data" / "test.jsonl").read_text().splitlines()]
    assert rows[4]["input"] == "the long text"


def compressed_with_zstd(path: Path) -> None:
    """As inspect writes an archive: every file packed by zstd, which is method 93 of the central directory."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(name, pa.Codec("zstd").compress(content, asbytes=True))
    data, place = bytearray(path.read_bytes()), -1
    for content in files.values():
        place = data.index(b"PK\x01\x02", place + 1)
        data[place + 10 : place + 12] = (93).to_bytes(2, "little")
        data[place + 16 : place + 20] = zlib.crc32(content).to_bytes(4, "little")
        data[place + 24 : place + 28] = len(content).to_bytes(4, "little")
    path.write_bytes(bytes(data))


def test_an_archive_is_read_as_inspect_compresses_it_and_a_damaged_one_is_a_line(tmp_path: Path) -> None:
    path = write_archive(tmp_path, good)
    compressed_with_zstd(path)
    (entry,) = imported(path, tmp_path / "run")["candidates"]
    assert entry["metrics"]["inspect/match"]["value"] == pytest.approx(sum(map(good, range(N))) / N)
    data = bytearray(path.read_bytes())
    data[60] ^= 0xFF
    for content in (bytes(data), path.read_bytes()[:-30], b"PK nonsense"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="cannot be read|is no log of inspect|is not JSON") as raised:
            importing.import_run(path, out=tmp_path / "other")
        assert "\n" not in str(raised.value)


def test_parts_of_samples_name_the_way_out_and_nothing_answered_says_why(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "log.eval", "w") as archive:
        archive.writestr("header.json", "{}")
        archive.writestr("samples/1_epoch_1/sample.json", "{}")
    with pytest.raises(UserError, match="in parts.*inspect log convert --to json"):
        importing.import_run(tmp_path / "log.eval", out=tmp_path / "run")
    log = inspect_log(good)
    for sample in log["samples"]:
        sample |= {"error": {"message": "no network"}, "scores": {}}
    (tmp_path / "log.json").write_text(json.dumps(log))
    with pytest.raises(UserError, match=f"no answered rows; the first of {N} failed: no network"):
        importing.import_run(tmp_path / "log.json", out=tmp_path / "run")


def test_lm_evals_filters_are_scores_of_their_own_and_a_choice_is_the_likeliest(tmp_path: Path) -> None:
    lines = []
    for i in range(N):
        for place, name in enumerate(("strict", "flexible")):
            lines.append(
                {
                    "doc_id": i, "doc": {}, "target": "1", "filter": name, "metrics": ["acc", "ppl"],
                    "arguments": {f"gen_args_{k}": {"arg_0": f"Q{i}", "arg_1": f" {k}"} for k in range(3)},
                    "resps": [], "filtered_resps": [["-3.5", "False"], ["-0.5", "True"], ["-9.0", "False"]],
                    "acc": float(place), "ppl": [3, 4],
                }
            )  # fmt: skip
    summary = imported(write_lines(tmp_path / "m" / "samples_mc_2026-01-02T03-04-05.6.jsonl", lines), tmp_path / "run")
    (entry,) = summary["candidates"]
    assert entry["name"] == "m" and summary["task"]["name"] == "mc"
    assert {name: found["value"] for name, found in entry["metrics"].items()} == {
        "lm-eval/acc/strict": 0.0,
        "lm-eval/acc/flexible": 1.0,
    }
    answer = json.loads(next((tmp_path / "run" / "predictions").glob("*.jsonl")).read_text().splitlines()[0])
    assert answer["text"] == "1"


def test_promptfoos_providers_are_candidates_on_the_same_rows(tmp_path: Path) -> None:
    source = write_promptfoo(tmp_path / "source", good, providers=("a", "b"))
    summary = imported(source, tmp_path / "run")
    assert [entry["name"] for entry in summary["candidates"]] == ["a", "b"]
    entry = summary["candidates"][0]
    assert entry["cost_per_query_usd"]["value"] == pytest.approx(0.001)
    assert entry["latency_s"]["p50"]["value"] == pytest.approx(0.12)
    assert entry["metrics"]["promptfoo/tone"]["value"] == 0.5
    with pytest.raises(UserError, match="--name names one candidate, and the file has 2"):
        importing.import_run(source, out=tmp_path / "other", name="x")


def test_a_table_without_scores_is_scored_by_evalft_and_asks_for_columns_it_does_not_find(tmp_path: Path) -> None:
    rows = [{"question": f"Question {i}", "gold": "yes", "output": "yes" if good(i) else "no"} for i in range(N)]
    source = write_lines(tmp_path / "rows.jsonl", rows)
    with pytest.raises(UserError, match="no column is the input; name it with --input"):
        importing.import_run(source, out=tmp_path / "run")
    columns = {"input": "question", "target": "gold", "answer": "output"}
    summary = imported(source, tmp_path / "run", columns=columns)
    assert "accuracy" in summary["candidates"][0]["metrics"]


def test_another_file_is_never_written_over_an_import(tmp_path: Path) -> None:
    imported(write_table(tmp_path / "good", good), tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run" / "data").iterdir()}
    with pytest.raises(UserError, match="holds an import of another file; name another folder"):
        imported(write_table(tmp_path / "bad", bad), tmp_path / "run")
    assert before == {path: path.read_bytes() for path in (tmp_path / "run" / "data").iterdir()}


# ---------------------------------------------------------------- what is none of them


@pytest.mark.parametrize(
    ("name", "content", "wrong"),
    [
        ("log.json", '{"eval": {}, "samples": [{"id": 1}]}', "is no log of inspect"),
        ("log.json", "{", "log.json: is not JSON"),
        ("r.json", '{"results": {"version": 1, "results": []}}', "version 1; 2 and 3 are read"),
        ("r.json", '{"results": {"version": 3, "results": []}}', "read as promptfoo, and it holds no answered rows"),
        ("r.json", '{"results": {"version": 3, "results": [{"promptIdx": 0}]}}', "is no result of promptfoo"),
        (
            "s.jsonl",
            '{"doc_id": 1, "filtered_resps": [], "target": 1, "arguments": {"gen_args_0": {"arg_0": ""}}}',
            "s.jsonl:1",
        ),
        ("s.jsonl", '{"doc_id": 1, "filtered_resps": []}', "s.jsonl:1: is no sample of lm-eval"),
        ("e.jsonl", '{"spec": {"eval_name": "x", "completion_fns": []}}', "e.jsonl:1: is no event of openai/evals"),
        ("t.csv", "id,input,target,answer,score\na,b,c,d,high\n", "t.csv:2: 'score' is 'high', no number"),
        ("t.csv", "id,input,target,answer\na,b,c,d\na,b,c,d\n", "t.csv:3: id 'a' stands there twice"),
    ],
)
def test_what_cannot_be_read_is_a_line_with_its_place(tmp_path: Path, name: str, content: str, wrong: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=wrong):
        importing.import_run(tmp_path / name, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_scores_made_elsewhere_are_no_measure_of_what_is_asked_here(tmp_path: Path) -> None:
    imported(write_lm_eval(tmp_path / "source", good), tmp_path / "run")
    data = config.as_data(config.load(tmp_path / "run" / "config.yaml"))
    data["candidates"].append({"name": "echo", "model": "fake:echo"})
    with pytest.raises(
        UserError,
        match="lm-eval/exact_match: is a score that came with answers made elsewhere, and candidate echo is asked",
    ):
        pipeline.assess(config.build(data, source="test", folder=tmp_path), out=tmp_path / "other")


def test_a_score_that_no_answer_has_is_a_mistake_and_an_empty_answer_keeps_its_own(tmp_path: Path) -> None:
    rows = [{"id": f"r{i}", "input": "Q", "target": "yes", "answer": "", "score": 1} for i in range(N)]
    imported(write_lines(tmp_path / "rows.jsonl", rows), tmp_path / "run")
    settings = config.load(tmp_path / "run" / "config.yaml", [], {"thresholds.table/scor": ">= 0.9"})
    with pytest.raises(UserError, match=r"no answer has a score table/scor \(scores that are there: .*table/score"):
        pipeline.decide_again(tmp_path / "run", settings)
    result, found, _ = rescoring.rescore(tmp_path / "run", ["task.metrics=[table/score, exact_match]"])
    assert result.summary["candidates"][0]["metrics"]["table/score"]["value"] == 1.0
    assert found[0].read_differently == 0


def test_scores_of_any_file_of_answers_are_checked_and_kept(tmp_path: Path) -> None:
    write_lines(tmp_path / "test.jsonl", [{"id": f"r{i}", "text": f"T{i}", "reply": f"R{i}"} for i in range(20)])
    answers = [{"id": f"r{i}", "text": "x", "scores": {"ours/style": 0.25}} for i in range(19)]
    answers.append({"id": "r19", "text": "x", "scores": {}})
    write_lines(tmp_path / "answers.jsonl", answers)
    task = {"type": "generation", "test": "test.jsonl", "input": "text", "target": "reply", "metrics": ["ours/style"]}
    data = {"task": task, "candidates": [{"model": "file:answers.jsonl"}]}
    result = pipeline.assess(config.build(data, source="test", folder=tmp_path), out=tmp_path / "run")
    assert result.summary["candidates"][0]["metrics"]["ours/style"]["value"] == pytest.approx(0.25 * 19 / 20)
    assert any("1 of 20 answers have no score ours/style and count as 0" in note for note in result.summary["notes"])
    write_lines(tmp_path / "answers.jsonl", [*answers[:-1], {"id": "r19", "text": "x", "scores": {"ours/style": 7}}])
    with pytest.raises(UserError, match=r"answers.jsonl:20: the score 'ours/style' is 7, no number from 0 to 1"):
        pipeline.assess(config.build(data, source="test", folder=tmp_path), out=tmp_path / "again")
