"""Train rows -> more train rows, with a teacher on the loopback: whose rows, asked how, paid from where, what is dropped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import whole_runs
from api_server import error, serving
from evalft import expanding, pipeline, preparing
from evalft.asking import Unfinished
from evalft.config import ShotsConfig
from evalft.errors import UserError
from evalft.store import RunFolder
from whole_runs import PRICE_USD, Heard, asked, configured, is_writing, knows, read, rows, written


def facts(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = read(run, "data/expansion.json")
    return found


def inputs(made: list[dict[str, Any]]) -> list[str]:
    return [row["input"] for row in made]


def answers(bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The requests for an answer, not for new inputs."""
    return [body for body in bodies if not is_writing(body)]


# ---------------------------------------------------------------- with a teacher


def test_new_rows_have_the_teachers_targets_and_where_each_comes_from(tmp_path: Path) -> None:
    with serving(knows) as server:
        run = pipeline.expand(configured(tmp_path, base_url=server.base_url), out=tmp_path / "run")
        bodies = list(server.bodies)
    made, lines = read(run, "data/expanded.jsonl"), read(run, "data/provenance.jsonl")
    assert len(made) == 28 - 20
    assert all(row["target"] == row["input"].rpartition(" ")[2] for row in made)
    assert set(inputs(made)) <= {one for body in bodies if is_writing(body) for one in written(body)}
    assert [line["id"] for line in lines] == [row["id"] for row in made]
    train = {row["id"] for row in rows(200, 20)}
    for line in lines:
        assert line["method"] == "generate" and line["teacher"] == "mock:m"
        assert line["cost_usd"] == pytest.approx(PRICE_USD)
        assert line["parents"] and {*line["parents"]} <= train
    assert facts(run)["cost_usd"] == pytest.approx(PRICE_USD * len(bodies))
    assert "8 new rows" in (run / "data" / "README.md").read_text()


def test_the_teacher_is_asked_as_the_candidate_that_is_scored(tmp_path: Path) -> None:
    asked_as = {
        "temperature": 0.5,
        "max_tokens": 77,
        "top_p": 0.9,
        "seed": 3,
        "shots": ShotsConfig(count=2),
        "samples": 2,
    }
    asked_as |= {"prompt": "Word? {{ text }}", "system": "Be brief.", "extra_body": {"k": 1}}
    with serving(lambda body, number: knows(body)) as server:
        data = configured(tmp_path, base_url=server.base_url)
        data = data.model_copy(update={"candidates": [data.candidates[0].model_copy(update=asked_as)]})
        pipeline.assess(data, out=tmp_path / "run")
        scored = list(server.bodies)
        pipeline.expand(data, out=tmp_path / "run")
        taught = answers(server.bodies[len(scored) :])
    fields = {key: value for key, value in scored[0].items() if key != "messages"}
    assert fields["temperature"] == 0.5 and fields["k"] == 1
    assert len(taught) > 20
    for body in taught:
        assert {key: value for key, value in body.items() if key != "messages"} == fields
        question, before = body["messages"][-1], scored[0]["messages"][:-1]  # the system's and the shots
        assert body["messages"][:-1] == before or question in before  # a train row is not its own shot
        assert question not in body["messages"][:-1]
        assert asked(body).startswith("Word? ")
    assert Counter(map(asked, taught)).most_common(1)[0][1] == 1  # one sample is enough to learn from


@pytest.mark.parametrize("command", [pipeline.run, pipeline.expand])
def test_a_teacher_without_a_price_is_named_before_anything_is_asked(tmp_path: Path, command: Any) -> None:
    with serving(knows) as server:
        data = configured(tmp_path, base_url=server.base_url, expand={"teacher": "mock:dear"})
        with pytest.raises(UserError, match="expand.teacher: the price of mock:dear is not known; name it among the"):
            command(data, out=tmp_path / "run")
        assert not server.bodies


