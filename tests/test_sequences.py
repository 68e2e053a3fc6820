"""Sequences of any length: what does not stay in memory is the same when it comes back."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_server import serving
from evalft import pipeline, sequences
from evalft.config import Config
from evalft.errors import UserError
from evalft.sequences import Computed, Spilled, chosen

ROWS = st.lists(st.one_of(st.none(), st.text(), st.floats(allow_nan=False), st.tuples(st.text(), st.integers())))


def same(value):
    return value


@given(rows=ROWS, in_memory=st.integers(0, 5))
def test_a_spilled_sequence_is_the_list_it_was_made_of(rows, in_memory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sequences, "IN_MEMORY", in_memory)
        kept = Spilled(same, same, rows)
    assert list(kept) == rows
    assert len(kept) == len(rows)
    assert [kept[i] for i in range(-len(rows), len(rows))] == rows + rows
    assert list(kept[1::2]) == rows[1::2]
    assert list(chosen(kept, range(len(rows) - 1, -1, -1))) == rows[::-1]


@given(rows=st.lists(st.text(), min_size=1), data=st.data())
def test_a_record_can_be_replaced_in_memory_and_in_the_file(rows, data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sequences, "IN_MEMORY", 3)
        kept = Spilled(same, same, rows)
    place = data.draw(st.integers(0, len(rows) - 1))
    kept[place] = rows[place] = "something longer than what stood there before"
    assert list(kept) == rows


@pytest.mark.parametrize("records", [Computed(2, same), Spilled(same, same, [0, 1])])
@pytest.mark.parametrize("place", [2, -3])
def test_there_is_nothing_beyond_the_end(records, place):
    with pytest.raises(IndexError):
        records[place]


def test_no_room_for_rows_is_said_with_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(sequences, "IN_MEMORY", 1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(UserError, match="gone: rows cannot be kept there: .*TMPDIR"):
        Spilled(same, same, ["one", "two"])


# ---------------------------------------------------------------- whole runs


def assessed(
    folder: Path, url: str, name: str, task: dict[str, object], candidate: dict[str, object]
) -> dict[str, object]:
    """summary.json without what differs from run to run."""
    config = {
        "task": {"test": str(folder / "test.jsonl"), "train": str(folder / "train.jsonl"), **task},
        "candidates": [{"model": "here:m", "name": "m", "price": {"input": 1, "output": 1}, **candidate}],
        "providers": {"here": {"base_url": url}},
        "thresholds": {("accuracy" if task["type"] != "generation" else "exact_match"): ">= 0.5"},
    }
    run = folder / name
    pipeline.assess(Config.model_validate(config), out=run, fresh=True)
    found = json.loads((run / "summary.json").read_text())
    for entry in found["candidates"]:
        entry["latency_s"] = None
        entry["metrics"] = {key: one for key, one in entry["metrics"].items() if not key.startswith("latency")}
    return {key: found[key] for key in ("candidates", "verdict", "task", "warnings", "notes")}


@pytest.mark.parametrize(
    ("task", "candidate"),
    [
        ({"type": "classification", "group": "who"}, {"samples": 2, "temperature": 1}),
        ({"type": "multilabel"}, {"shots": 2}),
        ({"type": "generation"}, {"shots": {"count": 2, "pick": "nearest"}}),
    ],
)
def test_a_run_whose_rows_wait_in_files_says_what_one_in_memory_says(monkeypatch, tmp_path, task, candidate):
    labels = ["ham", "spam", "eggs"]
    rows = [
        {"input": f"message {i % 50} about {labels[i % 3]}", "target": [labels[i % 3]] if task["type"] == "multilabel" else labels[i % 3], "who": f"person {i % 9}"}
        for i in range(60)
    ]  # fmt: skip
    for name, some in (("test", rows[:40]), ("train", rows[20:])):  # some rows repeat, some are in both
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    with serving(
        lambda body, number: "spam" if "spam" in body["messages"][-1]["content"].split("\n")[0] else "ham"
    ) as server:
        in_memory = assessed(tmp_path, server.base_url, "in-memory", task, candidate)
        monkeypatch.setattr(sequences, "IN_MEMORY", 7)
        assert assessed(tmp_path, server.base_url, "in-files", task, candidate) == in_memory


@pytest.mark.slow
def test_a_row_more_costs_a_few_hundred_bytes_of_memory(tmp_path):
    def peak_kb(rows: int) -> int:
        data = tmp_path / f"{rows}.jsonl"
        data.write_text(
            "".join(json.dumps({"input": f"row {i} " * 8, "target": f"row {i}"}) + "\n" for i in range(rows))
        )
        measured = "import resource, sys; from evalft.cli import main\ntry: main()\nfinally: print('PEAK', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        command = [
            sys.executable,
            "-c",
            measured,
            "assess",
            str(data),
            "--model",
            "fake:echo",
            "--out",
            str(tmp_path / str(rows)),
        ]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            env={"EVALFT_CACHE": str(tmp_path / "cache"), "PATH": ""},
        )
        return int(done.stdout.rpartition("PEAK")[2])

    few, many = sequences.IN_MEMORY + 5_000, sequences.IN_MEMORY + 45_000
    per_row = (peak_kb(many) - peak_kb(few)) * 1024 / (many - few)
    assert per_row < 400  # 500 MB for a million, and 100 of them the program's own
