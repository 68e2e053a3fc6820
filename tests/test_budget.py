"""limits.max_cost_usd is hard: by the provider's own account, whatever fails, however long answers are, through kills."""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import openai
import pytest

import virtual_time
from api_server import completion, error, serving
from evalft import config, pipeline
from evalft.candidates.api import ApiCandidate
from evalft.config import CandidateConfig, LimitsConfig, TaskConfig
from evalft.errors import BudgetReached, UserError
from evalft.execution import Asking
from evalft.prices import TokenPrice
from evalft.prompts import Request
from evalft.records import Outcome
from evalft.spending import Ledger
from evalft.store import RunFolder
from whole_runs import keeps_to_the_schema

PRICE = TokenPrice(1.0, 2.0, 1.0, "test")
MAX_TOKENS = 50
TIMEOUT_S = 5.0
BEHAVIOURS = ["answers", "long", "times_out", "resets", "fails", "gateway_timeout", "half_a_body", "no_usage", "empty"]


class Provider:
    """What is behind the openai client: it answers, fails and bills by seed, and keeps an account of its own.

    `overrun`: how many times max_tokens its long answers are."""

    def __init__(self, rng: random.Random, weights: list[float], overrun: float = 1.0) -> None:
        self.billed_usd = 0.0
        self.answered: dict[str, int] = {}
        self._rng, self._weights, self._overrun = rng, weights, overrun

    async def close(self) -> None:
        pass

    async def post(self, path: str, *, cast_to: object, body: dict[str, Any], options: object) -> Any:
        (behaviour,) = self._rng.choices(BEHAVIOURS, self._weights)
        text = body["messages"][-1]["content"]
        tokens_in = len(text.encode()) + 16  # a tokenizer that knows no words
        long = behaviour in ("long", "times_out", "gateway_timeout", "resets", "half_a_body", "no_usage")
        tokens_out = int(body["max_tokens"] * self._overrun) if long else self._rng.randint(1, 5)
        if behaviour != "fails":
            self.billed_usd += (tokens_in * PRICE.input + tokens_out * PRICE.output) / 1e6
        await asyncio.sleep(30.0 if behaviour == "times_out" else self._rng.uniform(0.1, 2.0))
        if behaviour in ("fails", "gateway_timeout"):
            status = 504 if behaviour == "gateway_timeout" else self._rng.choice([429, 500, 503])
            response = httpx2.Response(status, request=httpx2.Request("POST", "http://x"))
            raise openai.APIStatusError(f"no {self._rng.random()}", response=response, body=None)
        if behaviour == "resets":
            raise openai.APIConnectionError(request=httpx2.Request("POST", "http://x")) from ConnectionResetError()
        answer = completion("yes")
        answer["usage"] = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out}
        if behaviour == "no_usage":
            del answer["usage"]
        if behaviour == "empty":
            answer["choices"] = []
        if behaviour in ("answers", "long", "no_usage"):
            self.answered[text] = self.answered.get(text, 0) + 1
        content = json.dumps(answer).encode()
        return SimpleNamespace(content=content[:20] if behaviour == "half_a_body" else content, headers={})


class Candidate(ApiCandidate):
    """The real one, but for its client."""

    def __init__(self, provider: Provider) -> None:
        made = CandidateConfig(model="mock:m", name="mock")
        super().__init__(
            made, config.ProviderConfig(base_url="http://x"), TaskConfig(type="generation"),
            price=PRICE, max_tokens=MAX_TOKENS, timeout_s=TIMEOUT_S, want_probs=False,
        )  # fmt: skip
        self._client = provider

    def start(self) -> list[str]:
        return []


