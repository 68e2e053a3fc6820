"""rescore: stored answers scored again; what moved is said, the folder is all of the new scoring, nothing is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api_server import Server, serving
from evalft import answers, config, pipeline, rescoring, scoring
from evalft.config import TaskConfig
from evalft.errors import UserError
from evalft.records import Failure, Prediction, Usage
from evalft.reporting import view

ANSWERS = ("Paris.", "paris", "Paris", "Lyon")


def questions(tmp_path: Path, base_url: str, **task: Any) -> config.Config:
    rows = [{"q": f"question {i}", "a": "Paris"} for i in range(20)]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {
        "task": {"test": "test.jsonl", "input": "q", "target": "a", "type": "generation"} | task,
        "providers": {"mock": {"base_url": base_url}},
        "candidates": [{"name": "mock", "model": "mock:m", "price": {"input": 1.0, "output": 2.0}}],
        "thresholds": {"exact_match": ">= 0.6"},
    }
    return config.build(data, source="test", folder=tmp_path)


def answer(body: dict[str, Any], number: int) -> str:
    return ANSWERS[int(body["messages"][-1]["content"].split()[1]) % 4]


@pytest.fixture
def asked(tmp_path: Path) -> Any:
    with serving(answer) as server:
        pipeline.assess(questions(tmp_path, server.base_url), out=tmp_path / "run")
        yield tmp_path / "run", server


def summary_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return found


def test_another_normalisation_moves_scores_and_says_which(asked: tuple[Path, Server]) -> None:
    run, server = asked
    before, requests = summary_of(run), len(server.bodies)
    result, (found,), _ = rescoring.rescore(run, ["task.normalize=[strip, lower, punctuation]"])
    after = summary_of(run)
    values = [one["candidates"][0]["metrics"]["exact_match"]["value"] for one in (before, after)]
    right = sum(text in ("Paris.", "paris") for text in ANSWERS) * 5
    assert values[1] - values[0] == pytest.approx(right / 20)
    assert found.metrics["exact_match"] == tuple(values) and found.rows_moved == right
    assert f"mock: the scores of {right} rows moved" in rescoring.lines([found])
    assert len(server.bodies) == requests and result.summary == after
    assert before["candidates"][0]["cost_total_usd"] == after["candidates"][0]["cost_total_usd"]
    jsonschema.validate(after, json.loads((Path(view.__file__).parent / "summary.schema.json").read_text()))


def test_another_metric_is_scored_from_the_same_answers(asked: tuple[Path, Server]) -> None:
    run, _ = asked
    _, (found,), _ = rescoring.rescore(run, ["task.metrics=[contains, exact_match]"])
    assert found.metrics["contains"][0] is None and found.metrics["token_f1"][1] is None
    assert "exact_match" not in found.metrics and found.rows_moved == 0
    assert summary_of(run)["task"]["metrics"] == ["contains", "exact_match"]


def test_where_nothing_changed_it_says_so(asked: tuple[Path, Server]) -> None:
    run, _ = asked
    before = (run / "scores" / "mock.jsonl").read_bytes()
    _, found, said = rescoring.rescore(run)
    assert rescoring.lines(found) == ["nothing changed"]
    assert any(scoring.version() in line and "scored this run before" in line for line in said)
    assert (run / "scores" / "mock.jsonl").read_bytes() == before


def test_the_folder_is_of_the_new_scoring_throughout(asked: tuple[Path, Server], tmp_path: Path) -> None:
    run, server = asked
    requests = len(server.bodies)
    rescoring.rescore(run, ["task.normalize=[strip, lower, punctuation]"])
    own = config.load(run / "config.yaml")
    assert own.task.normalize == ["strip", "lower", "punctuation"]
    rescored = summary_of(run)
    again = pipeline.assess(own, out=run)
    decided = pipeline.decide_again(run, config.load(run / "config.yaml"))
    for other in (again, decided):
        assert other.summary["candidates"] == rescored["candidates"]
    with pytest.raises(UserError, match="was scored again with other settings"):
        pipeline.assess(questions(tmp_path, server.base_url), out=run)
    with pytest.raises(UserError, match="holds a run of other data"):
        pipeline.assess(questions(tmp_path, server.base_url, system="Be brief."), out=run)
    assert len(server.bodies) == requests


def test_a_setting_that_needs_new_answers_is_refused_and_changes_nothing(asked: tuple[Path, Server]) -> None:
    run, _ = asked
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    for override in ("candidates.0.temperature=1", "task.prompt=Say {{ q }}", "tune.epochs=3"):
        with pytest.raises(UserError, match="needs new answers"):
            rescoring.rescore(run, [override])
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before


def test_decide_names_rescore_where_only_the_scoring_is_another(asked: tuple[Path, Server]) -> None:
    run, _ = asked
    with pytest.raises(UserError, match="evalft rescore"):
        pipeline.decide_again(run, config.load(run / "config.yaml", ["task.metrics=[token_f1]"]))


def test_a_rescore_that_was_killed_before_it_concluded_is_done_by_the_next(
    asked: tuple[Path, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = asked

    def killed(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(rescoring, "conclude", killed)
        rescoring.rescore(run, ["task.normalize=[strip, lower, punctuation]"])
    _, (found,), _ = rescoring.rescore(run)
    assert found.rows_moved and summary_of(run)["candidates"][0]["metrics"]["exact_match"]["value"] == 0.75


def test_texts_are_read_by_todays_parser(tmp_path: Path) -> None:
    rows = [{"text": f"message {i}", "label": ["ham", "spam"][i % 2]} for i in range(20)]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {
        "task": {"test": "test.jsonl", "input": "text", "target": "label", "type": "classification"},
        "candidates": [{"name": "ham", "model": "fake:constant=ham"}],
    }
    pipeline.assess(config.build(data, source="test", folder=tmp_path), out=tmp_path / "run")
    file = tmp_path / "run" / "predictions" / "ham.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    shared = ("id", "index", "repeat", "text", "finish_reason", "usage", "cost_usd", "latency_s", "tries", "cached")
    for line in lines[:6]:  # as a parser that understood less would have left them
        kept = {name: line[name] for name in shared}
        line.clear()
        line |= kept | {"failure": "unparsable", "message": "not understood"}
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    pipeline.decide_again(tmp_path / "run", config.load(tmp_path / "run" / "config.yaml"))
    assert summary_of(tmp_path / "run")["candidates"][0]["coverage"]["failures"] == {"unparsable": 6}
    _, (found,), _ = rescoring.rescore(tmp_path / "run")
    assert found.read_differently == 6 and found.rows_moved == 6
    assert summary_of(tmp_path / "run")["candidates"][0]["coverage"]["failures"] == {}


TASK = TaskConfig(type="classification", labels=["ham", "spam"])


@settings(deadline=None)
@given(text=st.one_of(st.none(), st.text(), st.sampled_from(["ham", "It is **spam**.", "no idea", "", "ham or spam"])))
def test_an_answer_that_was_just_read_is_read_alike(text: str | None) -> None:
    reading = answers.read(text, "stop", "classification", ["ham", "spam"])
    more: dict[str, Any] = {"text": text, "finish_reason": "stop", "usage": Usage(3, 4), "cost_usd": 0.5, "tries": 2}
    if reading.failure:
        outcome: Any = Failure("a", 0, 0, reading.failure, reading.message, **more)
    else:
        outcome = Prediction("a", 0, 0, labels=reading.labels, rescued=reading.rescued, **more)
    again = rescoring.read_again(outcome, TASK)
    assert again == outcome
    assert rescoring.read_again(again, TASK) == again


@pytest.mark.parametrize("kind", ["refused", "filtered", "timeout", "api_error", "out_of_memory", "bad_response"])
def test_a_failure_that_is_no_matter_of_reading_stays(kind: Any) -> None:
    failure = Failure("a", 0, 0, kind, "said", text="spam")
    assert rescoring.read_again(failure, TASK) is failure
