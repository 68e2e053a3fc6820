"""Answers as JSON of the labels: asked for where the endpoint takes it, dropped and said where it does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from api_server import Server, completion, error, serving
from evalft import config, pipeline, prompts
from evalft.candidates import structured
from evalft.concluding import Assessment
from evalft.config import CandidateConfig, TaskConfig
from evalft.store import RunFolder

LABELS = ["ham", "spam"]


def asked(body: dict[str, Any]) -> int:
    return int(body["messages"][-1]["content"].split("message ")[1].split()[0])


def plain(body: dict[str, Any], number: int = 0) -> str:
    return LABELS[asked(body) % 2]


def as_json(body: dict[str, Any]) -> str:
    """What a server that obeys the schema says, worked out from the schema it was sent."""
    ((key, value),) = body["response_format"]["json_schema"]["schema"]["properties"].items()
    return json.dumps({key: [plain(body)] if value["type"] == "array" else plain(body)})


def obeys(body: dict[str, Any], number: int) -> Any:
    return as_json(body) if "response_format" in body else plain(body)


def run(
    folder: Path, script: Any, kind: str = "classification", n: int = 12, port: int = 0, **more: Any
) -> tuple[Assessment, Server]:
    rows = [
        {"id": f"r{i}", "text": f"message {i} .", "label": [LABELS[i % 2]] if kind == "multilabel" else LABELS[i % 2]}
        for i in range(n)
    ]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {"test": "test.jsonl", "input": "text", "target": "label", "type": kind, "labels": LABELS}
    with serving(script, port) as server:
        made = config.build(
            {
                "task": task,
                "providers": {"mock": {"base_url": server.base_url}},
                "candidates": [{"name": "it", "model": "mock:m", "price": {"input": 1.0, "output": 2.0}} | more],
            },
            source="test",
            folder=folder,
        )
        return pipeline.assess(made, out=folder / "run"), server


def choices(result: Assessment) -> str:
    return " ".join(result.summary["candidates"][0]["choices"])


@pytest.mark.parametrize("kind", ["classification", "multilabel"])
def test_a_structured_answer_is_strict_and_right(tmp_path: Path, kind: str) -> None:
    result, server = run(tmp_path, obeys, kind)
    assert all(body["response_format"]["json_schema"]["strict"] for body in server.bodies)
    (entry,) = result.summary["candidates"]
    assert entry["metrics"]["strict_accuracy"]["value"] == 1.0
    assert entry["coverage"]["rescued"] == 0
    assert "response_format" in choices(result)


@pytest.mark.parametrize(
    "message",
    [
        "Unsupported parameter: 'response_format'",
        "json_schema is not supported by this model",
        "Invalid schema: too many enum values",
        "Bad request",
    ],
)
def test_an_endpoint_that_refuses_it_is_asked_for_text(tmp_path: Path, message: str) -> None:
    def refuses(body: dict[str, Any], number: int) -> Any:
        return error(400, message) if "response_format" in body else plain(body)

    result, server = run(tmp_path, refuses)
    assert ["response_format" in body for body in server.bodies] == [True] + [False] * 12
    assert "refuses response_format" in choices(result)
    assert result.summary["candidates"][0]["metrics"]["strict_accuracy"]["value"] == 1.0


def test_an_endpoint_that_ignores_it_is_noticed_and_its_answers_are_strict(tmp_path: Path) -> None:
    result, server = run(tmp_path, plain)
    assert ["response_format" in body for body in server.bodies] == [True] + [False] * 11
    assert "accepted but ignored" in choices(result)
    assert result.summary["candidates"][0]["metrics"]["strict_accuracy"]["value"] == 1.0


def test_a_refusal_of_one_row_is_not_taken_for_one_of_the_schema(tmp_path: Path) -> None:
    def refuses_one(body: dict[str, Any], number: int) -> Any:
        return error(422, "this row is odd") if asked(body) == 0 else obeys(body, number)

    result, server = run(tmp_path, refuses_one)
    assert all("response_format" in body for body in server.bodies if asked(body) != 0)
    assert result.summary["candidates"][0]["coverage"]["failures"] == {"api_error": 1}


def test_json_that_does_not_fit_into_max_tokens_is_not_asked_for(tmp_path: Path) -> None:
    def cuts(body: dict[str, Any], number: int) -> Any:
        return completion(as_json(body)[:7], "length") if "response_format" in body else plain(body)

    result, _ = run(tmp_path, cuts)
    assert result.summary["candidates"][0]["coverage"] == {"total": 12, "scored": 12, "rescued": 0, "failures": {}}
    assert "does not fit into max_tokens" in choices(result)
    both_tries = [outcome for outcome in RunFolder(tmp_path / "run").read_predictions("it") if outcome.tries == 2]
    assert len(both_tries) == 1 and both_tries[0].usage and both_tries[0].usage.output_tokens == 10


def test_what_was_found_out_holds_and_is_said_when_a_run_goes_on_and_in_later_runs(tmp_path: Path) -> None:
    first, server = run(tmp_path, plain)
    port = int(server.base_url.split(":")[2].split("/")[0])
    predictions = RunFolder(tmp_path / "run").predictions_file("it")
    predictions.write_text("".join(predictions.read_text().splitlines(keepends=True)[:3]))  # a kill
    again, _ = run(tmp_path, plain, port=port)
    assert choices(again) == choices(first)
    (tmp_path / "run").rename(tmp_path / "first")
    later, server = run(tmp_path, plain, n=14, port=port)
    assert "accepted but ignored" in choices(later)
    assert [("response_format" in body, asked(body)) for body in server.bodies] == [(False, 12), (False, 13)]


def test_probabilities_are_read_from_a_structured_answer(tmp_path: Path) -> None:
    def knows(body: dict[str, Any], number: int) -> Any:
        assert "response_format" in body and body["logprobs"]
        label = plain(body)
        tops = [{"token": label, "logprob": -0.1}, {"token": LABELS[1 - LABELS.index(label)], "logprob": -2.5}]
        tokens = [{"token": token, "logprob": -5.0, "top_logprobs": []} for token in ('{"', "label", '":"')]
        last = {"token": '"}', "logprob": 0.0, "top_logprobs": []}
        content = [*tokens, {"token": label, "logprob": -0.1, "top_logprobs": tops}, last]
        return completion(as_json(body), logprobs={"content": content})

    result, _ = run(tmp_path, knows)
    auc = result.summary["candidates"][0]["metrics"]["roc_auc"]
    assert (auc["value"], auc["probs_method"]) == (1.0, "top_logprobs")


TASK = TaskConfig(type="classification", labels=["ham", "spam"])
DEFAULT = TASK.model_copy(update={"prompt": prompts.default_prompt(TASK)})


@pytest.mark.parametrize(
    ("task", "candidate", "is_asked_for"),
    [
        (DEFAULT, {}, True),
        (DEFAULT, {"max_tokens": 17}, True),  # {"label": "spam"}
        (DEFAULT, {"max_tokens": 16}, False),
        (DEFAULT, {"shots": 1}, False),
        (DEFAULT, {"prompt": "{{ text }} Think first."}, False),
        (DEFAULT, {"extra_body": {"response_format": {"type": "text"}}}, False),
        (TASK.model_copy(update={"prompt": "{{ text }}"}), {}, False),
        (TASK, {}, False),  # rows with chat messages bring their own words
        (TaskConfig(type="generation", prompt="{{ example.input }}"), {}, False),
    ],
)
def test_it_is_asked_for_where_the_prompt_says_nothing_else(
    task: TaskConfig, candidate: dict[str, Any], is_asked_for: bool
) -> None:
    assert structured.is_asked_for(CandidateConfig(model="mock:m", **candidate), task) == is_asked_for


def test_the_shortest_limit_that_json_fits_into_is_its_longest_answer() -> None:
    longest = len(json.dumps({"label": max(LABELS, key=len)}))
    assert structured.is_asked_for(CandidateConfig(model="mock:m", max_tokens=longest), DEFAULT)
    assert not structured.is_asked_for(CandidateConfig(model="mock:m", max_tokens=longest - 1), DEFAULT)
