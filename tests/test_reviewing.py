"""`evalft review` shows a person what is in doubt, loses nothing that was written, and asks no model anything."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalft import cli, config, pipeline, reviewing
from evalft.concluding import Assessment
from evalft.errors import UserError
from evalft.reviewing import review
from evalft.testset import files

N = 40


def run(tmp_path: Path, *, judges: list[str] | None = None, rows: int = N, **more: Any) -> Assessment:
    """The candidate repeats its input, which is right for odd rows; the judge is content with everything."""
    lines = [{"id": f"0{i}", "q": f"=cmd({i})", "a": f"=cmd({i})" if i % 2 else "else"} for i in range(rows)]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    data = {
        "task": {
            "test": "test.jsonl",
            "id": "id",
            "input": "q",
            "target": "a",
            "type": "generation",
            "metrics": ["judge"],
        },
        "candidates": [{"name": "echo", "model": "fake:echo"}],
        "judge": {"model": judges or ["fake:constant=score: 10"]},
    }
    return pipeline.assess(config.build(data | more, source="test", folder=tmp_path), out=tmp_path / "run")


def sheet(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def fill(
    path: Path, fill_in: Callable[[dict[str, str]], None], *, to: Path | None = None, delimiter: str = ","
) -> None:
    rows = sheet(path)
    for row in rows:
        fill_in(row)
    with (to or path).open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def score_5(row: dict[str, str]) -> None:
    row["score"] = "5"


def people_scored(result: Assessment | None) -> int:
    assert result is not None
    return int(result.summary["judge"]["people"]["scores"])


def test_half_of_the_rows_are_those_in_doubt_and_half_are_drawn(tmp_path: Path) -> None:
    run(tmp_path)
    said = review(tmp_path / "run", rows=20).said
    rows = sheet(tmp_path / "run/review.csv")
    assert {row["why"] for row in rows[:10]} == {"the judge differs from exact_match"}
    assert {int(row["id"]) % 2 for row in rows[:10]} == {0}, "content with what is wrong: those first"
    assert len({row["key"] for row in rows}) == 20 and {int(row["id"]) % 2 for row in rows[10:]} == {0, 1}
    assert all(row["score"] == row["note"] == "" for row in rows)
    assert rows[0]["judge: fake:constant=score: 10"] == "10" and rows[0]["candidate"] == "echo"
    assert "a number from 1 to 10" in said[1]
    review(tmp_path / "run", rows=20)
    assert sheet(tmp_path / "run/review.csv") == rows, "the same rows each time"


def test_judges_that_differ_and_answers_without_a_score_come_first(tmp_path: Path) -> None:
    run(tmp_path, judges=["fake:constant=score: 10", "fake:constant=score: 1"])
    review(tmp_path / "run", rows=4)
    assert {row["why"] for row in sheet(tmp_path / "run/review.csv")[:2]} == {"the judges differ"}
    run_2 = tmp_path / "2"
    run_2.mkdir()
    run(run_2, judges=["fake:constant=no idea"])
    review(run_2 / "run", rows=4)
    assert {row["why"] for row in sheet(run_2 / "run/review.csv")} == {"no judge gave a score"}


def test_what_is_written_is_stored_and_the_run_decided_again(tmp_path: Path) -> None:
    before = run(tmp_path)
    review(tmp_path / "run", rows=12)
    fill(tmp_path / "run/review.csv", score_5)
    found = review(tmp_path / "run")
    assert people_scored(found.result) == 12
    assert found.result is not None and before.summary["candidates"][0]["metrics"]["judge"]["value"] == 1
    value = found.result.summary["candidates"][0]["metrics"]["judge"]["value"]
    assert value == pytest.approx((N - 12 + 12 * 4 / 9) / N)
    assert json.loads((tmp_path / "run/summary.json").read_text())["judge"]["people"]["scores"] == 12
    assert people_scored(run(tmp_path)) == 12, "the same assess goes on with them"


def test_a_file_in_which_something_is_written_is_never_written_over(tmp_path: Path) -> None:
    run(tmp_path)
    path = tmp_path / "run/review.csv"
    review(tmp_path / "run", rows=12)
    one = sheet(path)[0]["key"]
    for column, word in (("note", "unsure"), ("score", "3,5")):
        words = {column: word}
        fill(path, lambda row, words=words: row.update(words) if row["key"] == one else None)  # type: ignore[misc]
        written = path.read_bytes()
        found = review(tmp_path / "run", rows=30)
        assert path.read_bytes() == written and "11 rows" in found.said[-1]
    (line,) = (json.loads(line) for line in (tmp_path / "run/human.jsonl").read_text().splitlines())
    assert (line["score"], line["note"]) == (3.5, "unsure")


def test_emptied_cells_and_a_second_batch_lose_no_earlier_word(tmp_path: Path) -> None:
    run(tmp_path)
    path = tmp_path / "run/review.csv"
    review(tmp_path / "run", rows=12)
    fill(path, score_5)
    review(tmp_path / "run")
    first = {row["key"] for row in sheet(path)}
    fill(path, lambda row: row.update(score="", note="seen") if row["id"] else None)
    assert people_scored(review(tmp_path / "run").result) == 12
    path.rename(tmp_path / "done.csv")
    review(tmp_path / "run", rows=12)
    assert first.isdisjoint(row["key"] for row in sheet(path)), "what is scored is not asked for again"
    fill(path, score_5)
    assert people_scored(review(tmp_path / "run").result) == 24


def test_a_copy_that_a_spreadsheet_has_changed_is_still_read_by_its_keys(tmp_path: Path) -> None:
    run(tmp_path)
    review(tmp_path / "run", rows=12)
    copy = tmp_path / "review (1).csv"

    def spoil(row: dict[str, str]) -> None:
        row.update(score="5", id=row["id"].lstrip("0"), answer="#NAME?", input=row["input"][:3])

    fill(tmp_path / "run/review.csv", spoil, to=copy, delimiter=";")
    assert people_scored(review(tmp_path / "run", filled=copy).result) == 12
    assert {row["score"] for row in sheet(tmp_path / "run/review.csv")} == {""}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"score": "11"}, "review.csv:2: score '11' is not a number from 1 to 10"),
        ({"score": "good"}, "review.csv:2: score 'good'"),
        ({"score": "5", "key": "r0"}, "none of its rows is of an answer"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_line_and_nothing_is_stored(
    tmp_path: Path, change: dict[str, str], said: str
) -> None:
    run(tmp_path)
    review(tmp_path / "run", rows=3)
    fill(tmp_path / "run/review.csv", lambda row: row.update(change))
    with pytest.raises(UserError, match=said.replace("(", r"\(")):
        review(tmp_path / "run")
    assert not (tmp_path / "run/human.jsonl").exists()


def test_an_unfilled_or_foreign_file_is_one_line(tmp_path: Path) -> None:
    run(tmp_path)
    review(tmp_path / "run", rows=3)
    with pytest.raises(UserError, match="nothing is written in it: fill in `score`"):
        review(tmp_path / "run", filled=tmp_path / "run/review.csv")
    with pytest.raises(UserError, match="no such file"):
        review(tmp_path / "run", filled=tmp_path / "else.csv")
    (tmp_path / "else.csv").write_text("id,score\n1,2\n")
    with pytest.raises(UserError, match="has no column `key`"):
        review(tmp_path / "run", filled=tmp_path / "else.csv")
    with pytest.raises(UserError, match="is not a run folder"):
        review(tmp_path)


def test_compared_answers_stand_side_by_side_and_people_prefer_one(tmp_path: Path) -> None:
    pairwise = {
        "metrics": [{"judge": {"pairwise": True}}],
        "test": "test.jsonl",
        "id": "id",
        "input": "q",
        "target": "a",
    }
    run(
        tmp_path,
        judges=["fake:constant=better: 1"],
        task=pairwise | {"type": "generation"},
        candidates=[{"name": "echo", "model": "fake:echo"}, {"name": "else", "model": "fake:constant=else"}],
    )
    said = review(tmp_path / "run", rows=6).said
    assert "0.5 (neither)" in said[1]
    rows = sheet(tmp_path / "run/review.csv")
    assert {row["candidate"] for row in rows} == {"else"} and rows[0]["other answer"].startswith("'=cmd(")
    fill(tmp_path / "run/review.csv", lambda row: row.update(score="1"))
    found = review(tmp_path / "run")
    assert found.result is not None and people_scored(found.result) == 6
    value = found.result.summary["candidates"][1]["metrics"]["judge"]["value"]
    assert value == pytest.approx(0.5 + 0.5 * 6 / N), "a judge that prefers a place prefers nobody"


@given(st.text())
def test_no_cell_is_a_formula_and_every_cell_is_visible(value: str) -> None:
    shown = reviewing._cell(value)
    assert not shown.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    shown.encode()
    assert "\0" not in shown and "\r" not in shown and len(shown) < 32_767


def test_a_hostile_sheet_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    run(tmp_path)
    review(tmp_path / "run", rows=6)
    text = (tmp_path / "run/review.csv").read_text(encoding="utf-8-sig")
    assert "\"'=cmd(" in text and '"=cmd(' not in text
    (table,) = files.read(str(tmp_path / "run/review.csv"), "test")
    assert not table.faults and len(table.rows) == 6


# ---------------------------------------------------------------- targets


def labelled(tmp_path: Path) -> Path:
    """Two candidates say ham throughout; the targets of rows 3 and 4 are spam."""
    rows = [{"id": f"r{i}", "q": f"text {i}", "a": "spam" if i in (3, 4) else "ham"} for i in range(20)]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {
        "task": {"test": "test.jsonl", "id": "id", "input": "q", "target": "a", "type": "classification"},
        "candidates": [{"name": name, "model": f"fake:constant={name}"} for name in ("ham", "Ham.")],
        "thresholds": {"accuracy": ">= 0.5"},
    }
    pipeline.assess(config.build(data, source="test", folder=tmp_path), out=tmp_path / "run")
    return tmp_path / "run"


def test_without_a_judge_targets_that_candidates_agree_against_are_shown(tmp_path: Path) -> None:
    folder = labelled(tmp_path)
    said = review(folder, rows=6).said
    rows = sheet(folder / "review.csv")
    assert {row["id"] for row in rows[:2]} == {"r3", "r4"} and len(rows) == 6
    assert rows[0]["why"] == "2 of 2 candidates say 'ham'" and rows[0]["answer: Ham."] == "ham"
    assert {row["why"] for row in rows[2:]} == {"sample"} and "yes or no into `target_ok`" in said[1]


def test_what_a_person_says_of_targets_is_stored_and_counted(tmp_path: Path) -> None:
    folder = labelled(tmp_path)
    review(folder, rows=6)
    fill(folder / "review.csv", lambda row: row.update(target_ok="No" if row["id"] == "r3" else "yes"))
    found = review(folder)
    assert found.result is not None
    note = "targets looked at by a person (evalft review): 6, of them wrong: 1"
    assert note in found.result.summary["notes"]
    assert note in pipeline.decide_again(folder, config.load(folder / "config.yaml")).summary["notes"]
    fill(folder / "review.csv", lambda row: row.update(target_ok="perhaps"))
    with pytest.raises(UserError, match="neither yes nor no"):
        review(folder)


# ---------------------------------------------------------------- the command


def test_the_command_writes_reads_and_shows_the_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path)
    folder = str(tmp_path / "run")
    assert cli.group.main(["review", folder, "--rows", "4"], standalone_mode=False) == 0
    assert f"evalft review {folder}" in capsys.readouterr().out
    fill(tmp_path / "run/review.csv", score_5)
    assert cli.group.main(["review", folder], standalone_mode=False) == 0
    shown = capsys.readouterr()
    assert "people's 4 scores stand in place" in " ".join(shown.out.split()) and "read from" in shown.err