def test_no_new_row_is_a_test_dev_or_train_row(tmp_path: Path) -> None:
    held = [rows(400, 1)[0]["text"], rows(100, 1)[0]["text"].upper() + "!", rows(200, 1)[0]["text"]]

    def leaky(body: Mapping[str, Any], number: int) -> str:
        return json.dumps([*held, *written(body)]) if is_writing(body) else knows(body)

    with serving(leaky) as server:
        run = pipeline.expand(configured(tmp_path, base_url=server.base_url), out=tmp_path / "run")
        bodies = list(server.bodies)
    assert len(read(run, "data/expanded.jsonl")) == 8
    assert not {*inputs(read(run, "data/expanded.jsonl"))} & {*held}
    assert facts(run)["removed"]["contaminated"] >= 2 and facts(run)["removed"]["exact"] >= 1
    gone = [line for line in read(run, "data/removed.jsonl") if line["input"] in held]
    assert {line["against"] for line in gone} == {"r400", "r100", "r200"}
    paid_for = Counter(map(asked, answers(bodies)))
    assert not {*held[:2]} & {*paid_for}
    assert paid_for[held[2]] == 1  # in the trial on train rows


def test_a_train_row_that_holds_a_test_row_is_left_out_and_named(tmp_path: Path) -> None:
    with serving(knows) as server:
        data = configured(tmp_path, base_url=server.base_url)
        leak = {"id": "leak", "text": rows(401, 1)[0]["text"].upper() + "!", "word": "refund"}
        whole_runs.write(tmp_path / "train.jsonl", [*rows(200, 20), leak])
        heard = Heard()
        run = pipeline.expand(data, out=tmp_path / "run", progress=heard)
        prepared = preparing.prepare(data, out=run)
        to_train_on = expanding.expand(prepared, heard)
        assert leak["text"] not in map(asked, server.bodies)
    assert facts(run)["train_removed_ids"] == ["leak"] and facts(run)["train_rows"] == 20
    assert any("train row leak is left out: test row r401" in line for line in heard.lines)
    assert len(to_train_on) == 28 and "leak" not in {row.id for row in to_train_on}


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (lambda: error(400, "no"), "failed"),
        (lambda: {"choices": [{"index": 0, "message": {"role": "assistant", "refusal": "I will not"}}]}, "failed"),
        (lambda: "", "failed"),
        (lambda: "I'm sorry, I cannot help with that", "invalid"),
        (lambda: "card\x1b[31m", "invalid"),
        (lambda: "refund " * 40, "invalid"),
    ],
    ids=["error", "refused", "empty", "apology", "escapes", "essay"],
)
def test_answers_that_cannot_be_learned_from_are_dropped_and_counted(
    tmp_path: Path, said: Callable[[], Any], why: str
) -> None:
    bad: list[str] = []

    def unsteady(body: Mapping[str, Any], number: int) -> Any:
        if is_writing(body) or int(asked(body).split()[2]) < 500 or int(asked(body).split()[2]) % 3:
            return knows(body)
        bad.append(asked(body))
        return said()

    with serving(unsteady) as server:
        data = configured(tmp_path, base_url=server.base_url, limits={"max_tries": 1})
        run = pipeline.expand(data, out=tmp_path / "run")
    assert bad
    assert facts(run)["removed"][why] == len(bad)
    assert len(read(run, "data/expanded.jsonl")) == 8
    assert not {*inputs(read(run, "data/expanded.jsonl"))} & {*bad}
    assert {line["input"] for line in read(run, "data/removed.jsonl") if line["why"] == why} == {*bad}


def test_a_teacher_that_disagrees_with_most_train_rows_is_not_used_and_that_is_said(tmp_path: Path) -> None:
    def wrong(body: Mapping[str, Any], number: int) -> str:
        right = asked(body).rpartition(" ")[2]
        return "weather" if int(asked(body).split()[2]) % 20 < 11 else right

    with serving(wrong) as server:
        heard = Heard()
        run = pipeline.expand(configured(tmp_path, base_url=server.base_url), out=tmp_path / "run", progress=heard)
        assert len(server.bodies) == 20
    assert facts(run)["teacher_agrees"] == {"right": 9, "rows": 20, "metric": "exact_match"}
    assert facts(run)["generated"] == 0 and read(run, "data/expanded.jsonl") == []
    assert any("endpoint is not used: it agrees with only 9 of 20 train rows" in line for line in heard.lines)


