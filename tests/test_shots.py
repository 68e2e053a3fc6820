"""Shots: which train rows a candidate is shown, never the row that is asked, never test or dev, always the same ones."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalft import config, preparing, prompts, shots
from evalft.config import CandidateConfig, ShotsConfig, TaskConfig
from evalft.errors import UserError
from evalft.records import Example

PICKS = ("random", "first", "nearest")
TASK = TaskConfig(type="classification", labels=["a", "b"], prompt="{{ text }}")
WORDS = "card payment refund cancel 카드 환불 delivery late broken phone 배송".split()


def rows(count: int, seed: int = 0) -> list[Example]:
    rng = random.Random(seed)
    made = []
    for i in range(count):
        text = " ".join(rng.choices(WORDS, k=4)) + f" {i}"
        made.append(Example(f"t{i}", text, "ab"[i % 2], {"text": text}))
    return made


def candidate(count: int, pick: str) -> CandidateConfig:
    return CandidateConfig(model="fake:echo", shots={"count": count, "pick": pick})  # type: ignore[arg-type]


@pytest.mark.parametrize("pick", PICKS)
@settings(deadline=None)
@given(st.integers(1, 6), st.integers(0, 11), st.integers(0, 5))
def test_the_row_that_is_asked_is_never_its_own_shot(pick: str, count: int, place: int, seed: int) -> None:
    train = rows(12, seed)
    twin = Example("other-id", train[place].input, "a", {"text": train[place].input})
    chosen = shots.picker(ShotsConfig(count=count, pick=pick), train)(twin)  # type: ignore[arg-type]
    assert twin.input not in [one.input for one in chosen]
    assert len({one.id for one in chosen}) == count


@pytest.mark.parametrize("pick", PICKS)
def test_shots_do_not_depend_on_what_else_is_asked(pick: str) -> None:
    train, asked = rows(40), rows(10, seed=9)
    together = shots.picker(ShotsConfig(count=3, pick=pick), train)  # type: ignore[arg-type]
    forwards = [together(example) for example in asked]
    alone = [shots.picker(ShotsConfig(count=3, pick=pick), train)(example) for example in reversed(asked)]  # type: ignore[arg-type]
    assert forwards == alone[::-1]


def test_first_is_the_head_of_the_file_and_random_is_not() -> None:
    train = rows(30)
    asked = Example("x", "something else", "a", {})
    assert shots.picker(ShotsConfig(count=3, pick="first"), train)(asked) == train[:3]
    drawn = shots.picker(ShotsConfig(count=3), train)(asked)
    assert drawn == shots.picker(ShotsConfig(count=3), train[::-1])(asked) and drawn != train[:3]


@pytest.mark.parametrize("typo", ["my cart is borken", "카드가 안 와요"])
def test_nearest_finds_the_row_that_reads_most_alike_and_puts_it_last(typo: str) -> None:
    texts = [
        "my card is broken",
        "카드 배송이 안 와요",
        "where is the refund",
        "cancel the whole order",
        "good morning",
    ]
    train = [Example(f"t{i}", text, "a", {"text": text}) for i, text in enumerate(texts)]
    chosen = shots.picker(ShotsConfig(count=2, pick="nearest"), train)(Example("x", typo, "a", {}))
    assert chosen[-1].input == texts[0 if typo.startswith("my") else 1]


def test_chat_rows_are_compared_by_their_words() -> None:
    def chat(id: str, words: str) -> Example:
        return Example(id, ({"role": "user", "content": words},), "a", {})

    train = [chat("t0", "refund please"), chat("t1", "the phone is broken")]
    make = prompts.prompter(TaskConfig(type="generation"), candidate(1, "nearest"), train)
    assert make(chat("x", "a broken phone"))[0]["content"] == "the phone is broken"


@pytest.mark.parametrize("pick", PICKS)
def test_shots_are_of_train_alone(tmp_path: Path, pick: str) -> None:
    for name in ("test", "train", "dev"):
        lines = [{"text": f"{name} {row.input}", "label": row.target} for row in rows(12, seed=len(name))]
        lines += [{"text": "in every file", "label": "a"}]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    task = {name: f"{name}.jsonl" for name in ("test", "train", "dev")} | {"type": "classification"}
    data: dict[str, Any] = {"task": task, "candidates": [{"model": "fake:echo", "shots": {"count": 5, "pick": pick}}]}
    prepared = preparing.prepare(config.build(data, source="test", folder=tmp_path))
    (requests,) = prepared.requests.values()
    for request in requests:
        shown = [turn["content"] for turn in request.messages[:-1] if turn["role"] == "user"]
        assert len(shown) == 5 and all("train " in turn for turn in shown)
        assert not any("in every file" in turn for turn in shown)
    assert any(
        line.startswith(f"{prepared.config.candidates[0].name}: shots: 5 train rows") for line in prepared.data.assumed
    )


def test_a_plain_number_stays_a_plain_number_in_the_resolved_config() -> None:
    task = {"test": "t.jsonl"}
    for given_shots, name in ((4, "fake:echo-k4"), ({"count": 4, "pick": "nearest"}, "fake:echo-k4-nearest")):
        data = {"task": dict(task), "candidates": [{"model": "fake:echo", "shots": given_shots}]}
        built = config.build(data, source="test", folder=Path.cwd())
        assert config.as_data(built)["candidates"][0]["shots"] == given_shots
        assert built.candidates[0].name == name


@pytest.mark.parametrize(
    ("given_shots", "said"),
    [(-1, "shots"), ("four", "shots"), ({"count": 2, "pick": "best"}, "pick"), ({"cuont": 2}, "did you mean 'count'")],
)
def test_shots_that_are_none_are_refused(given_shots: Any, said: str) -> None:
    data = {"task": {"test": "t.jsonl"}, "candidates": [{"model": "fake:echo", "shots": given_shots}]}
    with pytest.raises(UserError, match=said):
        config.build(data, source="test", folder=Path.cwd())


def test_more_shots_than_train_rows_names_those_that_are_held_out_as_dev_rows(tmp_path: Path) -> None:
    for name, n in (("test", 60), ("train", 100), ("dev", 20)):
        (tmp_path / f"{name}.csv").write_text("q,a\n" + "".join(f"{name} {i},{'xy'[i % 2]}\n" for i in range(n)))
    task = {"test": "test.csv", "train": "train.csv", "input": "q", "target": "a"}
    data = {"task": task, "candidates": [{"model": "fake:echo", "shots": 90}]}
    held_out = len(
        preparing.prepare(
            config.build(data | {"candidates": [{"model": "fake:echo"}]}, source="test", folder=tmp_path)
        ).data.dev
    )
    assert held_out > 10
    with pytest.raises(
        UserError, match=f"only {100 - held_out} train rows beside {held_out} that are held out as dev rows.*task.dev"
    ):
        preparing.prepare(config.build(data, source="test", folder=tmp_path))
    whole = config.build(data | {"task": task | {"dev": "dev.csv"}}, source="test", folder=tmp_path)
    assert len(preparing.prepare(whole).data.train) == 100
