"""The action and the examples of docs/ci.md: their shell lines, run by bash in a repository with this checkout's evalft."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from answered_rows import assess, rows_of
from evalft import baselines, config

ROOT = Path(__file__).parent.parent
ACTION = yaml.safe_load((ROOT / ".github/actions/evalft-gate/action.yml").read_text())
STATUSES = {"pass": 0, "regression": 3, "not comparable": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs side by side: of the candidate that is right more often, and of the other one."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("good", "bad"):
        assess(folder / name, rows_of(200), names={"model": name}, task={"metrics": ["accuracy"]})
    return folder


@pytest.fixture
def repository(tmp_path: Path, run: Path) -> Path:
    """A git repository with config, rows and baseline; `evalft` is this checkout's, and pip only says what it was told."""
    top = tmp_path / "repository"
    top.mkdir()
    (top / "test.jsonl").write_text((run / "good" / "test.jsonl").read_text())
    write_config(top, run, "good")
    baselines.write(str(run / "good" / "run"), top / "baseline.jsonl")
    for command in ("git init -q", "git add .", "git -c user.name=a -c user.email=a@b commit -qm first"):
        subprocess.run(shlex.split(command), cwd=top, check=True)
    programs = tmp_path / "bin"
    programs.mkdir()
    write_program(programs / "evalft", f'exec {shlex.quote(sys.executable)} -m evalft.cli "$@"')
    write_program(programs / "pip", f'printf "%s\\n" "$@" > {shlex.quote(str(tmp_path / "pip.txt"))}')
    return top


def write_program(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def write_config(top: Path, run: Path, name: str) -> None:
    data = config.as_data(config.load(run / name / "run" / "config.yaml"))
    data["task"]["test"] = "test.jsonl"
    (top / "evalft.yaml").write_text(config.dump(data))


def bash(repository: Path, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """As a runner calls it."""
    environment = {
        "PATH": f"{repository.parent / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "harness"),
        "EVALFT_CACHE": str(repository.parent / "cache"),
        "HOME": str(repository.parent),
        "GITHUB_ACTIONS": "true",
        "GITHUB_OUTPUT": str(repository.parent / "output.txt"),
        "GITHUB_WORKSPACE": str(repository),
    } | variables
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    return subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, timeout=200)


def step(name: str, **inputs: str) -> tuple[str, dict[str, str]]:
    """(the shell lines of a step, its environment with the inputs put in)."""
    (found,) = [one for one in ACTION["runs"]["steps"] if one["name"] == name]
    given = {key: one.get("default", "") for key, one in ACTION["inputs"].items()} | inputs
    variables = {
        key: re.sub(r"\$\{\{ inputs\.(\w+) \}\}", lambda place: given[place[1]], value)
        for key, value in found["env"].items()
    }
    return found["run"], variables


def example(name: str) -> Any:
    """The YAML of docs/ci.md that begins with the file name it is for."""
    blocks = re.findall(r"```yaml\n# (\S+)\n(.*?)```", (ROOT / "docs/ci.md").read_text(), re.DOTALL)
    return yaml.safe_load(dict(blocks)[name])


def spoilt(repository: Path, run: Path, outcome: str) -> Path:
    """The run folder of this outcome: `bad` regresses, and a run of another config than the present one says nothing."""
    if outcome == "regression":
        write_config(repository, run, "bad")
    return run / ("good" if outcome == "pass" else "bad") / "run"


@pytest.mark.parametrize("outcome", STATUSES)
def test_the_action_answers_with_the_gates_status_and_leaves_junit(repository: Path, run: Path, outcome: str) -> None:
    folder = spoilt(repository, run, outcome)
    script, variables = step("Gate", run=str(folder), comment="comment.md")
    found = bash(repository, script, **variables)
    assert found.returncode == STATUSES[outcome], found.stderr
    assert (repository.parent / "output.txt").read_text() == f"status={STATUSES[outcome]}\n"
    assert ("<failure" in (repository / "evalft-junit.xml").read_text()) == (outcome != "pass")
    assert (repository / "comment.md").exists() == (outcome != "not comparable")
    assert ("::error" in found.stdout) == (outcome != "pass")


def test_no_input_of_the_action_is_run_as_a_command(repository: Path) -> None:
    for one in ACTION["runs"]["steps"]:
        assert "${{" not in one.get("run", ""), "an expression in a script is text that whoever wrote it runs"
    hostile = '"; touch owned; $(touch owned) `touch owned` #'
    script, variables = step("Gate", run=hostile, baseline=hostile, config=hostile, junit="j.xml", comment=hostile)
    assert bash(repository, script, **variables).returncode == 2
    script, variables = step("Install evalft", package=hostile)
    assert bash(repository, script, **variables).returncode == 0
    assert (repository.parent / "pip.txt").read_text().splitlines() == ["install", "--quiet", "--", hostile]
    assert not (repository / "owned").exists()


def test_the_workflow_gives_the_action_inputs_that_it_has() -> None:
    steps = example(".github/workflows/evalft.yml")["jobs"]["evalft"]["steps"]
    (gate,) = [one for one in steps if "evalft-gate" in one.get("uses", "")]
    assert "/.github/actions/evalft-gate@" in gate["uses"]
    assert gate["with"].keys() <= ACTION["inputs"].keys()
    assert {name for name, one in ACTION["inputs"].items() if one.get("required")} <= gate["with"].keys()


@pytest.mark.slow
@pytest.mark.parametrize("outcome", STATUSES)
def test_the_examples_for_gitlab_and_github_do_what_they_say(repository: Path, run: Path, outcome: str) -> None:
    job = example(".gitlab-ci.yml")["evalft"]
    steps = example(".github/workflows/evalft.yml")["jobs"]["evalft"]["steps"]
    for number, lines in enumerate((job["script"], [one["run"] for one in steps if "run" in one])):
        spoilt(repository, run, outcome)
        if outcome == "not comparable":
            (repository / "baseline.jsonl").write_text("{}")
        lines = [line.replace("reports/now", f"reports/{number}") for line in lines]
        found = bash(repository, "\n".join(lines), GITHUB_ACTIONS="")
        whole = any("evalft gate" in line for line in lines)
        assert found.returncode == (STATUSES[outcome] if whole else 0), found.stderr
        assert (repository / "reports" / str(number) / "report.html").exists()
    junit = job["artifacts"]["reports"]["junit"].replace("now", "0")
    assert ("<failure" in (repository / junit).read_text()) == (outcome != "pass")


@pytest.mark.slow
@pytest.mark.parametrize("outcome", STATUSES)
def test_the_hook_stops_a_commit_that_is_worse_or_not_scored(repository: Path, run: Path, outcome: str) -> None:
    (hook,) = example(".pre-commit-config.yaml")["repos"][0]["hooks"]
    assert re.fullmatch(hook["files"], "evalft.yaml")
    folder = spoilt(repository, run, outcome)
    (repository / "reports").mkdir()
    (repository / "reports" / "now").symlink_to(folder)
    assert bash(repository, hook["entry"]).returncode == STATUSES[outcome]
