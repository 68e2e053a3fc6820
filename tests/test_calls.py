"""The commands as Python functions: records and frames, nothing printed, mistakes as one line."""

from __future__ import annotations

import asyncio
import csv
import re
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

import evalft
from answered_rows import LABELS, assess, rows_of
from evalft import config

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [row | {"channel": ("mail", "phone")[i % 2]} for i, row in enumerate(rows_of(120))]
    task = {"metrics": ["accuracy"], "slices": ["channel"]}
    return assess(tmp_path_factory.mktemp("both") / "one", rows, task=task)


def write_csv(path: Path, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


@pytest.fixture
def tickets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    monkeypatch.chdir(tmp_path)
    rows = rows_of(150)
    write_csv(Path("tickets.csv"), ("id", "text", "intent"), [(r["id"], r["text"], r["label"]) for r in rows])
    write_csv(Path("monday.csv"), ("id", "text"), [(r["id"], r["good"]) for r in rows])
    write_csv(Path("tuesday.csv"), ("id", "text"), [(r["id"], r["bad"]) for r in rows])
    return rows


def test_the_examples_of_the_guide_run_as_they_stand(
    tickets: list[dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(), re.DOTALL)
    names: dict[str, object] = {}
    exec("\n".join(blocks), names)
    said = capsys.readouterr()
    assert said.out.startswith("ship file:monday.csv") and said.err == ""
    assert "regression 3" in said.out
    wrong = [row for row in tickets if row["bad"] != row["label"] and row["good"] == row["label"]]
    assert len(names["broken"]) == len(wrong)  # type: ignore[arg-type]


def test_nothing_is_printed_and_what_comes_back_is_frozen(
    tmp_path: Path, both: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = evalft.assess(both)
    found = evalft.gate(f"{both}:bad", evalft.baseline(f"{both}:good", tmp_path / "baseline.jsonl"))
    evalft.decide(both, thresholds={"accuracy": ">= 0.5"})
    assert capsys.readouterr() == ("", "")
    for record in (run, found, evalft.diff(f"{both}:good", f"{both}:bad")):
        with pytest.raises(FrozenInstanceError):
            record.verdict = None  # type: ignore[misc]


def test_frames_hold_what_the_run_folder_holds(both: Path) -> None:
    run = evalft.decide(both, thresholds={"accuracy": ">= 0.1"})
    metrics = run.frame().set_index(["candidate", "metric"])
    for entry in run.summary["candidates"]:
        row = metrics.loc[entry["name"], "accuracy"]
        assert row.value == entry["metrics"]["accuracy"]["value"] and row.require == ">= 0.1"
        assert row.status == entry["thresholds"]["accuracy"]["status"]
    examples = run.examples()
    assert len(examples) == 2 * 120 and set(examples.slice_channel) == {"mail", "phone"}
    right = examples[examples.candidate == "good"]
    assert right.score_accuracy.mean() == metrics.loc["good", "accuracy"].value
    assert (right.answer == right.target).mean() == metrics.loc["good", "accuracy"].value
    assert len(run.examples("bad")) == 120


def test_a_gates_frame_has_metrics_slices_and_what_stands_beside(tmp_path: Path, both: Path) -> None:
    found = evalft.gate(
        f"{both}:bad", evalft.baseline(f"{both}:good", tmp_path / "b.jsonl"), config=both / "config.yaml"
    )
    kinds = found.frame().groupby("kind").name.apply(list).to_dict()
    assert kinds["metric"] == ["accuracy"] and kinds["slice"] == ["channel=mail", "channel=phone"]


def test_a_config_is_taken_as_a_file_or_as_it_is_and_settings_stand_over_it(tmp_path: Path, both: Path) -> None:
    loaded = config.load(both / "config.yaml")
    first = evalft.assess(loaded, out=tmp_path / "one")
    other = evalft.assess(loaded, settings={"task.metrics": ["f1"]}, out=tmp_path / "two")
    same = evalft.assess(both / "config.yaml", settings={"task.metrics": ["f1"]}, out=str(tmp_path / "three"))
    assert "f1" not in first.summary["candidates"][0]["metrics"]
    assert other.frame().equals(same.frame())


def test_a_mistake_is_a_user_error_of_one_line(tmp_path: Path, both: Path) -> None:
    for call in (
        lambda: evalft.assess(tmp_path / "missing.csv"),
        lambda: evalft.assess(both, settings={"limits.max_cots_usd": 1}),
        lambda: evalft.decide(tmp_path),
        lambda: evalft.gate(str(both), tmp_path / "missing.jsonl"),
        lambda: evalft.diff(f"{both}:good", f"{both}:god"),
    ):
        with pytest.raises(evalft.UserError) as raised:
            call()
        assert str(raised.value) and "\n" not in str(raised.value)


def test_a_call_works_where_an_event_loop_is_running(both: Path, tmp_path: Path) -> None:
    """As in a notebook."""

    async def cell() -> evalft.Run:
        return evalft.assess(both / "config.yaml", out=tmp_path / "again")

    assert asyncio.run(cell()).status == 0


def test_the_package_is_imported_without_anything_heavy() -> None:
    code = "import evalft, sys; print([one for one in ('numpy', 'pandas', 'torch', 'sklearn') if one in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
    assert set(evalft.__all__) >= {"assess", "run", "decide", "diff", "gate", "baseline", "rescore"}
    assert all(getattr(evalft, name) for name in evalft.__all__)


def test_labels_of_a_frame_are_those_given(both: Path) -> None:
    labels = evalft.decide(both).examples("good").labels
    assert {one for said in labels for one in said} == set(LABELS)
