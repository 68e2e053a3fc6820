"""Everything that a server can do wrong, mixed at random: each example ends with an answer or a named failure, and none
that was answered is asked again."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from api_server import completion, error, serving
from evalft import config, pipeline
from evalft.records import Failure
from evalft.store import RunFolder

LABELS = ["ham", "spam"]


def settings(folder: Path, base_url: str, n: int, **limits: Any) -> config.Config:
    rows = [{"id": f"r{i}", "text": f"message {i}", "label": LABELS[i % 2]} for i in range(n)]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data: dict[str, Any] = {
        "task": {"test": "test.jsonl", "input": "text", "target": "label", "type": "classification"},
        "providers": {"mock": {"base_url": base_url}},
        "candidates": [{"name": "mock", "model": "mock:m", "price": {"input": 1, "output": 2}}],
        "limits": {"timeout_s": 5, "min_coverage": 0.0, **limits},
    }
    return config.build(data, source="test", folder=folder)


def asked(body: dict[str, Any]) -> int:
    return int(body["messages"][-1]["content"].split("message ")[1].split()[0])


class Faulty:
    """Of each request, `share` go wrong in one of these ways, drawn by seed; rows in `broken` always answer 500."""

    WAYS = (
        "429", "429 with Retry-After", "429 with headers", "500", "503 in HTML", "reset", "hang", "half a body",
        "malformed", "no choices",
    )  # fmt: skip

    def __init__(self, seed: int, share: float, broken: frozenset[int] = frozenset()) -> None:
        self._rng, self._share, self._broken = random.Random(seed), share, broken
        self.answered: Counter[int] = Counter()
        self.asked_after_its_answer: list[int] = []
        self.asked: Counter[int] = Counter()
        self.went_wrong: Counter[str] = Counter()

    async def __call__(self, body: dict[str, Any], number: int) -> Any:
        row = asked(body)
        self.asked[row] += 1
        if self.answered[row]:
            self.asked_after_its_answer.append(row)
        if row in self._broken:
            return error(500, "this row breaks the model")
        if number == 1 or self._rng.random() >= self._share:
            self.answered[row] += 1
            await asyncio.sleep(self._rng.uniform(0.0, 0.02))
            return completion(LABELS[row % 2])
        way = self._rng.choice(self.WAYS)
        self.went_wrong[way] += 1
        return await self._go_wrong(way, number)

    async def _go_wrong(self, way: str, number: int) -> Any:
        if way == "429":
            return error(429, "Rate limit reached")
        if way == "429 with Retry-After":
            return error(429, "Rate limit reached", headers={"Retry-After": "0.2"})
        if way == "429 with headers":
            names = {"limit": "60000", "remaining": "0", "reset": "1s"}
            return error(
                429, "slow down", headers={f"x-ratelimit-{key}-requests": value for key, value in names.items()}
            )
        if way == "500":
            return error(500, f"trace {number}")
        if way == "503 in HTML":
            return web.Response(status=503, text=f"<html>busy {number}</html>", content_type="text/html")
        if way == "reset":
            raise ConnectionResetError
        if way == "hang":
            await asyncio.sleep(6)
            return completion("late")
        if way == "half a body":
            return web.Response(body=b'{"choices": [{"mess', content_type="application/json")
        if way == "malformed":
            return b"\x00 not json"
        return {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 0}}


def run_against(folder: Path, faulty: Faulty, n: int) -> Any:
    with serving(faulty) as server:
        result = pipeline.assess(settings(folder, server.base_url, n), out=folder / "run")
    outcomes = RunFolder(folder / "run").read_predictions("mock")
    assert [outcome.index for outcome in outcomes] == list(range(n))
    for outcome in outcomes:
        if isinstance(outcome, Failure):
            assert outcome.failure and outcome.message
            assert not faulty.answered[outcome.index]
        assert outcome.tries == faulty.asked[outcome.index] <= 8
    assert not faulty.asked_after_its_answer
    assert result.status == 0
    return result, outcomes


def test_a_row_that_breaks_the_server_is_asked_three_times_and_named(tmp_path: Path) -> None:
    faulty = Faulty(1, 0.0, broken=frozenset({7, 30}))
    _, outcomes = run_against(tmp_path, faulty, 40)
    failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    assert [(one.index, one.failure, one.tries) for one in failures] == [(7, "api_error", 3), (30, "api_error", 3)]
    assert all("the same 3 times" in one.message for one in failures)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [3])
def test_1000_rows_against_every_fault_there_is(tmp_path: Path, seed: int) -> None:
    faulty = Faulty(seed, 0.35, broken=frozenset(range(0, 1000, 97)) - {0})
    _, outcomes = run_against(tmp_path, faulty, 1000)
    assert set(faulty.went_wrong) == set(Faulty.WAYS)
    assert sum(not isinstance(outcome, Failure) for outcome in outcomes) >= 980


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("code", ["invalid_api_key", "insufficient_quota"])
def test_the_first_refusal_of_the_key_or_the_quota_stops_the_candidate(tmp_path: Path, status: int, code: str) -> None:
    refused = 0

    def script(body: dict[str, Any], number: int) -> Any:
        nonlocal refused
        if number <= 20:
            return completion(LABELS[asked(body) % 2])
        refused += 1
        return error(429 if code == "insufficient_quota" else status, "no more", code=code)

    with serving(script) as server:
        result = pipeline.assess(settings(tmp_path, server.base_url, 500, concurrency=8), out=tmp_path / "run")
    assert 1 <= refused <= 8  # those that were under way
    assert result.summary["candidates"][0]["coverage"]["failures"] == {"api_error": 480}
    log = RunFolder(tmp_path / "run").file("log").read_text()
    assert log.count("stopped:") == 1 and "no more" in log


def test_rows_that_a_stopped_candidate_was_not_asked_decide_nothing(tmp_path: Path) -> None:
    def script(body: dict[str, Any], number: int) -> Any:
        return completion(LABELS[asked(body) % 2]) if number <= 20 else error(401, "no more", code="invalid_api_key")

    with serving(script) as server:
        made = settings(tmp_path, server.base_url, 100)
        made = made.model_copy(update={"thresholds": {"accuracy": ">= 0.9"}})
        result = pipeline.assess(made, out=tmp_path / "run")
    threshold = result.summary["candidates"][0]["thresholds"]["accuracy"]
    assert threshold["status"] == "undecided", "all that was answered is right, and the rest is no miss of the model"
    assert re.search("[0-9]+ of 100 answers were not asked for", threshold["reason"])
    verdict = result.summary["verdict"]
    assert verdict["action"] == "stop" and verdict["rows_needed"] is None
    assert "the rest of the answers of mock" in " ".join(verdict["flips_if"])
    assert result.summary["candidates"][0]["cost_per_query_usd"]["value"] is None
