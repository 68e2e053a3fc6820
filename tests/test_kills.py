"""kill -9 of the real process at random moments of every stage, then the same command: nothing that was answered is asked
again, and the result is that of an unbroken run."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import random
import sys
import time
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest

from api_server import Server, serving
from evalft import cli

ROWS = 40
IN_FLIGHT = 4
LABELS = ["ham", "spam"]
CANDIDATES = ("first", "second")


async def answer(body: dict[str, Any], number: int) -> str:
    await asyncio.sleep(0.03)
    row = row_of(body)
    right = LABELS[row % 2]
    return right if body["model"] == "first" or row % 3 else LABELS[1 - row % 2]


def row_of(body: dict[str, Any]) -> int:
    return int(body["messages"][-1]["content"].split("message ")[1].split()[0])


def write_run(folder: Path, server: Server) -> list[str]:
    folder.mkdir()
    rows = [{"id": f"r{i}", "text": f"message {i}", "label": LABELS[i % 2]} for i in range(ROWS)]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    candidates = [f'{{name: {name}, model: "mock:{name}", price: {{input: 1, output: 2}}}}' for name in CANDIDATES]
    (folder / "evalft.yaml").write_text(
        f"""
task: {{test: test.jsonl, input: text, target: label, type: classification, metrics: [accuracy]}}
providers: {{mock: {{base_url: "{server.base_url}"}}}}
candidates: [{", ".join(candidates)}]
thresholds: {{accuracy: ">= 0.7"}}
limits: {{concurrency: {IN_FLIGHT}}}
"""
    )
    return ["assess", str(folder / "evalft.yaml"), "--out", str(folder / "run")]


def evalft(words: list[str], cache: str) -> None:
    """In a process of its own: the command as a user gives it."""
    os.environ["EVALFT_CACHE"] = cache
    sys.argv = ["evalft", *words]
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        cli.main()


PROCESSES = multiprocessing.get_context(
    "forkserver"
)  # which has imported everything: starting is most of what a kill costs
PROCESSES.set_forkserver_preload(
    ["test_kills", "evalft.pipeline", "openai", "aiohttp", "sklearn.metrics", "scipy.stats"]
)


def process_of(words: list[str], cache: Path) -> ForkServerProcess:
    process = PROCESSES.Process(target=evalft, args=(words, str(cache)))
    process.start()
    return process


def finish(words: list[str], cache: Path) -> None:
    process = process_of(words, cache)
    process.join(120)
    assert process.exitcode == 0


def summary_of(folder: Path) -> dict[str, Any]:
    """Without clock times, and without what kills left unresolved."""
    summary: dict[str, Any] = json.loads((folder / "run" / "summary.json").read_text())
    for key in ("created", "spent"):
        summary.pop(key)
    for entry in summary["candidates"]:
        entry.pop("latency_s")
    return summary


def answered(folder: Path) -> set[tuple[str, int]]:
    """(candidate, row) of every whole line with an answer."""
    found = set()
    for name in CANDIDATES:
        file = folder / "run" / "predictions" / f"{name}.jsonl"
        lines = file.read_bytes().splitlines(keepends=True) if file.exists() else []
        for line in lines:
            if line.endswith(b"\n") and "failure" not in (data := json.loads(line)):
                found.add((name, data["index"]))
    return found


def kill_at_a_random_moment(process: ForkServerProcess, server: Server, rng: random.Random) -> None:
    """Before the first request, between any two of them, or while the end of the run is written."""
    stage = rng.choice(["starting", "asking", "asking", "asking", "ending"])
    until = {"starting": 0, "asking": rng.randint(1, 2 * ROWS), "ending": 2 * ROWS}[stage]
    before = len(server.bodies)
    if stage == "starting":
        time.sleep(rng.uniform(0.0, 0.5))
    while len(server.bodies) - before < until and process.is_alive():
        time.sleep(0.001)
    if stage == "ending":
        time.sleep(rng.uniform(0.0, 0.3))
    process.kill()
    process.join()


@pytest.mark.slow
def test_50_kills_lose_nothing_that_was_answered(tmp_path: Path) -> None:
    rng = random.Random(11)
    with serving(answer) as server:
        whole = tmp_path / "whole"
        finish(write_run(whole, server), tmp_path / "cache-whole")
        expected = summary_of(whole)
        kills = run = 0
        while kills < 50:
            folder, cache, run = tmp_path / f"killed-{run}", tmp_path / f"cache-{run}", run + 1
            command = write_run(folder, server)
            server.bodies.clear()
            here = 0
            for _ in range(min(rng.randint(4, 8), 50 - kills)):
                kept = answered(folder)
                asked_before = len(server.bodies)
                process = process_of(command, cache)
                kill_at_a_random_moment(process, server, rng)
                kills, here = kills + 1, here + 1
                again = {(body["model"], row_of(body)) for body in server.bodies[asked_before:]}
                assert not kept & again, f"kill {kills}: an answer on disk was asked for again"
                assert kept <= answered(folder), f"kill {kills} lost an answer"
            finish(command, cache)
            asked = Counter((body["model"], row_of(body)) for body in server.bodies)
            assert len(asked) == 2 * ROWS
            assert sum(asked.values()) <= 2 * ROWS + here * IN_FLIGHT
            assert summary_of(folder) == expected
