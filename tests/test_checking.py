"""check: what a run would ask, take and could show, and mistakes that only training would have met."""

from __future__ import annotations

import io
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import tiny_models
from api_server import serving
from evalft import checking, config, expanding, pipeline, token_counts
from evalft.errors import UserError
from evalft.prompts import Request
from evalft.reporting.text import columns, cut_in_the_middle
from whole_runs import configured, knows


def evalft(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "evalft.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = "".join(f"my message number {i},{['ham', 'spam'][i % 2]}\n" for i in range(60))
    (tmp_path / "rows.csv").write_text("text,label\n" + rows)
    return tmp_path


def test_the_command_that_check_ends_with_starts_what_was_checked(folder: Path) -> None:
    given = ["rows.csv", "--model", "fake:constant=ham", "--threshold", "accuracy >= 0.9", "--out", "run"]
    done = evalft("check", *given, cwd=folder)
    said = " ".join(done.stdout.split()).partition("start with `")[2].partition("`")[0]
    assert shlex.split(said) == ["evalft", "assess", *given]


def test_what_so_many_rows_can_show_is_said(folder: Path) -> None:
    done = evalft("check", "rows.csv", "--model", "fake:echo", "--threshold", "accuracy >= 0.8", cwd=folder)
    said = " ".join(done.stdout.split())
    assert "with 60 rows, a share near 80% is known to about" in said
    assert "accuracy >= 0.8: a candidate truly right on 90.0% takes about" in said


@pytest.mark.parametrize("grouped", [False, True])
def test_what_check_says_must_be_right_is_what_the_verdict_asks_for(tmp_path: Path, grouped: bool) -> None:
    """One candidate with exactly as many right rows passes, one with one fewer does not."""
    n, per_group = 240, 3
    folder = tmp_path
    (folder / "rows.csv").write_text(
        "id,text,label,unit\n" + "".join(f"{i},message {i},{'ab'[i % 2]},{i % (n // per_group)}\n" for i in range(n))
    )
    task = {"test": "rows.csv", "input": "text", "target": "label", "type": "classification", "id": "id"}
    if grouped:
        task["group"] = "unit"
    data = {
        "task": task,
        "candidates": [{"name": "one", "model": "file:answers.jsonl"}],
        "thresholds": {"accuracy": ">= 0.9"},
    }

    def answered(wrong: int) -> config.Config:
        answers = [{"id": str(i), "text": "ab"[(i + (i < wrong)) % 2]} for i in range(n)]
        (folder / "answers.jsonl").write_text("".join(json.dumps(answer) + "\n" for answer in answers))
        return config.build(data, source="test", folder=folder)

    def status(wrong: int) -> str:
        done = pipeline.assess(answered(wrong), out=folder / f"run{wrong}")
        return str(json.loads((done.path / "summary.json").read_text())["candidates"][0]["status"])

    told = next(line for line in checking.check(answered(0)).can_show if "is shown once" in line)
    needed = int(re.findall(r"once (\d+) of", told)[0])
    assert ("whole groups" in told) == grouped
    assert (status(n - needed), status(n - needed + 1)) == ("pass", "undecided")


def test_check_does_not_call_out_of_reach_what_grouped_rows_can_show(folder: Path) -> None:
    """A mean over 10 groups of 100 rows may be known well, though 10 rows that are all right could not show it."""
    (folder / "rows.csv").write_text("q,a,unit\n" + "".join(f"question {i},answer {i},{i % 10}\n" for i in range(1000)))
    task = {"test": "rows.csv", "input": "q", "target": "a", "type": "generation", "group": "unit"}
    data = {
        "task": task,
        "candidates": [{"model": "fake:echo"}],
        "thresholds": {"token_f1": ">= 0.8", "exact_match": ">= 0.8"},
    }
    found = checking.check(config.build(data, source="test", folder=folder)).can_show
    assert [line.split()[2] for line in found if "cannot be shown to pass" in line] == ["exact_match"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("limit.timeout_s=3", "error: command line: unknown key 'limit'; did you mean 'limits'?"),
        ("limits.timeout=3", "error: command line: unknown key 'limits.timeout'; did you mean 'timeout_s'?"),
        ("tune.learning_rate=50", "error: command line: tune.learning_rate: input should be less than or equal to 1"),
    ],
)
def test_a_wrong_set_is_blamed_on_set_and_not_on_a_line_of_the_file(folder: Path, given: str, said: str) -> None:
    (folder / "evalft.yaml").write_text("task: {test: rows.csv}\ncandidates: [{model: 'fake:echo'}]\n")
    done = evalft("check", "--set", given, cwd=folder)
    assert done.returncode == 2 and done.stderr.startswith(said)


