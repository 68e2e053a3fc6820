"""What lies beside the scores as arrays: the same as what the JSONL files hold, and read only while it is."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from answered_rows import LABELS, assess, rows_of
from evalft import baselines, diffing, gating, rescoring, scored_rows
from evalft.config import TaskConfig
from evalft.errors import UserError
from evalft.metrics import labels as label_metrics
from evalft.records import Example, Failure, Outcome, Prediction, Score
from evalft.scored_rows import ScoredRows
from evalft.store import RunFolder

TASKS = {
    kind: TaskConfig(type=kind, test="test.jsonl", input="text", target="label", labels=labels)
    for kind, labels in (("classification", list(LABELS)), ("multilabel", list(LABELS)), ("generation", None))
}


def plain(found: Any) -> Any:
    """For ==: nan equals nan, and arrays say their dtype."""
    if isinstance(found, np.ndarray):
        return str(found.dtype), found.shape, [None if one != one else one for one in found.ravel().tolist()]
    if is_dataclass(found):
        return {field.name: plain(getattr(found, field.name)) for field in fields(found)}
    return {key: plain(one) for key, one in found.items()} if isinstance(found, dict) else found


def read(folder: RunFolder, kind: str) -> tuple[ScoredRows, str | None]:
    return scored_rows.read(folder, "it", TASKS[kind])


# ---------------------------------------------------------------- any rows

texts = st.text(max_size=6)
scores = st.dictionaries(st.sampled_from(["accuracy", "f1", "über"]), st.sampled_from([0.0, 1.0, 0.1, 1 / 3]))


@st.composite
def runs(draw: st.DrawFn, kind: str) -> tuple[list[Example], list[Score], list[Outcome]]:
    examples, scored, outcomes = [], [], []
    samples = draw(st.integers(1, 3))
    for index, id in enumerate(draw(st.lists(texts, min_size=1, max_size=12, unique=True))):
        several = draw(st.lists(st.sampled_from(LABELS), unique=True, max_size=3))
        target = tuple(several) if kind == "multilabel" else draw(st.sampled_from(LABELS))
        slices = draw(st.dictionaries(st.sampled_from(["lang", "by"]), texts, max_size=2))
        examples.append(Example(id, draw(texts), target, {}, draw(st.none() | texts), slices))
        if draw(st.booleans()):
            scored.append(Score(id, index, draw(scores)))
        for repeat in range(draw(st.sampled_from([0, samples, samples]))):
            cost = draw(st.sampled_from([None, 0.0, 0.25]))
            if draw(st.booleans()):
                outcomes.append(Failure(id, index, repeat, "timeout", "", cost_usd=cost))
                continue
            said = tuple(draw(st.lists(st.sampled_from([*LABELS, "strange"]), min_size=1, max_size=2, unique=True)))
            probs = draw(st.none() | st.dictionaries(st.sampled_from(LABELS), st.floats(0, 1), max_size=3))
            outcomes.append(
                Prediction(
                    *(id, index, repeat, "x", None if kind == "generation" else said, probs),
                    probs_method=draw(st.sampled_from([None, "vote", "stated"])),
                    unseen_mass=draw(st.sampled_from([None, 0.0, 0.5])),
                    rescued=draw(st.booleans()),
                    cost_usd=cost,
                )
            )
    return examples, scored, outcomes


@pytest.mark.parametrize("kind", TASKS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(data=st.data())
def test_the_arrays_are_what_the_files_hold_in_whatever_order(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    examples, scored, outcomes = data.draw(runs(kind))
    folder = RunFolder(tmp_path)
    folder.create()
    folder.arrays_file("it").unlink(missing_ok=True)
    folder.write_examples("test", examples)
    folder.write_scores("it", scored)
    folder.write_predictions("it", outcomes)
    gathered, why = read(folder, kind)
    assert why and "is not there" in why
    assert list(gathered.ids) == [one.id for one in examples if one.id in {score.id for score in scored}]
    for score in scored:
        held = {name: float(column[gathered.ids.index(score.id)]) for name, column in gathered.values.items()}
        assert {name: value for name, value in held.items() if value == value} == score.values

    scored_rows.write(folder, "it", TASKS[kind])
    loaded, why = read(folder, kind)
    assert why is None and plain(loaded) == plain(gathered)

    random.Random(0).shuffle(outcomes)
    folder.write_predictions("it", outcomes)
    folder.write_scores("it", scored[::-1])
    shuffled, _ = read(folder, kind)
    # the order of metrics is that in which rows have them
    assert plain(replace(shuffled, values=dict(sorted(shuffled.values.items())))) == plain(
        replace(gathered, values=dict(sorted(gathered.values.items())))
    )


@given(rows=st.lists(st.tuples(*[st.sets(st.integers(0, 79), max_size=2)] * 2, st.booleans()), min_size=1))
def test_rows_are_one_cell_where_they_are_alike_with_few_labels_and_with_many(
    rows: list[tuple[set[int], set[int], bool]],
) -> None:
    for count in (3, 80):
        names = [str(i) for i in range(count)]
        kept = [({str(i % count) for i in one}, {str(i % count) for i in other}, no) for one, other, no in rows]
        arrays = label_metrics.arrays(
            [one for one, _, _ in kept], [None if no else [*said] for _, said, no in kept], names
        )
        cells, first = arrays.cells
        whole = [(one, None if no else said) for one, said, no in kept]
        for row, cell in enumerate(cells):
            assert whole.index(whole[row]) == first[cell]


# ---------------------------------------------------------------- real runs


@pytest.fixture(autouse=True)
def _also_of_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scored_rows, "KEPT_FROM", 0)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    rows = [row | {"by": "ab"[i % 2], "user": f"u{i // 2}"} for i, row in enumerate(rows_of(60))]
    return assess(tmp_path / "one", rows, task={"slices": ["by"], "group": "user"})


def without_arrays(run: Path) -> None:
    for path in (run / "scores").glob("*.npz"):
        path.unlink()


def compared(run: Path) -> tuple[dict[str, Any], list[str]]:
    """(the comparison, what it says of slow reading)."""
    found = diffing.as_data(diffing.diff(f"{run}:bad", f"{run}:good"))
    slow = [note for note in found["notes"] if ".npz" in note]
    return found | {"notes": [note for note in found["notes"] if note not in slow]}, slow


def test_a_comparison_is_the_same_with_the_arrays_and_without(run: Path) -> None:
    fast, said = compared(run)
    assert not said
    without_arrays(run)
    before = sorted(run.rglob("*"))
    slow, said = compared(run)
    assert slow == fast and len(said) == 2 and "evalft decide" in said[0]
    assert sorted(run.rglob("*")) == before, "a comparison only reads"


def test_a_baseline_and_a_gate_are_the_same_with_the_arrays_and_without(run: Path, tmp_path: Path) -> None:
    def held() -> tuple[str, dict[str, Any]]:
        baselines.write(f"{run}:bad", tmp_path / "baseline.jsonl")
        found = asdict(gating.gate(tmp_path / "baseline.jsonl", f"{run}:good"))
        return (tmp_path / "baseline.jsonl").read_text(), found

    fast = held()
    without_arrays(run)
    assert held() == fast


def edited(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        change(line)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize("where", ["scores", "predictions"])
def test_what_a_person_edits_counts_though_arrays_of_before_lie_beside_it(run: Path, where: str) -> None:
    def change(line: dict[str, Any]) -> None:
        if where == "scores":
            line["values"]["accuracy"] = 1.0
        else:
            line["labels"] = [LABELS[0]]

    fast, _ = compared(run)
    edited(run / where / "good.jsonl", change)
    found, said = compared(run)
    assert len(said) == 1 and "not of the files as they are now" in said[0]
    metric = "accuracy" if where == "scores" else "f1"
    assert found["metrics"][metric] != fast["metrics"][metric]
    without_arrays(run)
    assert compared(run)[0] == found


def test_a_row_that_is_gone_from_the_test_set_is_gone_from_the_comparison(run: Path) -> None:
    path = run / "data" / "test.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[1:]))
    found, said = compared(run)
    assert said and found["matched"] == len(lines) - 1


@pytest.mark.parametrize("keep", [0, 30, 2000, -1])
def test_arrays_that_are_torn_are_not_read(run: Path, keep: int) -> None:
    fast, _ = compared(run)
    path = run / "scores" / "good.npz"
    path.write_bytes(path.read_bytes()[:keep])
    slow, said = compared(run)
    assert slow == fast and len(said) == 1


def test_arrays_of_another_shape_or_of_objects_are_not_read(run: Path) -> None:
    path = run / "scores" / "good.npz"
    with np.load(path) as held:
        arrays = dict(held)
    fast, _ = compared(run)
    objects = np.array([print], dtype=object)
    for name, other in (("costs", arrays["costs"][:-1]), ("groups", arrays["groups"] + 1000), ("ids", objects)):
        np.savez(path, **{**arrays, name: other})
        slow, said = compared(run)
        assert slow == fast and len(said) == 1, name
    np.savez(path, **arrays)
    assert not compared(run)[1]


def test_arrays_of_other_code_or_of_other_labels_are_not_read(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(scored_rows, "_made_by", lambda: "another")
        assert len(compared(run)[1]) == 2
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("labels: [ham, spam, other]", "labels: [other, spam, ham]"))
    assert len(compared(run)[1]) == 2


def test_scoring_again_writes_the_arrays_again(run: Path) -> None:
    edited(run / "predictions" / "good.jsonl", lambda line: line.update(text="spam"))
    assert compared(run)[1]
    rescoring.rescore(run)
    assert not compared(run)[1]


def test_answers_that_cannot_be_read_leave_the_row_scores_to_compare(run: Path, tmp_path: Path) -> None:
    path = run / "predictions" / "good.jsonl"
    path.write_text(path.read_text().replace("{", "[", 1))
    found = diffing.diff(f"{run}:bad", f"{run}:good")
    assert "accuracy" in found.comparison.metrics and "f1" not in found.comparison.metrics
    assert any("are not compared" in note and "damaged at byte 0" in note for note in found.notes)
    with pytest.raises(UserError, match="cannot be read"):
        baselines.write(f"{run}:good", tmp_path / "baseline.jsonl")


def test_a_run_without_some_answers_says_which_row_lacks_them(run: Path) -> None:
    path = run / "predictions" / "good.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if '"id": "r7"' not in line))
    found = diffing.diff(f"{run}:bad", f"{run}:good")
    assert any("'r7' has 0 of 1 outcomes" in note for note in found.notes)


def test_a_run_of_few_rows_has_no_arrays_and_no_note_about_them(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_arrays(run)
    monkeypatch.setattr(scored_rows, "KEPT_FROM", 1_000_000)
    rescoring.rescore(run)
    assert not list((run / "scores").glob("*.npz"))
    assert compared(run)[1] == []
