"""Every kind of failure, produced by a real server or model through the whole of assess: named, and never a score."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
from aiohttp import web

import tiny_models
from api_server import completion, error, serving
from evalft import config, pipeline
from evalft.candidates.completion import Completion, parse
from evalft.concluding import Assessment
from evalft.records import Failure, FailureKind
from evalft.store import RunFolder

LABELS = ["ham", "spam"]


def asked(body: dict[str, Any]) -> int:
    return int(body["messages"][-1]["content"].split("message ")[1].split()[0])


def target(row: int, kind: str) -> Any:
    label = LABELS[row % 2]
    return [label] if kind == "multilabel" else label


def settings(folder: Path, base_url: str, kind: str, n: int, **more: Any) -> config.Config:
    rows = [{"id": f"r{i}", "text": f"message {i} .", "label": target(i, kind)} for i in range(n)]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data: dict[str, Any] = {
        "task": {"test": "test.jsonl", "input": "text", "target": "label", "type": kind},
        "providers": {"mock": {"base_url": base_url}},
        "candidates": [{"name": "it", "model": "mock:m", "price": {"input": 1.0, "output": 2.0}}],
        "limits": {"max_tries": 2, "timeout_s": 20},
    }
    for key, value in more.items():
        data[key] = data.get(key, {}) | value if isinstance(value, dict) else value
    return config.build(data, source="test", folder=folder)


def run(
    folder: Path, bad: Sequence[Callable[[], Any]], kind: str = "classification", n: int = 20, **more: Any
) -> Assessment:
    """assess against a server that knows every answer but gives those of `bad` to the rows from 1 on."""

    async def script(body: dict[str, Any], number: int) -> Any:
        row = asked(body)
        if not 0 < row <= len(bad):
            return LABELS[row % 2]
        answer = bad[row - 1]()
        return await answer if asyncio.iscoroutine(answer) else answer

    with serving(script) as server:
        return pipeline.assess(settings(folder, server.base_url, kind, n, **more), out=folder / "run")


def message(**fields: Any) -> dict[str, Any]:
    return completion(None, message={"role": "assistant", "content": None} | fields)


def reset() -> Any:
    raise ConnectionResetError


async def hang() -> str:
    await asyncio.sleep(30)
    return "too late"


LABELLED = ("classification", "multilabel")
EVERY = ("classification", "multilabel", "generation")

SERVED: list[tuple[str, tuple[str, ...], Callable[[], Any]]] = [
    ("refused", EVERY, lambda: message(refusal="I will not say.")),
    ("refused", EVERY, lambda: completion("I will not say.", "refusal")),
    ("filtered", EVERY, lambda: completion("sp", "content_filter")),
    ("filtered", EVERY, lambda: completion("spam", "SAFETY")),
    ("filtered", EVERY, lambda: error(400, "blocked by policy", code="content_filter")),
    ("truncated", EVERY, lambda: completion("I would say that it is", "length")),
    ("truncated", EVERY, lambda: completion("I would say that it is", "MAX_TOKENS")),
    ("truncated", EVERY, lambda: completion("<think>the card has", "length")),
    ("truncated", EVERY, lambda: completion(None, "length")),
    ("empty", EVERY, lambda: completion("", "stop")),
    ("empty", EVERY, lambda: completion(" \n", "stop")),
    ("empty", EVERY, lambda: message(tool_calls=[{"id": "c", "function": {"name": "f", "arguments": "{}"}}])),
    ("empty", EVERY, lambda: message(content=[{"type": "text", "text": None}])),
    ("empty", EVERY, lambda: message(content=7)),
    ("empty", EVERY, lambda: {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 0}}),
    ("empty", EVERY, lambda: {"choices": ["spam"]}),
    ("unparsable", LABELLED, lambda: completion("neither of these")),
    ("wrong_schema", LABELLED, lambda: completion('{"label": "eggs"}')),
    ("wrong_schema", LABELLED, lambda: completion('{"answer": {"of": ["eggs"]}}')),
    ("unparsable", ("classification",), lambda: completion("ham or spam")),
    ("bad_response", EVERY, lambda: b'{"choices": [{"mess'),
    ("bad_response", EVERY, lambda: b"[1, 2]"),
    ("bad_response", EVERY, lambda: b"[" * 100_000),
    ("bad_response", EVERY, lambda: b""),
    ("bad_response", EVERY, lambda: b"\xff\xfe\x00"),
    ("bad_response", EVERY, lambda: {"error": {"message": "overloaded"}}),
    ("timeout", EVERY, hang),
    ("connection", EVERY, reset),
    ("api_error", EVERY, lambda: error(500, "it broke")),
    ("api_error", EVERY, lambda: web.Response(status=503, text="<html>busy</html>", content_type="text/html")),
    ("api_error", EVERY, lambda: error(422, "this row is odd")),
]


@pytest.mark.parametrize("kind", EVERY)
def test_a_failure_of_a_server_is_named_and_is_no_score(tmp_path: Path, kind: str) -> None:
    cases = [(failure, bad) for failure, kinds, bad in SERVED if kind in kinds]
    limits = {"timeout_s": 3}  # what hangs is waited for; a busy machine is not mistaken for it
    result = run(tmp_path, [bad for _, bad in cases], kind, n=2 * len(cases), limits=limits)
    assert_it_is_no_score(result, {row: failure for row, (failure, _) in enumerate(cases, 1)}, rows=2 * len(cases))


def assert_it_is_no_score(result: Assessment, failed: dict[int, str], rows: int) -> None:
    """Each named in its line and counted in coverage, in every denominator, and 0 in every row score."""
    (entry,) = result.summary["candidates"]
    outcomes = RunFolder(result.path).read_predictions(entry["name"])
    assert {o.index: o.failure for o in outcomes if isinstance(o, Failure)} == failed
    assert entry["coverage"] == {
        "total": rows,
        "scored": rows - len(failed),
        "rescued": 0,
        "failures": dict(Counter(failed.values())),
    }
    scores = [json.loads(line) for line in RunFolder(result.path).scores_file(entry["name"]).read_text().splitlines()]
    assert {score["index"]: score["failure"] for score in scores if score["failure"]} == failed
    assert all(set(scores[index]["values"].values()) == {0.0} for index in failed)
    assert {estimate["n"] for estimate in entry["metrics"].values()} == {rows}


@pytest.mark.parametrize("kind", EVERY)
def test_a_row_that_fails_lowers_every_score_that_is_right_without_it(tmp_path: Path, kind: str) -> None:
    """The server is right about every other row, so each metric would be perfect if the failure left the denominator."""
    (entry,) = run(tmp_path, [lambda: error(422, "no")], kind).summary["candidates"]
    assert all(estimate["value"] < 1 for estimate in entry["metrics"].values())
    shares = [name for name in ("accuracy", "exact_match") if name in entry["metrics"]]
    assert [entry["metrics"][name]["value"] for name in shares] == [pytest.approx(19 / 20)] * len(shares)


def test_a_row_that_does_not_fit_into_memory_is_named_and_is_no_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from transformers import LlamaForCausalLM

    forward = LlamaForCausalLM.forward
    longest = 60

    def without_room(self: Any, input_ids: Any = None, **given: Any) -> Any:
        if input_ids.shape[1] > longest:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
        return forward(self, input_ids=input_ids, **given)

    monkeypatch.setattr(LlamaForCausalLM, "forward", without_room)
    torch.set_num_threads(1)
    tiny_models.causal(tmp_path / "model")
    rows = [{"id": f"r{i}", "text": f"{i} " * (60 if i in (3, 8) else 2), "label": LABELS[i % 2]} for i in range(20)]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {
        "task": {
            "test": "test.jsonl",
            "input": "text",
            "target": "label",
            "type": "classification",
            "prompt": "{{ text }}",
        },
        "candidates": [{"name": "it", "model": "hf:model", "device": "cpu"}],
        "limits": {"min_coverage": 0.8},
    }
    result = pipeline.assess(config.build(data, source="test", folder=tmp_path), out=tmp_path / "run")
    assert_it_is_no_score(result, {3: "out_of_memory", 8: "out_of_memory"}, rows=20)
    assert result.status == 0


def test_every_kind_of_failure_is_produced_here() -> None:
    assert {failure for failure, _, _ in SERVED} | {"out_of_memory"} == set(get_args(FailureKind))


@pytest.mark.parametrize(("floor", "status"), [(0.96, 6), (0.95, 0)])
def test_coverage_under_its_floor_is_status_6(tmp_path: Path, floor: float, status: int) -> None:
    result = run(tmp_path, [lambda: error(422, "no")], limits={"min_coverage": floor})
    assert (result.status, result.verdict_status) == (status, status)


# ---------------------------------------------------------------- bodies


def test_half_a_surrogate_pair_in_an_answer_is_kept_as_text_that_a_file_can_hold(tmp_path: Path) -> None:
    body = json.dumps(completion("\ud83d spam \ude00", "stop")).encode()  # json.dumps spells them as escapes
    result = run(tmp_path, [lambda: body], "generation")
    (outcome,) = [o for o in RunFolder(result.path).read_predictions("it") if o.index == 1]
    assert outcome.text == "\ufffd spam \ufffd"


@pytest.mark.parametrize("reason", ["length", "MAX_TOKENS", "max_tokens", "model_length"])
def test_a_cut_answer_is_known_by_whatever_an_api_calls_it(reason: str) -> None:
    assert parse(json.dumps(completion("x", reason)).encode()).finish_reason == "length"


@pytest.mark.parametrize("reason", [5, {"a": 1}, ["stop"], float("nan"), True])
def test_an_end_that_is_no_text_is_none(reason: Any) -> None:
    found = parse(json.dumps(completion("x", reason)).encode())
    assert (found.text, found.finish_reason) == ("x", None)


def test_an_answer_in_parts_is_put_together() -> None:
    parts = [{"type": "text", "text": "sp"}, {"type": "image"}, "?", {"type": "text", "text": "am"}]
    found = parse(json.dumps(message(content=parts)).encode())
    assert found == Completion("spam", None, "stop", (), found.usage, True)