def test_a_teacher_that_stops_is_no_teacher_that_disagrees(tmp_path: Path) -> None:
    for working in (3, 24):  # it stops while it is tried on train rows, and while it answers drafts

        def stops(body: Mapping[str, Any], number: int, working: int = working) -> Any:
            return knows(body) if number <= working else error(401, "no credit")

        folder = tmp_path / str(working)
        with serving(stops) as server:
            data = configured(folder, base_url=server.base_url, limits={"concurrency": 1})
            with pytest.raises(
                UserError, match=r"expand.teacher mock:m stopped: .*no credit; the same command goes on"
            ):
                pipeline.expand(data, out=folder / "run")
            assert not (folder / "run" / "data" / "expansion.json").exists()
            there = Counter(map(asked, server.bodies[:working]))
            port = int(server.base_url.rpartition(":")[2].partition("/")[0])
        with serving(knows, port) as server:
            pipeline.expand(data, out=folder / "run")
            assert not {*there} & {*map(asked, server.bodies)}
        assert facts(folder / "run")["generated"] == 8


def test_a_teacher_that_writes_no_list_gives_no_rows_and_that_is_said(tmp_path: Path) -> None:
    with serving(lambda body, number: "\x00 no ]" if is_writing(body) else knows(body)) as server:
        heard = Heard()
        run = pipeline.expand(configured(tmp_path, base_url=server.base_url), out=tmp_path / "run", progress=heard)
    assert facts(run)["generated"] == 0
    assert any("only 0 of the 8 rows wanted" in line for line in heard.lines)


def test_recombined_inputs_are_answered_by_the_teacher_too(tmp_path: Path) -> None:
    with serving(knows) as server:
        data = configured(tmp_path, base_url=server.base_url, expand={"methods": ["recombine"]})
        run = pipeline.expand(data, out=tmp_path / "run")
        assert not any(map(is_writing, server.bodies))
        taught = {asked(body) for body in server.bodies}
    made = read(run, "data/expanded.jsonl")
    assert len(made) == 8 and {*inputs(made)} <= taught
    assert all(row["target"] == row["input"].rpartition(" ")[2] for row in made)


# ---------------------------------------------------------------- where nothing is generated


def test_where_there_are_as_many_rows_as_wanted_none_are_made(tmp_path: Path) -> None:
    with serving(knows) as server:
        heard = Heard()
        data = configured(tmp_path, base_url=server.base_url, expand={"target_rows": 20})
        run = pipeline.expand(data, out=tmp_path / "run", progress=heard)
        assert not server.bodies
    assert facts(run)["generated"] == 0 and read(run, "data/expanded.jsonl") == []
    assert "no rows were generated: expand.target_rows is 20, and so many there are" in heard.lines
    assert "to train on: 20 train rows and 0 generated ones" in heard.lines


def test_rows_of_chat_messages_are_trained_on_as_they_are_and_that_is_said(tmp_path: Path) -> None:
    with serving(knows) as server:
        data = configured(tmp_path, base_url=server.base_url, task={"input": "messages", "system": None})
        for name, start, count in (("test", 400, 24), ("dev", 100, 10), ("train", 200, 20)):
            chats = [
                {"id": row["id"], "messages": [{"role": "user", "content": row["text"]}], "word": row["word"]}
                for row in rows(start, count)
            ]
            whole_runs.write(tmp_path / f"{name}.jsonl", chats)
        heard = Heard()
        run = pipeline.expand(data, out=tmp_path / "run", progress=heard)
        assert not server.bodies
        assert len(expanding.expand(preparing.prepare(data, out=run), heard)) == 20
    assert any("no rows were generated" in line and "chat messages" in line for line in heard.lines)


