"""The real process of `evalft run`, killed inside every stage, then the same command again; and the demo as it is."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from api_server import Server, serving
from whole_runs import asked, keeps_to_the_schema, read

pytest.importorskip("trl")

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "english-to-latex"
IN_FLIGHT = 4
ENVIRONMENT = {"OMP_NUM_THREADS": "1"}  # the same sums in the same order, however many cores are free

CONFIG = """
task: {{name: latex, type: generation, test: test.jsonl, dev: dev.jsonl, train: train.jsonl, input: input, target: target, id: id}}
providers: {{rules: {{base_url: "{base_url}", stand_in: true}}}}
candidates:
  - {{name: endpoint, model: "rules:rules-v1", price: {{input: 1.25, output: 10.0}}}}
  - {{name: base, model: "hf:base"}}
thresholds: {{exact_match: ">= 0.8", cost_per_query: "<= 0.00005"}}
expand: {{teacher: "rules:rules-v1", methods: [recombine], target_rows: 70}}
tune: {{base: "hf:base", epochs: 4}}
prices: {{cpu_hour_usd: 0}}
limits: {{concurrency: {in_flight}, min_coverage: 0}}
"""
"""Hours of this machine cost nothing, so that no sentence of a verdict depends on how busy it is."""


@pytest.fixture
def reply(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """What the benchmark's endpoint says."""
    monkeypatch.syspath_prepend(str(BENCHMARK))
    import server

    yield lambda said: str(server.reply([said]))
    for name in ("server", "translator"):
        sys.modules.pop(name)


def cut_down(folder: Path, server: Server) -> list[str]:
    """The benchmark with few rows; returns the command."""
    folder.mkdir()
    for name, count in (("test", 40), ("dev", 20), ("train", 40)):
        lines = (BENCHMARK / f"{name}.jsonl").read_text().splitlines(keepends=True)
        (folder / f"{name}.jsonl").write_text("".join(lines[:count]))
    shutil.copytree(BENCHMARK / "base", folder / "base")
    (folder / "evalft.yaml").write_text(CONFIG.format(base_url=server.base_url, in_flight=IN_FLIGHT))
    return [sys.executable, "-m", "evalft.cli", "run", str(folder / "evalft.yaml"), "--out", str(folder / "run")]


def finish(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, env=os.environ | ENVIRONMENT, timeout=3600, check=False)
    assert done.returncode == 0, done.stderr.decode()


def lines_of(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.is_file() else 0


MOMENTS = {
    "the endpoint is asked": ("predictions/endpoint.jsonl", 20),
    "the teacher is tried": ("parts/teacher-on-train/predictions/endpoint.jsonl", 20),
    "the teacher answers": ("parts/teacher/predictions/endpoint.jsonl", 10),
    "the base is on dev": ("parts/dev/predictions/base.jsonl", 0),
    "sft": ("adapters/sft/progress.jsonl", 15),
    "sft is on dev": ("parts/dev/predictions/sft.jsonl", 0),
    "samples are drawn": ("parts/samples/predictions/for-dpo.jsonl", 1),
    "dpo": ("adapters/dpo/progress.jsonl", 8),
    "the tuned one is on test": ("predictions/base-tuned.jsonl", 0),
}
"""What is going on once a file of the run folder has so many lines (0: once it is there)."""


def children(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def kill_at(command: list[str], file: Path, lines: int) -> None:
    """kill -9 of the command alone once `file` has so many lines; what it started must end by itself."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ | ENVIRONMENT)
    while process.poll() is None and not (file.is_file() and lines_of(file) >= lines):
        time.sleep(0.01)
    started = children(process.pid)
    process.kill()
    _, err = process.communicate()
    assert process.returncode == -signal.SIGKILL, err.decode()
    for _ in range(3000):
        if not any(map(is_running, started)):
            return
        time.sleep(0.01)
    raise AssertionError("the recipe outlives the command that started it")


def without_times(summary: dict[str, Any]) -> dict[str, Any]:
    """What must be equal however often the run was killed: not clock times, not what kills left unresolved, and not what
    a recipe says of where it went on."""
    summary = json.loads(json.dumps(summary))
    for key in ("created", "spent"):
        summary.pop(key)
    for entry in summary["candidates"]:
        entry.pop("latency_s")
    for stage in summary["stages"]:
        if stage["training"]:
            for key in ("seconds", "tokens_per_s", "choices", "digest"):
                stage["training"].pop(key, None)
    return dict(summary)


@pytest.mark.slow
def test_kill_9_inside_every_stage_ends_in_the_same_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reply: Callable[[str], str]
) -> None:
    async def rules(body: dict[str, Any], number: int) -> str:
        await asyncio.sleep(0.02)
        return reply(asked(body))

    killed, whole = tmp_path / "run", tmp_path / "whole"
    with serving(rules) as server:
        finish(cut_down(killed, server))
        killed.rename(whole)  # both are made in one place: what is written names it
        once = Counter(map(asked, server.bodies))
        assert max(once.values()) == 1
        server.bodies.clear()
        monkeypatch.setenv("EVALFT_CACHE", str(tmp_path / "other-cache"))
        command = cut_down(killed, server)
        for file, lines in MOMENTS.values():
            kill_at(command, killed / "run" / file, lines)
        finish(command)
        again = Counter(map(asked, server.bodies))
    assert again.keys() == once.keys()
    assert again.total() <= once.total() + len(MOMENTS) * IN_FLIGHT
    expected, found = read(whole / "run", "summary.json"), read(killed / "run", "summary.json")
    keeps_to_the_schema(found)
    assert [one["role"] for one in expected["candidates"]] == ["candidate", "baseline", "tuned"]
    assert without_times(found) == without_times(expected)
    for name in (
        "data/expanded.jsonl",
        "data/provenance.jsonl",
        "data/removed.jsonl",
        "data/sft.jsonl",
        "data/pairs.jsonl",
        "adapters/sft/adapter_model.safetensors",
        "adapters/dpo/adapter_model.safetensors",
    ):
        assert (killed / "run" / name).read_bytes() == (whole / "run" / name).read_bytes(), name
    spent = found["spent"]
    assert spent["usd"] + spent["unresolved_usd"] >= expected["spent"]["usd"] - 1e-12
    assert read(killed / "run", "manifest.json")["complete"] is True


@pytest.mark.slow
def test_the_demo_ends_with_a_tuned_model_that_ships(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "evalft.cli", "demo", "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3600, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    summary = read(tmp_path / "run", "summary.json")
    keeps_to_the_schema(summary)
    assert summary["verdict_before"]["action"] == "tune"
    [tuned] = [one["name"] for one in summary["candidates"] if one["role"] == "tuned"]
    assert (summary["verdict"]["action"], summary["verdict"]["candidate"]) == ("ship", tuned)
    assert tuned in done.stdout and str(tmp_path / "run" / "report.html") in done.stdout.replace("\n", "")
