"""--json: what happens as JSON lines on standard output and nothing else; -v and log.txt: each choice that is made."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from api_server import serving
from evalft import events
from evalft.progress import Progress
from evalft.records import Failure, Prediction


def evalft(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "evalft.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120, check=False)


def parsed(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(isinstance(one["event"], str) and one["at"] > 0 for one in found)
    return found


def of(kind: str, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in found if one["event"] == kind]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = "".join(f"message {i},{['ham', 'spam'][i % 2]}\n" for i in range(60))
    (tmp_path / "rows.csv").write_text("text,label\n" + rows)
    return tmp_path


def right(body: dict[str, Any], number: int) -> str:
    return ["ham", "spam"][int(body["messages"][-1]["content"].split("message ")[1].split()[0]) % 2]


def test_assess_streams_what_happens_and_ends_with_where_it_is(folder: Path) -> None:
    with serving(right) as server:
        written = {
            "task": {"test": "rows.csv"},
            "providers": {"mock": {"base_url": server.base_url}},
            "candidates": [
                {"name": "mock", "model": "mock:m", "price": {"input": 1, "output": 2}},
                {"name": "\x1b[31mham", "model": "fake:constant=ham"},
            ],
            "thresholds": {"accuracy": ">= 0.9"},
        }
        (folder / "evalft.yaml").write_text(yaml.safe_dump(written))
        done = evalft("assess", "--json", "--out", "run", cwd=folder)
    assert done.returncode == 0 and "\x1b" not in done.stdout and done.stderr == ""
    found = parsed(done)
    assert [found[0]["event"], found[1]["event"], found[-2]["event"], found[-1]["event"]] == [
        *("started", "choices", "verdict", "finished")
    ]
    assert found[0]["examples"] == 60 and [one["name"] for one in found[0]["candidates"]] == ["mock", "\x1b[31mham"]
    for name in ("mock", "\x1b[31mham"):
        steps = [one for one in of("progress", found) if one["name"] == name]
        assert steps[-1]["done"] == steps[-1]["total"] == 60 and 15 <= len(steps) <= 25
        assert [one["done"] for one in steps] == sorted(one["done"] for one in steps)
        assert any(one["candidate"] == name for one in of("choices", found))
    assert of("progress", found)[-1]["low"] < of("progress", found)[-1]["score"] < of("progress", found)[-1]["high"]
    summary = json.loads((folder / "run" / "summary.json").read_text())
    estimates = {one["name"]: one for one in of("candidate", found)}
    for entry in summary["candidates"]:
        assert {key: entry[key] for key in ("metrics", "status")} == {
            key: estimates[entry["name"]][key] for key in ("metrics", "status")
        }
    assert of("verdict", found)[0]["action"] == summary["verdict"]["action"]
    assert found[-1]["status"] == 0
    assert all(Path(found[-1][key]).exists() for key in ("path", "summary", "report"))


def test_check_streams_a_plan_per_candidate_and_writes_nothing(folder: Path) -> None:
    done = evalft("check", "rows.csv", "--model", "fake:echo", "--threshold", "accuracy >= 0.9", "--json", cwd=folder)
    found = parsed(done)
    assert done.returncode == 0 and found[0]["event"] == "started" and found[-1]["event"] == "finished"
    (plan,) = of("plan", found)
    assert plan["candidate"] == "fake:echo" and plan["requests"] == 60 and plan["input_tokens"] > 0
    assert not (folder / "reports").exists()


@pytest.mark.parametrize("command", ["assess", "run", "check"])
def test_a_mistake_is_an_event_too_and_still_a_line_for_people(folder: Path, command: str) -> None:
    done = evalft(command, "rows.csv", "--model", "opnai:m", "--threshold", "accuracy >= 0.9", "--json", cwd=folder)
    (error,) = parsed(done)
    assert done.returncode == error["status"] == 2 and error["event"] == "error"
    assert done.stderr == "".join(f"error: {line}\n" for line in error["lines"])


def test_the_status_under_exit_code_is_in_the_last_event(folder: Path) -> None:
    done = evalft(
        *("run", "rows.csv", "--model", "fake:constant=ham", "--threshold", "accuracy >= 0.9", "--json", "--exit-code"),
        cwd=folder,
    )
    assert parsed(done)[-1]["status"] == done.returncode == 3


def test_verbose_says_each_choice_that_the_log_holds(folder: Path) -> None:
    same = ["assess", "rows.csv", "--model", "fake:constant=ham", "--out"]
    quiet, loud = evalft(*same, "one", cwd=folder), evalft(*same, "two", "-v", cwd=folder)
    assert quiet.stdout.splitlines()[0] == loud.stdout.splitlines()[0]  # the result itself is the same
    log = (folder / "two" / "log.txt").read_text()
    for choice in ("column 'text'", "labels: 2 found", "answers by rule"):
        assert choice in log and choice in loud.stderr and choice not in quiet.stderr


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_whatever_is_emitted_is_one_line_of_ascii_json(value: Any) -> None:
    stream = io.StringIO()
    events.to(stream)("said", line=value)
    text = stream.getvalue()
    assert text.count("\n") == 1 and text.endswith("\n") and text.isascii()
    assert not set(map(ord, text[:-1])) & set(range(32))
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name))["event"] == "said"


def test_numbers_that_are_not_finite_are_null() -> None:
    stream = io.StringIO()
    events.to(stream)("training", loss=math.nan, deep=[{"x": math.inf}])
    found = json.loads(stream.getvalue())
    assert found["loss"] is None and found["deep"] == [{"x": None}]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_live_lines_never_wrap(width: int) -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=True, color_system=None)
    progress = Progress(console)
    progress.watch_money(lambda: (0.1234, 4.8766))
    for name in ("openai:gpt-5-mini", "together:Qwen/Qwen3-8B-with-quite-a-long-name", "hf:Qwen/Qwen3-0.6B-k4-nearest"):
        take = progress.candidate(name, 40_000, "exact_match", lambda outcome: float(outcome.index % 2))
        for i in range(40):
            more = (
                Failure("a", i, 0, "timeout", "late") if i % 9 == 0 else Prediction("a", i, 0, "x", None, cached=i > 30)
            )
            take(more)
    stream.truncate(0)
    stream.seek(0)
    console.print(progress._rendered())
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert sum("exact_match" in line for line in lines) == 3 and "$0.1234 spent" in lines[-1]
    assert sum("5 timeout" in line for line in lines) == 3
    if width >= 80:
        assert all("(0." in line for line in lines if "exact_match" in line)