@pytest.mark.parametrize("kind", ["classification", "multilabel"])
def test_without_a_teacher_a_new_row_has_the_labels_of_the_rows_it_was_made_of(tmp_path: Path, kind: str) -> None:
    echo = [{"name": "echo", "model": "fake:echo"}]
    data = configured(tmp_path, kind=kind, candidates=echo, expand={"target_rows": 24})
    forms = ("Where is the {}? I do not know.", "What is it if a {}?", "I am told that the {}")
    train = [row | {"text": forms[i // 2 % 3].format(row["text"])} for i, row in enumerate(rows(200, 12, kind))]
    whole_runs.write(tmp_path / "train.jsonl", train)
    run = pipeline.expand(data, out=tmp_path / "run")
    made, lines = read(run, "data/expanded.jsonl"), read(run, "data/provenance.jsonl")
    assert made and facts(run)["teacher"] is None
    targets = {row["id"]: row["word"] for row in train}
    for row, line in zip(made, lines, strict=True):
        assert all(targets[parent] == row["target"] for parent in line["parents"])
        assert line["method"] in ("recombine", "paraphrase") and line["teacher"] is None and line["cost_usd"] == 0


# ---------------------------------------------------------------- stopping and going on


def test_expanding_stopped_by_the_cap_goes_on_to_the_same_rows_and_asks_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(knows) as server:
        whole = pipeline.expand(configured(tmp_path, base_url=server.base_url), out=tmp_path / "whole")
        monkeypatch.setenv("EVALFT_CACHE", str(tmp_path / "empty"))
        server.bodies.clear()
        stops = 0
        for cap in [20 * n * PRICE_USD for n in range(1, 40)]:
            limits = {"max_cost_usd": cap, "concurrency": 4}
            data = configured(tmp_path, base_url=server.base_url, limits=limits)
            try:
                run = pipeline.expand(data, out=tmp_path / "run")
                break
            except Unfinished as stopped:
                stops += 1
                assert stopped.status == 5 and "--max-cost" in str(stopped)
                assert PRICE_USD * len(server.bodies) <= cap
        assert stops > 1
        assert Counter(map(asked, server.bodies)).most_common(1)[0][1] == 1
    for name in ("expanded.jsonl", "provenance.jsonl", "removed.jsonl", "README.md", "expansion.json"):
        assert (run / "data" / name).read_bytes() == (whole / "data" / name).read_bytes(), name


def commanded(folder: Path, base_url: str) -> Path:
    """An evalft.yaml for the commands."""
    data = configured(folder, base_url=base_url, expand={"target_rows": 60})
    return whole_runs.as_file(data, folder / "evalft.yaml")


def test_ctrl_c_while_the_teacher_is_asked_ends_with_130_and_the_same_command_goes_on(tmp_path: Path) -> None:
    async def slow(body: dict[str, Any], number: int) -> str:
        import asyncio

        await asyncio.sleep(0.05)
        return knows(body)

    with serving(slow) as server:
        command = [sys.executable, "-m", "evalft.cli", "expand", str(commanded(tmp_path, server.base_url))]
        command += ["--out", str(tmp_path / "run"), "--set", "limits.concurrency=2"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ))
        while server.completed < 26 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 130, err.decode()
        assert b"Traceback" not in err + out and b"the same command goes on" in err
        assert not (tmp_path / "run" / "data" / "expansion.json").exists()
        done = subprocess.run(command, capture_output=True, env=dict(os.environ), timeout=120, check=False)
        assert done.returncode == 0, done.stderr.decode()
        assert done.stdout.decode().strip() == str(tmp_path / "run" / "data" / "README.md")
        assert Counter(map(asked, server.bodies)).most_common(1)[0][1] == 1
    assert facts(tmp_path / "run")["total"] == 60


def test_expand_takes_a_run_folder_and_keeps_its_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(knows) as server:
        file, run = commanded(tmp_path, server.base_url), tmp_path / "run"
        assert whole_runs.evalft(monkeypatch, "assess", file, "--out", run) == 0
        assert whole_runs.evalft(monkeypatch, "expand", run) == 0
        RunFolder(run).stage("expand", "running")  # as a kill between the last two lines leaves it
        asked_so_far = len(server.bodies)
        assert whole_runs.evalft(monkeypatch, "expand", file, "--out", run) == 0
        assert len(server.bodies) == asked_so_far
    assert facts(run)["total"] == 60
    assert read(run, "manifest.json")["stages"] == {"assess": "done", "expand": "done"}
    assert len(read(run, "predictions/endpoint.jsonl")) == 24
