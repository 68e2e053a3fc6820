"""The bundled benchmark urgent-tickets: its rows, what its card says of them, its baselines, and a run of it."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from evalft import config, testset
from evalft.decision.reach import out_of_reach
from evalft.stats.proportion import clopper_pearson

ROOT = Path(__file__).resolve().parent.parent
BENCHMARK = ROOT / "benchmarks" / "urgent-tickets"
CARD = (BENCHMARK / "README.md").read_text(encoding="utf-8")
SPLITS = ("test", "dev", "train")
CHANNELS = ("chat", "email", "phone note")


def load_baseline() -> ModuleType:
    """The benchmark's own module; its plain name is taken back, for another benchmark may use the same."""
    sys.path.insert(0, str(BENCHMARK))
    try:
        return importlib.import_module("baseline")
    finally:
        sys.path.remove(str(BENCHMARK))
        sys.modules.pop("baseline", None)


baseline = load_baseline()
ROWS = {split: baseline.rows(split) for split in SPLITS}
EVERY_ROW = [row for split in SPLITS for row in ROWS[split]]


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def card_table(first_column: str) -> list[list[str]]:
    """The cells of the card's table whose first column has this head, without head and rule."""
    (table,) = (part for part in re.findall(r"(?:^\|.*\n)+", CARD, re.M) if part.startswith(f"| {first_column} |"))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


# --- rows ---


def test_rows_load_as_the_config_names_them_and_nothing_is_wrong_with_them() -> None:
    loaded = testset.load(config.load(BENCHMARK / "evalft.yaml").task)
    assert [len(rows) for rows in (loaded.test, loaded.dev, loaded.train)] == [400, 100, 160]
    assert not loaded.warnings
    assert {row.slices["channel"] for row in loaded.test} == set(CHANNELS)


def test_every_row_has_the_same_columns_and_its_own_id_and_text() -> None:
    assert {tuple(row) for row in EVERY_ROW} == {("id", "text", "label", "channel")}
    assert len({row["id"] for row in EVERY_ROW}) == len({" ".join(words(row["text"])) for row in EVERY_ROW}) == 660
    assert {row["label"] for row in EVERY_ROW} == {"urgent", "routine"}


def test_no_two_rows_share_eight_words_in_a_row() -> None:
    owner: dict[tuple[str, ...], str] = {}
    for row in EVERY_ROW:
        told = words(row["text"])
        for gram in zip(*(told[i:] for i in range(8)), strict=False):
            assert owner.setdefault(gram, row["id"]) == row["id"], " ".join(gram)


def test_messages_have_10_to_90_words_and_no_space_around_them() -> None:
    for row in EVERY_ROW:
        assert 10 <= len(row["text"].split()) <= 90 and row["text"] == row["text"].strip(), row["id"]


@pytest.mark.parametrize("split", SPLITS)
def test_both_classes_come_from_every_channel_in_about_their_share(split: str) -> None:
    urgent = {row["channel"] for row in ROWS[split] if row["label"] == "urgent"}
    assert urgent == set(CHANNELS)
    for channel in CHANNELS:
        labels = [row["label"] for row in ROWS[split] if row["channel"] == channel]
        assert 0.09 < labels.count("urgent") / len(labels) < 0.16


def test_shouting_and_the_word_itself_stand_in_both_classes() -> None:
    for mark in ("urgent", "emergency", "!"):
        labels = Counter(row["label"] for row in EVERY_ROW if mark in row["text"].lower())
        assert labels["urgent"] >= 3 and labels["routine"] > labels["urgent"], mark


# --- the card ---


def test_card_counts_the_rows() -> None:
    for split, *cells in card_table("split"):
        labels = [row["label"] for row in ROWS[split]]
        channels = Counter(row["channel"] for row in ROWS[split])
        urgent = labels.count("urgent")
        counted = [len(labels), urgent, f"{urgent / len(labels):.1%}".replace("%", " %"), *map(channels.get, CHANNELS)]
        assert cells == list(map(str, counted))


def test_card_quotes_rows_with_their_labels() -> None:
    quoted = card_table("message")
    assert len(quoted) == 4
    for text, label in quoted:
        (row,) = (row for row in EVERY_ROW if row["text"].startswith(text.removesuffix(" [...]")))
        assert row["label"] == label and (text.endswith("[...]") or row["text"] == text)


def test_card_states_the_baselines_as_measured_clearly_above_chance_and_clearly_below_perfect() -> None:
    known, test = ROWS["train"] + ROWS["dev"], ROWS["test"]
    found = [baseline.roc_auc(baseline.by_words(known, test), test), baseline.roc_auc(baseline.by_length(test), test)]
    assert [cells[1:] for cells in card_table("baseline")] == [
        [f"{one.value:.2f}", f"{one.low:.2f} to {one.high:.2f}"] for one in found
    ]
    by_words, by_length = found
    assert by_words.low > 0.6 and by_words.high < 0.85
    assert by_length.low < 0.5 < by_length.high


def test_card_says_what_48_urgent_rows_can_show() -> None:
    for found, recall, interval in card_table("found"):
        k, n = map(int, found.split(" of "))
        low, high = clopper_pearson(k, n, 0.025)
        assert [f"{k / n:.2f}", f"{low:.2f} to {high:.2f}"] == [recall, interval]
    assert n == sum(row["label"] == "urgent" for row in ROWS["test"])
    alone, first_of_two = (
        min(k for k in range(n + 1) if clopper_pearson(k, n, 0.025 / looks)[0] >= 0.8) for looks in (1, 2)
    )
    missed = max(k for k in range(n + 1) if clopper_pearson(k, n, 0.025)[1] < 0.8)
    text = " ".join(CARD.split())
    assert (
        f"from {alone} rows found on when one candidate is assessed, and from {first_of_two} on for the first of"
        in text
    )
    assert f"At {missed} or fewer the whole interval lies below 0.8" in text


# --- a run ---


def test_the_urgent_rows_alone_are_enough_for_a_perfect_candidate_to_pass() -> None:
    made = config.load(BENCHMARK / "evalft.yaml")
    assert not out_of_reach(made.parsed_thresholds, n=48, candidates=len(made.candidates), confidence=0.95)


@pytest.mark.slow
def test_smoke_test_of_the_card_scores_a_sample_with_no_key_and_no_network(tmp_path: Path) -> None:
    (command,) = re.findall(r"evalft (assess .*--limit 40)", CARD)
    done = subprocess.run(
        [sys.executable, "-m", "evalft.cli", *command.split(), "--out", tmp_path / "run"],
        capture_output=True,
        text=True,
        cwd=BENCHMARK,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    (candidate,) = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))["candidates"]
    assert candidate["coverage"]["scored"] == candidate["metrics"]["roc_auc"]["n"] == 40
    auc = candidate["metrics"]["roc_auc"]
    assert 0 <= auc["low"] < auc["value"] < auc["high"] <= 1
    assert auc["probs_method"] == "log_likelihood"
