"""From rows to a TestSet: columns and type inferred or refused, ids, labels, splits, and what the set is warned about."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evalft import testset
from evalft.config import TaskConfig
from evalft.errors import UserError
from evalft.testset import splits
from evalft.testset.targets import infer_type

Rows = Iterable[Mapping[str, Any]]
OPTIONS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(path: Path, rows: Rows) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


def load(
    folder: Path, test: Rows, *, train: Rows = (), dev: Rows = (), limit: int | None = None, **task: Any
) -> testset.TestSet:
    given = {role: write(folder / f"{role}.jsonl", rows) for role, rows in (("train", train), ("dev", dev)) if rows}
    return testset.load(
        TaskConfig.model_validate({"test": write(folder / "test.jsonl", test), **given, **task}), limit=limit
    )


def faults(folder: Path, test: Rows, **task: Any) -> list[str]:
    with pytest.raises(UserError) as error:
        load(folder, test, **task)
    return [fault.removeprefix(f"{folder}/") for fault in error.value.faults]


def labelled(n: int, labels: Sequence[str] = ("x", "y"), text: str = "message") -> list[dict[str, str]]:
    return [{"text": f"{text} {i}", "label": labels[i % len(labels)]} for i in range(n)]


def said(lines: Iterable[str], *words: str) -> bool:
    return any(all(word in line for word in words) for line in lines)


# ---------------------------------------------------------------- columns


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"text": "a", "label": "x"}, ("text", "label")),
        ({"Question": "a", "extra": 1, "Answer": "x"}, ("Question", "Answer")),
        ({"prompt": "a", "completion": "x"}, ("prompt", "completion")),
        ({"utterance": "a", "intent": "x", "user": "u"}, ("utterance", "intent")),
        ({"instruction": "a", "input": "", "output": "x"}, ("alpaca", "output")),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "x"}]},
            ("messages", "messages"),
        ),
        ({"messages": [{"role": "user", "content": "a"}], "label": "x"}, ("messages", "label")),
        ({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "x"}]}, ("conversations",) * 2),
    ],
)
def test_the_only_columns_that_fit_are_taken_and_said(
    tmp_path: Path, row: dict[str, Any], columns: tuple[str, str]
) -> None:
    task, assumed = testset.infer(write(tmp_path / "t.jsonl", [row]))
    assert (task.input, task.target) == columns
    assert said(assumed, "input: ") and said(assumed, "target: ")


@pytest.mark.parametrize(
    ("row", "unclear"),
    [
        ({"foo": "a", "bar": "x"}, {"input", "target"}),
        ({"text": "a", "question": "b", "label": "x"}, {"input"}),
        ({"text": "a", "label": "x", "category": "y"}, {"target"}),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "x"}], "label": "y"},
            {"target"},
        ),
        ({"instruction": "a", "instances": [{"input": "", "output": "x"}]}, {"target"}),
    ],
)
def test_columns_are_listed_when_none_or_several_fit(tmp_path: Path, row: dict[str, Any], unclear: set[str]) -> None:
    path = write(tmp_path / "t.jsonl", [row])
    with pytest.raises(UserError) as error:
        testset.infer(path)
    *questions, columns = error.value.faults
    assert {what for what in ("input", "target") for line in questions if f"--{what} COLUMN" in line} == unclear
    assert all(column in columns for column in row)
    assert error.value.status == 2


def test_broken_rows_are_reported_beside_unclear_columns(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"foo": "a"}\n{\n')
    with pytest.raises(UserError) as error:
        testset.infer(path)
    assert said(error.value.faults, "--input COLUMN") and said(error.value.faults, "t.jsonl:2: broken JSON")


def test_options_decide_where_several_columns_fit(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", [{"text": "a", "question": "b", "label": "x", "category": "y"}])
    task, _ = testset.infer(path, input="question", target="category", type="classification")
    assert (task.input, task.target, task.type, task.labels) == ("question", "category", "classification", ["y"])


def test_a_missing_column_is_one_fault_per_file_with_the_nearest(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, labelled(30), input="text", target="lable")
    assert fault.startswith("test.jsonl: no column 'lable' (task.target); did you mean 'label'?")
    found = faults(tmp_path, labelled(3), group="user", slices=["region"])
    assert [fault.split("(")[1].split(")")[0] for fault in found] == ["task.slices", "task.group"]


def test_a_csv_without_a_header_is_recognised_when_a_column_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("my card is lost,7\nwhere is my refund,4\nI lost it,7\n")
    with pytest.raises(UserError) as error:
        testset.infer(path)
    assert said(error.value.faults, "no header line", "my card is lost")


def test_alpaca_joins_instruction_and_input(tmp_path: Path) -> None:
    rows = [{"instruction": "Add.", "input": "1 2", "output": "3"}, {"instruction": "Hi", "input": "", "output": "Yo"}]
    loaded = load(tmp_path, rows)
    assert [row.input for row in loaded.test] == ["Add.\n\n1 2", "Hi"]
    again = testset.load(loaded.task)  # what is resolved can be run again
    assert again.sha256 == loaded.sha256


def test_chat_gives_the_messages_before_the_last_answer(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]
    turns = [("developer", "s"), ("user", "a"), ("assistant", "x"), ("user", parts), ("assistant", "y")]
    loaded = load(
        tmp_path, [{"messages": [{"role": role, "content": content} for role, content in turns]}], input="messages"
    )
    before = [("system", "s"), ("user", "a"), ("assistant", "x"), ("user", "bc")]
    assert loaded.test[0].input == tuple({"role": role, "content": content} for role, content in before)
    assert loaded.test[0].target == "y"
    assert testset.load(loaded.task).sha256 == loaded.sha256


def test_prompt_and_completion_may_be_chat(tmp_path: Path) -> None:
    row = {"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "x"}]}
    (example,) = load(tmp_path, [row]).test
    assert (example.input, example.target) == (({"role": "user", "content": "a"},), "x")


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ("text", "'messages' is text, not a list of messages"),
        ([{"role": "user", "content": "a"}], "the last message is the user's, not the assistant's"),
        ([{"role": "assistant", "content": "x"}], "no message before the assistant's"),
        ([{"role": "tool", "content": "x"}], "has the role 'tool'"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "parts that are not text"),
        ([{"role": "user", "content": None}], "the content of a message is missing"),
        ([{"role": "user", "content": "a"}, {"role": "assistant", "content": " "}], "the target is empty"),
    ],
)
def test_chat_that_cannot_be_used_is_a_fault(tmp_path: Path, messages: object, reason: str) -> None:
    good = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "x"}]
    (fault,) = faults(tmp_path, [{"messages": good}, {"messages": messages}])
    assert fault.startswith("test.jsonl:2: ") and reason in fault


# ---------------------------------------------------------------- type


def many(*targets: object, times: int = 4) -> list[object]:
    return list(targets) * times


TYPES = [
    ("lists", [["a"], []], "multilabel"),
    ("text with recurring parts", many("action|drama", "drama", "action"), "multilabel"),
    ("label numbers", many("4,27", "27", "4", "3,27"), "multilabel"),
    ("lists written by pandas", many("['a', 'b']", "['b']"), "multilabel"),
    ("few labels", many("yes", "no"), "classification"),
    ("labels with a comma that do not recur", many("books, music", "food, drink"), "classification"),
    ("booleans", many(True, False), "classification"),
    ("20 numbers", many(*range(20)), "classification"),
    ("21 numbers", many(*range(21)), "generation"),
    ("21 words", many(*(f"w{i}" for i in range(21))), "classification"),
    ("500 labels", many(*(f"w{i}" for i in range(500)), times=2), "classification"),
    ("501 labels", many(*(f"w{i}" for i in range(501)), times=2), "generation"),
    ("just over half distinct", ["a", "a", "b", "b", "c"], "generation"),
    ("64 characters", many("a" * 64, "b"), "classification"),
    ("65 characters", many("a" * 65, "b"), "generation"),
    ("prose with commas", [f"Yes, number {i} is it, I think so" for i in range(50)], "generation"),
    ("thousands", [f"{i},000" for i in range(1, 40)] + [str(i) for i in range(1, 40)], "generation"),
    ("one list among texts", [["a"], *many("yes", "no")], "classification"),
    ("calls", [f"{f}({x}, {y})" for f in "fg" for x in "xyz" for y in "xyz"], "generation"),
    ("bars around", [f"|{x}| + |{y}|" for x in "xyz" for y in "xyz"], "generation"),
]


@pytest.mark.parametrize(("values", "expected"), [case[1:] for case in TYPES], ids=[case[0] for case in TYPES])
def test_the_type_is_inferred_by_the_documented_rules(values: list[object], expected: str) -> None:
    assert infer_type(values, None)[0] == expected


def test_a_given_type_overrides_the_inferred_one(tmp_path: Path) -> None:
    rows = labelled(20)
    assert load(tmp_path, rows).task.type == "classification"
    loaded = load(tmp_path, rows, type="generation")
    assert (loaded.task.type, loaded.task.labels) == ("generation", None)
    assert not said(loaded.assumed, "type:")


@pytest.mark.parametrize(
    ("written", "labels"),
    [
        (["a|b", "b", "", "c|a|"], [("a", "b"), ("b",), (), ("c", "a")]),
        (["a; b", "b"], [("a", "b"), ("b",)]),
        (["x, y", "z"], [("x", "y"), ("z",)]),
        (['["a", "b"]', "[]"], [("a", "b"), ()]),
        (["['a', 'b']", "['b']"], [("a", "b"), ("b",)]),
        (["a b", "c"], [("a b",), ("c",)]),
        ([["a", 1, True], [], ["b", "b"]], [("a", "1", "true"), (), ("b",)]),
    ],
)
def test_multilabel_targets_are_read_as_they_are_written(tmp_path: Path, written: list[Any], labels: list[Any]) -> None:
    loaded = load(tmp_path, [{"text": f"t{i}", "tags": tags} for i, tags in enumerate(written)], type="multilabel")
    assert [row.target for row in loaded.test] == labels
    assert loaded.task.labels == sorted({label for of_row in labels for label in of_row})
    assert said(loaded.assumed, "empty target") == (() in labels)


def test_known_labels_decide_how_a_target_is_split(tmp_path: Path) -> None:
    rows = [{"text": "a", "tags": "food, drink|books"}, {"text": "b", "tags": "books"}]
    loaded = load(tmp_path, rows, type="multilabel", labels=["food, drink", "books"])
    assert [row.target for row in loaded.test] == [("food, drink", "books"), ("books",)]


# ---------------------------------------------------------------- labels


def test_an_unknown_label_is_a_fault_with_the_nearest(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, labelled(4, ["refund", "refnd"])[:2], labels=["card", "refund"], type="classification")
    assert fault == "test.jsonl:2: label 'refnd' is not in task.labels; did you mean 'refund'?"


def test_labels_come_from_test_and_train_and_are_said(tmp_path: Path) -> None:
    loaded = load(tmp_path, labelled(8), train=labelled(6, ["z", "x"], "other"))
    assert loaded.task.labels == ["x", "y", "z"]
    assert said(loaded.assumed, "labels: 3", "x, y, z")
    assert said(loaded.warnings, "classes without a row: 1 of 3: z", "train has rows of each")


def test_positive_must_be_a_label(tmp_path: Path) -> None:
    assert load(tmp_path, labelled(8), positive="y").task.positive == "y"
    (fault,) = faults(tmp_path, labelled(8), positive="Y")
    assert fault == "task.positive: 'Y' is not one of the labels x, y"
    (fault,) = faults(tmp_path, labelled(8), positive="y", type="generation")
    assert "no labels" in fault


# ---------------------------------------------------------------- ids and digest


@OPTIONS
@given(texts=st.lists(st.sampled_from("abcdef"), min_size=1, max_size=12), seed=st.integers(0, 99))
def test_content_ids_are_unique_and_survive_reordering(tmp_path: Path, texts: list[str], seed: int) -> None:
    rows = [{"input": text, "target": "x"} for text in texts]
    first = load(tmp_path, rows, type="generation").test
    random.Random(seed).shuffle(rows)
    second = load(tmp_path, rows, type="generation").test
    assert len({row.id for row in first}) == len(rows)
    assert sorted((row.id, row.input) for row in first) == sorted((row.id, row.input) for row in second)


def test_ids_come_from_task_id_else_from_a_column_id_that_tells_rows_apart(tmp_path: Path) -> None:
    rows = [{"id": i, "key": f"k{i}", "text": f"t{i}", "label": "x"} for i in range(4)]
    assert [row.id for row in load(tmp_path, rows, id="key").test] == ["k0", "k1", "k2", "k3"]
    by_id = load(tmp_path, rows)
    assert [row.id for row in by_id.test] == ["0", "1", "2", "3"] and by_id.task.id == "id"
    same = load(tmp_path, [row | {"id": 7} for row in rows])
    assert len({row.id for row in same.test}) == 4 and same.task.id is None
    assert said(same.assumed, "'id' does not tell rows apart")


def test_one_id_with_two_contents_is_a_fault_and_with_one_content_a_warning(tmp_path: Path) -> None:
    rows = [{"key": "k", "text": "a", "label": "x"}, {"key": "k", "text": "b", "label": "x"}]
    (fault,) = faults(tmp_path, rows, id="key")
    assert fault.startswith("test.jsonl:2: id 'k' stands at") and "test.jsonl:1 already, with another content" in fault
    loaded = load(tmp_path, [rows[0], rows[0], {"key": "k#2", "text": "c", "label": "x"}, rows[0]], id="key")
    assert [row.input for row in loaded.test] == ["a", "a", "c", "a"]
    assert len({row.id for row in loaded.test}) == 4
    assert said(loaded.warnings, "repeat an id with the same content")


def test_an_empty_id_or_group_is_a_fault(tmp_path: Path) -> None:
    rows = [{"key": "k", "user": "u", "text": "a", "label": "x"}, {"key": "", "user": None, "text": "b", "label": "x"}]
    found = faults(tmp_path, rows, id="key", group="user")
    assert sorted(fault.split(": ", 1)[1] for fault in found) == ["the 'key' is empty", "the 'user' is missing (null)"]


def test_the_digest_covers_what_is_asked_and_expected_in_order(tmp_path: Path) -> None:
    rows = [row | {"user": f"u{i}", "note": "n"} for i, row in enumerate(labelled(6))]
    first = load(tmp_path, rows).sha256
    assert load(tmp_path, [row | {"note": "other"} for row in rows]).sha256 == first
    changed = [rows[::-1], rows[:-1], [*rows[:-1], rows[-1] | {"label": "x"}], [*rows[:-1], rows[-1] | {"text": "z"}]]
    digests = {load(tmp_path, other).sha256 for other in changed} | {load(tmp_path, rows, group="user").sha256}
    assert len(digests | {first}) == 6


def test_groups_and_slices_are_text(tmp_path: Path) -> None:
    rows = [
        {"text": "a", "label": "x", "user": 7, "region": None},
        {"text": "b", "label": "y", "user": "8", "region": "EU"},
    ]
    loaded = load(tmp_path, rows, group="user", slices=["region"])
    assert [(row.group, dict(row.slices)) for row in loaded.test] == [("7", {"region": ""}), ("8", {"region": "EU"})]


# ---------------------------------------------------------------- samples and splits


def test_a_limit_takes_a_seeded_sample_in_file_order(tmp_path: Path) -> None:
    rows = labelled(40)
    loaded = load(tmp_path, rows, limit=10)
    places = [int(row.source.rpartition(":")[2]) for row in loaded.test]
    assert len(places) == 10 and places == sorted(places) and places != list(range(1, 11))
    assert loaded.sampled_from == 40 and said(loaded.assumed, "sample of 10 of the 40")
    assert load(tmp_path, rows, limit=10).sha256 == loaded.sha256
    whole = load(tmp_path, rows, limit=40)
    assert whole.sampled_from is None and len(whole.test) == 40
    with pytest.raises(UserError, match="--limit 0"):
        load(tmp_path, rows, limit=0)


def test_a_share_of_train_is_held_out_where_there_is_no_dev(tmp_path: Path) -> None:
    loaded = load(tmp_path, labelled(8), train=labelled(50, text="other"))
    assert (len(loaded.dev), len(loaded.train), loaded.train_possible) == (10, 40, 40)
    assert said(loaded.assumed, "dev: 10 of 50 train rows are held out")
    assert [len(load(tmp_path, labelled(8), train=labelled(n, text="other")).dev) for n in (4, 5)] == [0, 1]
    given = load(tmp_path, labelled(8), train=labelled(50, text="other"), dev=labelled(5, text="third"))
    assert (len(given.dev), len(given.train)) == (5, 50)


def test_groups_are_not_torn_between_train_and_dev(tmp_path: Path) -> None:
    train = [row | {"user": f"u{i % 9}"} for i, row in enumerate(labelled(60, text="other"))]
    loaded = load(tmp_path, [row | {"user": f"t{i}"} for i, row in enumerate(labelled(8))], train=train, group="user")
    assert loaded.dev and loaded.train
    assert not {row.group for row in loaded.dev} & {row.group for row in loaded.train}


def test_train_and_dev_rows_whose_input_is_in_test_are_removed_and_listed(tmp_path: Path) -> None:
    test = labelled(10)
    train = [{"text": " MESSAGE  3", "label": "y"}, *labelled(10, text="other"), {"text": "third 0", "label": "x"}]
    dev = [{"text": "message 4", "label": "x"}, *labelled(4, text="third")]
    loaded = load(tmp_path, test, train=train, dev=dev)
    assert [row.input for row in loaded.train] == [f"other {i}" for i in range(10)]
    assert [row.input for row in loaded.dev] == [f"third {i}" for i in range(4)]
    twins = [("dev.jsonl:1", "test.jsonl:5"), ("train.jsonl:1", "test.jsonl:4"), ("train.jsonl:12", "dev.jsonl:2")]
    assert [tuple(place.replace(f"{tmp_path}/", "").rstrip(")").split(" (as ")) for place in loaded.removed] == twins
    assert all(said(loaded.warnings, "removed", mine, other) for mine, other in twins)


def test_a_lone_test_file_counts_half_of_its_rows_as_possible_train_rows(tmp_path: Path) -> None:
    loaded = load(tmp_path, labelled(41), limit=10)
    assert loaded.train_possible == 20 and loaded.train == () and loaded.dev == ()
    assert said(loaded.assumed, "half of the test rows (20)", "evalft init --split")


def test_a_lone_file_is_split_once_whatever_its_order(tmp_path: Path) -> None:
    rows = [dict(row, user=f"u{i % 12}") for i, row in enumerate(labelled(60))]
    task = TaskConfig(test=write(tmp_path / "t.jsonl", rows), group="user")
    test, train = testset.split(task, 0.5)
    assert sorted([*test, *train], key=str) == sorted(rows, key=str) and len(test) == 30
    assert not {row["user"] for row in test} & {row["user"] for row in train}
    shuffled = TaskConfig(test=write(tmp_path / "s.jsonl", random.Random(1).sample(rows, 60)), group="user")
    assert sorted(map(str, testset.split(shuffled, 0.5)[0])) == sorted(map(str, test))
    assert testset.split(task, 0.5, seed=1)[0] != test
    for share in (0, 1):
        with pytest.raises(UserError, match="between 0 and 1"):
            testset.split(task, share)
    with pytest.raises(UserError, match="cannot be split"):
        testset.split(
            TaskConfig(test=write(tmp_path / "one.jsonl", [row | {"user": "u"} for row in rows]), group="user")
        )


@OPTIONS
@given(units=st.lists(st.integers(0, 9), min_size=1, max_size=60), share=st.floats(0.05, 0.95), seed=st.integers(0, 9))
def test_a_cut_keeps_units_whole_and_comes_near_the_share(units: list[int], share: float, seed: int) -> None:
    rows = list(range(len(units)))
    first, second = splits.cut(rows, units, share, seed)
    assert sorted([*first, *second]) == rows
    assert not {units[row] for row in first} & {units[row] for row in second}
    assert bool(first) == (len(set(units)) > 1) and second
    assert abs(len(first) - share * len(rows)) <= max(units.count(unit) for unit in units) or not first


# ---------------------------------------------------------------- checks of the set itself


def test_duplicates_and_contradictions_inside_test_are_told_apart(tmp_path: Path) -> None:
    extra = [{"text": "Message  0", "label": "x"}, {"text": "message 1", "label": "x"}]
    warnings = load(tmp_path, [*labelled(60), *extra]).warnings
    assert said(warnings, "repeat another's input and target: 1:", "test.jsonl:61 (as line 1)")
    assert said(warnings, "contradict another", ": 1:", "test.jsonl:62 (as line 2)")


def test_labels_that_differ_only_by_case_or_space_are_named(tmp_path: Path) -> None:
    rows = [*labelled(60, ["Lost card", "refund"]), {"text": "z", "label": "lost  card"}]
    assert said(load(tmp_path, rows).warnings, "case or space", "'Lost card'", "'lost  card'", "test.jsonl:61")


def test_rare_classes_are_named_with_their_counts(tmp_path: Path) -> None:
    rows = [*labelled(60), *labelled(9, ["z"], "rare")]
    assert said(load(tmp_path, rows).warnings, "classes with under 10 rows: 1 of 3: z (9)")
    assert said(load(tmp_path, labelled(60, ["x"])).warnings, "every row has the label x")


def test_small_sets_few_groups_and_outer_spaces_are_warned_about(tmp_path: Path) -> None:
    rows = [row | {"user": f"u{i % 7}"} for i, row in enumerate(labelled(49))]
    rows[4]["label"] = "x "
    loaded = load(tmp_path, rows, train=[{"text": "t", "label": "x", "user": "u1"}], group="user")
    assert said(loaded.warnings, "only 49 rows")
    assert said(loaded.warnings, "7 groups are fewer than 8")
    assert said(loaded.warnings, "groups that are also in test: 1: those of", "train.jsonl:1")
    assert said(loaded.warnings, "start or end with a space: 1:", "test.jsonl:5")


def test_a_clean_set_has_no_warning(tmp_path: Path) -> None:
    rows = [row | {"user": f"u{i % 8}"} for i, row in enumerate(labelled(60))]
    train = [row | {"user": f"v{i % 8}"} for i, row in enumerate(labelled(20, text="other"))]
    assert load(tmp_path, rows, train=train, group="user").warnings == ()


def test_without_a_test_set_the_next_command_is_named() -> None:
    with pytest.raises(UserError, match="evalft assess DATA"):
        testset.load(TaskConfig())


# ---------------------------------------------------------------- public data, where it is at hand

DATA = Path(os.environ.get("EVALFT_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))


def data(name: str) -> Path:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{name} is not at hand")
    return path


def test_gsm8k_is_generation() -> None:
    path = data("gsm8k/test.jsonl")
    loaded = testset.load(testset.infer(path)[0])
    assert (loaded.task.type, loaded.task.input, loaded.task.target) == ("generation", "question", "answer")
    assert len(loaded.test) == path.read_bytes().count(b"\n")


def test_goemotions_needs_a_header_then_is_multilabel(tmp_path: Path) -> None:
    path = data("goemotions/test.tsv")
    with pytest.raises(UserError) as error:
        testset.infer(path)
    assert said(error.value.faults, "no header line")
    text = path.read_text()
    (tmp_path / "test.tsv").write_text("text\tlabels\tid\n" + text)
    loaded = testset.load(testset.infer(tmp_path / "test.tsv")[0])
    assert loaded.task.type == "multilabel" and loaded.task.id == "id"
    rows = [line.split("\t") for line in text.splitlines()]
    assert [(row.id, row.target) for row in loaded.test] == [(id, tuple(labels.split(","))) for _, labels, id in rows]


def test_clinc150_names_its_keys_and_as_rows_is_classification(tmp_path: Path) -> None:
    path = data("clinc150/data_full.json")
    parts = json.loads(path.read_text())
    with pytest.raises(UserError) as error:
        testset.infer(path)
    assert said(error.value.faults, *parts)
    rows = {role: [{"text": text, "intent": intent} for text, intent in parts[role]] for role in ("test", "val")}
    loaded = load(tmp_path, rows["test"], train=rows["val"])
    assert loaded.task.type == "classification"
    assert loaded.task.labels == sorted({row["intent"] for role in rows.values() for row in role})
    assert len(loaded.dev) + len(loaded.train) + len(loaded.removed) == len(rows["val"])


@pytest.mark.parametrize("name", ["seed_tasks.jsonl", "user_oriented_instructions.jsonl"])
def test_self_instruct_keeps_its_answers_nested_and_is_refused(name: str) -> None:
    path = data(f"self_instruct/{name}")
    with pytest.raises(UserError) as error:
        testset.infer(path)
    assert said(error.value.faults, "its columns are", "instances")
    with pytest.raises(UserError) as error:
        testset.infer(path, target="instances")
    assert said(error.value.faults, f"{path.name}:1: a label is an object")


def test_preference_rows_are_read_with_the_columns_that_are_named() -> None:
    chat = testset.infer(data("preferences/dpo_en_demo.json"), target="chosen")[0]
    assert (chat.input, chat.type) == ("conversations", "generation")
    judged = testset.infer(data("preferences/kto_en_demo.json"), target="label")[0]
    assert (judged.input, judged.labels) == ("messages", ["false", "true"])
    alpaca = testset.infer(data("preferences/alpaca_en_demo.json"))[0]
    assert (alpaca.input, alpaca.target, alpaca.type) == ("alpaca", "output", "generation")