def test_a_max_length_that_no_row_fits_is_found_before_training(folder: Path) -> None:
    tiny_models.causal(folder / "model")
    data = {"task": {"test": "rows.csv"}, "candidates": [{"name": "tiny", "model": "hf:model"}]}

    def checked(most: int) -> checking.Checked:
        return checking.check(config.build(data | {"tune": {"max_length": most}}, source="test", folder=folder))

    with pytest.raises(
        UserError, match=r"tune.max_length: 3: none of the first 60 rows fits; the shortest takes about (\d+)"
    ):
        checked(3)
    assert not any("max_length" in line for line in checked(10_000).warnings)


@pytest.mark.parametrize(("columns", "what"), [("ticket,label", "input"), ("text,verdict_of_team", "target")])
def test_of_two_columns_with_one_known_the_other_is_the_other(folder: Path, columns: str, what: str) -> None:
    (folder / "two.csv").write_text(columns + "\n" + "".join(f"message {i},{'ab'[i % 2]}\n" for i in range(20)))
    done = evalft("init", "project", "--from", "two.csv", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert f"{what}: column" in done.stdout and "the only other column" in done.stdout
    (folder / "three.csv").write_text("some,nothing," + columns.split(",")[what == "input"] + "\n1,2,3\n")
    assert "name it with" in evalft("init", "other", "--from", "three.csv", cwd=folder).stderr


def test_the_teachers_tokens_are_predicted_near_what_it_is_billed(tmp_path: Path) -> None:
    with serving(lambda body, number: knows(body)) as server:
        data = configured(tmp_path, base_url=server.base_url)
        prepared = checking.check(data).prepared
        plan = expanding.teacher_plan(data.model_copy(update={"task": prepared.config.task}), prepared.data)
        assert plan is not None and plan.usd is not None and plan.usd > 0
        pipeline.expand(data, out=tmp_path / "run")
        asked: list[dict[str, Any]] = server.bodies
    sent = [Request("", i, 0, tuple(body["messages"])) for i, body in enumerate(asked)]
    assert len(sent) == pytest.approx(plan.requests, rel=0.5)
    assert token_counts.of_requests(sent) == pytest.approx(plan.input_tokens, rel=0.5)


def test_nothing_is_predicted_for_a_teacher_that_has_nothing_to_do(tmp_path: Path) -> None:
    with serving(lambda body, number: knows(body)) as server:
        data = configured(tmp_path, base_url=server.base_url)
    enough = data.model_copy(update={"expand": data.expand.model_copy(update={"target_rows": 1})})
    assert expanding.teacher_plan(enough, checking.check(enough).prepared.data) is None


def test_a_model_that_is_not_there_is_no_plan(folder: Path) -> None:
    done = evalft("check", "rows.csv", "--model", "hf:./no/folder/here", cwd=folder)
    assert done.returncode == 2 and "no/folder/here; check the path of the model" in done.stderr
    done = evalft("check", "rows.csv", "--model", "hf:nobody/nothing", cwd=folder)
    assert done.returncode == 0 and "hf:nobody/nothing is no folder here" in " ".join(done.stdout.split())


def test_the_table_keeps_one_line_a_candidate_at_80_columns(folder: Path) -> None:
    long = folder / "models" / "a-team-with-quite-a-long-name" / "a-model-of-some-size-v2"
    tiny_models.causal(long)
    data = {"task": {"test": "rows.csv"}, "candidates": [{"model": f"hf:{long}"}, {"model": "fake:echo"}]}
    shown = io.StringIO()
    checked = checking.check(config.build(data, source="test", folder=folder))
    checking.show(checked, Console(file=shown, width=80))
    lines = shown.getvalue().splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("candidate"))
    row = lines[head + 1]
    assert row.startswith("hf:…") and row.split()[1] == "60" and lines[head + 2].startswith("fake:echo"), (
        "one line each"
    )
    assert "some-size-v2 " in row, "the end of a path says most"
    assert "< 0.1" in row and " 0.0 " not in row
    assert f"- {checked.prepared.plans[0].name}:" in "".join(lines[head:]).replace("\n", ""), "whole below"


