"""The real process, killed or interrupted while requests are in flight, then the same command again."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from api_server import Server, serving

LABELS = ["ham", "spam"]
IN_FLIGHT = 8


async def slow_answer(body: dict[str, Any], number: int) -> str:
    await asyncio.sleep(0.03)
    return LABELS[int(body["messages"][-1]["content"].split("message ")[1].split()[0]) % 2]


def write_run(folder: Path, server: Server, n: int) -> list[str]:
    rows = [{"id": f"r{i}", "text": f"message {i}", "label": LABELS[i % 2]} for i in range(n)]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "evalft.yaml").write_text(
        f"""
task: {{test: test.jsonl, input: text, target: label, type: classification, metrics: [accuracy]}}
providers: {{mock: {{base_url: "{server.base_url}"}}}}
candidates: [{{name: mock, model: "mock:m", price: {{input: 1, output: 2}}}}]
thresholds: {{accuracy: ">= 0.9"}}
limits: {{concurrency: {IN_FLIGHT}}}
"""
    )
    return [sys.executable, "-m", "evalft.cli", "assess", str(folder / "evalft.yaml"), "--out", str(folder / "run")]


def without_times(summary: dict[str, Any]) -> dict[str, Any]:
    """What must be equal however often the run was killed: not clock times, and not what kills left unresolved."""
    summary = json.loads(json.dumps(summary))
    for key in ("created", "spent"):
        summary.pop(key)
    for entry in summary["candidates"]:
        entry.pop("latency_s")
    return summary


def start(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ))


def finish(command: list[str]) -> str:
    """What it said on standard error."""
    done = subprocess.run(command, capture_output=True, env=dict(os.environ), timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stderr.decode()


def wait_for(server: Server, answers: int, process: subprocess.Popen[bytes]) -> None:
    while server.completed < answers and process.poll() is None:
        time.sleep(0.002)


@pytest.mark.slow
def test_kill_9_loses_only_what_was_in_flight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(7)
    with serving(slow_answer) as server:
        (tmp_path / "whole").mkdir()
        finish(write_run(tmp_path / "whole", server, 120))
        expected = json.loads((tmp_path / "whole" / "run" / "summary.json").read_text())
        monkeypatch.setenv("EVALFT_CACHE", str(tmp_path / "other-cache"))
        server.bodies.clear()
        (tmp_path / "killed").mkdir()
        command = write_run(tmp_path / "killed", server, 120)
        kills, answered = 5, 0
        for kill in range(kills):
            process = start(command)
            wait_for(server, server.completed + rng.randint(2, 20), process)
            process.kill()
            process.communicate()
            kept = sum(1 for line in (tmp_path / "killed/run/predictions/mock.jsonl").read_bytes().splitlines() if line)
            assert kept >= answered, f"kill {kill} lost an answer"
            answered = kept
        finish(command)
        asked = Counter(body["messages"][-1]["content"] for body in server.bodies)
    summary = json.loads((tmp_path / "killed" / "run" / "summary.json").read_text())
    assert sum(asked.values()) <= 120 + kills * IN_FLIGHT
    assert without_times(summary) == without_times(expected)
    unresolved = summary["spent"]["unresolved_usd"]
    assert summary["spent"]["usd"] + unresolved >= expected["spent"]["usd"] - 1e-12


def test_a_torn_last_line_is_asked_again(tmp_path: Path) -> None:
    with serving(slow_answer) as server:
        command = write_run(tmp_path, server, 10)
        finish(command)
        file = tmp_path / "run" / "predictions" / "mock.jsonl"
        lines = file.read_bytes().splitlines(keepends=True)
        file.write_bytes(b"".join(lines[:-1]) + lines[-1][: len(lines[-1]) // 2])
        os.environ["EVALFT_CACHE"] = str(tmp_path / "empty-cache")
        before = len(server.bodies)
        finish(command)
        assert [body["messages"][-1]["content"].startswith("message 9") for body in server.bodies[before:]] == [True]
    assert len(file.read_bytes().splitlines()) == 10


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_or_a_term_keeps_what_was_in_flight_and_ends_with_130(tmp_path: Path, number: signal.Signals) -> None:
    with serving(slow_answer) as server:
        command = write_run(tmp_path, server, 200)
        process = start(command)
        wait_for(server, 20, process)
        process.send_signal(number)
        if number == signal.SIGTERM:  # as `timeout` does: to the process, and to its group
            process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 130, err.decode()
        assert b"Traceback" not in err + out
        kept = len((tmp_path / "run" / "predictions" / "mock.jsonl").read_bytes().splitlines())
        assert kept == server.completed  # every answer that came is on disk
        summary = json.loads((tmp_path / "run" / "summary.json").read_text())
        assert summary["partial"]["why"] == "interrupted" and summary["verdict"] is None
        assert b"no thresholds" not in out and b"not complete" in out
        assert f"mock: {kept} of 200 answers are in the run folder already" in finish(command)
        asked = Counter(body["messages"][-1]["content"] for body in server.bodies)
    assert max(asked.values()) == 1 and len(asked) == 200