def ask(provider: Provider, asked: list[Request], path: Path, cap_usd: float, for_s: float | None = None) -> bool:
    """Ask until all is asked (True), the cap is reached (False), or for so long: then nothing more is written, as
    after a kill."""

    async def main() -> bool:
        run = RunFolder(path)
        run.create()
        ledger = Ledger(run.file("spending"), cap_usd)
        heard: list[Outcome] = []
        asking = Asking(
            Candidate(provider), asked, folder=run, ledger=ledger, limits=LimitsConfig(timeout_s=TIMEOUT_S),
            cache=None, notify=heard.append, stop=asyncio.Event(),
        )  # fmt: skip

        async def both() -> None:
            await asking.open(None)
            await asking.finish()

        task = asyncio.create_task(both())
        await asyncio.wait([task], timeout=for_s)
        try:
            if task.done():
                task.result()
                return True
        except BudgetReached:
            return False
        except UserError:
            return False  # cannot start: three rows in a row were unlucky
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await asking.close()
            ledger.close()
        return False

    return bool(virtual_time.run(main()))


def tear_a_settlement(path: Path, rng: random.Random) -> None:
    """A kill in the middle of the last write. (A reservation is whole before its request is sent.)"""
    file = RunFolder(path).file("spending")
    lines = file.read_bytes().splitlines(keepends=True)
    if lines and b"settle" in lines[-1]:
        file.write_bytes(b"".join(lines[:-1]) + lines[-1][: rng.randrange(len(lines[-1]))])


def a_random_run(path: Path, seed: int) -> None:
    rng = random.Random(seed)
    asked = [
        Request(f"r{i}", i, 0, ({"role": "user", "content": f"{i} " + "é" * rng.randrange(60)},))
        for i in range(rng.randint(3, 40))
    ]
    provider = Provider(rng, [6.0, *(rng.choice([0.0, 0.5, 2.0]) for _ in BEHAVIOURS[1:])])
    whole_usd = len(asked) * (50 * PRICE.input + MAX_TOKENS * PRICE.output) / 1e6
    cap_usd = whole_usd * rng.choice([0.05, 0.3, 1.0, 3.0])
    for _ in range(rng.randrange(4)):
        ask(provider, asked, path, cap_usd, for_s=rng.uniform(0.0, 10.0))
        if rng.random() < 0.5:
            tear_a_settlement(path, rng)
        assert provider.billed_usd <= cap_usd + 1e-12
    finished = ask(provider, asked, path, cap_usd)
    assert provider.billed_usd <= cap_usd + 1e-12
    ledger = Ledger(RunFolder(path).file("spending"), cap_usd)
    ledger.close()
    assert provider.billed_usd <= ledger.settled_usd + ledger.lost_usd + 1e-12
    for _ in range(3):  # a higher cap goes on (a run may not start where three rows in a row are unlucky)
        finished = finished or ask(provider, asked, path, 100 * whole_usd)
    assert finished
    kept = RunFolder(path).read_predictions("mock")
    assert [outcome.index for outcome in kept] == list(range(len(asked)))


@pytest.mark.parametrize("seed", range(20))
def test_the_cap_holds_whatever_fails(tmp_path: Path, seed: int) -> None:
    a_random_run(tmp_path, seed)


@pytest.mark.slow
def test_the_cap_holds_in_200_random_runs(tmp_path: Path) -> None:
    for seed in range(100, 300):
        a_random_run(tmp_path / str(seed), seed)


def test_a_server_that_bills_more_than_was_asked_for_is_found_out_by_its_first_answer(tmp_path: Path) -> None:
    weights = [0.0, 1.0, *(0.0 for _ in BEHAVIOURS[2:])]
    asked = [Request(f"r{i}", i, 0, ({"role": "user", "content": f"{i}"},)) for i in range(300)]
    provider = Provider(random.Random(1), weights, overrun=4.0)
    worst_usd = Candidate(provider).worst_case_usd(asked[0])
    cap_usd = 40 * worst_usd
    assert not ask(provider, asked, tmp_path, cap_usd)
    assert 0.5 * cap_usd < provider.billed_usd <= cap_usd
    again = Ledger(RunFolder(tmp_path).file("spending"), cap_usd)
    again.close()
    assert again.overrun == pytest.approx(provider.billed_usd / len(provider.answered) / worst_usd, rel=0.05)


