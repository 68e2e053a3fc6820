"""`file:` candidates: answers made elsewhere are scored like a model's, matched by id, and nothing is asked."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from api_server import serving
from evalft import config, pipeline, preparing, rescoring
from evalft.candidates import recorded
from evalft.concluding import Assessment
from evalft.config import CandidateConfig, TaskConfig
from evalft.errors import UserError
from evalft.reporting import terminal, view

LABELS = ["ham", "spam"]
ROWS = [{"id": f"r{i}", "text": f"message {i}", "label": LABELS[i % 2]} for i in range(20)]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def built(tmp_path: Path, rows: list[dict[str, Any]] = ROWS, **candidate: Any) -> config.Config:
    write(tmp_path / "test.jsonl", rows)
    data = {
        "task": {"test": "test.jsonl", "input": "text", "target": "label", "type": "classification"},
        "candidates": [{"name": "theirs", "model": "file:answers.jsonl"} | candidate],
    }
    return config.build(data, source="test", folder=tmp_path)


def assessed(tmp_path: Path, answers: list[dict[str, Any]], **candidate: Any) -> Assessment:
    write(tmp_path / "answers.jsonl", answers)
    return pipeline.assess(built(tmp_path, **candidate), out=tmp_path / "run")


def entry(result: Assessment) -> dict[str, Any]:
    found: dict[str, Any] = result.summary["candidates"][0]
    return found


def right(row: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": row["id"], "text": row["label"]} | more


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
@pytest.mark.parametrize("column", ["text", "answer", "prediction"])
def test_a_file_of_answers_is_scored_without_a_config(tmp_path: Path, suffix: str, column: str) -> None:
    write(tmp_path / "data.csv", ROWS)
    write(tmp_path / f"answers.{suffix}", [{"id": row["id"], column: row["label"]} for row in reversed(ROWS)])
    command = [sys.executable, "-m", "evalft.cli", "assess", "data.csv", "--input", "text"]
    command += ["--model", f"file:answers.{suffix}", "--threshold", "accuracy >= 0.5"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "reports").iterdir()
    summary = json.loads((run / "summary.json").read_text())
    jsonschema.validate(summary, json.loads((Path(view.__file__).parent / "summary.schema.json").read_text()))
    found = summary["candidates"][0]
    assert found["metrics"]["accuracy"]["value"] == 1 and found["name"] == f"file:answers.{suffix}"
    assert summary["verdict"]["action"] == "ship" and summary["spent"]["usd"] == 0
    assert "evalft sent no row anywhere" in (run / "report.html").read_text()


def test_a_cost_that_is_not_known_is_null_and_never_0(tmp_path: Path) -> None:
    found = entry(assessed(tmp_path, [right(row) for row in ROWS]))
    assert found["cost_per_query_usd"]["value"] is None and found["cost_total_usd"] is None
    assert "not known" in found["cost_per_query_usd"]["reason"] and found["latency_s"] is None
    lines = (tmp_path / "run" / "predictions" / "theirs.jsonl").read_text().splitlines()
    assert [json.loads(line)["cost_usd"] for line in lines] == [None] * len(ROWS)


def test_an_unknown_cost_leaves_a_cost_threshold_undecided(tmp_path: Path) -> None:
    write(tmp_path / "answers.jsonl", [right(row) for row in ROWS])
    asked = built(tmp_path).model_copy(update={"thresholds": {"cost_per_query": "<= 1"}})
    assert entry(pipeline.assess(asked, out=tmp_path / "run"))["thresholds"]["cost_per_query"]["status"] == "undecided"


def test_costs_are_those_given_or_tokens_at_the_price(tmp_path: Path) -> None:
    given_costs = entry(assessed(tmp_path, [right(row, cost_usd=0.25, latency_s=i) for i, row in enumerate(ROWS)]))
    assert given_costs["cost_per_query_usd"]["value"] == 0.25 and given_costs["cost_total_usd"] == 5
    assert given_costs["latency_s"]["p50"]["value"] == 9
    tokens = [right(row, input_tokens=100, output_tokens=10) for row in ROWS]
    (tmp_path / "two").mkdir()
    priced = assessed(tmp_path / "two", tokens, price={"input": 1.0, "output": 2.0})
    assert entry(priced)["cost_per_query_usd"]["value"] == pytest.approx(120 / 1e6)
    dearer = config.load(priced.path / "config.yaml", ["candidates.0.price.output=20"])
    assert entry(pipeline.decide_again(priced.path, dearer))["cost_per_query_usd"]["value"] == pytest.approx(300 / 1e6)
    (tmp_path / "three").mkdir()
    unpriced = assessed(tmp_path / "three", tokens)
    assert entry(unpriced)["cost_per_query_usd"]["value"] is None
    priced_later = config.load(unpriced.path / "config.yaml", ["candidates.0.price={input: 1, output: 2}"])
    found = entry(pipeline.decide_again(unpriced.path, priced_later))["cost_per_query_usd"]
    assert (found["value"], found["basis"]) == (pytest.approx(120 / 1e6), "override")


def test_rows_that_repeat_one_another_share_their_answer(tmp_path: Path) -> None:
    rows = [*ROWS, ROWS[0]]
    write(tmp_path / "answers.jsonl", [right(row) for row in ROWS])
    result = pipeline.assess(built(tmp_path, rows), out=tmp_path / "run")
    assert entry(result)["coverage"]["failures"] == {} and entry(result)["coverage"]["total"] == len(rows)
    assert entry(result)["metrics"]["accuracy"]["value"] == 1


def test_rows_without_an_answer_are_failures_and_are_named(tmp_path: Path) -> None:
    priced = [right(row, cost_usd=0.1) for row in ROWS[2:]]
    result = assessed(tmp_path, [*priced, {"id": "stranger", "text": "ham"}])
    assert entry(result)["coverage"]["failures"] == {"empty": 2} and result.status == 6
    assert entry(result)["cost_per_query_usd"]["value"] is None  # nobody knows what the two would have cost
    shown = io.StringIO()
    terminal.show(result.path, Console(file=shown, width=80))
    assert "failures: empty 2 (2 of them not in the file of answers)" in " ".join(shown.getvalue().split())
    assert entry(result)["metrics"]["accuracy"]["low"] is not None, "they were asked, and failed"
    notes = "\n".join(result.summary["notes"])
    assert "2 test rows have no answer" in notes and "r0, r1" in notes and "stranger" in notes


def latency_n(tmp_path: Path, answers: list[dict[str, Any]]) -> int:
    """On how many measurements of time the interval rests: the batches named, else the answers."""
    reason = entry(assessed(tmp_path, answers))["latency_s"]["p50"]["reason"] or ""
    return int(reason.rpartition("rest on ")[2].split()[0]) if "batch" in reason else len(answers)


def test_times_that_were_rounded_to_equal_values_are_no_batch_unless_the_answers_name_one(tmp_path: Path) -> None:
    for name in ("rounded", "batches", "mixed"):
        (tmp_path / name).mkdir()
    assert latency_n(tmp_path / "rounded", [right(row, latency_s=0.5) for row in ROWS]) == 20
    named = [right(row, latency_s=0.5 + i // 5, batch=f"b{i // 5}") for i, row in enumerate(ROWS)]
    assert latency_n(tmp_path / "batches", named) == 4
    same_number = [right(row, latency_s=0.5 + i // 10, batch=7) for i, row in enumerate(ROWS)]
    assert latency_n(tmp_path / "mixed", same_number) == 2, "another time is another batch, whatever it is called"


def test_answers_that_only_a_lenient_reader_understood_are_counted_on_the_terminal(tmp_path: Path) -> None:
    result = assessed(tmp_path, [*(right(row) for row in ROWS[1:]), {"id": "r0", "text": "I would say: **ham**"}])
    assert entry(result)["coverage"]["rescued"] == 1
    shown = io.StringIO()
    terminal.show(result.path, Console(file=shown, width=80))
    assert "scored 20 of 20 (100 %); 1 read leniently" in shown.getvalue()


def test_an_answer_given_twice_is_named_with_both_lines(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"answers.jsonl:21: id 'r3' stands on line 4 already"):
        assessed(tmp_path, [*(right(row) for row in ROWS), right(ROWS[3])])


def test_without_any_ids_answers_match_in_order_and_that_is_said(tmp_path: Path) -> None:
    bare = [{"text": row["text"], "label": row["label"]} for row in ROWS]
    write(tmp_path / "answers.jsonl", [{"answer": row["label"]} for row in ROWS])
    result = pipeline.assess(built(tmp_path, bare), out=tmp_path / "run")
    assert entry(result)["metrics"]["accuracy"]["value"] == 1
    assert any("in order" in note for note in result.summary["notes"])
    again = pipeline.assess(config.load(tmp_path / "run" / "config.yaml"), out=tmp_path / "run")
    assert again.summary["candidates"] == result.summary["candidates"]


@pytest.mark.parametrize(
    ("rows", "answers", "limit", "said"),
    [
        (ROWS, [{"answer": "ham"}] * 20, None, "has no column 'id'"),
        ([{"text": r["text"], "label": r["label"]} for r in ROWS], [{"answer": "ham"}] * 19, None, "19 rows"),
        ([{"text": r["text"], "label": r["label"]} for r in ROWS], [{"answer": "ham"}] * 10, 10, "--limit"),
        (ROWS, [{"id": f"x{i}", "answer": "ham"} for i in range(20)], None, "no id of its 20 is a test row's"),
        (ROWS, [{"id": "r1", "said": "ham"}], None, "no column holds the answers"),
        (ROWS, [{"id": "r1", "text": "ham", "answer": "spam"}], None, "keep one"),
        (ROWS, [{"id": "r1", "text": "ham", "cost_usd": -1}], None, "jsonl:1: cost_usd"),
        (ROWS, [{"id": "r1", "text": "ham", "probs": {"ham": 0.2, "spam": 0.2}}], None, "sum to 0.4"),
        (ROWS, [{"id": "r1", "text": "ham", "probs": {"eggs": 1}}], None, "eggs"),
        (ROWS, [{"id": "r1", "failure": "gone", "text": ""}], None, "refused"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_scored(
    tmp_path: Path, rows: list[dict[str, Any]], answers: list[dict[str, Any]], limit: int | None, said: str
) -> None:
    write(tmp_path / "answers.jsonl", answers)
    with pytest.raises(UserError, match="answers.jsonl") as error:
        preparing.prepare(built(tmp_path, rows), limit=limit)
    assert said in str(error.value)


@pytest.mark.parametrize(
    "key", [{"shots": 2}, {"temperature": 0.5}, {"max_tokens": 5}, {"prompt": "x"}, {"samples": 2}]
)
def test_a_setting_that_only_a_model_could_follow_is_refused(tmp_path: Path, key: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="not asked anything"):
        built(tmp_path, **key)


def test_other_answers_in_the_file_are_another_run(tmp_path: Path) -> None:
    write(tmp_path / "answers.jsonl", [right(row) for row in ROWS])
    one = preparing.prepare(built(tmp_path)).digest
    (tmp_path / "elsewhere.jsonl").write_bytes((tmp_path / "answers.jsonl").read_bytes())
    assert preparing.prepare(built(tmp_path, model="file:elsewhere.jsonl")).digest == one
    write(tmp_path / "answers.jsonl", [right(row, latency_s=1) for row in ROWS])
    assert preparing.prepare(built(tmp_path)).digest != one


def test_probabilities_come_from_an_object_or_from_columns_of_labels(tmp_path: Path) -> None:
    def sure(row: dict[str, Any], p: float) -> dict[str, float]:
        return {label: p if label == row["label"] else 1 - p for label in LABELS}

    as_object = [{"id": row["id"], "probs": sure(row, 0.8)} for row in ROWS]
    found = entry(assessed(tmp_path, as_object))
    assert found["metrics"]["roc_auc"]["value"] == 1 and found["metrics"]["accuracy"]["value"] == 1
    assert found["metrics"]["roc_auc"]["probs_method"] == "stated"
    write(tmp_path / "columns.csv", [{"id": row["id"]} | sure(row, 0.8) for row in ROWS])
    of_columns = pipeline.assess(built(tmp_path, model="file:columns.csv"), out=tmp_path / "two")
    assert entry(of_columns)["metrics"] == found["metrics"]


def test_the_predictions_of_a_run_are_such_a_file(tmp_path: Path) -> None:
    def answer(body: dict[str, Any], number: int) -> Any:
        place = int(body["messages"][-1]["content"].split("message ")[1].split()[0])
        return "no idea" if place == 3 else f"It is **{LABELS[place % 2]}**." if place % 4 == 0 else LABELS[0]

    with serving(answer) as server:
        write(tmp_path / "test.jsonl", ROWS)
        task = {"test": "test.jsonl", "input": "text", "target": "label", "type": "classification"}
        mock = {"name": "mock", "model": "mock:m", "price": {"input": 1.0, "output": 2.0}}
        made: dict[str, Any] = {
            "task": task,
            "providers": {"mock": {"base_url": server.base_url}},
            "candidates": [mock],
        }
        data = config.build(made, source="test", folder=tmp_path)
        theirs = entry(pipeline.assess(data, out=tmp_path / "theirs"))
    ours = entry(pipeline.assess(built(tmp_path, model="file:theirs/predictions/mock.jsonl"), out=tmp_path / "run"))
    for name in ("metrics", "coverage", "latency_s", "cost_total_usd"):
        assert ours[name] == theirs[name]
    _, found, _ = rescoring.rescore(tmp_path / "run")
    assert rescoring.lines(found) == ["nothing changed"]


def test_a_finished_run_is_decided_on_without_its_file_and_a_new_one_is_not_begun(tmp_path: Path) -> None:
    result = assessed(tmp_path, [right(row) for row in ROWS])
    (tmp_path / "answers.jsonl").unlink()
    again = pipeline.decide_again(result.path, config.load(result.path / "config.yaml"))
    assert again.summary["candidates"] == result.summary["candidates"]
    with pytest.raises(UserError, match="no such file of answers"):
        pipeline.assess(built(tmp_path), out=tmp_path / "two")


MULTI = TaskConfig(type="multilabel", labels=["a", "b", "c"])


@settings(deadline=None)
@given(st.sets(st.sampled_from(["a", "b", "c"]), min_size=1), st.sampled_from(["list", "json", "text", "probs"]))
def test_the_labels_of_a_row_are_the_same_however_they_are_written(
    tmp_path_factory: pytest.TempPathFactory, labels: set[str], how: str
) -> None:
    said = sorted(labels)
    probs = {label: 0.9 if label in labels else 0.1 for label in MULTI.labels or ()}
    forms: dict[str, dict[str, Any]] = {
        "list": {"labels": said},
        "json": {"labels": json.dumps(said)},
        "text": {"text": ", ".join(said)},
        "probs": {"probs": probs},
    }
    file = write(tmp_path_factory.mktemp("answers") / "a.jsonl", [{"id": "x"} | forms[how]])
    found = recorded.read(CandidateConfig(model=f"file:{file}"), MULTI, None)
    (outcome,) = found.outcomes
    assert getattr(outcome, "labels", None) == tuple(said)