def test_wide_characters_leave_the_columns_of_the_table_alone(folder: Path) -> None:
    names = ["카드 상담 모델 (한국어 전용, 두 번째 판)", "short"]
    data = {"task": {"test": "rows.csv"}, "candidates": [{"name": name, "model": "fake:echo"} for name in names]}
    shown = io.StringIO()
    checking.show(checking.check(config.build(data, source="test", folder=folder)), Console(file=shown, width=80))
    lines = shown.getvalue().splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("candidate"))
    assert lines[head].split() == "candidate requests tokens in out about USD at most min GB".split()
    assert lines[head + 1].startswith("카드") and lines[head + 2].startswith("short")
    widths = {columns(line) for line in lines[head : head + 3]}
    assert len(widths) == 1 and max(widths) <= 80


@given(st.text(st.sampled_from("ab/: 카드中ｗé…"), min_size=1), st.integers(1, 60))
def test_a_shortened_name_fits_and_keeps_its_end(name: str, room: int) -> None:
    short = cut_in_the_middle(name, room)
    assert columns(short) <= max(8, room)
    assert short == name or ("…" in short and name.endswith(short.rpartition("…")[2]))


def labelled(folder: Path, base_url: str, n: int = 60, **more: Any) -> config.Config:
    rows = "".join(f"my message number {i},{['ham', 'spam'][i % 2]}\n" for i in range(n))
    (folder / "rows.csv").write_text("text,label\n" + rows)
    data = {
        "task": {"test": "rows.csv", "input": "text", "target": "label", "type": "classification"} | more,
        "providers": {"mock": {"base_url": base_url}},
        "candidates": [{"name": "mock", "model": "mock:m", "price": {"input": 1.0, "output": 2.0}}],
    }
    return config.build(data, source="test", folder=folder)


def test_answers_as_json_are_longer_and_are_counted_so_until_the_endpoint_is_known_to_ignore_it(folder: Path) -> None:
    def billed(form: str) -> int:
        return round(token_counts.of_texts([[form % label] for label in ("ham", "spam") * 30]))

    with serving(lambda body, number: "ham") as server:
        asked = labelled(folder, server.base_url)
        (plan,) = checking.check(asked).prepared.plans
        assert plan.output_tokens == billed('{"label": "%s"}') > billed("%s") and "as JSON" in plan.assumes
        (own_prompt,) = checking.check(
            labelled(folder, server.base_url, prompt="Which label? {{ text }}")
        ).prepared.plans
        assert own_prompt.output_tokens == billed("%s")
        pipeline.assess(labelled(folder, server.base_url, n=20), out=folder / "few")
        (plan,) = checking.check(labelled(folder, server.base_url)).prepared.plans
    assert plan.output_tokens == round(billed("%s") * 40 / 60) and "as JSON" not in plan.assumes


@pytest.mark.parametrize("in_cache", [True, False])
def test_what_is_answered_already_is_taken_off_what_check_predicts(
    folder: Path, in_cache: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(lambda body, number: "ham") as server:
        whole = checking.check(labelled(folder, server.base_url))
        pipeline.assess(labelled(folder, server.base_url, n=20 if in_cache else 60), out=folder / "run")
        if not in_cache:
            monkeypatch.setenv("EVALFT_CACHE", str(folder / "another"))
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
        asked = len(server.bodies)
        left = checking.check(labelled(folder, server.base_url), out=folder / ("other" if in_cache else "run"))
        assert len(server.bodies) == asked
    (plan,), (all_of_it,) = left.prepared.plans, whole.prepared.plans
    there = 20 if in_cache else 60
    assert plan.requests == 60 - there
    if in_cache:
        assert plan.usd < all_of_it.usd
    else:
        assert plan.usd == 0
    (said,) = [line for line in left.can_show if "there already" in line]
    assert f"mock: {there} of 60 answers are there already" in said and f"${plan.usd:.4f} instead of $" in said
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name != "rows.csv"}
    assert after.items() <= before.items(), "check writes nothing"