def test_a_cap_that_allows_nothing_leaves_a_valid_report(tmp_path: Path) -> None:
    with serving(lambda body, number: "ham") as server:
        made = settings(tmp_path, server.base_url, max_cost_usd=0.0)
        result = pipeline.assess(made, out=tmp_path / "run")
        assert (result.status, len(server.bodies)) == (5, 0)
        keeps_to_the_schema(result.summary)
        assert pipeline.assess(settings(tmp_path, server.base_url, max_cost_usd=1.0), out=tmp_path / "run").status == 0


def test_a_partial_report_is_valid_and_a_higher_cap_asks_only_the_rest(tmp_path: Path) -> None:
    def script(body: dict[str, Any], number: int) -> Any:
        return error(500, f"no {number}") if number % 5 == 0 else completion("ham")

    with serving(script) as server:
        result = pipeline.assess(settings(tmp_path, server.base_url, max_cost_usd=0.0006), out=tmp_path / "run")
        assert result.status == 5 and result.summary["partial"]["why"] == "budget"
        keeps_to_the_schema(result.summary)
        kept = {one.id for one in RunFolder(tmp_path / "run").read_predictions("mock") if one.tries}
        assert 0 < len(kept) < 60
        before = len(server.bodies)
        result = pipeline.assess(settings(tmp_path, server.base_url, max_cost_usd=1.0), out=tmp_path / "run")
        assert result.status == 0
        keeps_to_the_schema(result.summary)
        assert not kept & {f"r{row_of(body)}" for body in server.bodies[before:]}


def row_of(body: dict[str, Any]) -> int:
    return int(body["messages"][-1]["content"].split("message ")[1].split()[0])


def settings(folder: Path, base_url: str, n: int = 60, **limits: Any) -> config.Config:
    rows = [{"id": f"r{i}", "text": f"message {i}", "label": ["ham", "spam"][i % 2]} for i in range(n)]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data: dict[str, Any] = {
        "task": {"test": "test.jsonl", "input": "text", "target": "label", "type": "classification"},
        "providers": {"mock": {"base_url": base_url}},
        "candidates": [{"name": "mock", "model": "mock:m", "price": {"input": 1, "output": 2}}],
        "limits": limits,
    }
    return config.build(data, source="test", folder=folder)


@pytest.mark.slow
def test_the_cap_holds_through_kill_9(tmp_path: Path) -> None:
    """Of real processes, one after the other until nothing is left to spend; the server keeps the account."""
    billed: list[float] = []
    answer = completion("ham")

    async def script(body: dict[str, Any], number: int) -> Any:
        billed.append((10 * 1.0 + 5 * 2.0) / 1e6)
        await asyncio.sleep(0.05)
        return answer

    cap_usd = 0.004
    rng = random.Random(3)
    with serving(script) as server:
        made = settings(tmp_path, server.base_url, 400, max_cost_usd=cap_usd, concurrency=8)
        (tmp_path / "evalft.yaml").write_text(json.dumps(json.loads(json.dumps(config.as_data(made)))))
        command = [sys.executable, "-m", "evalft.cli", "assess", str(tmp_path / "evalft.yaml")]
        command += ["--out", str(tmp_path / "run")]
        for _ in range(4):
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ))
            until = len(billed) + rng.randint(3, 25)
            while len(billed) < until and process.poll() is None:
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            assert math.fsum(billed) <= cap_usd
        done = subprocess.run(command, capture_output=True, env=dict(os.environ), timeout=120, check=False)
        assert done.returncode == 5, done.stderr.decode()
        assert math.fsum(billed) <= cap_usd
        assert len(billed) > 20
    keeps_to_the_schema(json.loads((tmp_path / "run" / "summary.json").read_text()))
